//! When cron runs what: one marked block in the user's crontab, and nothing else of it; or the same as
//! timers of systemd or launchd.

mod block;
mod calendar;
mod crontab;
mod daemon;
mod job;
mod timers;
mod when;

pub use block::{Jobs, Torn, install, uninstall};
pub use crontab::{Change, Installed, change, installed, note_installed, read};
pub use daemon::cron_runs;
pub use job::Job;
pub use timers::{Scene, TimerFile, Timers, installed_timers, timers};
pub use when::next;

use crate::base::{Fault, Home};
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::path::Path;

/// The block of an agent: its jobs at the times of `[schedule]`, run by the program `ops` with
/// the config that was read, with `path` for `PATH`.
///
/// # Errors
/// A [`Fault`] of state Unknown, for paths that cannot be written into a crontab.
pub fn block(loaded: &Loaded, ops: &Path, host: &str, path: &str) -> Result<String> {
    let (config, schedule) = (&loaded.config.file, &loaded.config.schedule);
    let home = loaded.home.root();
    let (logs, log) = (loaded.home.logs(), loaded.home.log("cron"));
    let agent = &loaded.config.agent.name;
    let jobs = Jobs { agent, home, config, ops, logs: &logs, log: &log, path, host, schedule };
    jobs.render().map_err(|why| Fault::unknown(why).into())
}

/// Since when somebody is meant to run the jobs; none: nobody is, or it cannot be told.
pub fn since(home: &Home) -> Option<DateTime<Utc>> {
    let timers = installed_timers(home).ok().flatten().map(|(_, since)| since);
    let since = timers.or_else(|| installed(home).ok().flatten().map(|installed| installed.since));
    since.map(DateTime::from)
}
