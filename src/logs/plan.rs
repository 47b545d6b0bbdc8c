//! What is to be done with which log: a function of plain values.

use super::find::Log;
use crate::base::text::count;
use crate::base::units::{Size, Span, age};
use crate::config::Logs;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use std::time::Duration;

/// What happens to a log; in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It goes.
    Delete,
    /// Only its last lines stay.
    Cut,
    /// `NAME.log` becomes `NAME.log.gz`.
    Compress,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) log: Log,
    pub(super) action: Action,
    pub(super) why: String,
}

/// What the rules say of one log; nothing, if it stays as it is.
///
/// `long`: it is one of our own and has more lines than we let it have.
pub(super) fn verdict(
    log: &Log,
    long: bool,
    rules: &Logs,
    now: DateTime<Utc>,
    today: NaiveDate,
) -> Option<(Action, String)> {
    let idle = age(now, log.modified);
    if log.compressed {
        let old = match log.day {
            Some(day) => Span(Duration::from_secs((today - day).num_seconds().max(0).unsigned_abs())),
            None => idle,
        };
        return (old > rules.delete_after).then(|| (Action::Delete, format!("{old} old")));
    }
    // One whose name bears no day goes on being written for ever: it is never taken away.
    if log.day.is_some_and(|day| day != today) && idle >= rules.compress_after {
        return Some((Action::Compress, format!("not written for {idle}")));
    }
    if log.bytes > rules.max_size.0 {
        return Some((Action::Cut, format!("{} is more than {}", Size(log.bytes), rules.max_size)));
    }
    long.then(|| (Action::Cut, format!("more than {}", count(10 * rules.keep_lines, "line"))))
}

/// Which compressed logs go so that all logs together keep within `most`: the oldest first.
pub(super) fn over_total(logs: &[Log], most: Size) -> Vec<Task> {
    let mut total: u64 = logs.iter().map(|log| log.bytes).sum();
    let mut compressed: Vec<&Log> = logs.iter().filter(|log| log.compressed).collect();
    compressed.sort_by_key(|log| (log.day.unwrap_or(log.modified.date_naive()), log.modified, &log.path));
    let mut tasks = Vec::new();
    for log in compressed {
        if total <= most.0 {
            break;
        }
        tasks.push(Task {
            log: log.clone(),
            action: Action::Delete,
            why: format!("all logs take {}, more than {most}", Size(total)),
        });
        total -= log.bytes;
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::find::day_in;
    use proptest::prelude::*;

    fn log(name: &str, bytes: u64, hours_idle: i64, now: DateTime<Utc>) -> Log {
        Log {
            path: name.into(),
            bytes,
            modified: now - chrono::TimeDelta::hours(hours_idle),
            day: day_in(name),
            compressed: name.ends_with(".gz"),
            links: 1,
        }
    }

    #[test]
    fn each_rule_and_its_edges() {
        let now = crate::base::units::parse_time("2026-11-20T12:00:00Z").unwrap();
        let today = now.date_naive();
        let rules = Logs::default();
        let big = 100_000_001;
        for (name, bytes, idle, long, expected) in [
            ("daemon_20261119.log", 1, 24, false, Some(Action::Compress)),
            ("daemon_20261119.log", 1, 23, false, None),
            ("daemon_20261119.log", big, 0, false, Some(Action::Cut)),
            ("daemon_20261120.log", 1, 900, false, None),
            ("daemon_20261201.log", 1, 0, false, None),
            ("alerts.log", 1, 9000, false, None),
            ("alerts.log", 1, 0, true, Some(Action::Cut)),
            ("alerts.log", big, 9000, false, Some(Action::Cut)),
            ("alerts.log", big - 1, 0, false, None),
            ("alerts.log.gz", big, 24 * 30, false, None),
            ("alerts.log.gz", big, 24 * 30 + 1, false, Some(Action::Delete)),
            ("daemon_20261021.log.gz", 1, 0, false, None),
            ("daemon_20261020.log.gz", 1, 0, false, Some(Action::Delete)),
            ("daemon_20270101.log.gz", 1, -5000, false, None),
        ] {
            let verdict = verdict(&log(name, bytes, idle, now), long, &rules, now, today);
            assert_eq!(verdict.map(|(action, _)| action), expected, "{name} {bytes} {idle}");
        }
    }

    proptest! {
        #[test]
        fn the_total_is_kept_by_taking_the_oldest_compressed(
            sizes in proptest::collection::vec((0u64..100, 0i64..1000, any::<bool>()), 0..20),
            most in 0u64..1000,
        ) {
            let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
            let logs: Vec<Log> = sizes
                .iter()
                .enumerate()
                .map(|(i, (bytes, idle, gz))| log(&format!("{i}.log{}", if *gz { ".gz" } else { "" }), *bytes, *idle, now))
                .collect();
            let gone: Vec<Log> = over_total(&logs, Size(most)).into_iter().map(|task| task.log).collect();
            prop_assert!(gone.iter().all(|log| log.compressed));
            let left: Vec<&Log> = logs.iter().filter(|log| !gone.contains(log)).collect();
            let total: u64 = left.iter().map(|log| log.bytes).sum();
            prop_assert!(total <= most || left.iter().all(|log| !log.compressed));
            for (kept, lost) in left.iter().filter(|log| log.compressed).flat_map(|kept| gone.iter().map(move |lost| (kept, lost))) {
                prop_assert!(lost.modified.date_naive() <= kept.modified.date_naive());
            }
        }
    }
}
