//! The process that stays: starts, waits, counts, starts again, and ends everything when it is told to.

use super::children::{ended, kill, spawn};
use super::ears::Ears;
use super::jobs::{self, Jobs, NextTime};
use super::launch::{How, Launched, is_under_way};
use super::law::{Keeper, Next};
use super::{Plan, Supervised, lock_name};
use crate::base::durable::Lock;
use crate::base::process::{self, Signal};
use crate::base::units::Span;
use crate::base::{Home, Run, State, events, text};
use crate::service::record::Record;
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often the record of a service that does not run is looked at: its operator may want it again.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How long to wait before a start that something of ours was in the way of is tried again.
const BUSY: Duration = Duration::from_secs(2);

/// How long a lock is waited for: others only look at it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Supervises until nothing is left to supervise, or until it is told to end. `next` says when a job is due
/// next.
///
/// # Errors
/// A [`crate::base::Fault`] of state Unknown when another supervises a service.
pub fn resident(plan: &Plan, run: &Run, next: &NextTime) -> Result<State> {
    let ears = Ears::open()?;
    process::adopt_orphans()?;
    let home = plan.home.clone();
    let mut kept = Vec::new();
    for service in &plan.services {
        kept.push(Kept {
            service,
            keeper: Keeper::new(service.always, service.most),
            phase: Phase::Waiting {
                until: Instant::now(),
                how: if plan.named { How::Named } else { How::First },
            },
            waits: false,
            _lock: Lock::take(&home, &lock_name(&service.name), run, PATIENCE)?,
        });
    }
    // `OPS_NOW` moves the clock, but does not stop it.
    let skew = run.now - Utc::now();
    let jobs = Jobs::new(plan, next, run.now);
    let mut resident = Resident { plan, run, home, kept, jobs, skew };
    resident.stay(&ears)
}

pub(super) struct Resident<'a> {
    pub(super) plan: &'a Plan,
    run: &'a Run,
    home: Home,
    pub(super) kept: Vec<Kept<'a>>,
    pub(super) jobs: Jobs<'a>,
    skew: TimeDelta,
}

/// One service.
pub(super) struct Kept<'a> {
    pub(super) service: &'a Supervised,
    keeper: Keeper,
    pub(super) phase: Phase,
    /// It was said that something of ours is in its way.
    waits: bool,
    _lock: Lock,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// It runs, or is just becoming itself.
    Running { pid: u32, since: Instant, how: How },
    /// It is started then.
    Waiting { until: Instant, how: How },
    /// Its operator stopped it.
    Stopped,
    /// It ended well.
    Finished,
    /// It crashed too often.
    GivenUp,
}

impl Kept<'_> {
    pub(super) fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

