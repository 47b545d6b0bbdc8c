//! What may be a service already, so that none is started beside it.

use super::fit::{Fit, Wanted};
use super::identify::describe;
use super::record::Record;
use super::{Liveness, Services, tree};
use crate::base::Fault;
use crate::base::process::{Identity, Process};
use anyhow::Result;

/// Starts none beside what may be the service already.
pub(super) fn refuse(services: &Services<'_>, name: &str, liveness: &Liveness) -> Result<()> {
    match liveness {
        Liveness::Running(_) => Ok(()),
        _ => refuse_beside(services, name, liveness),
    }
}

/// [`refuse`], also where the service runs: before it is stopped only to be started again.
pub(super) fn refuse_beside(services: &Services<'_>, name: &str, liveness: &Liveness) -> Result<()> {
    let service = services.service(name)?;
    match liveness {
        Liveness::Stranger { pid, command, resembles: true } => {
            let message = format!("{name} may run already: its pid file names {pid}, which is '{command}'");
            let hint = "if it is, stop it first; if it is not, remove the pid file and start again";
            return Err(Fault::unknown(message).hint(hint).into());
        }
        Liveness::Stranger { .. } | Liveness::Dead(_) | Liveness::Running(_) => {}
    }
    let running = match liveness {
        Liveness::Running(process) => Some(process),
        _ => None,
    };
    let Some(double) = find(services, name, running)? else { return Ok(()) };
    let pid = double.process.identity.pid;
    let told = double.told();
    let (message, hint) = match (&service.pid_file, double.marked) {
        (_, true) => (
            format!("{told}: of an earlier start of it, which is noted no more"),
            format!("`ops stop {name}` ends it"),
        ),
        (Some(path), false) => (
            format!("{told}, and was not started by ops"),
            format!(
                "`kill {pid}` and start again; or `echo {pid} > {}` to have it taken for {name} as it runs",
                path.display()
            ),
        ),
        (None, false) => (
            format!("{told}, and was not started by ops"),
            format!("`kill {pid}`, and start again; `ops detect` says more of it"),
        ),
    };
    Err(Fault::unknown(format!("{name} may run already: {message}")).hint(hint).into())
}

/// Who may be a service that is taken to be dead, as a clause.
pub(super) fn described(services: &Services<'_>, name: &str) -> Option<String> {
    find(services, name, None).ok().flatten().filter(|double| !double.marked).map(|double| double.told())
}

/// A process that may be the service.
struct Double {
    process: Process,
    fit: Fit,
    /// By its mark it is.
    marked: bool,
}

impl Double {
    fn told(&self) -> String {
        let how = match self.fit {
            Fit::Whole => "",
            Fit::Behind => " behind other words",
            _ => " but for the options",
        };
        format!(
            "process {} ('{}') has its command line{how}",
            self.process.identity.pid,
            describe(&self.process)
        )
    }
}

/// Of a service that runs, what is in its session is its own.
fn find(services: &Services<'_>, name: &str, running: Option<&Process>) -> Result<Option<Double>> {
    let all = tree::look_around()?;
    let lineage = tree::lineage(&all, std::process::id());
    let (home, record) = (tree::home(services), Record::read(services.home, name));
    let wanted = Wanted::of(services, name)?;
    let mut others = Vec::new();
    for other in services.config.service.keys().filter(|other| *other != name) {
        others.push(Wanted::of(services, other)?);
    }
    let mut found: Option<Double> = None;
    for seen in all {
        let process = seen.process;
        let of_last_run = |last: &Identity| process.session == last.pid;
        let possible = match &seen.mark {
            // What is left of a run that is noted is dealt with as such.
            Some(mark) => record.identity.is_none() && record.owns(mark, name, &home),
            None => !record.identity.as_ref().is_some_and(of_last_run),
        };
        let own = running.is_some_and(|own| {
            [process.identity.pid, process.parent].contains(&own.identity.pid)
                || process.session == own.session
        });
        if !possible || own || lineage.contains(&process.identity.pid) {
            continue;
        }
        let arguments = process.arguments();
        let look = wanted.look(&process, &arguments);
        let better = |other: &Wanted| other.look(&process, &arguments).fit > look.fit;
        if !look.may_be()
            || found.as_ref().is_some_and(|found| found.fit >= look.fit)
            || others.iter().any(better)
        {
            continue;
        }
        found = Some(Double { process, fit: look.fit, marked: seen.mark.is_some() });
    }
    Ok(found)
}
