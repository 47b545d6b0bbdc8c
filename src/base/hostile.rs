//! SQLite databases that somebody else may have written, opened so that they cannot run anything, lead
//! elsewhere or hold us up.

use super::beneath::{Dir, regular};
use super::database::sidecars;
use anyhow::{Result, bail};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a file is known by: device and inode.
type Id = (u64, u64);

/// Looks at a database and what lies beside it before SQLite opens them, and again afterwards: regular files,
/// or none. Gives what the database is known by.
///
/// SQLite opens by path and would wait for a FIFO. Between this and its opening somebody who can write in the
/// folder can still put one there, or another database; the first is ended by the watchdog of the run, and the
/// second is found by the second look.
pub fn inspect(folder: &Dir, rel: &Path) -> io::Result<Option<Id>> {
    let of = |rel: &Path| match folder.metadata(rel) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(meta) => regular(&meta).map(|()| Some((meta.dev(), meta.ino()))),
    };
    for sidecar in sidecars(rel) {
        of(&sidecar)?;
    }
    of(rel)
}

/// Opens a database that lies in a folder which is held. No link leads there.
///
/// # Errors
/// A refusal of [`inspect`], or what SQLite says.
pub fn open(folder: &Dir, rel: &Path, parameters: &str, flags: OpenFlags) -> Result<Connection> {
    let real = folder.path().canonicalize()?.join(rel);
    let before = inspect(folder, rel)?;
    let mut uri = String::from("file:");
    for &byte in real.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            uri.push(byte as char);
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str(parameters);
    let flags = flags
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(&uri, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let there = std::fs::metadata(&real).map(|meta| (meta.dev(), meta.ino())).ok();
    if inspect(folder, rel)? != before || there != before {
        bail!("it was exchanged while it was opened");
    }
    Ok(connection)
}

/// Takes from a connection what a hostile schema could use: triggers, functions with effects, writes to the
/// schema itself. Views stay where the owner's queries may name them.
pub fn harden(connection: &Connection, views: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, views)?;
    Ok(())
}

/// Ends a statement that takes longer than `most`.
pub fn limit_statements(connection: &mut Connection, most: Duration) -> rusqlite::Result<()> {
    /// Steps of SQLite's machine from one look at the clock to the next: some milliseconds.
    const STEPS: i32 = 100_000;
    /// A longer pause between two looks is one between two statements.
    const PAUSE: Duration = Duration::from_secs(1);
    let (mut begun, mut last) = (Instant::now(), Instant::now());
    let late = move || {
        let now = Instant::now();
        if now - last > PAUSE {
            begun = now;
        }
        last = now;
        now - begun > most
    };
    connection.progress_handler(STEPS, Some(late))
}
