//! Stopping: TERM, grace, and KILL only when told; afterwards nothing is left, or we say so.

use super::identify::{Claim, read_pid_file};
use super::manager::Definition;
use super::record::{Record, Stopping};
use super::tree::{self, Mark};
use super::{Liveness, Services, Status, ports};
use crate::base::notice::Notice;
use crate::base::process::{Identity, Process, Signal};
use crate::base::{Fault, durable, events, privilege};
use crate::config::Service;
use anyhow::{Context, Result};
use chrono::Utc;
use std::collections::BTreeSet;
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
    let before = record.clone();
    if status.stopped_by_operator.is_none() {
        // What its manager does now is by our word, not by its operator's.
        record.managed = false;
    }
    if remember && record.stopped_by_operator.is_none() {
        record.stopped_by_operator = Some(services.run.now);
        record.disabled = true;
    }
    if record != before {
        // Before the first signal: a recovery that looks in between must not undo it.
        record.write(services.home, name)?;
    }
    let (ended, untold) = match stop_by_manager(services, &status, remember) {
        Ok(ended) => (ended, None),
        Err(error) if force => (false, Some(error)),
        Err(error) if Fault::of(&error).1.is_some() => return Err(error),
        Err(error) => {
            return Err(Fault::critical(format!("{error:#}"))
                .hint("if that goes on: --force ends the service without it")
                .into());
        }
    };
    let stopped = end_service(services, service, &status, &record, ended, force)?;
    if status.process().is_some() {
        // Not before: one that goes on may still crash. Without it its next start counts as one.
        let _ = Record { ended: true, ..Record::read(services.home, name) }.write(services.home, name);
    }
    match untold {
        None => Ok(stopped),
        Some(error) => {
            Err(Fault::critical(format!("{name} is ended, but its manager may start it again: {error:#}"))
                .hint("run this again when the manager answers")
                .into())
        }
    }
}

/// Ends what there is of a service, of which its manager has `ended` the first process, or not.
fn end_service(
    services: &Services<'_>,
    service: &Service,
    before: &Status,
    record: &Record,
    ended: bool,
    force: bool,
) -> Result<bool> {
    let name = &*before.service;
    // Looked at again: it may not have been the manager's.
    let status = if ended { services.status(name)? } else { before.clone() };
    let mut known = Vec::new();
    let end_rest =
        |known: &[Identity], patience| end_all(|| own_tree(services, name, record, known), patience, force);
    let process = match status.liveness {
        Liveness::Running(process) => process,
        Liveness::Dead(_) | Liveness::Stranger { .. } => {
            let waiting =
                format!("what is left of {name} was told to stop; waiting up to {}", service.stop_grace);
            let _notice = Notice::begin(services.run, waiting);
            // One whose record and pid file are lost may be among them.
            let left = end_rest(&known, service.stop_grace.0)?;
            if let (Liveness::Dead(_), Some(Claim::Pid { pid, .. })) =
                (&status.liveness, service.pid_file.as_deref().map(read_pid_file))
            {
                drop_pid_file(service, pid)?;
            }
            if left || ended {
                check_ports(name, service)?;
                let what = if ended { "" } else { ", what was left of it" };
                log(services, &format!("{name}{what}"));
            }
            return Ok(left || ended);
        }
    };
    let pid = process.identity.pid;
    // Before the first signal, and again before the last: orphans do not tell whose they were.
    known.push(process.identity.clone());
    let mut note = || -> Result<()> {
        let own = own_tree(services, name, record, &known)?;
        known = own.into_iter().map(|process| process.identity).collect();
        Ok(())
    };
    note()?;
    let waiting = format!("{name} (pid {pid}) was told to stop; waiting up to {}", service.stop_grace);
    let _notice = Notice::begin(services.run, waiting);
    let stopping = Stopping { identity: process.identity.clone(), at: Utc::now() };
    note_stopping(services, name, Some(stopping));
    let signalled = process.identity.signal(Signal::TERM).map(drop);
    if signalled.is_err() {
        note_stopping(services, name, None);
    }
    signalled
        .map_err(|error| refused(&process.identity, error))
        .and_then(|()| end(&process.identity, service, force, &mut note))
        .with_context(|| format!("cannot stop {name}"))?;
    note_stopping(services, name, None);
    end_rest(&known, CHILDREN_GRACE)?;
    drop_pid_file(service, pid)?;
    check_ports(name, service)?;
    log(services, &format!("{name}, pid {pid}"));
    Ok(true)
}

/// Whoever looks meanwhile, or after a stop that took too long, is to know. Not noted, the stop goes on all the same.
fn note_stopping(services: &Services<'_>, name: &str, stopping: Option<Stopping>) {
    let _ = Record { stopping, ..Record::read(services.home, name) }.write(services.home, name);
}

/// Has its manager stop it, if it has one: else that would start it again. Whether this ended it.
fn stop_by_manager(services: &Services<'_>, status: &Status, remember: bool) -> Result<bool> {
    let Some(definition) = Definition::noted(services.home, &status.service)? else { return Ok(false) };
    let waiting = format!("{} was told to stop {}; waiting", definition.manager(), status.service);
    let _notice = Notice::begin(services.run, waiting);
    if definition.path.exists() {
        definition.stop(remember)?;
    } else if let Ok(Some(_)) = definition.pid() {
        // Its file is gone, but the manager still has it in mind.
        definition.stop(false)?;
    }
    Ok(status.process().is_some_and(|process| matches!(process.identity.find(), Ok(None))))
}

fn log(services: &Services<'_>, message: &str) {
    // A log that cannot be written does not undo the stop.
    let _ = events::append(services.home, "restart", services.run, "INFO", "Stopped", message);
}

