//! A consistent copy of a database whose owner goes on writing.
//!
//! A read transaction, then one step of the online backup API over all pages. Stepping in parts
//! would begin again with each commit of the owner and never end.

use crate::base::step::step;
use crate::base::{database, integrity};
use anyhow::{Context, Result, anyhow};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a copy may wait for its source or its target.
const BUSY: Duration = Duration::from_secs(15);
/// How long one is waited for whose owner came back while it was copied.
const AWAKE: Duration = Duration::from_secs(2);
/// How long it is looked whether one is locked: its writer may be between two commits.
const BLINK: Duration = Duration::from_millis(10);
/// How long a file is given to be at rest.
const CALM: Duration = Duration::from_millis(100);
/// So often files are copied that do not stay as they are.
const ATTEMPTS: usize = 5;

/// A database at one moment, held for reading.
pub(super) struct Pinned {
    source: PathBuf,
    connection: Connection,
    wal: bool,
    since: Instant,
    /// What it looked like, if nobody had it open and so no lock was taken.
    untouched: Option<String>,
}

/// A copy of a database.
pub(super) struct Shot {
    /// Pages.
    pub(super) pages: u64,
    /// Bytes a page.
    pub(super) page_size: u64,
    /// Whether its owner has it in WAL mode.
    pub(super) wal: bool,
    /// For how long it was held.
    pub(super) held: Duration,
}

/// Whether a database is in WAL mode and has no WAL: then its file is all of it, and nobody has it open.
pub(super) fn is_at_rest(source: &Path) -> Result<bool> {
    Ok(has_no_wal(source) && database::is_wal(source)?)
}

fn has_no_wal(source: &Path) -> bool {
    fs::metadata(&database::sidecars(source)[0]).map_or(true, |wal| wal.len() == 0)
}

/// Whether somebody has locked a database so that it cannot be read now.
pub(super) fn is_locked(source: &Path) -> bool {
    open(source, false).and_then(|connection| begin(&connection, BLINK)).is_err_and(|error| is_busy(&error))
}

/// Holds a database at what is committed now, and waits for so long if it is locked. Writers of a WAL
/// database are not held up; those of a rollback-journal one are, until [`Pinned::copy`] is done.
pub(super) fn pin(source: &Path, at_rest: bool, wait: Duration) -> Result<Pinned> {
    // The file of a WAL database at rest is read without a lock: taking one would leave a `-wal`
    // and a `-shm` behind. Should its owner come back meanwhile, the copy is made again.
    let before = database::fingerprint(source).ok();
    let at_rest = at_rest && has_no_wal(source);
    hold(source, open(source, at_rest)?, wait, before.filter(|_| at_rest))
}

/// Opens it, if all its files are ordinary ones: SQLite would wait for ever for a FIFO. Their types are
/// asked for by name, because closing a file of a database lets go of the locks that are held on it.
fn open(source: &Path, at_rest: bool) -> Result<Connection> {
    let ordinary = |path: &Path| fs::symlink_metadata(path).map_or(true, |meta| meta.is_file());
    if let Some(other) =
        database::sidecars(source).iter().chain([&source.to_owned()]).find(|path| !ordinary(path))
    {
        return Err(anyhow!("{} is no ordinary file", other.display()));
    }
    if at_rest { database::open_at_rest(source) } else { database::open_sharing(source) }
}

fn begin(connection: &Connection, wait: Duration) -> Result<()> {
    connection.busy_timeout(wait)?;
    connection.execute_batch("BEGIN")?;
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))?;
    Ok(())
}

fn hold(source: &Path, connection: Connection, wait: Duration, untouched: Option<String>) -> Result<Pinned> {
    let since = Instant::now();
    begin(&connection, wait).with_context(|| format!("cannot read the database {}", source.display()))?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    // What is read as immutable says `off`, and is in WAL mode.
    let wal = mode == "wal" || untouched.is_some();
    Ok(Pinned { source: source.to_owned(), connection, wal, since, untouched })
}

impl Pinned {
    /// Whether its writers wait for us.
    pub(super) fn holds_up_writers(&self) -> bool {
        !self.wal
    }