impl Resident<'_> {
    fn stay(&mut self, ears: &Ears) -> Result<State> {
        let names: Vec<&str> = self.kept.iter().map(|kept| kept.service.name.as_str()).collect();
        let jobs = if self.plan.jobs.is_empty() { "" } else { " and the jobs of [schedule]" };
        let message = format!("{}{jobs}, until TERM or Ctrl-C", names.join(", "));
        self.say("INFO", "Supervision begins", &message);
        loop {
            for (pid, status) in ended() {
                self.note_end(pid, status);
            }
            if ears.told_to_end() {
                self.end_all(ears);
                return Ok(State::Ok);
            }
            for signal in ears.passed_on() {
                self.pass_on(signal);
            }
            self.start_what_is_due();
            let plan = self.plan;
            for trouble in self.jobs.run_due(self.now(), |timed| jobs::start(plan, timed)) {
                self.say("WARNING", "Not run", &trouble);
            }
            let over = |kept: &Kept<'_>| matches!(kept.phase, Phase::Finished | Phase::GivenUp);
            if self.kept.iter().all(over) {
                let lost = self.kept.iter().any(|kept| kept.phase == Phase::GivenUp);
                let (level, message) = match lost {
                    true => ("CRITICAL", "nothing is left to supervise, and not all of it ended well"),
                    false => ("INFO", "everything has ended well"),
                };
                if lost {
                    self.last_alert(ears);
                }
                self.end_jobs(ears);
                self.say(level, "Supervision ends", message);
                return Ok(if lost { State::Critical } else { State::Ok });
            }
            ears.listen(self.patience());
        }
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.skew
    }

    /// Until when nothing has to be done but to listen. None: as long as it takes.
    fn patience(&self) -> Option<Duration> {
        let service = self.kept.iter().filter_map(|kept| match &kept.phase {
            Phase::Running { .. } => None,
            Phase::Waiting { until, .. } => Some(until.saturating_duration_since(Instant::now()).min(LOOK)),
            Phase::Stopped | Phase::Finished | Phase::GivenUp => Some(LOOK),
        });
        service.chain(self.jobs.patience(self.now())).min()
    }

    fn start_what_is_due(&mut self) {
        for index in 0..self.kept.len() {
            let how = match &self.kept[index].phase {
                Phase::Running { .. } => continue,
                Phase::Waiting { until, how } if *until <= Instant::now() => how.clone(),
                _ => {
                    let record = Record::read(&self.home, &self.kept[index].service.name);
                    if record.asked.is_none() {
                        continue;
                    }
                    self.kept[index].keeper.forget();
                    How::Asked
                }
            };
            let launched = self.launch(index, &how);
            let name = &self.kept[index].service.name;
            self.kept[index].phase = match launched {
                Ok(pid) => Phase::Running { pid, since: Instant::now(), how },
                Err(error) => {
                    self.say("ERROR", "Start failed", &format!("{name}: {error:#}"));
                    Phase::Waiting { until: Instant::now() + BUSY, how }
                }
            };
        }
    }

    /// Starts the program that becomes the service.
    fn launch(&self, index: usize, how: &How) -> Result<u32> {
        let mut command = self.program(super::LAUNCH, &self.kept[index].service.name);
        command.arg(how.to_string());
        if self.plan.inherit {
            command.arg("inherit");
        }
        spawn(&mut command)
    }

    /// `ops WORD HOME CONFIG NAME`
    pub(super) fn program(&self, word: &str, name: &str) -> Command {
        let mut command = Command::new(&self.plan.ops);
        command.arg(word).arg(self.plan.home.root()).arg(&self.plan.config).arg(name).stdin(Stdio::null());
        command
    }

    /// What became of a process that has ended. Of a stranger, which was left to us, nothing is known.
    fn note_end(&mut self, pid: u32, status: ExitStatus) {
        if self.jobs.ended(pid) {
            return;
        }
        let Some(index) = self.kept.iter().position(|kept| kept.pid() == Some(pid)) else { return };
        let Phase::Running { since, how, .. } = self.kept[index].phase.clone() else { return };
        self.kept[index].phase = self.after(index, pid, status, since, how);
    }

    fn after(&mut self, index: usize, pid: u32, status: ExitStatus, since: Instant, how: How) -> Phase {
        let now = Instant::now();
        let name = self.kept[index].service.name.clone();
        let record = Record::read(&self.home, &name);
        let became_it = record.identity.as_ref().is_some_and(|identity| identity.pid == pid);
        let busy = !became_it && status.code() == Some(Launched::Busy as i32);
        let waited = std::mem::replace(&mut self.kept[index].waits, busy);
        if busy {
            if !waited {
                let what =
                    "until a start, a stop, a restore or an upgrade is done that is at it, or was cut short";
                self.say("INFO", "Waiting", &format!("{name}, {what}"));
            }
            return Phase::Waiting { until: now + BUSY, how };
        }
        if record.stopped_by_operator.is_some() {
            let message = format!("{name}, by its operator; `ops start {name}` starts it again");
            self.say("INFO", "Stopped", &message);
            return Phase::Stopped;
        }
        if !became_it && status.code() == Some(Launched::Stopped as i32) {
            // Its operator changed his mind meanwhile.
            return Phase::Waiting { until: now, how: How::Again };
        }
        if became_it && is_under_way(&self.home, &name) {
            self.say("INFO", "Stopped", &format!("{name}, pid {pid} ({status}), for something of ours"));
            return Phase::Waiting { until: now + BUSY, how: How::Again };
        }
        let ran = now - since;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let well = code.is_some_and(|code| code == 0 || self.kept[index].service.success.contains(&code));
        let good = became_it && well;
        let next = self.kept[index].keeper.ended(now, ran, good);
        let crashes = self.kept[index].keeper.crashes();
        let ended = match became_it {
            true => format!("{name}, pid {pid}, ended after {} ({status})", Span(ran)),
            false => format!("{name} could not be started ({status})"),
        };
        match next {
            Next::Finished => {
                self.say("INFO", "Finished", &ended);
                Phase::Finished
            }
            Next::GivenUp => {
                let times = text::count(crashes, "time");
                let message = format!(
                    "{ended}; it crashed {times} within an hour: mend the cause, then `ops start {name}`"
                );
                self.say("CRITICAL", "Given up", &message);
                Phase::GivenUp
            }
            Next::After(pause) => {
                let (level, title) = if good { ("INFO", "Ended") } else { ("ERROR", "Crashed") };
                self.say(level, title, &format!("{ended}; started again in {}", Span(pause)));
                let how = if good || !became_it { How::Again } else { How::Crashed(status.to_string()) };
                Phase::Waiting { until: now + pause, how }
            }
        }
    }

    /// Only to a process that is the service by now: before that it is a program of ours.
    fn pass_on(&self, signal: Signal) {
        for kept in &self.kept {
            let Some(pid) = kept.pid() else { continue };
            let record = Record::read(&self.home, &kept.service.name);
            if record.identity.is_some_and(|identity| identity.pid == pid) {
                kill(pid, signal);
            }
        }
    }

    /// A line in `logs/restart.log`, and on stderr.
    pub(super) fn say(&self, level: &str, title: &str, message: &str) {
        let run = Run { now: self.now(), ..self.run.clone() };
        // The services are what matters: a log that cannot be written stops none.
        let _ = events::append(&self.home, "restart", &run, level, title, message);
        if !self.plan.quiet {
            let _ = writeln!(std::io::stderr(), "ops run: {title}: {}", text::one_line(message, 2000));
        }
    }
}
