//! The jobs of the schedule, where there is no cron: each a program of ours, never twice at once.

use super::children::{kill, spawn};
use super::{Plan, Timed};
use crate::base::process::Signal;
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use std::process::{Command, Stdio};
use std::time::Duration;

/// When a job is due next, by its time as crontab(5) writes it.
pub type NextTime = dyn Fn(&str, DateTime<Utc>) -> Option<DateTime<Utc>>;

/// All of them.
pub(super) struct Jobs<'a> {
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
        let first = |timed: &Timed| if timed.at_once { Some(now) } else { after(next, timed, now) };
        let jobs = plan.jobs.iter().map(|timed| Job { timed, due: first(timed), pid: None });
        Jobs { next, jobs: jobs.collect(), seen: now }
    }

    /// Until the next one is due; a minute at most, for a clock may be set meanwhile.
    pub(super) fn patience(&self, now: DateTime<Utc>) -> Option<Duration> {
        let left = |due: DateTime<Utc>| (due - now).to_std().unwrap_or_default();
        let left = self.jobs.iter().filter_map(|job| job.due).map(left).min();
        left.map(|left| left.min(Duration::from_secs(60)))
    }

    /// Has what is due started by `start`, which gives a pid. Gives what went wrong, a sentence each.
    pub(super) fn run_due(
        &mut self,
        now: DateTime<Utc>,
        start: impl Fn(&Timed) -> Result<u32>,
    ) -> Vec<String> {
        // A clock that was set back would make all of them wait.
        let set_back = now < self.seen;
        self.seen = now;
        let mut troubles = Vec::new();
        for job in &mut self.jobs {
            let due = job.due.is_some_and(|due| due <= now);
            if due || set_back {
                job.due = after(self.next, job.timed, now);
            }
            let name = &job.timed.name;
            if due && job.pid.is_some() {
                troubles.push(format!("{name} is due, but still at it since it was due last"));
            } else if due {
                match start(job.timed) {
                    Ok(pid) => job.pid = Some(pid),
                    Err(error) => troubles.push(format!("{name}: {error:#}")),
                }
            }
        }
        troubles
    }

    /// Has a job started before it is due, if it is ever due.
    pub(super) fn start_now(&mut self, name: &str, start: impl Fn(&Timed) -> Result<u32>) -> Result<()> {
        let wanted = |job: &&mut Job<'_>| job.timed.name == name && !job.timed.when.is_empty();
        if let Some(job) = self.jobs.iter_mut().find(wanted) {
            job.pid = Some(start(job.timed)?);
        }
        Ok(())
    }

    /// Whether a job runs.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.jobs.iter().any(|job| job.timed.name == name && job.pid.is_some())
    }

    /// Whether a process that has ended was one. How it ended stands in its log and in the journal.
    pub(super) fn ended(&mut self, pid: u32) -> bool {
        let job = self.jobs.iter_mut().find(|job| job.pid == Some(pid));
        job.map(|job| job.pid = None).is_some()
    }

    /// Signals those that run.
    pub(super) fn signal(&self, signal: Signal) {
        self.jobs.iter().filter_map(|job| job.pid).for_each(|pid| kill(pid, signal));
    }

    /// Whether any runs.
    pub(super) fn any(&self) -> bool {
        self.jobs.iter().any(|job| job.pid.is_some())
    }
}

/// When a job runs next, its delay included.
fn after(next: &NextTime, timed: &Timed, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let delay = TimeDelta::seconds(i64::try_from(timed.delay).unwrap_or_default());
    Some(next(&timed.when, now - delay)? + delay)
}

/// Starts a job; what it prints goes to `logs/cron.log`.
pub(super) fn start(plan: &Plan, timed: &Timed) -> Result<u32> {
    let log = plan.home.append(&plan.home.log("cron"))?;
    let mut command = Command::new(&plan.ops);
    command.args(&timed.words).arg("--quiet").arg("--config").arg(&plan.config);
    command.arg("--home").arg(plan.home.root()).stdin(Stdio::null());
    spawn(command.stdout(log.try_clone()?).stderr(log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Home;
    use std::cell::{Cell, RefCell};

    #[test]
    fn a_delay_is_the_same_each_time() {
        let timed = Timed {
            name: "backup".to_owned(),
            when: "hourly".to_owned(),
            at_once: false,
            delay: 600,
            words: Vec::new(),
        };
        let next =
            |_: &str, now: DateTime<Utc>| DateTime::from_timestamp((now.timestamp() / 3600 + 1) * 3600, 0);
        let at = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
        for (now, due) in [("09:05", "09:10"), ("09:10", "10:10"), ("09:59", "10:10")] {
            let due = at(&format!("2026-11-21T{due}:00Z"));
            assert_eq!(after(&next, &timed, at(&format!("2026-11-21T{now}:00Z"))), Some(due), "{now}");
        }
    }

    #[test]
    fn each_runs_when_it_is_due_and_never_twice_at_once() {
        let timed = |name: &str, at_once| Timed {
            name: name.to_owned(),
            when: name.to_owned(),
            at_once,
            delay: 0,
            words: Vec::new(),
        };
        let plan = Plan {
            ops: "/bin/ops".into(),
            home: Home::new("/h".into()),
            config: "/h/ops.toml".into(),
            services: Vec::new(),
            named: false,
            inherit: false,
            quiet: false,
            jobs: vec![timed("minutely", false), timed("boot", true), timed("never", false)],
        };
        let begin: DateTime<Utc> = "2026-11-21T09:30:20Z".parse().unwrap();
        let next = |when: &str, now: DateTime<Utc>| {
            (when == "minutely")
                .then(|| DateTime::from_timestamp((now.timestamp() / 60 + 1) * 60, 0).unwrap())
        };
        let mut jobs = Jobs::new(&plan, &next, begin);
        let (started, pid) = (RefCell::new(Vec::new()), Cell::new(100));
        let start = |timed: &Timed| {
            started.borrow_mut().push(timed.name.clone());
            pid.set(pid.get() + 1);
            Ok(pid.get())
        };
        let at = |seconds| begin + TimeDelta::seconds(seconds);
        assert_eq!(jobs.run_due(begin, start), [""; 0]);
        assert_eq!(started.take(), ["boot"]);
        assert_eq!(jobs.patience(begin), Some(Duration::from_secs(40)));
        assert_eq!(jobs.run_due(at(39), start), [""; 0]);
        assert_eq!(jobs.run_due(at(40), start), [""; 0]);
        assert_eq!(started.take(), ["minutely"]);
        // Still at it when it is due again; and the machine slept for an hour.
        assert!(jobs.run_due(at(100), start)[0].contains("minutely is due, but still at it"));
        assert!(jobs.ended(102) && !jobs.ended(102) && !jobs.ended(7));
        assert_eq!(jobs.run_due(at(3700), start), [""; 0]);
        assert_eq!(started.take(), ["minutely"], "once, however often it was missed");
        assert!(jobs.ended(103));
        // The clock went back by an hour.
        assert_eq!(jobs.run_due(at(100), start), [""; 0]);
        assert_eq!(jobs.patience(at(100)), Some(Duration::from_secs(60)));
        jobs.run_due(at(160), start);
        assert_eq!(started.take(), ["minutely"]);
        // What cannot be started is said, and tried when it is due again.
        assert!(jobs.ended(104) && jobs.any());
        assert_eq!(jobs.run_due(at(220), |_| anyhow::bail!("no room")), ["minutely: no room"]);
    }
}
