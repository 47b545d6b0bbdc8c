//! Do our own jobs run when they should? Are our lines still in the crontab, and did each job run since
//! it was due? Who watches the watchman: ask it from Nagios, or look at the dashboard.

use super::{Answer, Metric, View, named};
use crate::base::range::Unit;
use crate::base::{State, text, units};
use crate::config::check::Schedule;
use crate::schedule::{self, Installed, Job};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::Path;

/// When each job ran last.
pub(super) type Ran = BTreeMap<String, DateTime<Utc>>;

/// Asks the journal.
pub(super) fn load(journal: &Connection) -> Result<Ran> {
    let read = || -> rusqlite::Result<Ran> {
        let mut statement = journal.prepare("SELECT name, at FROM jobs")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, DateTime::from_timestamp_millis(row.get(1)?).unwrap_or_default()))
        })?;
        rows.collect()
    };
    read().context("cannot read the journal")
}

pub(super) fn look(view: &View, options: &Schedule) -> Result<Answer> {
    let Some(Planned { where_, since, mut bad }) = planned(view)? else {
        return Ok(Answer::new(State::Ok, "nobody runs the jobs: `ops cron-install` has cron do it"));
    };
    let Some(ran) = &view.ran else {
        return Ok(Answer::unknown("the journal, which knows when the jobs ran, cannot be read"));
    };
    let late = late(view, ran, since);
    let worst = late.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
    let metric = |seconds: f64| {
        Metric::new("late", seconds.floor(), Unit::Seconds).limits(Some(options.warn.0), Some(options.crit.0))
    };
    for (job, seconds) in &late {
        let state = metric(*seconds).judge();
        if state != State::Ok {
            let late = units::Span::seconds(*seconds as u64);
            bad.push((state, format!("{} was due {late} ago and did not run", job.key())));
        }
    }
    let jobs = Job::ALL.iter().filter(|job| !job.when(&view.loaded.config.schedule).is_empty()).count();
    let well = || (State::Ok, format!("{} {where_}, all on time", text::count(jobs, "job")));
    let (state, summary) = named::sum_up(bad).unwrap_or_else(well);
    Ok(Answer::new(state, summary)
        .metric(metric(worst))
        .remedy("`ops cron-install` puts them back; is cron running? logs/cron.log has what the jobs said"))
}

/// Who is meant to run the jobs.
struct Planned {
    /// As a clause.
    where_: String,
    since: DateTime<Utc>,
    /// What is not as it was written.
    bad: Vec<(State, String)>,
}

/// None: nobody.
fn planned(view: &View) -> Result<Option<Planned>> {
    if let Some((timers, since)) = schedule::installed_timers(&view.loaded.home)? {
        let gone = |path: &Path| format!("the file {} is not as it was written", path.display());
        let bad = timers.wrong().into_iter().map(|path| (State::Critical, gone(path))).collect();
        let where_ = format!("with {}", timers.manager.name());
        return Ok(Some(Planned { where_, since: since.into(), bad }));
    }
    let Some(Installed { block, since, ours }) = schedule::installed(&view.loaded.home)? else {
        return Ok(None);
    };
    // Nagios asks as another user, whose crontab has nothing to do with it.
    let crontab = if ours { schedule::read()? } else { block.clone() };
    let mut bad = Vec::new();
    if !crontab.windows(block.len()).any(|part| part == block) {
        let first = block.split(|byte| *byte == b'\n').next().unwrap_or_default();
        bad.push(match crontab.split(|byte| *byte == b'\n').any(|line| line == first) {
            true => (State::Warning, "our lines in the crontab were changed".to_owned()),
            false => (State::Critical, "our lines are gone from the crontab".to_owned()),
        });
    }
    let whose = if ours { "" } else { " of another user" };
    Ok(Some(Planned { where_: format!("in the crontab{whose}"), since: since.into(), bad }))
}

/// The jobs that did not run since they were due, and for how many seconds.
fn late(view: &View, ran: &Ran, since: DateTime<Utc>) -> Vec<(Job, f64)> {
    let (now, schedule) = (view.run.now, &view.loaded.config.schedule);
    let of = |job: Job| {
        let due = job.last(schedule, now)?;
        let done = ran.get(job.key()).is_some_and(|at| *at >= due);
        let seconds = (now - due).num_milliseconds() as f64 / 1000.0 - schedule.jitter.as_secs();
        // What was due before the lines were there was not missed; nor is a clock that went back.
        (!done && due > since && seconds >= 0.0).then_some((job, seconds))
    };
    Job::ALL.into_iter().filter_map(of).collect()
}
