//! The jobs of the schedule, where there is no cron: each a program of ours, never twice at once.

use super::children::{kill, spawn};
use super::{Plan, Timed};
use crate::base::process::Signal;
use crate::base::{Home, durable};
use crate::service::session;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::Duration;

/// When a job is due next, by its time as crontab(5) writes it.
pub type NextTime = dyn Fn(&str, DateTime<Utc>) -> Option<DateTime<Utc>>;

/// All of them.
pub(super) struct Jobs<'a> {
    plan: &'a Plan,
    next: &'a NextTime,
    jobs: Vec<Job<'a>>,
    /// When they were looked at last.
    seen: DateTime<Utc>,
}

struct Job<'a> {
    timed: &'a Timed,
    due: Option<DateTime<Utc>>,
    /// It runs now.
    pid: Option<u32>,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(plan: &'a Plan, next: &'a NextTime, now: DateTime<Utc>) -> Jobs<'a> {
        let first = |timed: &Timed| if timed.at_once { Some(now) } else { next(&timed.when, now) };
        let jobs = plan.jobs.iter().map(|timed| Job { timed, due: first(timed), pid: None });
        Jobs { plan, next, jobs: jobs.collect(), seen: now }
    }

    /// Until the next one is due; a minute at most, for a clock may be set meanwhile.
    pub(super) fn patience(&self, now: DateTime<Utc>) -> Option<Duration> {
        let left = |due: DateTime<Utc>| (due - now).to_std().unwrap_or_default();
        let left = self.jobs.iter().filter_map(|job| job.due).map(left).min();
        left.map(|left| left.min(Duration::from_secs(60)))
    }

    /// Starts what is due. Gives what went wrong, a sentence each.
    pub(super) fn run_due(&mut self, now: DateTime<Utc>) -> Vec<String> {
        // A clock that was set back would make all of them wait.
        let set_back = now < self.seen;
        self.seen = now;
        let mut troubles = Vec::new();
        for job in &mut self.jobs {
            let due = job.due.is_some_and(|due| due <= now);
            if due || set_back {
                job.due = (self.next)(&job.timed.when, now);
            }
            let name = &job.timed.name;
            if due && job.pid.is_some() {
                troubles.push(format!("{name} is due, but still at it since it was due last"));
            } else if due {
                match start(self.plan, job.timed) {
                    Ok(pid) => job.pid = Some(pid),
                    Err(error) => troubles.push(format!("{name}: {error:#}")),
                }
            }
        }
        troubles
    }

    /// Whether a process that has ended was one. How it ended stands in its log and in the journal.
    pub(super) fn ended(&mut self, pid: u32) -> bool {
        let job = self.jobs.iter_mut().find(|job| job.pid == Some(pid));
        job.map(|job| job.pid = None).is_some()
    }

    /// Signals those that run; whether there are any.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let running: Vec<u32> = self.jobs.iter().filter_map(|job| job.pid).collect();
        running.iter().for_each(|pid| kill(*pid, signal));
        !running.is_empty()
    }

    /// Whether any runs.
    pub(super) fn any(&self) -> bool {
        self.jobs.iter().any(|job| job.pid.is_some())
    }
}

fn start(plan: &Plan, timed: &Timed) -> Result<u32> {
    let home = Home::new(plan.home.clone());
    durable::make_folder(&home.logs(), 0o755)?;
    let log = OpenOptions::new().append(true).create(true).open(home.log("cron"))?;
    let mut command = Command::new(session::me()?);
    command.args(&timed.words).arg("--quiet").arg("--config").arg(&plan.config);
    command.arg("--home").arg(&plan.home).stdin(Stdio::null());
    spawn(command.stdout(log.try_clone()?).stderr(log))
}
