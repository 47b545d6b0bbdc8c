//! A consistent copy of a database whose owner goes on writing.
//!
//! A read transaction, then one step of the online backup API over all pages. Stepping in parts
//! would begin again with each commit of the owner and never end.

use crate::base::database;
use crate::base::{Fault, step::step, units::Span};
use anyhow::{Context, Result, anyhow};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a writer that holds a database may keep us waiting.
const BUSY: Duration = Duration::from_secs(15);

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

/// Holds a database at what is committed now. Writers of a WAL database are not held up; those
/// of a rollback-journal one are, until [`Pinned::copy`] is done.
pub(super) fn pin(source: &Path) -> Result<Pinned> {
    // The file of a WAL database at rest is read without a lock: taking one would leave a `-wal`
    // and a `-shm` behind. Should its owner come back meanwhile, the copy is made again.
    let before = database::fingerprint(source).ok();
    let connection = database::open_read_only(source)?;
    let wal = database::is_wal(source)?;
    let at_rest = wal && fs::metadata(&database::sidecars(source)[0]).map_or(true, |wal| wal.len() == 0);
    hold(source, connection, wal, before.filter(|_| at_rest))
}

fn hold(source: &Path, connection: Connection, wal: bool, untouched: Option<String>) -> Result<Pinned> {
    let since = Instant::now();
    let begin = || {
        connection.busy_timeout(BUSY)?;
        connection.execute_batch("BEGIN")?;
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))
    };
    begin().with_context(|| format!("cannot read the database {}", source.display()))?;
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
            return hold(&source, database::open_sharing(&source)?, wal, None)?.copy(target);
        }
        finish(target, wal, since.elapsed())
    }
}

/// A copy by way of copying the files: for a database that cannot be opened where it is, because
/// its owner was killed in the middle of a write, or nothing may be written beside it. What
/// recovery there is happens on the copy.
pub(super) fn copy_files(source: &Path, target: &Path) -> Result<Shot> {
    let begun = Instant::now();
    let raw = target.with_extension("raw");
    for _ in 0..5 {
        let before = fingerprints(source);
        copy_set(source, &raw)?;
        if fingerprints(source) != before {
            continue;
        }
        let connection = Connection::open(&raw)
            .with_context(|| format!("cannot open a copy of the database {}", source.display()))?;
        let wal = database::is_wal(source)?;
        copy(&connection, target)
            .with_context(|| format!("cannot recover a copy of the database {}", source.display()))?;
        drop(connection);
        remove_set(&raw);
        return finish(target, wal, begun.elapsed());
    }
    Err(anyhow!("the database {} changes too fast to be copied", source.display()))
}

/// Whether an error says that somebody holds the database, rather than that it is broken.
pub(super) fn is_busy(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<rusqlite::Error>()).any(|cause| {
        matches!(cause.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    })
}

/// The fault of a database that its owner would not let go of.
pub(super) fn busy(path: &Path) -> Fault {
    Fault::critical(format!("the database {} was locked for {} by its writer", path.display(), Span(BUSY)))
        .hint("an archive without it would be no backup; run this again, or exclude it in [backup]")
}

/// Copies a database file with its `-wal` and `-journal`, as they are.
pub(super) fn copy_set(source: &Path, target: &Path) -> Result<()> {
    remove_set(target);
    let [wal, _, journal] = database::sidecars(source);
    let [wal_target, _, journal_target] = database::sidecars(target);
    for (from, to) in [(source, target), (&wal, &wal_target), (&journal, &journal_target)] {
        match fs::copy(from, to) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && from != source => {}
            Err(error) => return Err(error).with_context(|| format!("cannot copy {}", from.display())),
        }
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
            let pinned = pin(&path).unwrap();
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
        for copy in
            [pin(&path).unwrap().copy(&dir.path().join("1")), copy_files(&path, &dir.path().join("2"))]
        {
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
        pin(&path).unwrap().copy(&target).unwrap();
        assert!(database::sidecars(&path).iter().all(|sidecar| !sidecar.exists()));

        let pinned = pin(&path).unwrap();
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
        if let Ok(pinned) = pin(&crashed) {
            pinned.copy(&target).unwrap();
        } else {
            copy_files(&crashed, &target).unwrap();
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
    }
}
