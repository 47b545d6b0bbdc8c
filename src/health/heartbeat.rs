//! Does the service still get on with its work? Read from the status file it writes.

use super::age::SKEW;
use super::{Answer, Metric, View};
use crate::base::process::Process;
use crate::base::range::{Range, Unit};
use crate::base::status_file::{StatusFile, Unreadable};
use crate::base::units::{Span, age};
use crate::base::{Fault, State};
use crate::config::check::Heartbeat;
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What is remembered as.
const PROGRESS: &str = "progress";

/// A counter of the agent's work, and since when it stands where it stands.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Progress {
    value: f64,
    since: DateTime<Utc>,
}

pub(super) fn look(view: &View, name: &str, options: &Heartbeat) -> Result<Answer> {
    let service = &options.service;
    let path = view.loaded.config.service.get(service).and_then(|service| service.status_file.as_ref());
    let path = path.ok_or_else(|| Fault::unknown(format!("{service} has no status file")))?;
    let process = view.status(service)?.process().cloned();
    let read = StatusFile::read(path);
    let mut answer = judge(&read, process.as_ref(), options, view.run.now);
    if let (Some(key), Ok(file), Some(_)) = (&options.progress, &read, process) {
        let before = view.recall::<Progress>(name, PROGRESS).map(|(_, progress)| progress);
        answer = progressed(answer, file, key, before, options, view.run.now);
    }
    Ok(answer.remedy("`ops logs` shows what it was doing; `ops restart --force` ends a hang"))
}

/// The answer, from plain values.
fn judge(
    read: &Result<StatusFile, Unreadable>,
    process: Option<&Process>,
    options: &Heartbeat,
    now: DateTime<Utc>,
) -> Answer {
    let file = match read {
        Ok(file) => file,
        Err(Unreadable::Broken(why)) => {
            return Answer::unknown(format!("the status file cannot be read: {why}"));
        }
        Err(Unreadable::Missing) => {
            return match process {
                Some(process) => waiting(process, options, None, now, "there is no status file"),
                None => Answer::new(State::Critical, "no status file, and nothing runs that would write it"),
            };
        }
    };
    let interval = file.interval;
    let (warn, crit) = (options.warn.seconds(interval), options.crit.seconds(interval));
    let Some(beat) = file.sign_of_life() else {
        return Answer::unknown(format!("the status file says {} but not when", file.status));
    };
    if beat > now + SKEW {
        let ahead = Span((beat - now).to_std().unwrap_or_default());
        return Answer::unknown(format!("the last heartbeat is {ahead} in the future: did a clock jump?"));
    }
    let old = age(now, beat);
    let metric = Metric::age(old).limits(Some(Range::above(warn)), Some(Range::above(crit)));
    let Some(process) = process else {
        let whose = file.pid.map_or(String::new(), |pid| format!(" of pid {pid}"));
        let summary = format!("the last heartbeat{whose} was {old} ago, and its process is gone");
        return Answer::new(State::Critical, summary).metric(metric);
    };
    if is_predecessors(file, process, beat) {
        return waiting(process, options, interval, now, "the status file is a dead predecessor's");
    }
    let (mut state, mut summary) = match metric.judge() {
        State::Ok => (State::Ok, format!("{old} old")),
        State::Warning => (State::Warning, format!("{old} old (limit {})", whole(warn))),
        _ => (State::Critical, format!("{old} old (limit {})", whole(crit))),
    };
    let said = match file.status.as_str() {
        "running" | "starting" => State::Ok,
        "stopping" | "stopped" => State::Warning,
        "error" | "failed" => State::Critical,
        _ => State::Warning,
    };
    if said != State::Ok {
        state = state.worse(said);
        summary.push_str(&format!(", and it says '{}'", file.status));
    }
    if let Some((passed, total)) = file.checks.filter(|(passed, total)| passed < total) {
        state = state.worse(State::Warning);
        summary.push_str(&format!(", {passed} of {total} of its own checks passed"));
    }
    Answer::new(state, summary).metric(metric)
}

/// The answer, with what a counter of work says: a heart may beat in a thread of its own while the
/// work has stopped.
fn progressed(
    mut answer: Answer,
    file: &StatusFile,
    key: &str,
    before: Option<Progress>,
    options: &Heartbeat,
    now: DateTime<Utc>,
) -> Answer {
    let Some(value) = file.number(key) else {
        let summary = format!("{}, but there is no number {key} in the status file", answer.summary);
        let state = answer.state.worse(State::Unknown);
        return Answer { state, summary, ..answer };
    };
    let stands = |before: &Progress| before.value == value && before.since <= now;
    let progress = before.filter(stands).unwrap_or(Progress { value, since: now });
    let (warn, crit) = (options.warn.seconds(file.interval), options.crit.seconds(file.interval));
    let still = age(now, progress.since);
    let metric = Metric::new("standstill", still.as_secs().floor(), Unit::Seconds)
        .limits(Some(Range::above(warn)), Some(Range::above(crit)));
    let state = metric.judge();
    if state != State::Ok {
        answer.state = answer.state.worse(state);
        answer.summary.push_str(&format!(", but {key} has stood at {value} for {still}"));
    }
    answer.metric(metric).remember(PROGRESS, &progress)
}

