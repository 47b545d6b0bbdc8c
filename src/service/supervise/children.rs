//! The children of the supervisor: every one of them, and every orphan, is waited for in one place.

use crate::base::process::Signal;
use anyhow::{Context, Result};
use rustix::process::{Pid, WaitOptions, kill_process, wait};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// Every child that has ended since, and every orphan that was left to us.
pub(super) fn ended() -> Vec<(u32, ExitStatus)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        ended.push((pid.as_raw_nonzero().get().unsigned_abs(), ExitStatus::from_raw(status.as_raw())));
    }
    ended
}

/// Nobody waits for it but [`ended`].
pub(super) fn spawn(command: &mut Command) -> Result<u32> {
    let child = command.spawn().context("cannot start our own program")?;
    Ok(child.id())
}

/// To a child of ours that was not waited for: its number is still its own.
pub(super) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
