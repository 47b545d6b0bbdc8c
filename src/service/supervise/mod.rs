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

use super::record::Record;
use super::{Liveness, Services, Started, ready, start};
use crate::base::durable::Lock;
use crate::base::process::Process;
use crate::base::{Fault, Home, Run};
use anyhow::Result;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the resident process is to do; it gets it as an argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The program `ops`, which starts and ends services, and does the jobs.
    pub ops: PathBuf,
    /// The agent's home.
    pub home: PathBuf,
    /// Its config, which is read again at each start.
    pub config: PathBuf,
    /// The services.
    pub services: Vec<Supervised>,
    /// They were named: one that its operator stopped is started all the same.
    pub named: bool,
    /// One that ends well is started again as well.
    pub always: bool,
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
}

/// A program of ours that runs from time to time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// Its name.
    pub name: String,
    /// When, as crontab(5) writes it.
    pub when: String,
    /// It runs once at the beginning, too.
    pub at_once: bool,
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

/// How long a start waits, beyond the service's own time to be ready, until the supervisor has taken it up.
const TAKEN_UP: Duration = Duration::from_secs(15);

/// The lock that a supervisor holds for a service. Others look at it for an instant only.
fn lock(home: &Home, name: &str, run: &Run, patience: Duration) -> Result<Lock> {
    Lock::take(home, &format!("supervise-{name}"), run, patience)
}

/// Who supervises a service now; none: nobody does.
pub(super) fn supervisor(services: &Services<'_>, name: &str) -> Option<String> {
    match lock(services.home, name, services.run, Duration::ZERO) {
        // Only a lock that is taken is a fault; what cannot be looked at is none.
        Err(error) if error.downcast_ref::<Fault>().is_some() => Some(error.to_string()),
        _ => None,
    }
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
    let status = services.status(name)?;
    start::refuse_double(name, &status.liveness)?;
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

/// Asks the supervisor of a service to start it, and waits until it is ready. The caller holds the lock of
/// the service.
pub(super) fn ask(services: &Services<'_>, name: &str) -> Result<Started> {
    let service = services.service(name)?;
    let (since, begun) = (Utc::now(), Instant::now());
    let mut record = Record::read(services.home, name);
    record.stopped_by_operator = None;
    record.refused = None;
    record.asked = Some(services.run.id.clone());
    record.write(services.home, name)?;
    let failed = |what: String| -> anyhow::Error {
        let (out, err) =
            (services.home.log(&format!("{name}_stdout")), services.home.log(&format!("{name}_stderr")));
        Fault::critical(what)
            .hint(format!(
                "look at logs/restart.log, {}, {}, and the output of `ops run`",
                services.home.show(&out),
                services.home.show(&err)
            ))
            .into()
    };
    let could_not = |why: String| failed(format!("the supervisor could not start {name}: {why}"));
    let mut new: Option<(Process, Instant)> = None;
    loop {
        let record = Record::read(services.home, name);
        if let Some((process, from)) = &new {
            let Some(now) = process.identity.find()? else {
                let why = record.refused.unwrap_or_else(|| "it ended at once".to_owned());
                return Err(could_not(why));
            };
            if ready::is_ready(service, &process.identity, since, *from) {
                return Ok(Started::New(now));
            }
            if from.elapsed() >= service.ready_timeout.0 {
                let (pid, time) = (process.identity.pid, service.ready_timeout);
                return Err(failed(format!("{name} runs as pid {pid} but is not ready after {time}")));
            }
        } else {
            if let Some(why) = &record.refused {
                return Err(could_not(why.clone()));
            }
            if record.asked.is_none() {
                let process = record.identity.as_ref().map(|identity| identity.find()).transpose()?.flatten();
                let process = process.ok_or_else(|| could_not("it ended at once".to_owned()))?;
                new = Some((process, Instant::now()));
                continue;
            }
            if begun.elapsed() >= TAKEN_UP {
                // Nothing is to come of it when nobody waits any more.
                Record { asked: None, ..record }.write(services.home, name)?;
                return Err(failed(format!("the supervisor of {name} did not start it within 15s")));
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
