//! The end of supervision: every service with all that belongs to it, side by side, and the jobs.

use super::END;
use super::children::{ended, kill, spawn};
use super::ears::Ears;
use super::jobs;
use super::resident::{Kept, LOOK, Phase, Resident};
use crate::base::process::Signal;
use std::time::{Duration, Instant};

/// What ending a service may take beyond its own grace, before it is killed from here.
const SLACK: Duration = Duration::from_secs(20);

/// How long the last alert may take.
const ALERT: Duration = Duration::from_secs(120);

/// Its name among the jobs.
const ALERT_JOB: &str = "alert";

impl Resident<'_> {
    /// Ends every service with all that belongs to it, side by side, and the jobs.
    pub(super) fn end_all(&mut self, ears: &Ears) {
        self.say("INFO", "Supervision ends", "told to; the services are being stopped");
        let mut enders = Vec::new();
        // Also of one that crashed or is done: what it started may live on.
        for kept in self.kept.iter().filter(|kept| kept.phase != Phase::Stopped) {
            match spawn(&mut self.program(END, &kept.service.name)) {
                Ok(pid) => enders.push(pid),
                Err(error) => self.say("ERROR", "Stop", &format!("{}: {error:#}", kept.service.name)),
            }
        }
        let grace = self.plan.services.iter().map(|service| service.grace).max().unwrap_or_default();
        let mut deadline = Instant::now() + grace + SLACK;
        let mut pleaded = false;
        loop {
            for (pid, _) in ended() {
                enders.retain(|ender| *ender != pid);
                self.forget(pid);
            }
            let left: Vec<u32> = self.kept.iter().filter_map(Kept::pid).collect();
            if left.is_empty() && enders.is_empty() {
                break;
            }
            if enders.is_empty() && !pleaded {
                // It could not be done properly: the config is broken, perhaps.
                pleaded = true;
                deadline = deadline.min(Instant::now() + grace);
                left.iter().for_each(|pid| kill(*pid, Signal::TERM));
            }
            if Instant::now() >= deadline || ears.told_to_end() {
                left.iter().chain(&enders).for_each(|pid| kill(*pid, Signal::KILL));
            }
            ears.listen(Some(LOOK));
        }
        self.end_jobs(ears);
        self.say("INFO", "Supervision ends", "everything is stopped");
    }

    /// Has people told what has become of the agent: nothing of the schedule runs after us.
    pub(super) fn last_alert(&mut self, ears: &Ears) {
        let deadline = Instant::now() + ALERT;
        let mut begun = false;
        while Instant::now() < deadline && !ears.told_to_end() {
            ended().into_iter().for_each(|(pid, _)| self.forget(pid));
            // One that is at it may not have seen the end.
            if !self.jobs.runs(ALERT_JOB) {
                if std::mem::replace(&mut begun, true) {
                    return;
                }
                let plan = self.plan;
                if let Err(error) = self.jobs.start_now(ALERT_JOB, |timed| jobs::start(plan, timed)) {
                    self.say("WARNING", "Not run", &format!("{ALERT_JOB}: {error:#}"));
                }
            }
            ears.listen(Some(LOOK));
        }
    }

    pub(super) fn end_jobs(&mut self, ears: &Ears) {
        self.jobs.signal(Signal::TERM);
        let deadline = Instant::now() + SLACK / 2;
        while self.jobs.any() {
            ended().into_iter().for_each(|(pid, _)| self.forget(pid));
            if Instant::now() >= deadline {
                self.jobs.signal(Signal::KILL);
            }
            if self.jobs.any() {
                ears.listen(Some(LOOK));
            }
        }
    }

    /// A process has ended, and nothing follows from it.
    fn forget(&mut self, pid: u32) {
        for kept in self.kept.iter_mut().filter(|kept| kept.pid() == Some(pid)) {
            kept.phase = Phase::Stopped;
        }
        self.jobs.ended(pid);
    }
}
