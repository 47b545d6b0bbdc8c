//! `ops.db`: our own history in SQLite. The rooms keep their queries; the tables are all here.
//!
//! A journal that cannot be read is set aside, never fatal: an alert must go out all the same
//! when a database is what broke.

use super::beneath::{Options, Refused};
use super::{Fault, Home, Run, State, database, format, hostile, units};
use anyhow::{Context, Result, anyhow};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, params};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The history of one home.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    /// Where a predecessor that could not be used was moved, if this run had to.
    set_aside: Option<Aside>,
}

/// A journal that was set aside.
#[derive(Debug)]
pub struct Aside {
    /// Where it is now.
    pub path: PathBuf,
    /// Why, as what is said of it: "was damaged".
    pub why: &'static str,
}

/// There is something at the place of the journal that this program did not make: another schema, or no
/// regular file.
#[derive(Debug, thiserror::Error)]
#[error("it {FOREIGN}")]
struct Foreign;

const FOREIGN: &str = "was not made by agent-ops";

/// Its path below the home.
const JOURNAL: &str = "ops.db";

/// No statement on it takes longer.
const LONGEST_STATEMENT: Duration = Duration::from_secs(20);

/// No value in it is larger.
const MOST_BYTES: i32 = 16 << 20;

/// The tables of version 1. Times are milliseconds since 1970 (UTC), states are 0 to 3.
const TABLES: &str = "
CREATE TABLE runs(
  id INTEGER PRIMARY KEY, run TEXT NOT NULL, program TEXT NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL);
CREATE INDEX runs_at ON runs(at, state);
CREATE TABLE samples(
  run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, check_name TEXT NOT NULL,
  state INTEGER NOT NULL, value REAL, PRIMARY KEY(run, check_name)) WITHOUT ROWID;
