//! Linux: user ids belong to a thread. They are set before there is a second one, and every later one begins
//! with them.

use crate::base::beneath;
use crate::base::owner::Owner;
use anyhow::{Context, Result};
use rustix::process::{Gid, Pid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(super) fn open_place(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    Ok(File::from(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
}

/// Becomes a user; with `keep` root can be had again, else it is made sure that it cannot.
pub(super) fn take(owner: &Owner, keep: bool) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    // Of a user who is root's saved one: the groups can be set as root alone.
    if !geteuid().is_root() {
        set_thread_res_uid(None, Uid::ROOT, None)?;
    }
    alone()?;
    let mut groups: Vec<Gid> = owner.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    groups.sort_by_key(|gid| gid.as_raw());
    groups.dedup();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, if keep { Gid::ROOT } else { gid })?;
    set_thread_res_uid(uid, uid, if keep { Uid::ROOT } else { uid })?;
    let mut has = getgroups()?;
    has.sort_by_key(|gid| gid.as_raw());
    let is_taken = (getuid(), geteuid(), getgid(), getegid()) == (uid, uid, gid, gid) && has == groups;
    let regained = !keep
        && (set_thread_res_uid(None, Uid::ROOT, None).is_ok()
            || set_thread_res_gid(None, Gid::ROOT, None).is_ok());
    if !is_taken || regained {
        return Err(io::Error::other("the system did not let go of root"));
    }
    Ok(())
}

/// Waits for the end of threads that read what a program printed: a thread would stay root.
fn alone() -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    while std::fs::read_dir("/proc/self/task")?.count() > 1 {
        if Instant::now() >= deadline {
            return Err(io::Error::other("there is a second thread, which would stay root"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether this thread could be root again.
pub(super) fn keeps_root() -> bool {
    let status = beneath::read_small_text("/proc/thread-self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(2) == Some("0")
}

/// While this lives, this thread is root.
pub(super) struct Raised<'a>(&'a Owner);

impl Raised<'_> {
    pub(super) fn begin(owner: &Owner) -> io::Result<Raised<'_>> {
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
        let raised = Raised(owner);
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        set_thread_groups(&[Gid::ROOT])?;
        Ok(raised)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        let owner = self.0;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        let groups: Vec<Gid> = owner.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let back = set_thread_groups(&groups)
            .and_then(|()| set_thread_res_gid(gid, gid, Gid::ROOT))
            .and_then(|()| set_thread_res_uid(uid, uid, Uid::ROOT));
        if back.is_err() {
            // Nothing of that user is to be touched as root.
            std::process::abort();
        }
    }
}

/// Whether what we run could type into a terminal.
fn has_terminal() -> bool {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// Runs this program again, as the user that we are by now. On a terminal it gets a session of its own: what the
/// user's commands write to root's terminal must not be typed into root's shell (TIOCSTI).
pub(super) fn run_again(_: &Owner, environment: &[(OsString, OsString)]) -> Result<ExitCode> {
    let running = || "cannot run our own program";
    let mut again = super::again(environment)?;
    if std::process::id() == 1 || !has_terminal() {
        return Err(again.exec()).with_context(running);
    }
    let mut signals =
        signal_hook::iterator::Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH])?;
    let me = super::me()?;
    let mut session = std::process::Command::new(&me);
    session.arg(crate::base::session::WORD).arg(&me);
    session.args(again.get_args()).env_clear().envs(environment.iter().cloned());
    let mut child = session.spawn().with_context(running)?;
    for signal in signals.forever() {
        if let Some(status) = child.try_wait().with_context(running)? {
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(3)));
        }
        // Not waited for yet, so its number is its own.
        if signal != SIGCHLD
            && let Some(signal) = rustix::process::Signal::from_named_raw(signal)
        {
            let _ = rustix::process::kill_process(Pid::from_child(&child), signal);
        }
    }
    anyhow::bail!("no more signals")
}