/// After TERM: waits, KILL if told; `before_kill` is called just before that.
fn end(
    identity: &Identity,
    service: &Service,
    force: bool,
    before_kill: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    if gone(identity, service.stop_grace.0)? {
        return Ok(());
    }
    if !force {
        let message = format!("process {} still runs {} after TERM", identity.pid, service.stop_grace);
        return Err(Fault::critical(message).hint("it may be finishing its work; --force kills it").into());
    }
    before_kill()?;
    identity.signal(Signal::KILL)?;
    if gone(identity, KILL_GRACE)? {
        return Ok(());
    }
    Err(Fault::critical(format!("process {} does not end even when killed", identity.pid))
        .hint("it hangs in the kernel, likely on a disk or a network file system")
        .into())
}

/// Says what to do about a process that may not be signalled.
fn refused(identity: &Identity, error: anyhow::Error) -> anyhow::Error {
    let uid = Process::find(identity.pid).ok().flatten().map(|process| process.uid);
    match uid.filter(|&uid| uid != rustix::process::geteuid().as_raw()) {
        Some(uid) if let Some(acting) = privilege::acting() => {
            let whose = if uid == 0 { "root".to_owned() } else { format!("user {uid}") };
            Fault::critical(format!("{error:#} ({acting})"))
                .hint(format!("the process is {whose}'s: end it by kill {} as root", identity.pid))
                .into()
        }
        Some(0) => Fault::critical(format!("{error:#}")).hint("it runs as root: try sudo").into(),
        Some(uid) => Fault::critical(format!("{error:#}"))
            .hint(format!("it runs as the user {uid}: try as that one"))
            .into(),
        None => error,
    }
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

/// What there is of a service: what carries its mark, whichever run of it that was, those of `known`,
/// and what belongs to them. We, and what we run under, are left out.
fn own_tree(
    services: &Services<'_>,
    name: &str,
    record: &Record,
    known: &[Identity],
) -> Result<Vec<Process>> {
    let all = tree::look_around()?;
    let home = tree::home(services);
    let ours = |mark: &Mark| record.owns(mark, name, &home);
    let found = tree::belongings(
        &all,
        &record.identity.iter().map(|identity| identity.pid).collect(),
        |seen| seen.mark.as_ref().is_some_and(ours) || known.contains(&seen.process.identity),
        |seen| seen.mark.as_ref().is_some_and(|mark| !ours(mark)),
    );
    let spared = tree::lineage(&all, std::process::id());
    let own = |pid: u32| found.contains_key(&pid) && !spared.contains(&pid);
    Ok(all.into_iter().map(|seen| seen.process).filter(|process| own(process.identity.pid)).collect())
}

/// Ends what the last run of a dead service left in its session: it would be in the way of a new one.
/// What left the session on purpose is ended by a stop only.
pub(super) fn end_last_session(
    services: &Services<'_>,
    name: &str,
    record: &Record,
    force: bool,
) -> Result<()> {
    let Some(last) = &record.identity else { return Ok(()) };
    let look = || {
        let mut own = own_tree(services, name, record, &[])?;
        own.retain(|process| process.session == last.pid);
        Ok(own)
    };
    end_all(look, CHILDREN_GRACE, force).map(|_| ())
}

/// Ends all that a look finds, until it finds nothing: TERM, patience, and KILL if told. Whether there was any.
fn end_all(look: impl Fn() -> Result<Vec<Process>>, patience: Duration, force: bool) -> Result<bool> {
    let mut left = look()?;
    let any = !left.is_empty();
    let mut refused = None;
    for (signal, patience) in [(Signal::TERM, patience), (Signal::KILL, KILL_GRACE)] {
        if left.is_empty() || (signal == Signal::KILL && !force) {
            break;
        }
        let deadline = Instant::now() + patience;
        let mut told = BTreeSet::new();
        loop {
            for process in &left {
                if told.insert(process.identity.pid)
                    && let Err(error) = process.identity.signal(signal)
                {
                    // The others are to end all the same.
                    refused = Some(error);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            left.retain(|process| !matches!(process.identity.find(), Ok(None)));
            if left.is_empty() {
                // They may have had children meanwhile.
                left = look()?;
            }
            if left.is_empty() {
                return Ok(any);
            }
        }
        left = look()?;
    }
    if left.is_empty() {
        return Ok(any);
    }
    let pids: Vec<_> = left.iter().map(|process| process.identity.pid.to_string()).collect();
    let mut message = format!("children of it still run: pid {}", pids.join(", "));
    if let Some(error) = refused {
        message.push_str(&format!(" ({error:#})"));
    }
    let hint = match force {
        true => "another user's, or hanging in the kernel: `ops detect` says what they are",
        false => "`ops stop --force` kills them; `ops detect` says what they are",
    };
    Err(Fault::critical(message).hint(hint).into())
}

/// Whoever owns it: a pid file that names the process we just ended is of no use.
fn drop_pid_file(service: &Service, pid: u32) -> Result<()> {
    let Some(path) = &service.pid_file else { return Ok(()) };
    match read_pid_file(path) {
        Claim::Pid { pid: named, .. } if named == pid => durable::remove(path),
        _ => Ok(()),
    }
}

fn check_ports(name: &str, service: &Service) -> Result<()> {
    let deadline = Instant::now() + PORT_GRACE;
    let taken = loop {
        let Some(taken) = ports::taken(service) else { return Ok(()) };
        if Instant::now() >= deadline {
            break taken;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Err(Fault::critical(format!("{name} is stopped, but port {} is not free: {taken}", taken.port))
        .hint("`ops detect` says more of who has it")
        .into())
}
