//! What is known of the services in one run, besides what the checks found.

use super::look::Known;
use super::past::Past;
use super::{hung, recovery};
use crate::base::durable::Lock;
use crate::base::{Fault, Journal, State};
use crate::health;
use crate::service::{Services, Status};
use anyhow::Result;
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::time::Duration;

/// What of ours is at the whole home.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours {
    /// Something that asked for silence.
    pub maintenance: bool,
    /// An upgrade, or what one left: nothing is to be started by itself.
    pub upgrade: bool,
}

/// What is known of each service.
pub(super) fn know(
    services: Services<'_>,
    past: &Past,
    report: &health::Report,
    journal: &Journal,
    ours: Ours,
    dry: bool,
    notes: &mut Vec<String>,
) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    // Whether a restart was good is asked only as long as somebody waits to hear of it.
    let doubted = past.incidents.values().any(|incident| incident.closed.is_none() && incident.provisional);
    for name in services.config.service.keys() {
        match services.status(name) {
            Ok(status) => {
                let gone = status.process().is_none();
                let waits_for = if ours.upgrade {
                    Some(health::UPGRADE)
                } else {
                    let busy = ours.maintenance || (!dry && gone && is_busy(services, name));
                    busy.then_some("a start, stop or restore that is under way")
                };
                let supervised = services.supervised(name);
                let attempts = past.attempts.get(name).cloned().unwrap_or_default();
                let proven = !doubted || is_proven(services, name, &status);
                let hung = hangs(services, name, &status, report, journal, dry).unwrap_or_else(|error| {
                    notes.push(format!("cannot tell whether {name} hangs: {error:#}"));
                    None
                });
                known.insert(name.clone(), Known { status, attempts, waits_for, supervised, proven, hung });
            }
            Err(error) => notes.push(format!("cannot look at {name}: {error:#}")),
        }
    }
    known
}

/// Whether the process of a service has given a sign of life, as far as it gives any. After an hour
/// its own checks have said what there is to say.
fn is_proven(services: Services<'_>, name: &str, status: &Status) -> bool {
    let file = services.config.service.get(name).and_then(|service| service.status_file.as_ref());
    match (file, status.process()) {
        (Some(path), Some(process)) => {
            services.run.now - process.started > TimeDelta::hours(1) || recovery::beats(path, process)
        }
        _ => true,
    }
}

/// Why a service that is there is to be restarted, if it hangs and that is configured. The first look
/// that finds its heartbeat stale is remembered, and the later ones are held against it.
fn hangs(
    services: Services<'_>,
    name: &str,
    status: &Status,
    report: &health::Report,
    journal: &Journal,
    dry: bool,
) -> Result<Option<String>> {
    let Services { home, config, run } = services;
    let wanted = config.service.get(name).is_some_and(|service| service.recover_hung);
    let Some(process) = status.process().filter(|_| wanted) else { return Ok(None) };
    let of_it =
        |finding: &&health::Finding| finding.kind == "heartbeat" && finding.service.as_deref() == Some(name);
    let heartbeat = report.findings.iter().find(of_it);
    if heartbeat.is_some_and(|finding| finding.looked_at.is_some()) {
        // An answer of before: nothing new is known of its heart.
        return Ok(None);
    }
    let stale = heartbeat.is_some_and(|finding| finding.state == State::Critical);
    let before = hung::recall(journal, name);
    if !stale {
        if before.is_some() && !dry {
            hung::remember(journal, name, None)?;
        }
        return Ok(None);
    }
    let now = hung::gather(home, config, name, process, run.now)?;
    match hung::judge(stale, before.as_ref(), &now) {
        Ok(cause) => Ok(Some(cause)),
        Err(veto) => {
            if veto != hung::NOT_LONG_ENOUGH && !dry {
                hung::remember(journal, name, Some(&now))?;
            }
            Ok(None)
        }
    }
}

/// Whether a start, a stop or a restore of ours is at a service at this moment.
fn is_busy(services: Services<'_>, name: &str) -> bool {
    let held = |work: &str| {
        let lock = Lock::take(services.home, work, services.run, Duration::ZERO);
        lock.is_err_and(|error| error.downcast_ref::<Fault>().is_some())
    };
    // A restore stops the services and starts them again; in between none may be started.
    held(&format!("service-{name}"))
        || (services.home.has(&services.home.restore_journal()) && held("backup"))
}
