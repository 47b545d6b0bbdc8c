//! The programs between the supervisor and a service: one becomes the service, one ends it.

use crate::base::durable::Lock;
use crate::base::maintenance::Maintenance;
use crate::base::{Fault, Home, Journal, events, upgrade};
use crate::service::exec::{self, By};
use crate::service::record::Record;
use crate::service::{Liveness, Services, double, start, stop};
use anyhow::Result;
use rusqlite::params;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a service is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Supervision begins.
    First,
    /// It was named when supervision began: its operator's stop is over.
    Named,
    /// Its operator, or a program of ours, asked for it and waits.
    Asked,
    /// It ended well, or was stopped for a while.
    Again,
    /// It crashed: how it ended.
    Crashed(String),
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::First => f.write_str("first"),
            How::Named => f.write_str("named"),
            How::Asked => f.write_str("asked"),
            How::Again => f.write_str("again"),
            How::Crashed(how) => write!(f, "crashed:{how}"),
        }
    }
}

impl FromStr for How {
    type Err = String;

    fn from_str(text: &str) -> Result<How, String> {
        Ok(match text {
            "first" => How::First,
            "named" => How::Named,
            "asked" => How::Asked,
            "again" => How::Again,
            text => match text.strip_prefix("crashed:") {
                Some(how) => How::Crashed(how.to_owned()),
                None => return Err(format!("'{text}' is no reason to start a service")),
            },
        })
    }
}

/// Why a service was not started now, as the exit code that the supervisor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launched {
    /// Something of ours is at it: later.
    Busy = 75,
    /// Its operator stopped it.
    Stopped = 76,
}

/// Becomes the service: with its pid, in a session of its own. Returns only when it may not now.
///
/// # Errors
/// When it could not be started; whoever asked for it is told by the record.
pub fn launch(services: &Services<'_>, name: &str, how: &How, inherit: bool) -> Result<Launched> {
    let failed = match attempt(services, name, how, inherit) {
        Ok(launched) => return Ok(launched),
        Err(error) => error,
    };
    if *how == How::Asked {
        let mut record = Record::read(services.home, name);
        record.asked = None;
        record.refused = Some(format!("{failed:#}"));
        // Whoever asked sees at least that nothing came of it.
        let _ = record.write(services.home, name);
    }
    // The supervisor tells the same to whoever reads its output.
    let message = format!("{name}: {failed:#}");
    let _ = events::append(services.home, "restart", services.run, "ERROR", "Start failed", &message);
    Err(failed)
}

fn attempt(services: &Services<'_>, name: &str, how: &How, inherit: bool) -> Result<Launched> {
    let service = services.service(name)?;
    // Whoever asked holds the lock, and waits for us.
    let _lock = match how {
        How::Asked => None,
        // Nor is code started by itself that may be half new.
        _ if is_under_way(services.home, name) || upgrade::holds(services.home) => return Ok(Launched::Busy),
        _ => match Lock::take(services.home, &format!("service-{name}"), services.run, Duration::ZERO) {
            Ok(lock) => Some(lock),
            Err(error) if error.downcast_ref::<Fault>().is_some() => return Ok(Launched::Busy),
            Err(error) => return Err(error),
        },
    };
    let mut record = Record::read(services.home, name);
    if record.stopped_by_operator.is_some() && *how != How::Named {
        return Ok(Launched::Stopped);
    }
    let status = services.status(name)?;
    double::refuse(services, name, &status.liveness)?;
    if let Liveness::Running(_) = status.liveness {
        if !matches!(how, How::First | How::Named) {
            // Somebody started it by hand meanwhile.
            return Ok(Launched::Busy);
        }
        // Of a supervisor that was killed: nobody can wait for it but its parent.
        stop::stop(services, name, true, false)?;
        record = Record::read(services.home, name);
    }
    start::clear_the_way(services, service, name, &record, true)?;
    let logs = (!inherit).then(|| start::Logs::open(services.home, &services.output(name))).transpose()?;
    if let How::Crashed(cause) = how {
        // It is restarted all the same: the agent matters more than its history.
        let _ = count(services, name, cause);
    }
    // The lock goes with the program that we are.
    match exec::become_it(services, service, name, By::Supervisor, logs.as_ref())? {}
}

/// Counts a restart as recovery does: both keep to the same limit.
fn count(services: &Services<'_>, name: &str, cause: &str) -> Result<()> {
    let run = services.run;
    Journal::open(services.home)?.connection().execute(
        "INSERT INTO restarts(run, at, service, cause, pid, good) VALUES(?1, ?2, ?3, ?4, ?5, 1)",
        params![run.id, run.now.timestamp_millis(), name, format!("died: {cause}"), std::process::id()],
    )?;
    Ok(())
}

/// Whether something of ours is at a service, or at the whole home: then an end is no crash, and nothing is
/// started behind its back.
pub(super) fn is_under_way(home: &Home, name: &str) -> bool {
    Lock::holder(home, &format!("service-{name}")).is_some()
        || home.has(&home.restore_journal())
        || Maintenance::now(home, chrono::Utc::now()).is_some()
        || upgrade::under_way(home).is_ok_and(|note| note.is_some())
}

/// Ends a service with all that belongs to it, killed if it must be: supervision ends.
///
/// # Errors
/// When something of it is left.
pub fn end(services: &Services<'_>, name: &str) -> Result<()> {
    services.stop(name, true, false).map(drop)
}