    /// Copies it to a new file and lets go of it.
    pub(super) fn copy(self, target: &Path) -> Result<Shot> {
        copy(&self.connection, target)
            .with_context(|| format!("cannot copy the database {}", self.source.display()))?;
        let Pinned { source, connection, wal, since, untouched } = self;
        drop(connection);
        step("snapshot")?;
        if untouched.is_some() && untouched != database::fingerprint(&source).ok() {
            return hold(&source, open(&source, false)?, AWAKE, None)?.copy(target);
        }
        finish(target, wal, since.elapsed())
    }
}

/// A copy by way of copying the files to `raw`: for a database that cannot be opened where it is, because
/// its owner was killed in the middle of a write, or nothing may be written beside it. What
/// recovery there is happens on the copy. If that fails, the files are at `raw` as they were.
pub(super) fn copy_files(source: &Path, raw: &Path, target: &Path) -> Result<Shot> {
    let begun = Instant::now();
    for _ in 0..ATTEMPTS {
        let before = fingerprints(source);
        copy_set(source, raw)?;
        if fingerprints(source) != before {
            std::thread::sleep(CALM);
            continue;
        }
        let wal = database::is_wal(raw)?;
        let copied = recover(raw, target);
        if copied.is_err() {
            // Whoever tried may have changed it.
            copy_set(source, raw)?;
        }
        copied.with_context(|| format!("cannot recover a copy of the database {}", source.display()))?;
        remove_set(raw);
        return finish(target, wal, begun.elapsed());
    }
    Err(anyhow!("the database {} changes too fast to be copied", source.display()))
}

/// Copies the files of a database that cannot be opened. Gives whether they stayed as they are meanwhile.
pub(super) fn copy_opaque(source: &Path, raw: &Path) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        let before = fingerprints(source);
        copy_set(source, raw)?;
        step("copied as it is")?;
        if before.is_some() && fingerprints(source) == before {
            return Ok(true);
        }
        std::thread::sleep(CALM);
    }
    Ok(false)
}

fn recover(raw: &Path, target: &Path) -> Result<()> {
    copy(&Connection::open(raw)?, target)
}

/// Whether an error says that somebody holds the database, rather than that it is broken.
pub(super) fn is_busy(error: &anyhow::Error) -> bool {
    matches!(code(error), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What SQLite says an error is.
pub(super) fn code(error: &anyhow::Error) -> Option<ErrorCode> {
    error.chain().filter_map(|cause| cause.downcast_ref::<rusqlite::Error>()).find_map(integrity::code)
}

/// Copies a database file with its `-wal` and `-journal`, as they are.
pub(super) fn copy_set(source: &Path, target: &Path) -> Result<()> {
    remove_set(target);
    let [wal, _, journal] = database::sidecars(source);
    let [wal_target, _, journal_target] = database::sidecars(target);
    for (from, to) in [(source, target), (&wal, &wal_target), (&journal, &journal_target)] {
        let mut file = match database::open_file(from) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && from != source => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot copy {}", from.display())),
        };
        let copied = File::create(to).and_then(|mut copy| io::copy(&mut file, &mut copy));
        copied.with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

fn remove_set(path: &Path) {
    // What is left is removed with the work folder.
    let _ = fs::remove_file(path);
    for sidecar in database::sidecars(path) {
        let _ = fs::remove_file(sidecar);
    }
}

fn fingerprints(path: &Path) -> Option<(String, String)> {
    let journal = &database::sidecars(path)[2];
    Some((database::fingerprint(path).ok()?, database::fingerprint(journal).unwrap_or_default()))
}

fn copy(from: &Connection, target: &Path) -> Result<()> {
    // A predecessor's pages must not shine through.
    File::create(target).with_context(|| format!("cannot create {}", target.display()))?;
    let mut to = Connection::open(target)?;
    // The copy is read back and checked, and lives only until it is in the archive.
    to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")?;
    let backup = Backup::new(from, &mut to)?;
    let deadline = Instant::now() + BUSY;
    loop {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(code, None).into());
            }
        }
    }
}

