//! Processes on macOS, through sysinfo.
//!
//! There is no pidfd: a signal is sent after the identity was looked at again, so the window in
//! which the number could change hands is that of two system calls.

use super::{Identity, Listener, Process, Signal, Usage};
use chrono::DateTime;
use rustix::process::{Pid, kill_process};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Error, Result};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

/// Not told here without a library of its own: nobody is found.
pub(super) fn holders(_files: &BTreeSet<PathBuf>) -> Vec<(u32, PathBuf)> {
    Vec::new()
}

/// Nor is who listens at a port.
pub(super) fn listeners(_ports: &BTreeSet<u16>) -> Option<Vec<Listener>> {
    None
}

pub(super) fn memory() -> Option<(u64, u64)> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some((system.total_memory(), system.available_memory()))
}

/// Nor what a process waits for.
pub(super) fn waits(_pid: u32) -> Option<String> {
    None
}

/// There are no such groups.
pub(super) fn killed_for_memory(_pid: u32) -> Option<u64> {
    None
}

/// Orphans go to launchd, which waits for them.
pub(super) fn adopt_orphans() -> Result<()> {
    Ok(())
}

pub(super) fn is_of_this_boot(identity: &Identity) -> bool {
    System::boot_time().is_ok_and(|boot| identity.start >= boot)
}

fn look(which: ProcessesToUpdate<'_>, kind: ProcessRefreshKind) -> Result<System> {
    let mut system = System::new().map_err(Error::other)?;
    system.refresh_processes_specifics(which, true, kind);
    Ok(system)
}

fn describe(process: &sysinfo::Process) -> Process {
    let start = process.start_time();
    Process {
        identity: Identity { pid: process.pid().as_u32(), start, boot: String::new() },
        zombie: matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead),
        stopped: matches!(process.status(), ProcessStatus::Stop),
        session: process.session_id().map_or(0, |id| id.as_u32()),
        parent: process.parent().map_or(0, |id| id.as_u32()),
        uid: process.user_id().map_or(u32::MAX, |id| **id),
        started: DateTime::from_timestamp(start as i64, 0).unwrap_or_default(),
        rss: process.memory(),
        cpu: Duration::from_millis(process.accumulated_cpu_time()),
        threads: 1,
    }
}

fn usual() -> ProcessRefreshKind {
    ProcessRefreshKind::nothing().with_memory().with_cpu().with_user(UpdateKind::Always)
}

pub(super) fn find(pid: u32) -> Result<Option<Process>> {
    let id = sysinfo::Pid::from_u32(pid);
    Ok(look(ProcessesToUpdate::Some(&[id]), usual())?.process(id).map(describe))
}

pub(super) fn arguments(pid: u32) -> Vec<OsString> {
    let id = sysinfo::Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    look(ProcessesToUpdate::Some(&[id]), kind)
        .ok()
        .and_then(|system| system.process(id).map(|process| process.cmd().to_vec()))
        .unwrap_or_default()
}

pub(super) fn environment(pid: u32, name: &str) -> Option<OsString> {
    let id = sysinfo::Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
    let system = look(ProcessesToUpdate::Some(&[id]), kind).ok()?;
    let entries = system.process(id)?.environ();
    let prefix = format!("{name}=");
    let value = entries.iter().find_map(|entry| entry.as_bytes().strip_prefix(prefix.as_bytes()))?;
    Some(OsString::from_vec(value.to_vec()))
}

pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    let id = sysinfo::Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always);
    look(ProcessesToUpdate::Some(&[id]), kind).ok()?.process(id)?.cwd().map(PathBuf::from)
}

pub(super) fn signal(identity: &Identity, signal: Signal) -> Result<bool> {
    let Some(pid) = Pid::from_raw(identity.pid as i32) else { return Ok(false) };
    match find(identity.pid)? {
        Some(process) if process.identity == *identity && process.alive() => {}
        _ => return Ok(false),
    }
    match kill_process(pid, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn usage(pid: u32) -> Usage {
    let id = sysinfo::Pid::from_u32(pid);
    let Ok(system) = look(ProcessesToUpdate::Some(&[id]), ProcessRefreshKind::nothing()) else {
        return Usage::default();
    };
    let process = system.process(id);
    Usage {
        fds: process.and_then(|process| process.open_files()).map(|open| open as u64),
        fds_limit: process.and_then(|process| process.open_files_limit()).map(|limit| limit as u64),
        maps: None,
        maps_limit: None,
    }
}

pub(super) fn all() -> Result<Vec<Process>> {
    Ok(look(ProcessesToUpdate::All, usual())?.processes().values().map(describe).collect())
}
