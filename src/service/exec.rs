//! Becoming a service: what a manager runs as its child.

use super::start::{self, drop_stale_pid_file};
use super::tree::Mark;
use super::{Liveness, Services};
use crate::base::process::Process;
use crate::base::{Fault, events};
use crate::config;
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes the service, and returns only where that cannot be, or must not: with the process as
/// which it runs already.
pub(super) fn exec(services: &Services<'_>, name: &str) -> Result<Process> {
    let service = services.service(name)?;
    match services.status(name)?.liveness {
        Liveness::Running(process) => return Ok(process),
        Liveness::Stranger { pid, command, resembles: true } => {
            let message = format!("{name} may run already: its pid file names {pid}, which is '{command}'");
            return Err(Fault::unknown(message).hint("if it does not, remove the pid file").into());
        }
        Liveness::Stranger { .. } | Liveness::Dead(_) => {}
    }
    drop_stale_pid_file(services, service)?;
    // A session of its own, as when we start it ourselves. Refused to one that has it already.
    let _ = rustix::process::setsid();
    let me = Process::find(std::process::id())?.context("this very process cannot be found")?;
    let pid = me.identity.pid;
    start::note(services, service, name, me.identity)?;
    let message = format!("{name} as pid {pid}, by its manager");
    // The service is what matters: a log that cannot be written does not keep it from starting.
    let _ = events::append(services.home, "restart", services.run, "INFO", "Started", &message);

    let words = services.command(service);
    let (program, arguments) = words.split_first().context("the service has no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    start::dress(services, service, &Mark::new(services, name), &mut command)?;
    let error = command.exec();
    let mut fault =
        Fault::critical(format!("cannot run {program} in {} as {name}: {error}", service.cwd.display()));
    if error.kind() == std::io::ErrorKind::NotFound {
        fault = fault.hint(format!("is it installed? See [service.{name}] command in {}", {
            let file: &config::Config = services.config;
            file.file.display()
        }));
    }
    Err(fault.into())
}
