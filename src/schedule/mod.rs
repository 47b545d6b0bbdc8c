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

use crate::base::Fault;
use crate::config::Loaded;
use anyhow::Result;
use std::path::Path;

/// The block of an agent: its jobs at the times of `[schedule]`, run by the program `ops` with
/// the config that was read, with `path` for `PATH`.
///
/// # Errors
/// A [`Fault`] of state Unknown, for times that cron does not understand and for paths that
/// cannot be written into a crontab.
pub fn block(loaded: &Loaded, ops: &Path, host: &str, path: &str) -> Result<String> {
    check(loaded)?;
    let (config, schedule) = (&loaded.config.file, &loaded.config.schedule);
    let home = loaded.home.root();
    let (logs, log) = (loaded.home.logs(), loaded.home.log("cron"));
    let agent = &loaded.config.agent.name;
    let jobs = Jobs { agent, home, config, ops, logs: &logs, log: &log, path, host, schedule };
    jobs.render().map_err(|why| Fault::unknown(why).into())
}

/// Whether cron would understand the times.
///
/// # Errors
/// A [`Fault`] of state Unknown that names the key.
pub fn check(loaded: &Loaded) -> Result<()> {
    for job in Job::ALL {
        let (key, when) = (job.key(), job.when(&loaded.config.schedule));
        if let Err(why) = when::parse(when) {
            let file = loaded.config.file.display();
            return Err(Fault::unknown(format!("{file}: schedule.{key} = \"{when}\": {why}"))
                .hint(
                    "five fields: minute, hour, day of the month, month, day of the week; empty: not at all",
                )
                .into());
        }
    }
    Ok(())
}
