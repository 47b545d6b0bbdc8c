//! What is to be done with which log: a function of plain values.

use crate::base::text::count;
use crate::base::units::{Size, Span, age};
use crate::config::Logs;
use crate::config::logs::Discipline;
use crate::log_files::Log;
use crate::log_files::names::family;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What happens to a log; in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It goes.
    Delete,
    /// Only its last lines stay.
    Cut,
    /// It gets another name; its writer begins a new one.
    Rename,
    /// `NAME.log` becomes `NAME.log.gz`.
    Compress,
    /// Its writer is told.
    Tell,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) log: Log,
    pub(super) action: Action,
    pub(super) why: String,
}

/// What holds for one log: its rule, and `[logs]` where that says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Care {
    pub(super) discipline: Discipline,
    pub(super) compress_after: Span,
    pub(super) delete_after: Span,
    pub(super) max_size: Size,
    pub(super) keep_lines: usize,
    pub(super) keep: Option<usize>,
}

impl Care {
    pub(super) fn of(log: &Log, logs: &Logs) -> Care {
        let rule = log.rule.as_ref().and_then(|name| logs.rule.get(name));
        let rule = rule.cloned().unwrap_or_default();
        Care {
            discipline: rule.discipline.unwrap_or(logs.discipline),
            compress_after: rule.compress_after.unwrap_or(logs.compress_after),
            delete_after: rule.delete_after.unwrap_or(logs.delete_after),
            max_size: rule.max_size.unwrap_or(logs.max_size),
            keep_lines: rule.keep_lines.unwrap_or(logs.keep_lines),
            keep: rule.keep,
        }
    }
}

/// So long nothing is done to a closed log after the last line, however short `compress_after` is:
/// whoever had it open to write one line is done.
const SETTLED: Span = Span::seconds(1);

/// What the rules say of one log; nothing, if it stays as it is.
///
/// `long`: it is one of our own and has more lines than we let it have.
pub(super) fn verdict(
    log: &Log,
    long: bool,
    care: &Care,
    now: DateTime<Utc>,
    today: NaiveDate,
) -> Option<(Action, String)> {
    let idle = age(now, log.modified);
    if log.compressed {
        let old = match log.day.filter(|_| !log.whole) {
            Some(day) => Span(Duration::from_secs((today - day).num_seconds().max(0).unsigned_abs())),
            None => idle,
        };
        return (!log.state && old > care.delete_after).then(|| (Action::Delete, format!("{old} old")));
    }
    // One whose name bears no day goes on being written for ever: it is never taken away.
    if is_closed(log, today) && idle >= care.compress_after.max(SETTLED) {
        return Some((Action::Compress, format!("not written for {idle}")));
    }
    let renamed = care.discipline == Discipline::Rename;
    // What another program rotated is as it is to stay.
    if log.whole || log.is_rotated() && (renamed || log.number().is_none()) {
        return None;
    }
    if log.bytes > care.max_size.0 {
        let action = if renamed { Action::Rename } else { Action::Cut };
        return Some((action, format!("{} is more than {}", Size(log.bytes), care.max_size)));
    }
    long.then(|| (Action::Cut, format!("more than {}", count(10 * care.keep_lines, "line"))))
}

/// Whether nothing more is to be expected in a log: its day is over, it was rotated, or it is one of
/// those that are written once.
fn is_closed(log: &Log, today: NaiveDate) -> bool {
    log.whole || !log.is_in_use() || log.day.is_some_and(|day| day != today)
}

/// Which logs may be deleted for others to stay: closed, of no state, and not written any more.
fn is_spare(log: &Log, care: &Care, now: DateTime<Utc>, today: NaiveDate) -> bool {
    let idle = age(now, log.modified) >= care.compress_after.max(SETTLED);
    !log.state && (log.compressed || is_closed(log, today) && idle)
}

/// By which the oldest comes first.
pub(super) fn order(log: &Log) -> impl Ord + use<> {
    let day = log.day.filter(|_| !log.whole).unwrap_or(log.modified.date_naive());
    (day, log.modified, log.number(), log.path.clone())
}

