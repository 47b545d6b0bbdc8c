//! Stopping: TERM, grace, and KILL only when told; afterwards nothing is left, or we say so.

use super::identify::{Claim, leftovers, read_pid_file};
use super::record::Record;
use super::{Liveness, Services, taken_port};
use crate::base::process::{Identity, Process, Signal};
use crate::base::{Fault, events};
use crate::config::Service;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How long children may take to follow their parent.
const CHILDREN_GRACE: Duration = Duration::from_secs(2);

/// How long the threads of a process that has ended may hold on to its ports.
const PORT_GRACE: Duration = Duration::from_secs(2);

/// How long the kernel may take to end what was killed.
const KILL_GRACE: Duration = Duration::from_secs(5);

pub(super) fn stop(services: &Services<'_>, name: &str, force: bool, remember: bool) -> Result<bool> {
    let service = services.service(name)?;
    let mut record = Record::read(services.home, name);
    let status = services.status(name)?;
    if remember && record.stopped_by_operator.is_none() {
        // Before the first signal: a recovery that looks in between must not undo it.
        record.stopped_by_operator = Some(services.run.now);
        record.write(services.home, name)?;
    }
    let process = match status.liveness {
        Liveness::Running(process) => process,
        Liveness::Dead(_) => {
            end_leftovers(&record, force)?;
            if let Some(Claim::Pid { pid, .. }) = service.pid_file.as_deref().map(read_pid_file) {
                drop_pid_file(service, pid)?;
            }
            return Ok(false);
        }
        Liveness::Stranger { .. } => {
            end_leftovers(&record, force)?;
            return Ok(false);
        }
    };
    let pid = process.identity.pid;
    end(&process.identity, service, force).with_context(|| format!("cannot stop {name}"))?;
    if record.identity.as_ref() != Some(&process.identity) {
        // Not started by us: there is no mark to know its children by.
        record.identity = None;
    }
    end_leftovers(&record, force)?;
    drop_pid_file(service, pid)?;
    check_ports(name, service)?;
    let _ = events::append(
        services.home,
        "restart",
        services.run,
        "INFO",
        "Stopped",
        &format!("{name}, pid {pid}"),
    );
    Ok(true)
}

/// TERM, wait, KILL if told.
fn end(identity: &Identity, service: &Service, force: bool) -> Result<()> {
    identity.signal(Signal::TERM)?;
    if gone(identity, service.stop_grace.0)? {
        return Ok(());
    }
    if !force {
        let message = format!("process {} still runs {} after TERM", identity.pid, service.stop_grace);
        return Err(Fault::critical(message).hint("it may be finishing its work; --force kills it").into());
    }
    identity.signal(Signal::KILL)?;
    if gone(identity, KILL_GRACE)? {
        return Ok(());
    }
    Err(Fault::critical(format!("process {} does not end even when killed", identity.pid))
        .hint("it hangs in the kernel, likely on a disk or a network file system")
        .into())
}

fn gone(identity: &Identity, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while identity.find()?.is_some() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

/// Ends what a dead service left of its session: TERM, and KILL if told.
pub(super) fn end_leftovers(record: &Record, force: bool) -> Result<()> {
    let patience = |deadline: Duration| -> Result<Vec<Process>> {
        let deadline = Instant::now() + deadline;
        loop {
            let left = leftovers(record)?;
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let signal = |left: &[Process], signal: Signal| -> Result<()> {
        left.iter().try_for_each(|process| process.identity.signal(signal).map(|_| ()))
    };
    let mut left = leftovers(record)?;
    if left.is_empty() {
        return Ok(());
    }
    signal(&left, Signal::TERM)?;
    left = patience(CHILDREN_GRACE)?;
    if force && !left.is_empty() {
        signal(&left, Signal::KILL)?;
        left = patience(KILL_GRACE)?;
    }
    if left.is_empty() {
        return Ok(());
    }
    let pids: Vec<_> = left.iter().map(|process| process.identity.pid.to_string()).collect();
    Err(Fault::critical(format!("children of it still run: pid {}", pids.join(", ")))
        .hint("ops stop --force kills them")
        .into())
}

/// Whoever owns it: a pid file that names the process we just ended is of no use.
fn drop_pid_file(service: &Service, pid: u32) -> Result<()> {
    let Some(path) = &service.pid_file else { return Ok(()) };
    match read_pid_file(path) {
        Claim::Pid { pid: named, .. } if named == pid => match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_ports(name: &str, service: &Service) -> Result<()> {
    let deadline = Instant::now() + PORT_GRACE;
    let (port, error) = loop {
        let Some(taken) = taken_port(service) else { return Ok(()) };
        if Instant::now() >= deadline {
            break taken;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Err(Fault::critical(format!("{name} is stopped, but port {port} is not free: {error}"))
        .hint(format!("`ss -ltnp sport = :{port}` says who has it"))
        .into())
}
