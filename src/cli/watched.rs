//! The jobs of the schedule: when each ran is noted, and whoever waits to hear of it is told, by the
//! dead-man's pings of `[alerts.deadman]`.

use super::Context;
use crate::alert::Deadman;
use crate::base::secret::Secret;
use crate::base::watchdog::{self, Overrun, Watchdog};
use crate::base::{Fault, Journal, State, events};
use crate::config::{Loaded, channels};
use crate::schedule::Job;
use anyhow::Result;

/// Does a job, notes that it ran, and tells its address, if there is one, that it begins and how it
/// ended. Whatever becomes of that changes nothing about the job.
pub(super) fn watched(
    context: &Context,
    loaded: &Loaded,
    job: Job,
    work: impl FnOnce() -> Result<State>,
) -> Result<State> {
    let key = job.key();
    let limit = job.limit(&loaded.config.schedule);
    let _watchdog = Watchdog::begin(&context.run, limit, Some((&loaded.home, key)));
    watchdog::phase(key);
    tell_overrun(context, loaded, key);
    let work = || {
        let done = work();
        let state = done.as_ref().map_or_else(|error| Fault::of(error).0, |state| *state);
        // `alert` notes it by itself. Not noted, a job looks late: that is a question, not a harm.
        if job != Job::Alert
            && let Ok(journal) = Journal::open(&loaded.home)
        {
            let _ = journal.ran(&context.run, job.key(), state);
        }
        done
    };
    let Some(url) = address(&loaded.config.alerts.deadman, job) else { return work() };
    let deadman = Deadman::start(url, &context.run);
    let done = work();
    let (state, words) = match &done {
        Ok(state) => {
            let said = context.said();
            // With --quiet there may be none.
            (*state, if said.is_empty() { state.word().to_owned() } else { said })
        }
        Err(error) => (Fault::of(error).0, format!("{error:#}")),
    };
    if let Some(why) = deadman.end(state, &words) {
        context.note(&format!("the dead-man's switch was not reached: {why}"));
    }
    done
}

/// Says once that the last run of a job ended itself, here and in the log that people grep.
pub(super) fn tell_overrun(context: &Context, loaded: &Loaded, key: &str) {
    let Some(overrun) = Overrun::find(&loaded.home, key) else { return };
    let words = overrun.describe();
    context.note(&words);
    let log = match key {
        "alert" => "alerts",
        "rotate_logs" => "rotation",
        "backup" | "drill" => "backup",
        _ => "cron",
    };
    let written = events::append(&loaded.home, log, &context.run, "ERROR", "Run not done in time", &words);
    if written.is_ok()
        && let Err(error) = Overrun::forget(&loaded.home, key)
    {
        context.note(&format!("{error:#}"));
    }
}

fn address(deadman: &channels::Deadman, job: Job) -> Option<&Secret> {
    match job {
        Job::Alert => deadman.alert.as_ref(),
        Job::Backup => deadman.backup.as_ref(),
        Job::RotateLogs => deadman.rotate_logs.as_ref(),
        Job::Drill => deadman.drill.as_ref(),
        Job::Dashboard | Job::Report => None,
    }
}
