//! What the journal knows of archives: when each was made, looked at and restored on trial.

use super::manifest::Manifest;
use crate::base::{Journal, Run, State};
use crate::config::Loaded;
use anyhow::{Context, Result};
use rusqlite::{OptionalExtension, params};
use std::fs;
use std::path::Path;

/// What the journal knows of an archive.
pub(super) struct Row {
    pub(super) bytes: i64,
    pub(super) state: i64,
    pub(super) verified: Option<i64>,
    pub(super) drilled: Option<i64>,
}

/// What it knows of the archive of this name.
pub(super) fn row(journal: &Journal, name: &str) -> Result<Option<Row>> {
    journal
        .connection()
        .query_row(
            "SELECT bytes, state, verified_at, drilled_at FROM backups WHERE name = ?1",
            [name],
            |row| {
                Ok(Row {
                    bytes: row.get(0)?,
                    state: row.get(1)?,
                    verified: row.get(2)?,
                    drilled: row.get(3)?,
                })
            },
        )
        .optional()
        .context("cannot read the journal")
}

/// Journals a new archive, verified now.
pub(super) fn record(
    journal: &Journal,
    run: &Run,
    name: &str,
    bytes: u64,
    manifest: &Manifest,
    state: State,
) -> Result<()> {
    journal
        .connection()
        .execute(
            "INSERT OR REPLACE INTO backups(name, run, at, bytes, content, files, state, verified_at)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?3)",
            params![
                name,
                run.id,
                run.now.timestamp_millis(),
                bytes.cast_signed(),
                manifest.bytes().cast_signed(),
                manifest.count() as i64,
                state.code()
            ],
        )
        .context("cannot write to the journal")?;
    Ok(())
}

/// Journals what a look at an archive found. `drill`: it was restored on trial as well.
///
/// An archive that is elsewhere than on the shelf is not journaled.
pub fn record_look(
    loaded: &Loaded,
    journal: &Journal,
    run: &Run,
    archive: &Path,
    manifest: Option<&Manifest>,
    sound: bool,
    drill: bool,
) -> Result<()> {
    let Some(name) = archive.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    if archive.parent() != Some(loaded.config.backup.dir.as_path()) {
        return Ok(());
    }
    let at = run.now.timestamp_millis();
    let (verified, drilled) = (sound.then_some(at), (sound && drill).then_some(at));
    let bytes = fs::metadata(archive).map_or(0, |meta| meta.len());
    if !sound {
        journal.connection().execute("UPDATE backups SET state = 2 WHERE name = ?1", [name])
    } else {
        journal.connection().execute(
            "INSERT INTO backups(name, run, at, bytes, content, files, state, verified_at, drilled_at)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT(name) DO UPDATE SET verified_at = ?8, drilled_at = coalesce(?9, drilled_at),
               bytes = ?4, state = CASE WHEN state = 2 THEN 0 ELSE state END",
            params![
                name,
                manifest.map_or(run.id.as_str(), |manifest| manifest.run.as_str()),
                manifest.map_or(at, |manifest| manifest.time.timestamp_millis()),
                bytes.cast_signed(),
                manifest.map_or(0, Manifest::bytes).cast_signed(),
                manifest.map_or(0, |manifest| manifest.count() as i64),
                u8::from(manifest.is_some_and(|manifest| !manifest.problems.is_empty())),
                verified,
                drilled
            ],
        )
    }
    .context("cannot write to the journal")?;
    Ok(())
}

/// Forgets an archive that is deleted.
pub(super) fn forget(journal: &Journal, name: &str) -> Result<()> {
    journal
        .connection()
        .execute("DELETE FROM backups WHERE name = ?1", [name])
        .context("cannot write to the journal")?;
    Ok(())
}

/// What is to be said when the journal knows of archives, and not one of them is in the backup
/// folder.
pub(super) fn gone(loaded: &Loaded, journal: Option<&Journal>) -> Option<String> {
    let dir = &loaded.config.backup.dir;
    let mut statement = journal?.connection().prepare("SELECT name FROM backups").ok()?;
    let known = statement.query_map([], |row| row.get::<_, String>(0)).ok()?;
    let known: Vec<String> = known.collect::<Result<_, _>>().ok()?;
    if known.is_empty() || known.iter().any(|name| fs::symlink_metadata(dir.join(name)).is_ok()) {
        return None;
    }
    let missing = if dir.is_dir() { "" } else { ", which is not there" };
    let archives = crate::base::text::count(known.len(), "archive");
    Some(format!("none of {archives} made before is in {}{missing}", dir.display()))
}
