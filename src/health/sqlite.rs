//! Are the databases sound? By the text of `PRAGMA quick_check`; a database that did not change
//! is not scanned again within a day.

use super::{Answer, Metric, View};
use crate::base::database::{self, Verdict};
use crate::base::range::Unit;
use crate::base::units::Size;
use crate::base::{Journal, State, text};
use crate::config::check::Sqlite;
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How long a scan of an unchanged database is good for.
const GOOD_FOR: TimeDelta = TimeDelta::days(1);

/// Databases found sound: path → fingerprint then, and when. Only good news is remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Scans(BTreeMap<String, (String, DateTime<Utc>)>);

impl Scans {
    /// What the journal remembers; nothing, if it cannot be read.
    pub(super) fn load(journal: &Journal) -> Scans {
        let read = || -> rusqlite::Result<_> {
            let mut statement = journal.connection().prepare("SELECT path, fingerprint, at FROM scans")?;
            let rows = statement.query_map([], |row| {
                let at = DateTime::from_timestamp_millis(row.get(2)?).unwrap_or_default();
                Ok((row.get(0)?, (row.get(1)?, at)))
            })?;
            rows.collect()
        };
        Scans(read().unwrap_or_default())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn save(&self, connection: &Connection, now: DateTime<Utc>) -> Result<()> {
        for (path, (fingerprint, at)) in &self.0 {
            connection.execute(
                "INSERT OR REPLACE INTO scans(path, fingerprint, at, verdict) VALUES(?1, ?2, ?3, 'ok')",
                params![path, fingerprint, at.timestamp_millis()],
            )?;
        }
        connection.execute("DELETE FROM scans WHERE at < ?1", [(now - GOOD_FOR * 7).timestamp_millis()])?;
        Ok(())
    }

    fn knows(&self, path: &str, fingerprint: &str, now: DateTime<Utc>) -> bool {
        // A scan in the future was made before a clock went back: not trusted.
        self.0.get(path).is_some_and(|(known, at)| known == fingerprint && *at <= now && now - *at < GOOD_FOR)
    }
}

pub(super) fn look(view: &View, options: &Sqlite) -> Result<Answer> {
    let (paths, mut bad) = find(view, options)?;
    let begun = Instant::now();
    let mut scans = Scans::default();
    let (mut bytes, mut scanned) = (0, 0);
    for path in &paths {
        let name = view.loaded.home.show(path);
        match one(view, path, options, begun, &mut scans, &mut scanned) {
            Ok((size, None)) => bytes += size,
            Ok((size, Some(wrong))) => {
                bytes += size;
                bad.push((State::Critical, format!("{name}: {wrong}")));
            }
            Err(error) => bad.push((State::Unknown, format!("{name}: {error:#}"))),
        }
    }
    let state = bad.iter().fold(State::Ok, |worst, (state, _)| worst.worse(*state));
    let summary = if bad.is_empty() {
        format!("{} sound, {}", text::count(paths.len(), "database"), Size(bytes))
    } else {
        bad.sort_by_key(|(state, _)| std::cmp::Reverse(state.badness(false)));
        bad.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join("; ")
    };
    let mut answer = Answer::new(state, summary)
        .metric(Metric::new("size", bytes as f64, Unit::Bytes))
        .metric(Metric::new("scanned", f64::from(scanned), Unit::Count))
        .remedy("ops backup list shows what there is; ops restore brings the last good state back");
    answer.scans = scans;
    Ok(answer)
}

/// One database: its size, and what is wrong with it.
fn one(
    view: &View,
    path: &Path,
    options: &Sqlite,
    begun: Instant,
    scans: &mut Scans,
    scanned: &mut u32,
) -> Result<(u64, Option<String>)> {
    let size = std::fs::metadata(path).context("cannot be looked at")?.len();
    if size == 0 {
        return Ok((0, Some("it is empty".to_owned())));
    }
    if !database::is_sqlite(path).context("cannot be read")? {
        return Ok((size, Some("it is not an SQLite database".to_owned())));
    }
    let key = path.display().to_string();
    // Before the scan: what changes during it is scanned next time.
    let fingerprint = database::fingerprint(path)?;
    if view.scans.knows(&key, &fingerprint, view.run.now) {
        return Ok((size, None));
    }
    *scanned += 1;
    let budget = options.budget.0.saturating_sub(begun.elapsed());
    match database::quick_check(path, budget)? {
        Verdict::Sound => {
            scans.0.insert(key, (fingerprint, view.run.now));
            Ok((size, None))
        }
        Verdict::Damaged(lines) => Ok((size, Some(format!("damaged: {}", text::one_line(&lines, 160))))),
    }
}

/// How bad, and what.
type Trouble = (State, String);

/// The databases that the patterns name; the plain names that are not there, and what cannot be
/// looked at.
fn find(view: &View, options: &Sqlite) -> Result<(BTreeSet<PathBuf>, Vec<Trouble>)> {
    let (mut paths, mut bad) = (BTreeSet::new(), Vec::new());
    for pattern in &options.paths {
        let full = view.loaded.home.path(pattern);
        if !pattern.contains(['*', '?', '[']) {
            match std::fs::metadata(&full) {
                Ok(meta) if meta.is_file() => _ = paths.insert(full),
                Ok(_) => bad.push((State::Critical, format!("{pattern} is not a file"))),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    bad.push((State::Critical, format!("{pattern} is missing")));
                }
                // In a folder that is not ours it may well be: that is no alarm, and no all-clear.
                Err(error) => bad.push((State::Unknown, format!("{pattern} cannot be looked at: {error}"))),
            }
            continue;
        }
        let matches =
            glob::glob(&full.to_string_lossy()).with_context(|| format!("'{pattern}' is no pattern"))?;
        for found in matches {
            let path = match found {
                Ok(path) => path,
                Err(error) if error.error().kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    let name = view.loaded.home.show(error.path());
                    bad.push((State::Unknown, format!("{name} cannot be looked at: {}", error.error())));
                    continue;
                }
            };
            let sidecar =
                ["-wal", "-shm", "-journal"].iter().any(|end| path.to_string_lossy().ends_with(end));
            if path.is_file() && !sidecar {
                paths.insert(path);
            }
        }
    }
    Ok((paths, bad))
}