/// Written by another process than the one that runs, or before that one began.
fn is_predecessors(file: &StatusFile, process: &Process, beat: DateTime<Utc>) -> bool {
    let other = file.pid.is_some_and(|pid| pid != process.identity.pid);
    // Start times are exact to a second or so.
    let earlier = beat < process.started - TimeDelta::seconds(2);
    other || earlier
}

/// No heartbeat of this process yet: counted from its start, as if that were one.
fn waiting(
    process: &Process,
    options: &Heartbeat,
    interval: Option<f64>,
    now: DateTime<Utc>,
    why: &str,
) -> Answer {
    let (warn, crit) = (options.warn.seconds(interval), options.crit.seconds(interval));
    let old = age(now, process.started);
    let metric = Metric::age(old).limits(Some(Range::above(warn)), Some(Range::above(crit)));
    Answer::new(metric.judge(), format!("none yet in {old} ({why})")).metric(metric)
}

fn whole(seconds: f64) -> Span {
    Span(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::parse_time;
    use crate::config::check::Limit;

    fn now() -> DateTime<Utc> {
        parse_time("2026-11-20T12:00:00Z").unwrap()
    }

    fn process(age: i64) -> Process {
        Process::example(now() - TimeDelta::seconds(age))
    }

    fn file(beat: i64, pid: Option<u32>, status: &str) -> Result<StatusFile, Unreadable> {
        let at = now() - TimeDelta::seconds(beat);
        Ok(StatusFile {
            status: status.to_owned(),
            timestamp: Some(at),
            pid,
            interval: Some(60.0),
            last_heartbeat: Some(at),
            checks: Some((4, 4)),
            document: serde_json::json!({"details": {"done": 7}}),
        })
    }

    fn options() -> Heartbeat {
        Heartbeat {
            service: "d".to_owned(),
            warn: Limit::Times(2.0),
            crit: Limit::Times(4.0),
            progress: None,
        }
    }

    fn state(read: &Result<StatusFile, Unreadable>, process: Option<&Process>) -> (State, String) {
        let answer = judge(read, process, &options(), now());
        (answer.state, answer.summary)
    }

    #[test]
    fn the_table_of_truth() {
        let alive = process(10_000);
        for (beat, status, expected) in [
            (30, "running", State::Ok),
            (120, "running", State::Ok),
            (121, "running", State::Warning),
            (241, "running", State::Critical),
            (5, "error", State::Critical),
            (5, "stopping", State::Warning),
            (-30, "running", State::Ok),
            (-120, "running", State::Unknown),
            (-157_766_360, "running", State::Unknown),
        ] {
            let (got, summary) = state(&file(beat, Some(42), status), Some(&alive));
            assert_eq!(got, expected, "{beat} {status}: {summary}");
        }
        assert_eq!(state(&file(5, Some(42), "running"), None).0, State::Critical, "its process is gone");
        assert_eq!(state(&Err(Unreadable::Broken("x".to_owned())), Some(&alive)).0, State::Unknown);
        assert_eq!(state(&Err(Unreadable::Missing), None).0, State::Critical);
    }

    #[test]
    fn a_predecessor_s_file_counts_from_the_start_of_the_living() {
        let old = file(1_000, Some(7), "running");
        assert_eq!(state(&old, Some(&process(10))).0, State::Ok);
        assert_eq!(state(&old, Some(&process(150))).0, State::Warning);
        assert_eq!(state(&old, Some(&process(300))).0, State::Critical);
        // The same pid, recycled by the successor.
        assert_eq!(state(&file(1_000, Some(42), "running"), Some(&process(10))).0, State::Ok);
    }

    #[test]
    fn fewer_checks_passed_is_a_warning() {
        let mut read = file(5, Some(42), "running");
        if let Ok(file) = &mut read {
            file.checks = Some((3, 4));
        }
        let (state, summary) = state(&read, Some(&process(100)));
        assert_eq!(state, State::Warning);
        assert!(summary.contains("3 of 4"), "{summary}");
    }

    #[test]
    fn a_fresh_heartbeat_is_not_enough_where_work_can_be_counted() {
        let Ok(read) = file(5, Some(42), "running") else { unreachable!() };
        let see = |key: &str, value: f64, since: i64| {
            let before = Progress { value, since: now() - TimeDelta::seconds(since) };
            let answer = Answer::new(State::Ok, "5s old");
            let answer = progressed(answer, &read, key, Some(before), &options(), now());
            (answer.state, answer.summary)
        };
        assert_eq!(see("details.done", 7.0, 60), (State::Ok, "5s old".to_owned()));
        assert_eq!(see("details.done", 6.0, 600).0, State::Ok, "it went on");
        assert_eq!(see("details.done", 7.0, 130).0, State::Warning);
        let (state, summary) = see("details.done", 7.0, 250);
        assert_eq!(state, State::Critical);
        assert!(summary.contains("stood at 7 for 4m 10s"), "{summary}");
        assert_eq!(see("details.done", 7.0, -900).0, State::Ok, "a clock that went back");
        assert_eq!(see("details.gone", 7.0, 60).0, State::Unknown);
    }
}
