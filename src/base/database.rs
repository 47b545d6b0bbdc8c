//! SQLite files of other programs: recognised by content, read without disturbing their owner.

pub use super::integrity::{Unjudged, Verdict, check};

use super::beneath::Dir;
use super::{durable, hostile, integrity};
use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first 16 bytes of every SQLite 3 database.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// No statement of ours on a database of another program takes longer; checks have budgets of their own.
const LONGEST_STATEMENT: Duration = Duration::from_secs(300);

/// Whether a file is an SQLite database, by its first bytes. An empty file is not.
pub fn is_sqlite(path: &Path) -> std::io::Result<bool> {
    is_sqlite_file(&open_file(path)?)
}

/// Whether an open file, of which nothing was read yet, begins like an SQLite database.
pub fn is_sqlite_file(mut file: &File) -> std::io::Result<bool> {
    let mut head = [0; 16];
    match file.read_exact(&mut head) {
        Ok(()) => Ok(&head == MAGIC),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

pub use super::beneath::open_named as open_file;

/// How the names of files end that belong to a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The database that a file belongs to, if its name says that it belongs to one.
pub fn of_sidecar(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let owner = SIDECARS.iter().find_map(|suffix| name.strip_suffix(suffix.as_bytes()))?;
    (!owner.is_empty()).then(|| path.with_file_name(OsStr::from_bytes(owner)))
}

/// The three files that may lie beside a database: `-wal`, `-shm`, `-journal`.
pub fn sidecars(path: &Path) -> [PathBuf; 3] {
    SIDECARS.map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Opens another program's database for reading.
///
/// A database in WAL mode whose `-wal` is absent or empty is opened as immutable: an ordinary
/// read-only connection would leave an empty `-wal` and a `-shm` behind in the agent's home.
pub fn open_read_only(path: &Path) -> Result<Connection> {
    let quiet = fs::metadata(&sidecars(path)[0]).map_or(true, |wal| wal.len() == 0);
    open(path, quiet && is_wal(path)?)
}

/// Opens another program's database for reading without taking part in its locks: its `-wal` must be absent
/// or empty, and what its owner writes meanwhile is not seen.
pub fn open_at_rest(path: &Path) -> Result<Connection> {
    open(path, true)
}

/// Opens another program's database for reading, taking part in its locks in any case. In WAL
/// mode this may leave an empty `-wal` and a `-shm` behind.
pub fn open_sharing(path: &Path) -> Result<Connection> {
    open(path, false)
}

fn open(path: &Path, immutable: bool) -> Result<Connection> {
    // A path that the operator named may lead through links.
    let open = || -> Result<Connection> {
        let real = path.canonicalize()?;
        let folder = Dir::open(durable::parent(&real))?;
        open_in(&folder, Path::new(real.file_name().unwrap_or_default()), immutable)
    };
    open().with_context(|| format!("cannot open the database {}", path.display()))
}

/// [`open_read_only`], or with `sharing` [`open_sharing`], of a database beneath a folder that is held: no
/// link leads there.
pub fn open_beneath(folder: &Dir, rel: &Path, sharing: bool) -> Result<Connection> {
    let quiet = || folder.metadata(&sidecars(rel)[0]).map_or(true, |wal| wal.len() == 0);
    let immutable = !sharing && quiet() && has_wal_mode(&mut folder.open_file(rel)?);
    open_in(folder, rel, immutable)
}

fn open_in(folder: &Dir, rel: &Path, immutable: bool) -> Result<Connection> {
    let parameters = if immutable { "?immutable=1" } else { "" };
    let mut connection = hostile::open(folder, rel, parameters, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    hostile::harden(&connection, true)?;
    hostile::limit_statements(&mut connection, LONGEST_STATEMENT)?;
    Ok(connection)
}

/// Whether a database is in WAL mode: then bytes 18 and 19 of its header say 2
/// (sqlite.org/fileformat2.html, 1.3.3).
pub fn is_wal(path: &Path) -> Result<bool> {
    let mut file = open_file(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(has_wal_mode(&mut file))
}

fn has_wal_mode(file: &mut File) -> bool {
    let mut head = [0; 20];
    file.read_exact(&mut head).is_ok() && head[18] == 2 && head[19] == 2
}

/// Checks a database by the text of `PRAGMA quick_check`: the exit code of a shell says nothing.
///
/// # Errors
/// When the check could not be done (locked, unreadable, `budget` used up): not a verdict.
pub fn quick_check(path: &Path, budget: Duration) -> Result<Verdict> {
    check_file(path, "quick_check", budget)
}

/// [`quick_check`], and whether each index has every row: several times as long.
///
/// # Errors
/// The same.
pub fn integrity_check(path: &Path, budget: Duration) -> Result<Verdict> {
    check_file(path, "integrity_check", budget)
}

fn check_file(path: &Path, pragma: &str, budget: Duration) -> Result<Verdict> {
    let before = fingerprint(path).ok();
    let mut verdict = check(&mut open_read_only(path)?, pragma, budget)?;
    if matches!(verdict, Verdict::Damaged(_)) && fingerprint(path).ok() != before {
        // Its owner wrote meanwhile, which an immutable connection does not see: look once more
        // before saying so.
        verdict = check(&mut open(path, false)?, pragma, budget)?;
    }
    if let Verdict::Damaged(text) | Verdict::Unjudged(Unjudged::Other, text) = &verdict
        && integrity::looks_encrypted(path).unwrap_or(false)
    {
        return Ok(Verdict::Unjudged(Unjudged::Encrypted, text.clone()));
    }
    Ok(verdict)
}

/// What changes whenever a database was written: size, time and inode of it and of its WAL.
pub fn fingerprint(path: &Path) -> std::io::Result<String> {
    let describe = |meta: fs::Metadata| {
        format!("{}:{}:{}.{:09}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
    };
    let main = describe(fs::metadata(path)?);
    let wal = fs::metadata(&sidecars(path)[0]).map(describe).unwrap_or_default();
    Ok(format!("{main}|{wal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &Path, wal: bool) -> Connection {
        let connection = Connection::open(path).unwrap();
        if wal {
            connection.pragma_update(None, "journal_mode", "wal").unwrap();
        }
        connection
            .execute_batch(
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX i ON t(b);
                 WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<2000)
                 INSERT INTO t SELECT x, hex(randomblob(40)) FROM n;",
            )
            .unwrap();
        connection
    }

    #[test]
    fn reading_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%20#?.db");
        drop(database(&path, true));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(quick_check(&path, Duration::from_secs(5)).unwrap(), Verdict::Sound);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no -wal or -shm may be left");
    }

    #[test]
    fn damage_is_read_from_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(database(&path, false));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0xA5);
        fs::write(&path, bytes).unwrap();
        assert!(matches!(quick_check(&path, Duration::from_secs(5)).unwrap(), Verdict::Damaged(_)));
    }

    #[test]
    fn a_live_wal_is_seen_and_the_fingerprint_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = database(&path, true);
        let before = fingerprint(&path).unwrap();
        assert_eq!(quick_check(&path, Duration::from_secs(5)).unwrap(), Verdict::Sound);
        assert_eq!(fingerprint(&path).unwrap(), before, "a check is not a change");
        writer.execute("INSERT INTO t(b) VALUES('x')", []).unwrap();
        assert_ne!(fingerprint(&path).unwrap(), before);
    }

    #[test]
    fn content_tells_a_database_not_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.bin");
        drop(database(&path, false));
        let fake = dir.path().join("fake.db");
        fs::write(&fake, "not a database").unwrap();
        assert!(is_sqlite(&path).unwrap());
        assert!(!is_sqlite(&fake).unwrap());
    }
}
