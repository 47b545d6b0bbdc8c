//! Supervision in the foreground, `ops run`: for containers, and wherever nobody else stands behind the
//! agent.
//!
//! The process that stays ([`resident`]) knows names, pauses and locks, and nothing else: it reads no
//! config, opens no journal, and waits in one system call. All other work is done by short-lived programs
//! of ours: one that becomes the service ([`launch`]), and one that ends it ([`end`]).
//!
//! As long as it lives it holds a lock for each of its services. Whoever else would start one asks it to,
//! by a word in the service's record.

mod children;
mod ears;
mod ending;
mod jobs;
mod launch;
mod law;
mod resident;

pub use jobs::NextTime;
pub use launch::{How, Launched, end, launch};
pub use resident::resident;

use super::manager::Definition;
use super::record::Record;
use super::start::Look;
use super::{Liveness, Services, double};
use crate::base::durable::Lock;
use crate::base::{Fault, Home};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What the resident process is to do; it gets it as an argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The program `ops`, which starts and ends services, and does the jobs.
    #[serde(with = "crate::base::name::path")]
    pub ops: PathBuf,
    /// The agent's home.
    pub home: Home,
    /// Its config, which is read again at each start.
    #[serde(with = "crate::base::name::path")]
    pub config: PathBuf,
    /// The services.
    pub services: Vec<Supervised>,
    /// They were named: one that its operator stopped is started all the same.
    pub named: bool,
    /// Services write to our own output, not to their logs.
    pub inherit: bool,
    /// Events are told in the log only.
    pub quiet: bool,
    /// What else it runs, and when.
    pub jobs: Vec<Timed>,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Supervised {
    /// Its name.
    pub name: String,
    /// How long it may take to stop.
    pub grace: Duration,
    /// More crashes than this within an hour, and it is given up.
    pub most: usize,
    /// One that ends well is started again as well.
    pub always: bool,
    /// What it ends well with, besides 0.
    pub success: Vec<u8>,
}

/// A program of ours that runs from time to time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// Its name.
    pub name: String,
    /// When, as crontab(5) writes it.
    pub when: String,
    /// It runs once at the beginning.
    pub at_once: bool,
    /// So many seconds later.
    pub delay: u64,
    /// Its arguments.
    pub words: Vec<String>,
}

/// The secret words of our programs, each the first argument: the one that stays, with its [`Plan`]; the one
/// that becomes a service, with home, config, name, reason and perhaps `inherit`; the one that ends a
/// service, with home, config and name.
pub const RESIDENT: &str = "__supervise";
/// See [`RESIDENT`].
pub const LAUNCH: &str = "__launch";
/// See [`RESIDENT`].
pub const END: &str = "__end";

/// The lock that a supervisor holds for a service.
fn lock_name(name: &str) -> String {
    format!("supervise-{name}")
}

/// Who supervises a service now; none: nobody does.
pub(super) fn supervisor(services: &Services<'_>, name: &str) -> Option<String> {
    Lock::holder(services.home, &lock_name(name))
}

/// Whether a service may be started by us, before any supervisor does: it does not run, or what runs is
/// left of an earlier one that died.
///
/// # Errors
/// A [`Fault`] of state Unknown when somebody supervises it, or it runs by itself.
pub(super) fn may_supervise(services: &Services<'_>, name: &str) -> Result<()> {
    if let Some(who) = supervisor(services, name) {
        return Err(Fault::unknown(format!("{name} is supervised already: {who}"))
            .hint(format!("`ops stop {name}`, `ops start {name}` and `ops restart {name}` reach it there"))
            .into());
    }
    if let Some(definition) = Definition::installed(services.home, name)? {
        return Err(Fault::unknown(format!("{name} is with {}, which starts it", definition.manager()))
            .hint("`ops uninstall` takes it away from there")
            .into());
    }
    let status = services.status(name)?;
    double::refuse(services, name, &status.liveness)?;
    match status.liveness {
        Liveness::Running(process) if !Record::read(services.home, name).supervised => {
            let pid = process.identity.pid;
            Err(Fault::unknown(format!("{name} runs already as pid {pid}, started by something else"))
                .hint(format!("`ops stop {name}` first, then `ops run {name}`"))
                .into())
        }
        _ => Ok(()),
    }
}

/// Asks the supervisor of a service to start it. The caller holds the lock of the service, and looks what
/// becomes of it.
pub(super) fn ask(services: &Services<'_>, name: &str) -> Result<()> {
    let mut record = Record::read(services.home, name);
    record.stopped_by_operator = None;
    record.refused = None;
    record.asked = Some(services.run.id.clone());
    record.write(services.home, name)
}

/// What became of what was asked.
pub(super) fn look(services: &Services<'_>, name: &str) -> Result<Look> {
    let record = Record::read(services.home, name);
    if let Some(why) = record.refused {
        return Ok(Look::Ended(why));
    }
    if record.asked.is_some() {
        return Ok(Look::NotYet);
    }
    let process = record.identity.map(|identity| identity.find()).transpose()?.flatten();
    Ok(process.map_or_else(|| Look::Ended("it ended at once".to_owned()), Look::Runs))
}

/// Takes it back: nothing is to come of it when nobody waits any more.
pub(super) fn take_back(services: &Services<'_>, name: &str) -> Result<()> {
    let record = Record::read(services.home, name);
    if record.asked.is_none() {
        return Ok(());
    }
    Record { asked: None, ..record }.write(services.home, name)
}
