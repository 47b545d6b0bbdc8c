//! When cron runs what: one marked block in the user's crontab, and nothing else of it.

mod block;
mod crontab;
mod job;
mod when;

pub use block::{Jobs, Torn, install, uninstall};
pub use crontab::{Change, Installed, change, installed, note_installed, read};
pub use job::Job;
pub use when::{AT_BOOT, next};

use crate::base::Fault;
use crate::config::Loaded;
use anyhow::Result;
use std::path::Path;

/// The block of an agent: its jobs at the times of `[schedule]`, run by the program `ops` with
/// the config that was read.
///
/// # Errors
/// A [`Fault`] of state Unknown, for times that cron does not understand and for paths that
/// cannot be written into a crontab.
pub fn block(loaded: &Loaded, ops: &Path) -> Result<String> {
    check(loaded)?;
    let (config, schedule) = (&loaded.config.file, &loaded.config.schedule);
    let home = loaded.home.root();
    let (logs, log) = (loaded.home.logs(), loaded.home.log("cron"));
    let jobs = Jobs { agent: &loaded.config.agent.name, home, config, ops, logs: &logs, log: &log, schedule };
    jobs.render().map_err(|why| Fault::unknown(why).into())
}

/// Whether cron would understand every time of `[schedule]`.
///
/// # Errors
/// A [`Fault`] of state Unknown that names the key and what is wrong with it.
pub fn check(loaded: &Loaded) -> Result<()> {
    let (config, schedule) = (&loaded.config.file, &loaded.config.schedule);
    for job in Job::ALL {
        let (key, when) = (job.key(), job.when(schedule));
        if let Err(why) = when::check(when) {
            return Err(Fault::unknown(format!("{}: schedule.{key} = \"{when}\": {why}", config.display()))
                .hint(
                    "five fields: minute, hour, day of the month, month, day of the week; empty: not at all",
                )
                .into());
        }
    }
    Ok(())
}
