//! What is to be done with which log: a function of plain values.

use super::ledger::Seen;
use crate::base::text::count;
use crate::base::units::{Size, Span, age};
use crate::config::Logs;
use crate::config::logs::Discipline;
use crate::log_files::Log;
use crate::log_files::names::family;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
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
/// `long`: it is one of our own and has more lines than we let it have. `expire`: whether any goes by its age.
pub(super) fn verdict(
    log: &Log,
    long: bool,
    expire: bool,
    care: &Care,
    now: DateTime<Utc>,
    today: NaiveDate,
) -> Option<(Action, String)> {
    let idle = age(now, log.modified);
    if let Some(old) = expired(log, care, now, today).filter(|_| expire) {
        return Some((Action::Delete, format!("{old} old")));
    }
    if log.compressed {
        return None;
    }
    // One whose name bears no day goes on being written for ever: it is never taken away.
    if is_closed(log, today) && !is_its_own(log) && idle >= care.compress_after.max(SETTLED) {
        return Some((Action::Compress, format!("not written for {idle}")));
    }
    let renamed = care.discipline == Discipline::Rename;
    // What another program rotated is as it is to stay.
    if log.whole || log.closed || log.is_counted() || renamed && (log.number().is_some() || log.is_kin()) {
        return None;
    }
    if log.bytes > care.max_size.0 {
        let action = if renamed { Action::Rename } else { Action::Cut };
        return Some((action, format!("{} is more than {}", Size(log.bytes), care.max_size)));
    }
    long.then(|| (Action::Cut, format!("more than {}", count(10 * care.keep_lines, "line"))))
}

/// Whether an agent counts the old ones of what is its state, and may still want them by their names.
fn is_its_own(log: &Log) -> bool {
    log.state && log.is_counted()
}

/// Whether a log that is too large is cut only if somebody has it open: its name says that it is closed.
pub(super) fn must_be_held(log: &Log, today: NaiveDate) -> bool {
    log.number().is_some() || log.is_kin() && log.day.is_some_and(|day| day != today)
}

/// How old a log is, if that is older than it may become.
fn expired(log: &Log, care: &Care, now: DateTime<Utc>, today: NaiveDate) -> Option<Span> {
    let idle = age(now, log.modified);
    let old = match log.day.filter(|_| !log.whole) {
        Some(day) => Span(Duration::from_secs((today - day).num_seconds().max(0).unsigned_abs())),
        None => idle,
    };
    // The day on which it was begun says nothing of its last lines.
    let old = if log.compressed { old } else { old.min(idle) };
    let closed = log.compressed || is_closed(log, today) && idle >= care.compress_after.max(SETTLED);
    (closed && !log.state && old > care.delete_after).then_some(old)
}

/// Logs that become too old one after the other do so within a few days of each other.
const ANY_DAY: Span = Span::days(7);

/// Logs that age alone would take after a leap of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leap {
    pub(super) count: usize,
    /// So long after them none ends.
    pub(super) gap: Span,
    /// So old they may become.
    most: Span,
}

impl Leap {
    /// Until when they stay, and since when that is so. What runs did not see day by day may be one more leap.
    pub(super) fn until(&self, seen: Option<Seen>, now: DateTime<Utc>) -> (DateTime<Utc>, Seen) {
        let seen = seen.filter(|seen| seen.last <= now && age(now, seen.last) <= ANY_DAY);
        let since = seen.map_or(now, |seen| seen.since);
        (since.checked_add_signed(self.most.delta()).unwrap_or(now), Seen { since, last: now })
    }
}