fn finish(target: &Path, wal: bool, held: Duration) -> Result<Shot> {
    let connection = database::open_read_only(target)?;
    let number = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).unwrap_or_default()
    };
    let (pages, page_size) = (number("page_count").unsigned_abs(), number("page_size").unsigned_abs());
    Ok(Shot { pages, page_size, wal, held })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::database::Verdict;

    fn count(path: &Path) -> i64 {
        database::open_read_only(path)
            .unwrap()
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    }

    fn filled(path: &Path, mode: &str) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
                 WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<500)
                 INSERT INTO t SELECT x, hex(randomblob(40)) FROM n;",
            )
            .unwrap();
        connection
    }

    #[test]
    fn a_copy_is_of_the_moment_it_was_pinned() {
        for mode in ["wal", "delete"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.db");
            let writer = filled(&path, mode);
            let pinned = pin(&path, is_at_rest(&path).unwrap(), BUSY).unwrap();
            if mode == "wal" {
                writer.execute("INSERT INTO t(b) VALUES('later')", []).unwrap();
            }
            assert_eq!(pinned.holds_up_writers(), mode == "delete");
            let target = dir.path().join("copy");
            let shot = pinned.copy(&target).unwrap();
            assert_eq!(database::quick_check(&target, BUSY).unwrap(), Verdict::Sound);
            assert_eq!(count(&target), 500, "{mode}");
            assert_eq!(shot.pages * shot.page_size, fs::metadata(&target).unwrap().len());
            writer.execute("INSERT INTO t(b) VALUES('let go of')", []).unwrap();
        }
    }

    #[test]
    fn a_database_whose_content_is_all_in_the_wal_is_copied_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = filled(&path, "wal");
        writer.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 4096, "nothing is in the main file yet");
        for copy in [
            pin(&path, is_at_rest(&path).unwrap(), BUSY).unwrap().copy(&dir.path().join("1")),
            copy_files(&path, &dir.path().join("raw"), &dir.path().join("2")),
        ] {
            assert!(copy.unwrap().pages > 1);
        }
        assert_eq!((count(&dir.path().join("1")), count(&dir.path().join("2"))), (500, 500));
    }

    #[test]
    fn a_database_at_rest_gets_no_files_beside_it_and_one_that_wakes_up_is_copied_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(filled(&path, "wal"));
        let target = dir.path().join("copy");
        pin(&path, is_at_rest(&path).unwrap(), BUSY).unwrap().copy(&target).unwrap();
        assert!(database::sidecars(&path).iter().all(|sidecar| !sidecar.exists()));

        let pinned = pin(&path, is_at_rest(&path).unwrap(), BUSY).unwrap();
        let writer = Connection::open(&path).unwrap();
        writer.execute("INSERT INTO t(b) VALUES('awake')", []).unwrap();
        pinned.copy(&target).unwrap();
        assert_eq!(count(&target), 501);
    }

    #[test]
    fn a_hot_journal_is_rolled_back_on_the_copy_not_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let crashed = dir.path().join("crashed.db");
        let writer = filled(&path, "delete");
        // Spills half a transaction into the file, as a killed writer leaves it.
        writer.execute_batch("PRAGMA cache_size=2; BEGIN; UPDATE t SET b = 'half done';").unwrap();
        writer.execute_batch("PRAGMA cache_spill=1; UPDATE t SET b = b || '!';").unwrap();
        copy_set(&path, &crashed).unwrap();
        let journal = &database::sidecars(&crashed)[2];
        let before = (fs::read(&crashed).unwrap(), fs::read(journal).unwrap());
        let target = dir.path().join("copy");
        if let Ok(pinned) = pin(&crashed, false, BUSY) {
            pinned.copy(&target).unwrap();
        } else {
            copy_files(&crashed, &dir.path().join("raw"), &target).unwrap();
        }
        let half: i64 = Connection::open(&target)
            .unwrap()
            .query_row("SELECT count(*) FROM t WHERE b LIKE 'half%'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(half, 0, "an unfinished transaction came along");
        assert_eq!(count(&target), 500);
        assert_eq!(
            (fs::read(&crashed).unwrap(), fs::read(journal).unwrap()),
            before,
            "the original was touched"
        );
    }

    #[test]
    fn a_locked_database_is_told_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = filled(&path, "delete");
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let reader = database::open_sharing(&path).unwrap();
        reader.busy_timeout(Duration::from_millis(10)).unwrap();
        let error = reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap_err();
        assert!(is_busy(&anyhow::Error::new(error)));
        assert!(!is_busy(&anyhow!("something else")));
        assert!(is_locked(&path));
        writer.execute_batch("COMMIT").unwrap();
        assert!(!is_locked(&path));
    }
}
