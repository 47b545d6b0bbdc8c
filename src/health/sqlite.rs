//! Are the databases sound? By the text of `PRAGMA quick_check`; a database that did not change
//! is not scanned again within a day. Weekly all of it is checked, its indices too.

use super::{Answer, Metric, View, named};
use crate::base::database::{self, Unjudged, Verdict};
use crate::base::range::Unit;
use crate::base::units::Size;
use crate::base::{Journal, State, text};
use crate::config::check::{Bounds, Sqlite};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a scan of an unchanged database is good for.
const GOOD_FOR: TimeDelta = TimeDelta::days(1);

/// How fast `integrity_check` reads at least, in bytes a second: what would take longer than half of
/// the budget is not begun.
const FULL_SPEED: u64 = 100_000_000;

/// After how long a full check is tried again that took too long.
const TRY_AGAIN: TimeDelta = TimeDelta::days(1);

/// What the times of full checks are remembered as.
const FULL: &str = "full";

/// When all of a database was last checked.
type FullChecks = BTreeMap<String, DateTime<Utc>>;

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

pub(super) fn look(view: &View, name: &str, options: &Sqlite) -> Result<Answer> {
    let sidecar =
        |path: &Path| ["-wal", "-shm", "-journal"].iter().any(|end| path.to_string_lossy().ends_with(end));
    let (paths, mut bad) = named::files(view, &options.paths, State::Critical, |path, _| !sidecar(path))?;
    let mut scan = Scan {
        view,
        options,
        begun: Instant::now(),
        scans: Scans::default(),
        scanned: 0,
        full: view.recall(name, FULL).map(|(_, full)| full).unwrap_or_default(),
    };
    let (mut bytes, mut wal) = (0, 0);
    for path in &paths {
        let name = view.loaded.home.show(path);
        wal = wal.max(std::fs::metadata(&database::sidecars(path)[0]).map_or(0, |wal| wal.len()));
        match scan.one(path) {
            Ok((size, wrong)) => {
                bytes += size;
                bad.extend(wrong.map(|wrong| (State::Critical, format!("{name}: {wrong}"))));
            }
            Err(error) => bad.push((State::Unknown, format!("{name}: {error:#}"))),
        }
    }
    let (warn, crit) = Bounds::ranges(Some(options.wal));
    let wal = Metric::new("wal", wal as f64, Unit::Bytes).limits(warn, crit);
    if wal.judge() != State::Ok {
        let size = Size(wal.value.unwrap_or(0.0) as u64);
        bad.push((wal.judge(), format!("a -wal file has grown to {size}: who keeps it open?")));
    }
    let known: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    scan.full.retain(|path, _| known.contains(path));
    let oldest = known.iter().map(|path| scan.full.get(path)).min().flatten();
    let well = || (State::Ok, format!("{} sound, {}", text::count(paths.len(), "database"), Size(bytes)));
    let (state, summary) = named::sum_up(bad).unwrap_or_else(well);
    let mut answer = Answer::new(state, summary)
        .metric(Metric::new("size", bytes as f64, Unit::Bytes))
        .metric(Metric::new("scanned", f64::from(scan.scanned), Unit::Count))
        .metric(wal)
        .remember(FULL, &scan.full)
        .remedy("`ops backup list` shows what there is; `ops restore` brings the last good state back");
    if let Some(oldest) = oldest {
        let age = crate::base::units::age(view.run.now, *oldest);
        answer = answer.metric(Metric::new("full_check_age", age.as_secs().floor(), Unit::Seconds));
    }
    answer.scans = scan.scans;
    Ok(answer)
}

/// The scans of one run.
struct Scan<'a> {
    view: &'a View,
    options: &'a Sqlite,
    begun: Instant,
    scans: Scans,
    scanned: u32,
    full: FullChecks,
}

impl Scan<'_> {
    /// One database: its size, and what is wrong with it.
    fn one(&mut self, path: &Path) -> Result<(u64, Option<String>)> {
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
        let full = self.is_due(&key, size);
        if self.view.scans.knows(&key, &fingerprint, self.view.run.now) && !full {
            return Ok((size, None));
        }
        self.scanned += 1;
        let verdict = if full { self.full_check(path, &key) } else { None };
        let verdict = match verdict {
            Some(verdict) => verdict,
            None => database::quick_check(path, self.left())?,
        };
        match verdict {
            // All but a virtual table was checked.
            Verdict::Sound | Verdict::Unjudged(Unjudged::Module, _) => {
                self.scans.0.insert(key, (fingerprint, self.view.run.now));
                Ok((size, None))
            }
            Verdict::Damaged(lines) => Ok((size, Some(format!("damaged: {}", text::one_line(&lines, 160))))),
            Verdict::Unjudged(_, why) => bail!("could not be judged: {}", text::one_line(&why, 160)),
        }
    }

    /// All of a database; none, if that could not be done: it is tried again tomorrow.
    fn full_check(&mut self, path: &Path, key: &str) -> Option<Verdict> {
        let now = self.view.run.now;
        let verdict = database::integrity_check(path, self.left() / 2).ok();
        let counts = if verdict.is_some() { now } else { now - self.options.full.delta() + TRY_AGAIN };
        self.full.insert(key.to_owned(), counts);
        verdict
    }

    /// Whether all of a database is to be checked now, and can be.
    fn is_due(&self, key: &str, size: u64) -> bool {
        let now = self.view.run.now;
        let recent = |at: &DateTime<Utc>| *at <= now && now - *at < self.options.full.delta();
        let fits = Duration::from_millis(size * 1000 / FULL_SPEED) < self.left() / 2;
        fits && !self.full.get(key).is_some_and(recent)
    }

    fn left(&self) -> Duration {
        self.options.budget.0.saturating_sub(self.begun.elapsed())
    }
}