/// The logs that age alone would take after a leap of time: more than three, with nothing between them
/// and what is younger for longer than they may become old. So it looks after a clock was set far ahead, an agent was
/// long at rest, or rotation is new to an old home. It ends by itself: the first log after the leap that is too old takes
/// those before it along.
pub(super) fn leap(logs: &[Log], rules: &Logs, now: DateTime<Utc>, today: NaiveDate) -> Option<Leap> {
    let (mut old, mut young) = (Vec::new(), Span::seconds(0));
    for log in logs {
        let care = Care::of(log, rules);
        let idle = age(now, log.modified);
        match expired(log, &care, now, today) {
            Some(age) => old.push((age, care.delete_after)),
            None if idle <= care.delete_after => young = young.max(idle),
            None => {}
        }
    }
    let (youngest, _) = *old.iter().min()?;
    let most = old.iter().map(|(_, most)| *most).max()?;
    let gap = Span(youngest.0.saturating_sub(young.0));
    (old.len() > 3 && gap.0 > most.0.saturating_add(ANY_DAY.0)).then_some(Leap {
        count: old.len(),
        gap,
        most,
    })
}

/// Whether nothing more is to be expected in a log: its day is over, it was rotated, or it is one of
/// those that are written once.
fn is_closed(log: &Log, today: NaiveDate) -> bool {
    log.whole || !log.is_in_use() || log.day.is_some_and(|day| day != today)
}

/// Which logs may be deleted for others to stay: closed, of no state, and not written any more.
fn is_spare(log: &Log, care: &Care, at: Moment) -> bool {
    !log.state && (log.compressed || is_settled(log, care, at))
}

/// When it is, and what is known then of those who write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: DateTime<Utc>,
    pub(super) today: NaiveDate,
    /// Whether every process is seen that has a log open.
    pub(super) sees_all: bool,
}

/// So long nothing came to a closed log that somebody may have open unseen.
const UNSEEN: Span = Span::minutes(60);

/// Whether a log is closed for certain: its name says that it was rotated, or its day is over wherever it was counted, and
/// nobody can have it open unseen, or nothing came for long.
fn is_settled(log: &Log, care: &Care, at: Moment) -> bool {
    let over = log.day.is_some_and(|day| day < at.today && day < at.now.date_naive());
    let late = care.compress_after.max(SETTLED);
    let wait = match (log.is_rotated() || over) && !log.whole && log.ours {
        true if at.sees_all => SETTLED,
        true => late.min(UNSEEN),
        false => late,
    };
    is_closed(log, at.today) && !is_its_own(log) && age(at.now, log.modified) >= wait
}

/// Which closed logs are compressed before their time because all logs together take more than `max_total`.
pub(super) fn squeezed(logs: &[Log], rules: &Logs, at: Moment) -> Vec<Task> {
    let Some(why) = too_much(logs, rules) else { return Vec::new() };
    logs.iter()
        .filter(|log| !log.compressed && is_settled(log, &Care::of(log, rules), at))
        .map(|log| Task { log: log.clone(), action: Action::Compress, why: why.clone() })
        .collect()
}

/// Whether a part of a state stream that went to the archive is compressed: nobody waits for it under its new name.
pub(super) fn is_settled_part(log: &Log, rules: &Logs, at: Moment) -> bool {
    !log.compressed && log.number().is_some() && is_settled(log, &Care::of(log, rules), at)
}

/// What is said if all logs together take more than `max_total`.
pub(super) fn too_much(logs: &[Log], rules: &Logs) -> Option<String> {
    let total: u64 = logs.iter().map(|log| log.bytes).sum();
    (total > rules.max_total.0)
        .then(|| format!("all logs take {}, more than {}", Size(total), rules.max_total))
}

/// By which the oldest comes first.
pub(super) fn order(log: &Log) -> impl Ord + use<> {
    let day = log.day.filter(|_| !log.whole).unwrap_or(log.modified.date_naive());
    (day, log.modified, log.number(), log.path.clone())
}

