//! What the journal knows of archives: when each was made, looked at and restored on trial.

use super::find::refresh_latest;
use super::folder;
use super::lacking::Had;
use super::manifest::Manifest;
use super::shelf::Facts;
use crate::base::{Journal, Run, State};
use crate::config::Loaded;
use anyhow::{Context, Result};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::path::Path;

/// What the journal knows of an archive.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) bytes: i64,
    pub(super) state: i64,
    pub(super) verified: Option<i64>,
    pub(super) drilled: Option<i64>,
}

/// What the journal knows of all archives, by their names.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(super) rows: HashMap<String, Row>,
    /// What each said of itself, and the stamp that its file had.
    pub(super) facts: HashMap<String, (String, Facts)>,
}

impl Records {
    /// How many archives there are by the journal.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Reads them.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn load(connection: &Connection) -> Result<Records> {
        let rows = || -> rusqlite::Result<HashMap<String, Row>> {
            let query = "SELECT name, bytes, state, verified_at, drilled_at FROM backups";
            let mut statement = connection.prepare(query)?;
            let row = |row: &rusqlite::Row<'_>| {
                let (bytes, state) = (row.get(1)?, row.get(2)?);
                Ok((row.get(0)?, Row { bytes, state, verified: row.get(3)?, drilled: row.get(4)? }))
            };
            statement.query_map([], row)?.collect()
        };
        let facts = || -> rusqlite::Result<HashMap<String, (String, Facts)>> {
            let mut statement = connection.prepare("SELECT name, stamp, facts FROM catalog")?;
            let rows = statement.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let parsed = rows
                .into_iter()
                .filter_map(|(name, stamp, facts)| Some((name, (stamp, serde_json::from_str(&facts).ok()?))));
            Ok(parsed.collect())
        };
        let rows = rows().context("cannot read the journal")?;
        // A journal of an earlier version does not have them: each archive is looked at then.
        Ok(Records { rows, facts: facts().unwrap_or_default() })
    }
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
    let bytes = folder::of(loaded, archive)
        .and_then(|(folder, name)| Ok(folder.metadata(name)?.len()))
        .unwrap_or_default();
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
    if !sound {
        // Best effort: whoever asks for `latest` by other ways than that link knows anyway.
        let _ = refresh_latest(loaded, Some(journal));
    }
    Ok(())
}

/// What the archive of this name said of databases, as far as the journal remembers it.
pub(super) fn had(journal: &Journal, name: &str) -> Option<Had> {
    let query = "SELECT facts FROM catalog WHERE name = ?1";
    let facts: String = journal.connection().query_row(query, [name], |row| row.get(0)).ok()?;
    serde_json::from_str::<Facts>(&facts).ok()?.had
}

/// Remembers what an archive says of itself.
pub(super) fn remember(journal: &Journal, name: &str, stamp: &str, facts: &Facts) {
    let Ok(facts) = serde_json::to_string(facts) else { return };
    // Best effort: where the journal cannot be written, the archive is looked at again.
    let _ = journal.connection().execute(
        "INSERT OR REPLACE INTO catalog(name, stamp, facts) VALUES(?1, ?2, ?3)",
        [name, stamp, &facts],
    );
}

/// Forgets an archive that is deleted.
pub(super) fn forget(journal: &Journal, name: &str) -> Result<()> {
    let forget =
        |table| journal.connection().execute(&format!("DELETE FROM {table} WHERE name = ?1"), [name]);
    forget("backups").and_then(|_| forget("catalog")).context("cannot write to the journal")?;
    Ok(())
}

/// What is to be said when the journal knows of archives, and not one of them is in the backup
/// folder.
pub(super) fn gone(loaded: &Loaded, journal: Option<&Journal>) -> Option<String> {
    let dir = &loaded.config.backup.dir;
    let mut statement = journal?.connection().prepare("SELECT name FROM backups").ok()?;
    let known = statement.query_map([], |row| row.get::<_, String>(0)).ok()?;
    let known: Vec<String> = known.collect::<Result<_, _>>().ok()?;
    let folder = folder::open(loaded).ok()?;
    let is_there = |name: &String| folder.as_ref().is_some_and(|folder| folder.metadata(name).is_ok());
    if known.is_empty() || known.iter().any(is_there) {
        return None;
    }
    let missing = if folder.is_some() { "" } else { ", which is not there" };
    let archives = crate::base::text::count(known.len(), "archive");
    Some(format!("none of {archives} made before is in {}{missing}", dir.display()))
}