CREATE TABLE scans(
  path TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, at INTEGER NOT NULL, verdict TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE incidents(
  id INTEGER PRIMARY KEY AUTOINCREMENT, check_name TEXT NOT NULL, type TEXT NOT NULL,
  severity INTEGER NOT NULL, opened_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, closed_at INTEGER,
  summary TEXT NOT NULL, record TEXT NOT NULL);
CREATE UNIQUE INDEX incidents_open ON incidents(check_name) WHERE closed_at IS NULL;
CREATE INDEX incidents_check ON incidents(check_name, id);
CREATE TABLE messages(
  id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, run TEXT NOT NULL,
  incident INTEGER REFERENCES incidents(id), type TEXT NOT NULL, kind TEXT NOT NULL,
  severity INTEGER NOT NULL, at INTEGER NOT NULL, content TEXT NOT NULL, settled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX messages_at ON messages(at);
CREATE INDEX messages_open ON messages(id) WHERE settled = 0;
CREATE TABLE deliveries(
  message INTEGER NOT NULL REFERENCES messages(id) ON DELETE CASCADE, channel TEXT NOT NULL,
  attempts INTEGER NOT NULL, at INTEGER NOT NULL, outcome TEXT NOT NULL, error TEXT,
  PRIMARY KEY(message, channel)) WITHOUT ROWID;
CREATE TABLE silences(
  id INTEGER PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE backups(
  name TEXT PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL,
  content INTEGER NOT NULL, files INTEGER NOT NULL, state INTEGER NOT NULL,
  verified_at INTEGER, drilled_at INTEGER) WITHOUT ROWID;
CREATE TABLE restarts(
  id INTEGER PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL, service TEXT NOT NULL,
  cause TEXT NOT NULL, pid INTEGER, good INTEGER NOT NULL);
CREATE INDEX restarts_at ON restarts(at);
CREATE TABLE actions(
  id INTEGER PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL, program TEXT NOT NULL,
  what TEXT NOT NULL, state INTEGER NOT NULL);
";

/// What version 2 adds: the archives in the bucket of `[backup.s3]`, as they were when it was last
/// looked at; `at` is when each was made.
const COPIES: &str = "
CREATE TABLE copies(
  name TEXT PRIMARY KEY, remote TEXT NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL,
  seen_at INTEGER NOT NULL) WITHOUT ROWID;
";

/// What version 3 adds: `seen` is what a look found, before `for` was asked (none, if it was an
/// earlier look), what checks remember from one run to the next, and when each job ran last.
const MEMORIES: &str = "
CREATE TABLE jobs(name TEXT PRIMARY KEY, run TEXT NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE samples ADD COLUMN seen INTEGER;
ALTER TABLE samples ADD COLUMN summary TEXT;
CREATE TABLE memories(
  check_name TEXT NOT NULL, what TEXT NOT NULL, at INTEGER NOT NULL, content TEXT NOT NULL,
  PRIMARY KEY(check_name, what)) WITHOUT ROWID;
";

/// What version 4 adds: by what a message is found on a channel, when that channel may be asked again.
const REFERENCES: &str = "
ALTER TABLE deliveries ADD COLUMN reference TEXT;
ALTER TABLE deliveries ADD COLUMN not_before INTEGER;
CREATE INDEX deliveries_not_before ON deliveries(not_before, channel) WHERE not_before IS NOT NULL;
CREATE INDEX messages_incident ON messages(incident, id);
";

/// What version 5 adds: what each archive says of itself, so that it need not be opened to know that. It
/// holds for a file of that stamp: inode, size and times.
const CATALOG: &str = "
CREATE TABLE catalog(name TEXT PRIMARY KEY, stamp TEXT NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
";

/// What each version adds to the one before it.
const VERSIONS: [&str; 5] = [TABLES, COPIES, MEMORIES, REFERENCES, CATALOG];

/// The version that this program writes, and the newest it reads.
const CURRENT: i64 = VERSIONS.len() as i64;

/// How long samples, closed incidents, messages and actions are kept.
const KEPT_DAYS: i64 = 400;

/// How long the samples of single checks are kept: what the 30-day strip shows, and some.
const SAMPLES_KEPT_DAYS: i64 = 35;

impl Journal {
    /// Opens the journal of a home, making it if there is none. A damaged one is moved to
    /// `ops.db.damaged-STAMP` and a new one is begun.
    ///
    /// # Errors
    /// When it cannot be opened or brought up to date. A [`Fault`] of state Unknown when a newer
    /// agent-ops wrote it: then nothing was changed.
    pub fn open(home: &Home) -> Result<Journal> {
        let path = home.journal();
        match Journal::open_at(home) {
            Ok(connection) => {
                // A full disk must not keep people from being alerted: the next run marks it.
                let _ = format::mark(home);
                Ok(Journal { connection, set_aside: None })
            }
            Err(error) if is_damaged(&error) => Journal::begin_anew(home),
            Err(error) if error.is::<Foreign>() => Journal::replace(home, FOREIGN),
            Err(error) if error.is::<Fault>() => Err(error),
            Err(error) => Err(error).with_context(|| opening(&path)),
        }
    }

    /// Opens the journal of a home only to look into it: nothing is written but the marks of
    /// readers that SQLite keeps in its `-shm`, where it can. None: there is none that can be read.
    /// One of an earlier version lacks what came later: a query that needs it fails.
    pub fn open_to_read(home: &Home) -> Option<Journal> {
        let folder = home.state().ok()?;
        let connection = database::open_beneath(&folder, Path::new(JOURNAL), false).ok()?;
        hostile::harden(&connection, false).ok()?;
        let ours = check_schema(&connection).is_ok_and(|version| (1..=CURRENT).contains(&version));
        ours.then_some(Journal { connection, set_aside: None })
    }

    /// Sets a damaged journal aside and begins a new one: for damage that [`Journal::open`] did
    /// not meet, but a query did ([`is_damaged`]).
    pub fn begin_anew(home: &Home) -> Result<Journal> {
        Journal::replace(home, "was damaged")
    }

    fn replace(home: &Home, why: &'static str) -> Result<Journal> {
        let path = home.journal();
        let aside = path.with_extension(format!("db.damaged-{}", units::stamp(chrono::Utc::now())));
        let (folder, rel) = home.place(&path)?;
        let (_, new) = home.place(&aside)?;
        // What is in the sidecars belongs to it.
        for (from, to) in database::sidecars(&rel).iter().zip(super::database::sidecars(&new)) {
            let _ = folder.rename(from, &folder, to);
        }
        match folder.rename(rel, &folder, new) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context("cannot set the journal aside");
            }
            _ => {}
        }
        let connection = Journal::open_at(home).with_context(|| opening(&path))?;
        Ok(Journal { connection, set_aside: Some(Aside { path: aside, why }) })
    }

    /// A journal that lives only as long as this run: for a home that cannot be written.
    pub fn in_memory() -> Result<Journal> {
        let connection = Connection::open_in_memory().context("cannot open a journal in memory")?;
        connection.execute_batch(&VERSIONS.concat()).context("cannot lay out a journal in memory")?;
        Ok(Journal { connection, set_aside: None })
    }

    /// Where the predecessor went, if [`Journal::open`] had to move it, and why.
    pub fn set_aside(&self) -> Option<&Aside> {
        self.set_aside.as_ref()
    }

    /// The connection, for the queries of a room.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs `work` in one transaction that is on disk when this returns.
    pub fn transaction<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.connection
            .pragma_update(None, "synchronous", "full")
            .context("cannot write to the journal")
            .and_then(|()| self.quick_transaction(work))
    }

    /// [`Journal::transaction`] that a power cut, though no crash of ours, may take back: for
    /// samples, of which the next run brings more. It waits for no disk.
    pub fn quick_transaction<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, rusqlite::TransactionBehavior::Immediate)
                .context("cannot write to the journal")?;
        let value = work(&transaction)?;
        transaction.commit().context("cannot write to the journal")?;
        Ok(value)
    }

    /// Notes an action of this run: what was done and how it ended.
    pub fn note(&self, run: &Run, what: &str, state: State) -> Result<()> {
        self.connection
            .execute(
                "INSERT INTO actions(run, at, program, what, state) VALUES(?1, ?2, ?3, ?4, ?5)",
                params![run.id, run.now.timestamp_millis(), run.program, what, state.code()],
            )
            .context("cannot write to the journal")?;
        Ok(())
    }

    /// Notes that a job ran, and how it ended. It waits for no disk.
    pub fn ran(&self, run: &Run, job: &str, state: State) -> Result<()> {
        self.quick_transaction(|connection| {
            connection.execute(
                "INSERT OR REPLACE INTO jobs(name, run, at, state) VALUES(?1, ?2, ?3, ?4)",
                params![job, run.id, run.now.timestamp_millis(), state.code()],
            )?;
            Ok(())
        })
    }

    /// Forgets what is older than anything shows. Cheap: an index tells there is nothing to do.
    pub fn forget_old(&self, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
        let before = |days| (now - chrono::TimeDelta::days(days)).timestamp_millis();
        self.connection
            .execute("DELETE FROM runs WHERE at < ?1", [before(SAMPLES_KEPT_DAYS)])
            .and_then(|_| {
                self.connection.execute("DELETE FROM memories WHERE at < ?1", [before(SAMPLES_KEPT_DAYS)])
            })
            .and_then(|_| self.connection.execute("DELETE FROM messages WHERE at < ?1", [before(KEPT_DAYS)]))
            .and_then(|_| {
                self.connection.execute(
                    "DELETE FROM incidents WHERE closed_at < ?1
                     AND id NOT IN (SELECT incident FROM messages WHERE incident IS NOT NULL)",
                    [before(KEPT_DAYS)],
                )
            })
            .and_then(|_| self.connection.execute("DELETE FROM restarts WHERE at < ?1", [before(KEPT_DAYS)]))
            .context("cannot thin the journal")?;
        Ok(())
    }

    fn open_at(home: &Home) -> Result<Connection> {
        let path = &home.journal();
        home.make_folder(&home.ops())?;
        let folder = home.state()?;
        hostile::inspect(&folder, Path::new(JOURNAL))
            .map_err(|error| if Refused::of(&error).is_some() { Foreign.into() } else { anyhow!(error) })?;
        if !home.has(path) {
            home.open_with(path, &Options::new().write().create(0o600))?;
        }
        let mut connection =
            hostile::open(&folder, Path::new(JOURNAL), "", OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        hostile::harden(&connection, false)?;
        hostile::limit_statements(&mut connection, LONGEST_STATEMENT)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_BYTES)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        if connection.is_readonly("main")? {
            // SQLite falls back to reading; to us a journal that cannot be written is none.
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
            return Err(rusqlite::Error::SqliteFailure(code, None).into());
        }
        let found = check_schema(&connection)?;
        if found > CURRENT {
            return Err(format::newer(path, found, CURRENT).into());
        }
        // The last to close would fold the WAL in and wait for the disk, that is every run: this
        // happens by size instead, and the WAL is kept small, for each run reads it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch(
            "PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=100; PRAGMA synchronous=NORMAL;",
        )?;
        if found < CURRENT {
            connection.pragma_update(None, "journal_mode", "wal")?;
            let transaction =
                rusqlite::Transaction::new_unchecked(&connection, rusqlite::TransactionBehavior::Immediate)?;
            // Another run may have been quicker.
            let found = version(&transaction)?;
            if found < CURRENT {
                let known = usize::try_from(found).unwrap_or_default();
                transaction.execute_batch(&VERSIONS[known..].concat())?;
                transaction.pragma_update(None, "user_version", CURRENT)?;
            }
            transaction.commit()?;
        }
        Ok(connection)
    }
}