/// Which closed logs go because there are more of their kind than stay: the oldest.
pub(super) fn over_keep(logs: &[Log], rules: &Logs, at: Moment) -> Vec<Task> {
    let mut kinds: BTreeMap<(Option<&str>, PathBuf), Vec<&Log>> = BTreeMap::new();
    for log in logs {
        let care = Care::of(log, rules);
        if care.keep.is_some() && is_spare(log, &care, at) {
            let kind = if log.whole {
                PathBuf::new()
            } else {
                log.path.with_file_name(OsStr::from_bytes(&family(log.name())))
            };
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
/// it is half of that; none that somebody holds.
pub(super) fn over_total(logs: &[Log], rules: &Logs, held: &BTreeSet<PathBuf>, at: Moment) -> Vec<Task> {
    let Some(why) = too_much(logs, rules) else { return Vec::new() };
    let mut total: u64 = logs.iter().map(|log| log.bytes).sum();
    let is_spare = |log: &&Log| !held.contains(&log.path) && is_spare(log, &Care::of(log, rules), at);
    let mut spare: Vec<&Log> = logs.iter().filter(is_spare).collect();
    spare.sort_by_cached_key(|log| order(log));
    let mut tasks = Vec::new();
    for log in spare {
        if total <= rules.max_total.0 / 2 {
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
    use crate::log_files::names::{day_in, kin};
    use proptest::prelude::*;

    fn log(name: &str, bytes: u64, hours_idle: i64, now: DateTime<Utc>) -> Log {
        Log {
            path: name.into(),
            at: crate::log_files::Location::new(
                &std::sync::Arc::new(crate::base::beneath::Dir::open("/").unwrap()),
                name,
            ),
            bytes,
            file: (0, 0),
            ours: true,
            modified: now - chrono::TimeDelta::hours(hours_idle),
            day: day_in(name.as_bytes()),
            compressed: name.ends_with(".gz"),
            links: 1,
            rule: None,
            whole: false,
            state: false,
            closed: kin(name.as_bytes()).is_some_and(|kin| kin.shifts || kin.timed),
            shifts: kin(name.as_bytes()).is_some_and(|kin| kin.shifts),
        }
    }

    fn at(now: DateTime<Utc>) -> Moment {
        Moment { now, today: now.date_naive(), sees_all: true }
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
            ("app.log.1", big, 0, false, None),
            ("app.log.2026-11-20_10", big, 0, false, None),
            ("app.log-20261120", big, 0, false, Some(Action::Cut)),
            ("app.log.1", big, 24, false, Some(Action::Compress)),
            ("app.log.1", 1, 24 * 31, false, Some(Action::Delete)),
            ("daemon_20261001.log", 1, 24 * 31, false, Some(Action::Delete)),
            ("daemon_20261001.log", 1, 24 * 2, false, Some(Action::Compress)),
            ("alerts.log.gz", big, 24 * 30, false, None),
            ("alerts.log.gz", big, 24 * 30 + 1, false, Some(Action::Delete)),
            ("daemon_20261021.log.gz", 1, 0, false, None),
            ("daemon_20261020.log.gz", 1, 0, false, Some(Action::Delete)),
            ("daemon_20270101.log.gz", 1, -5000, false, None),
        ] {
            let verdict = verdict(
                &log(name, bytes, idle, now),
                long,
                true,
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
            ("renamed", "a.log-20261120", 101, 0, None),
            ("kept", "a.jsonl.1", 101, month, None),
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
            let verdict = verdict(&log, false, true, &Care::of(&log, &rules), now, today);
            assert_eq!(verdict.map(|(action, _)| action), expected, "{rule} {name} {bytes} {idle}");
        }
    }

    #[test]
    fn a_leap_of_time_takes_nothing_until_time_went_by() {
        let now = crate::base::units::parse_time("2026-11-20T12:00:00Z").unwrap();
        let rules = Logs::default();
        let history = |from: i64, days: i64| {
            (from..from + days).map(|day| log("app.log.1.gz", 1, 24 * day, now)).collect::<Vec<_>>()
        };
        let is_leap = |logs: &[Log]| leap(logs, &rules, now, now.date_naive()).is_some();
        let live = log("app.log", 1, 0, now);
        let with = |more: Vec<Log>| [vec![live.clone()], more].concat();
        assert!(is_leap(&with(history(1000, 20))), "the clock was set ahead");
        assert!(is_leap(&history(1000, 20)), "nothing is written any more");
        assert!(is_leap(&with([history(1000, 20), history(0, 29)].concat())), "and on the days after");
        assert!(!is_leap(&with([history(1000, 20), history(0, 32)].concat())), "until a month went by");
        assert!(!is_leap(&with(history(0, 400))), "a home with a long history, on the first day");
        assert!(!is_leap(&with(history(0, 31))), "every day");
        assert!(!is_leap(&with(history(1000, 3))), "a few old ones");
        assert!(!is_leap(&with(history(20, 12))), "some days of rest");
        let monthly = [history(31, 1), history(31, 1), history(31, 1), history(31, 1)].concat();
        assert!(!is_leap(&with(monthly)), "several that are rotated together, once a month");
    }

    #[test]
    fn a_leap_holds_for_as_long_as_runs_see_it() {
        let now = crate::base::units::parse_time("2026-11-20T12:00:00Z").unwrap();
        let leap = Leap { count: 5, gap: Span::days(100), most: Span::days(30) };
        let day = |days| now + chrono::TimeDelta::days(days);
        let (until, mut seen) = leap.until(None, now);
        assert_eq!(until, day(30));
        for days in 1..=31 {
            let (until, next) = leap.until(Some(seen), day(days));
            assert_eq!(until, day(30), "whatever day it is");
            seen = next;
        }
        assert_eq!(leap.until(Some(seen), day(400)).0, day(430), "one more leap");
        assert_eq!(leap.until(Some(seen), day(-5)).0, day(25), "the clock is set back");
    }

    #[test]
    fn under_pressure_closed_logs_are_compressed_early_if_it_is_seen_who_holds_them() {
        let now = crate::base::units::parse_time("2026-11-20T12:00:00Z").unwrap();
        let rules = Logs { max_total: Size(1000), ..Logs::default() };
        let of = |name: &str, hours| log(name, 2000, hours, now);
        let logs = [
            of("a_20261120.1.log", 1),
            of("b.log.1", 1),
            Log { ours: false, ..of("c.log.1", 1) },
            Log { ours: false, ..of("d.log.1", 25) },
            Log { whole: true, ..of("e.log.1", 1) },
            of("f_20261119.log", 1),
            of("g.log", 1),
            of("h_20261120.1.log", 0),
        ];
        let early = squeezed(&logs, &rules, at(now));
        let names: Vec<&str> =
            early.iter().map(|task| std::str::from_utf8(task.log.name()).unwrap()).collect();
        assert_eq!(names, ["a_20261120.1.log", "b.log.1", "d.log.1", "f_20261119.log"]);
        // The local day is one ahead of that of loggers that count by UTC.
        let ahead = Moment { today: now.date_naive() + chrono::Days::new(1), ..at(now) };
        let today = [of("a.log-20261120", 1), of("b_20261120.log", 1)];
        assert!(squeezed(&today, &rules, at(now)).is_empty() && squeezed(&today, &rules, ahead).is_empty());
        // Somebody may hold it unseen.
        let blind = Moment { sees_all: false, ..at(now) };
        let minutes =
            |minutes| Log { modified: now - chrono::TimeDelta::minutes(minutes), ..of("a.log.1", 0) };
        let few = [minutes(59), minutes(61)];
        assert_eq!(squeezed(&few, &rules, at(now)).len(), 2);
        assert_eq!(squeezed(&few, &rules, blind).iter().map(|task| &task.log).collect::<Vec<_>>(), [&few[1]]);
        assert!(squeezed(&logs, &Logs::default(), at(now)).is_empty());
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
        let gone = over_keep(&logs, &rules, at(now));
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
                over_total(&logs, &rules, &BTreeSet::new(), at(now)).into_iter().map(|task| task.log).collect();
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
