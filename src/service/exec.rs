//! Becoming a service: what a manager runs as its child.

use super::manager::asked;
use super::record::Record;
use super::start::{self, Logs, drop_stale_pid_file};
use super::tree::Mark;
use super::{Liveness, Services, double};
use crate::base::process::Process;
use crate::base::{Fault, events, session};
use crate::config::Service;
use anyhow::{Context, Result};
use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes the service, and returns only where that cannot be, or must not: with the process as
/// which it runs already.
pub(super) fn exec(services: &Services<'_>, name: &str) -> Result<Process> {
    let service = services.service(name)?;
    let status = services.status(name)?;
    double::refuse(services, name, &status.liveness)?;
    if let Liveness::Running(process) = status.liveness {
        return Ok(process);
    }
    drop_stale_pid_file(service)?;
    match become_it(services, service, name, By::Manager, None)? {}
}

/// Whose child we are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Manager,
    Supervisor,
}

/// Notes who the service is from now on, and becomes it.
pub(super) fn become_it(
    services: &Services<'_>,
    service: &Service,
    name: &str,
    by: By,
    logs: Option<&Logs>,
) -> Result<Infallible> {
    // A session of its own, as when we start it ourselves. Refused to one that has it already.
    let _ = rustix::process::setsid();
    let me = Process::find(std::process::id())?.context("this very process cannot be found")?;
    let pid = me.identity.pid;
    if by == By::Manager {
        asked::forget(services.home, name);
    }
    let record = Record {
        supervised: by == By::Supervisor,
        managed: by == By::Manager,
        disabled: by == By::Manager && Record::read(services.home, name).disabled,
        ..Record::of(services, name, me.identity)
    };
    start::note(services, service, name, record)?;
    let by = if by == By::Supervisor { "supervised" } else { "by its manager" };
    // The service is what matters: a log that cannot be written does not keep it from starting.
    let message = format!("{name} as pid {pid}, {by}");
    let _ = events::append(services.home, "restart", services.run, "INFO", "Started", &message);

    let words = services.command(service);
    let (program, arguments) = words.split_first().context("the service has no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    start::dress(services, service, &Mark::new(services, name), &mut command)?;
    if let Some(logs) = logs {
        logs.attach(&mut command)?;
    }
    session::heed_signals();
    let error = command.exec();
    let mut fault =
        Fault::critical(format!("cannot run {program} in {} as {name}: {error}", service.cwd.display()));
    if error.kind() == std::io::ErrorKind::NotFound {
        fault = fault.hint(format!(
            "is it installed? See [service.{name}] command in {}",
            services.config.file.display()
        ));
    }
    Err(fault.into())
}
