//! How it was: the states of past runs, in strips of equal spans.

use crate::base::{Journal, State};
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::params;
use serde::{Serialize, Serializer};

/// The strips, and what the objectives are measured by. Empty without a journal.
#[derive(Clone, Debug, Default, Serialize)]
pub struct History {
    /// 24 hours, 7 days, 30 days.
    pub strips: Vec<Strip>,
    /// Checks made in the last 7 days, and how many of them were ok.
    pub checks: Share,
    /// The same, only of the checks whether a process runs.
    pub uptime: Share,
    /// Alerts in the last 24 hours.
    pub alerts: Option<u64>,
    /// Restarts in the last 7 days.
    pub restarts: Option<u64>,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Share {
    /// Of these,
    pub all: u64,
    /// these were ok.
    pub ok: u64,
}

impl Share {
    /// In percent; none of nothing.
    pub fn percent(self) -> Option<f64> {
        (self.all > 0).then(|| self.ok as f64 * 100.0 / self.all as f64)
    }
}

/// A span of time, cut into equal pieces, oldest first.
#[derive(Clone, Debug, Serialize)]
pub struct Strip {
    /// `24 h`, `7 d`, `30 d`.
    pub name: &'static str,
    /// The length of a piece, in seconds.
    pub piece: i64,
    /// The pieces.
    pub buckets: Vec<Bucket>,
    /// Runs in all of it, and how many found everything ok.
    pub runs: Share,
}

/// A piece of a strip.
#[derive(Clone, Debug, Serialize)]
pub struct Bucket {
    /// When it begins.
    #[serde(serialize_with = "seconds")]
    pub start: DateTime<Utc>,
    /// The worst state in it; none, if nobody looked.
    pub worst: Option<State>,
    /// Runs in it, and how many found everything ok.
    pub runs: Share,
}

fn seconds<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.timestamp())
}

/// The strips: name, piece in seconds, number of pieces.
const STRIPS: [(&str, i64, usize); 3] = [("24 h", 1800, 48), ("7 d", 10_800, 56), ("30 d", 86_400, 30)];

/// Lays the states of runs (time in milliseconds) out in strips that end at `now`.
pub(super) fn strips(now: DateTime<Utc>, runs: &[(i64, State)]) -> Vec<Strip> {
    let mut strips: Vec<Strip> = STRIPS
        .iter()
        .map(|&(name, piece, count)| {
            let start = |index: usize| now - TimeDelta::seconds(piece * (count - index) as i64);
            let empty = |index| Bucket { start: start(index), worst: None, runs: Share::default() };
            Strip { name, piece, buckets: (0..count).map(empty).collect(), runs: Share::default() }
        })
        .collect();
    let end = now.timestamp_millis();
    for &(at, state) in runs {
        // A run of this very moment is in the last piece; one of the future is in none.
        let ago = end - at;
        if ago < 0 {
            continue;
        }
        for strip in &mut strips {
            let back = (ago / (strip.piece * 1000)) as usize;
            let Some(index) = strip.buckets.len().checked_sub(1 + back) else { continue };
            let bucket = &mut strip.buckets[index];
            bucket.worst = Some(bucket.worst.map_or(state, |worst| worst.worse(state)));
            for share in [&mut bucket.runs, &mut strip.runs] {
                share.all += 1;
                share.ok += u64::from(state == State::Ok);
            }
        }
    }
    strips
}

/// Reads the history from the journal. `process_checks` are the checks that tell uptime.
pub(super) fn read(journal: &Journal, now: DateTime<Utc>, process_checks: &[&str]) -> Result<History> {
    let connection = journal.connection();
    let ago = |days: i64| (now - TimeDelta::days(days)).timestamp_millis();
    let work = || -> rusqlite::Result<History> {
        let mut past = connection.prepare("SELECT at, state FROM runs WHERE at >= ?1 AND at <= ?2")?;
        let runs = past
            .query_map([ago(30), now.timestamp_millis()], |row| {
                Ok((row.get(0)?, State::from_code(row.get::<_, i64>(1)?)))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let share = |row: &rusqlite::Row| -> rusqlite::Result<Share> {
            let number = |index| row.get::<_, Option<i64>>(index).map(|sum| sum.unwrap_or(0).unsigned_abs());
            Ok(Share { all: number(0)?, ok: number(1)? })
        };
        let checks = connection.query_row(
            "SELECT count(*), sum(state = 0) FROM samples
             WHERE run >= (SELECT id FROM runs WHERE at >= ?1 ORDER BY at LIMIT 1)",
            [ago(7)],
            share,
        )?;
        let mut uptime = Share::default();
        for check in process_checks {
            // CROSS JOIN: the runs first, then one look a run, not a scan of all samples.
            let of_one = connection.query_row(
                "SELECT count(*), sum(s.state = 0) FROM runs r CROSS JOIN samples s
                 ON s.run = r.id AND s.check_name = ?2 WHERE r.at >= ?1",
                params![ago(7), check],
                share,
            )?;
            uptime = Share { all: uptime.all + of_one.all, ok: uptime.ok + of_one.ok };
        }
        let count = |query: &str, since: i64| {
            connection.query_row(query, [since], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        Ok(History {
            strips: strips(now, &runs),
            checks,
            uptime,
            alerts: Some(count("SELECT count(*) FROM messages WHERE at >= ?1", ago(1))?),
            restarts: Some(count("SELECT count(*) FROM restarts WHERE at >= ?1", ago(7))?),
        })
    };
    work().context("cannot read the journal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_fall_into_their_pieces() {
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let ms = |minutes: i64| (now - TimeDelta::minutes(minutes)).timestamp_millis();
        let runs = [
            (ms(0), State::Ok),
            (ms(10), State::Warning),
            (ms(31), State::Critical),
            (ms(-5), State::Critical),
        ];
        let strips = strips(now, &runs);
        let day = &strips[0];
        assert_eq!(day.buckets.len(), 48);
        assert_eq!(day.buckets[47].worst, Some(State::Warning));
        assert_eq!(day.buckets[46].worst, Some(State::Critical));
        assert_eq!(day.buckets[45].worst, None);
        assert_eq!((day.runs.all, day.runs.ok), (3, 1), "the future is not counted");
        assert_eq!(strips[2].buckets[29].worst, Some(State::Critical));
    }

    proptest! {
        #[test]
        fn every_run_of_the_span_is_counted_once(ages in proptest::collection::vec(-100_000i64..4_000_000, 0..60)) {
            let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
            let runs: Vec<_> =
                ages.iter().map(|age| ((now - TimeDelta::seconds(*age)).timestamp_millis(), State::Ok)).collect();
            for strip in strips(now, &runs) {
                let span = strip.piece * strip.buckets.len() as i64;
                let inside = ages.iter().filter(|age| (0..span).contains(*age)).count() as u64;
                prop_assert_eq!(strip.runs.all, inside);
                prop_assert_eq!(strip.buckets.iter().map(|bucket| bucket.runs.all).sum::<u64>(), inside);
            }
        }
    }
}