/// Which closed logs go because there are more of their kind than stay: the oldest.
pub(super) fn over_keep(logs: &[Log], rules: &Logs, now: DateTime<Utc>, today: NaiveDate) -> Vec<Task> {
    let mut kinds: BTreeMap<(Option<&str>, PathBuf), Vec<&Log>> = BTreeMap::new();
    for log in logs {
        let care = Care::of(log, rules);
        if care.keep.is_some() && is_spare(log, &care, now, today) {
            let kind = if log.whole { PathBuf::new() } else { log.path.with_file_name(family(&log.name())) };
            kinds.entry((log.rule.as_deref(), kind)).or_default().push(log);
        }
    }
    let mut tasks = Vec::new();
    for mut kind in kinds.into_values() {
        let keep = kind.first().and_then(|log| Care::of(log, rules).keep).unwrap_or(usize::MAX);
        kind.sort_by_cached_key(|log| order(log));
        let gone = kind.len().saturating_sub(keep);
        tasks.extend(kind[..gone].iter().map(|log| Task {
            log: (*log).clone(),
            action: Action::Delete,
            why: format!("more than {}", count(keep, "old one")),
        }));
    }
    tasks
}

/// Which closed logs go because all logs together take more than `max_total`: the oldest, until
/// it is half of that.
pub(super) fn over_total(logs: &[Log], rules: &Logs, now: DateTime<Utc>, today: NaiveDate) -> Vec<Task> {
    let mut total: u64 = logs.iter().map(|log| log.bytes).sum();
    let most = rules.max_total;
    if total <= most.0 {
        return Vec::new();
    }
    let why = format!("all logs take {}, more than {most}", Size(total));
    let mut spare: Vec<&Log> =
        logs.iter().filter(|log| is_spare(log, &Care::of(log, rules), now, today)).collect();
    spare.sort_by_cached_key(|log| order(log));
    let mut tasks = Vec::new();
    for log in spare {
        if total <= most.0 / 2 {
            break;
        }
        tasks.push(Task { log: log.clone(), action: Action::Delete, why: why.clone() });
        total -= log.bytes;
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::logs::Rule;
    use crate::log_files::names::day_in;
    use proptest::prelude::*;

    fn log(name: &str, bytes: u64, hours_idle: i64, now: DateTime<Utc>) -> Log {
        Log {
            path: name.into(),
            bytes,
            file: (0, 0),
            modified: now - chrono::TimeDelta::hours(hours_idle),
            day: day_in(name),
            compressed: name.ends_with(".gz"),
            links: 1,
            rule: None,
            whole: false,
            state: false,
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
            let verdict = verdict(
                &log(name, bytes, idle, now),
                long,
                &Care::of(&log(name, 0, 0, now), &rules),
                now,
                today,
            );
            assert_eq!(verdict.map(|(action, _)| action), expected, "{name} {bytes} {idle}");
        }
    }

    #[test]
    fn rules_change_what_becomes_of_a_log() {
        let now = crate::base::units::parse_time("2026-11-20T12:00:00Z").unwrap();
        let today = now.date_naive();
        let renamed =
            Rule { discipline: Some(Discipline::Rename), max_size: Some(Size(100)), ..Rule::default() };
        let kept = Rule { archive: true, ..renamed.clone() };
        let chained = Rule { whole: true, ..Rule::default() };
        let rules = Logs {
            rule: [("kept", kept), ("renamed", renamed), ("chained", chained)]
                .map(|(n, r)| (n.to_owned(), r))
                .into(),
            ..Logs::default()
        };
        let month = 24 * 31;
        for (rule, name, bytes, idle, expected) in [
            ("renamed", "a.log", 101, 0, Some(Action::Rename)),
            ("renamed", "a.log", 100, month, None),
            ("renamed", "a_20261120.1.log", 101, 0, None),
            ("renamed", "a_20261120.1.log", 101, 24, Some(Action::Compress)),
            ("renamed", "a_20261020.1.log.gz", 1, month, Some(Action::Delete)),
            ("kept", "a.jsonl", 101, 0, Some(Action::Rename)),
            ("kept", "a_20261119.1.jsonl", 1, 24, Some(Action::Compress)),
            ("kept", "a_20261020.1.jsonl.gz", 1, month, None),
            ("chained", "run_a.jsonl", 1 << 40, 0, None),
            ("chained", "run_a.jsonl", 1 << 40, 24, Some(Action::Compress)),
            ("chained", "run_20201010.jsonl.gz", 1, 0, None),
            ("chained", "run_20201010.jsonl.gz", 1, month, Some(Action::Delete)),
        ] {
            let mut log = log(name, bytes, idle, now);
            (log.rule, log.whole, log.state) = (Some(rule.to_owned()), rule == "chained", rule == "kept");
            let verdict = verdict(&log, false, &Care::of(&log, &rules), now, today);
            assert_eq!(verdict.map(|(action, _)| action), expected, "{rule} {name} {bytes} {idle}");
        }
    }

    #[test]
    fn so_many_old_ones_of_each_log_stay() {
        let now = crate::base::units::parse_time("2026-11-20T12:00:00Z").unwrap();
        let keep = |whole| Rule { keep: Some(2), whole, ..Rule::default() };
        let rules = Logs {
            rule: [("k".to_owned(), keep(false)), ("w".to_owned(), keep(true))].into(),
            ..Logs::default()
        };
        let names = [
            "k/a.log",
            "k/a_20261101.1.log.gz",
            "k/a_20261101.2.log.gz",
            "k/a_20261101.10.log.gz",
            "k/a_20261120.1.log",
            "k/b_20261101.1.log.gz",
            "w/run_1.jsonl",
            "w/run_2.jsonl.gz",
            "w/run_3.jsonl.gz",
            "w/run_4.jsonl",
        ];
        let logs: Vec<Log> = names
            .iter()
            .map(|name| {
                let idle = if name.ends_with(".gz") {
                    100
                } else if *name == "w/run_1.jsonl" {
                    200
                } else {
                    0
                };
                let (rule, whole) = (Some(name[..1].to_owned()), name.starts_with('w'));
                Log { rule, whole, ..log(name, 1, idle, now) }
            })
            .collect();
        let gone = over_keep(&logs, &rules, now, now.date_naive());
        let mut gone: Vec<String> = gone.iter().map(|task| task.log.path.display().to_string()).collect();
        gone.sort();
        assert_eq!(gone, ["k/a_20261101.1.log.gz", "w/run_1.jsonl"], "live and unsettled ones never go");
    }

    proptest! {
        #[test]
        fn the_total_is_kept_by_taking_the_oldest_closed_down_to_half(
            sizes in proptest::collection::vec((0u64..100, 0i64..1000, any::<bool>(), any::<bool>()), 0..20),
            most in 0u64..1000,
        ) {
            let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
            let logs: Vec<Log> = sizes
                .iter()
                .enumerate()
                .map(|(i, (bytes, idle, gz, state))| {
                    let name = format!("{i}.log{}", if *gz { ".gz" } else { "" });
                    Log { state: *state, ..log(&name, *bytes, *idle, now) }
                })
                .collect();
            let rules = Logs { max_total: Size(most), ..Logs::default() };
            let gone: Vec<Log> =
                over_total(&logs, &rules, now, now.date_naive()).into_iter().map(|task| task.log).collect();
            prop_assert!(gone.iter().all(|log| log.compressed && !log.state));
            let sum = |logs: &[&Log]| logs.iter().map(|log| log.bytes).sum::<u64>();
            let before = sum(&logs.iter().collect::<Vec<_>>());
            prop_assert!(before > most || gone.is_empty(), "nothing goes without need");
            let left: Vec<&Log> = logs.iter().filter(|log| !gone.contains(log)).collect();
            let spare: Vec<&Log> = left.iter().copied().filter(|log| log.compressed && !log.state).collect();
            prop_assert!(before <= most || sum(&left) <= most / 2 || spare.is_empty());
            // No more than it takes.
            if let Some(last) = gone.last() {
                prop_assert!(sum(&left) + last.bytes > most / 2);
            }
            for (kept, lost) in spare.iter().flat_map(|kept| gone.iter().map(move |lost| (kept, lost))) {
                prop_assert!(lost.modified.date_naive() <= kept.modified.date_naive());
            }
        }
    }
}