/// The version of a journal, whose schema is that of this version. A newer one's is not known.
///
/// # Errors
/// [`Foreign`] when it is another: what is in a schema is run by whoever opens it.
fn check_schema(connection: &Connection) -> Result<i64> {
    // Of one moment: another run may lay it out meanwhile.
    let connection = connection.unchecked_transaction()?;
    let found = version(&connection)?;
    let known = usize::try_from(found).map_err(|_| Foreign)?;
    if let Some(versions) = VERSIONS.get(..known) {
        let expected = Connection::open_in_memory()?;
        expected.execute_batch(&versions.concat())?;
        if schema(&connection)? != schema(&expected)? {
            return Err(Foreign.into());
        }
    }
    Ok(found)
}

/// What is in a schema, but for what SQLite itself keeps in it.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let query = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master
                 WHERE NOT (type = 'index' AND sql IS NULL)
                 AND NOT (type = 'table' AND name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4'))
                 ORDER BY 1";
    let mut statement = connection.prepare(query)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Refuses a journal that a newer agent-ops has written, by the header of its file alone: offset 60 is
/// `user_version` (sqlite.org/fileformat2.html, 1.3). A version that is still in the WAL is met by [`Journal::open`].
///
/// # Errors
/// A [`Fault`] of state Unknown.
pub(super) fn check_version(home: &Home) -> Result<()> {
    let path = home.journal();
    let mut head = [0; 64];
    // One that cannot be read is the business of those who open it.
    let read = home.open_file(&path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || !head.starts_with(database::MAGIC) {
        return Ok(());
    }
    let found = i64::from(i32::from_be_bytes([head[60], head[61], head[62], head[63]]));
    if found > CURRENT { Err(format::newer(&path, found, CURRENT).into()) } else { Ok(()) }
}

fn opening(path: &Path) -> String {
    format!("cannot open the journal {}", path.display())
}

/// Whether a query failed because the database is damaged.
pub fn is_damaged(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<rusqlite::Error>()).any(is_damage)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_damaged_journal_is_set_aside_not_fatal() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        drop(Journal::open(&home).unwrap());
        for sidecar in crate::base::database::sidecars(&home.journal()) {
            let _ = fs::remove_file(sidecar);
        }
        fs::write(home.journal(), "this is no database, and long enough to be read as one").unwrap();
        let journal = Journal::open(&home).unwrap();
        assert!(journal.set_aside().is_some_and(|aside| aside.path.exists()));
        journal.note(&Run::begin("test"), "something", State::Ok).unwrap();
    }

    #[test]
    fn a_journal_that_somebody_else_made_is_set_aside() {
        let made = |hostile: &str| {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::new(dir.path().to_owned());
            drop(Journal::open(&home).unwrap());
            let connection = Connection::open(home.journal()).unwrap();
            connection.execute_batch(hostile).unwrap();
            drop(connection);
            assert!(Journal::open_to_read(&home).is_none(), "{hostile}");
            let journal = Journal::open(&home).unwrap();
            assert_eq!(journal.set_aside().map(|aside| aside.why), Some(FOREIGN), "{hostile}");
            journal.note(&Run::begin("test"), "something", State::Ok).unwrap();
            drop(journal);
            assert!(Journal::open(&home).unwrap().set_aside().is_none(), "it is said once");
        };
        made("CREATE TRIGGER t AFTER INSERT ON actions BEGIN INSERT INTO actions SELECT * FROM actions; END");
        made("DROP TABLE actions; CREATE VIEW actions AS SELECT 1 AS id");
        made("CREATE INDEX slow ON actions(hex(what))");
        made("ALTER TABLE runs ADD COLUMN more");
        made("PRAGMA user_version = 2");
        made("PRAGMA user_version = -2");
    }

    #[test]
    fn what_is_no_file_in_the_place_of_the_journal_is_set_aside() {
        let special = |path: &Path| {
            std::process::Command::new("mkfifo").arg(path).status().unwrap();
        };
        let link = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        let folder = |path: &Path| fs::create_dir(path).unwrap();
        let kinds: [&dyn Fn(&Path); 3] = [&special, &link, &folder];
        for make in kinds {
            for name in ["ops.db", "ops.db-wal", "ops.db-journal", "ops.db-shm"] {
                let dir = tempfile::tempdir().unwrap();
                let home = Home::new(dir.path().to_owned());
                drop(Journal::open(&home).unwrap());
                let path = home.ops().join(name);
                let _ = fs::remove_file(&path);
                make(&path);
                assert!(Journal::open_to_read(&home).is_none());
                let journal = Journal::open(&home).unwrap();
                assert!(journal.set_aside().is_some(), "{name}");
            }
        }
    }

    #[test]
    fn a_statement_without_end_ends() {
        let mut journal = Journal::in_memory().unwrap();
        hostile::limit_statements(&mut journal.connection, Duration::from_millis(50)).unwrap();
        let endless =
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        let ended = journal.connection.query_row(endless, [], |row| row.get::<_, i64>(0));
        let code = ended.unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::OperationInterrupted));
    }

    #[test]
    fn a_journal_of_an_earlier_version_gets_what_it_lacks_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        fs::create_dir(home.ops()).unwrap();
        let old = Connection::open(home.journal()).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO actions(run, at, program, what, state) VALUES('r', 1, 'backup', 'x', 0);",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let journal = Journal::open(&home).unwrap();
            let query = "SELECT count(*) FROM actions WHERE (SELECT count(*) FROM copies) + (SELECT count(*) FROM memories) = 0";
            let kept: i64 = journal.connection().query_row(query, [], |row| row.get(0)).unwrap();
            assert_eq!(kept, 1);
        }
    }

    #[test]
    fn many_runs_may_open_a_new_journal_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let home = home.clone();
                std::thread::spawn(move || Journal::open(&home)?.note(&Run::begin("test"), "x", State::Ok))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        let journal = Journal::open(&home).unwrap();
        let rows: i64 =
            journal.connection().query_row("SELECT count(*) FROM actions", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 8);
        assert_eq!(fs::metadata(home.ops()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
