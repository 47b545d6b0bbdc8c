//! Processes: who is behind a pid, signals that reach only that one, and programs run with a
//! deadline.
//!
//! A pid is a claim: it may be of a process long dead, or of another that got the number since.
//! An [`Identity`] is a pid together with what no later process can share.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod platform;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
pub use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// A process that can be told from any other, before and after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The number.
    pub pid: u32,
    /// When it started, in a unit of the platform (clock ticks since boot on Linux, seconds
    /// since 1970 on macOS).
    pub start: u64,
    /// The boot in which that start counts.
    pub boot: String,
}

impl Identity {
    /// Whether it is, or was, a process of the time since the machine was booted.
    pub fn is_of_this_boot(&self) -> bool {
        platform::is_of_this_boot(self)
    }
}

/// What the system tells of one process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Who it is.
    pub identity: Identity,
    /// Dead, but not yet waited for by its parent: it runs no more.
    pub zombie: bool,
    /// Stopped by a signal (SIGSTOP, a debugger).
    pub stopped: bool,
    /// Its session: ours are started in one of their own.
    pub session: u32,
    /// The pid of its parent; that of whoever took it over, once its own parent ended.
    pub parent: u32,
    /// The owner's user id.
    pub uid: u32,
    /// When it started.
    pub started: DateTime<Utc>,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Processor time used so far (user and system).
    pub cpu: Duration,
    /// Threads.
    pub threads: u32,
}

#[cfg(test)]
impl Process {
    /// One for tests of what is judged by its values: alive, and of no interest.
    pub(crate) fn example(started: DateTime<Utc>) -> Process {
        Process {
            identity: Identity { pid: 42, start: 1, boot: String::new() },
            zombie: false,
            stopped: false,
            session: 42,
            parent: 1,
            uid: 0,
            started,
            rss: 1,
            cpu: Duration::ZERO,
            threads: 1,
        }
    }
}

impl Process {
    /// The process that has this pid now, or none.
    pub fn find(pid: u32) -> Result<Option<Process>> {
        platform::find(pid).with_context(|| format!("cannot look at process {pid}"))
    }

    /// Its arguments as they stand now; empty for a zombie or a kernel thread.
    pub fn arguments(&self) -> Vec<OsString> {
        platform::arguments(self.identity.pid)
    }

    /// A variable of the environment that it was started with. None as well when the environment may
    /// not be read, or the process wrote something else in its place.
    pub fn environment(&self, name: &str) -> Option<OsString> {
        platform::environment(self.identity.pid, name)
    }

    /// The folder that it is in now, as we can look at it. None: it may not be looked at.
    pub fn folder(&self) -> Option<PathBuf> {
        platform::folder(self.identity.pid)
    }

    /// What else it takes of the machine; none is what this platform, or its owner, does not tell.
    pub fn usage(&self) -> Usage {
        platform::usage(self.identity.pid)
    }

    /// What it waits for, as far as the system tells: a clause.
    pub fn waits(&self) -> Option<String> {
        platform::waits(self.identity.pid)
    }

    /// How many processes were killed for want of memory in the group that it lives in, ever.
    pub fn killed_for_memory(&self) -> Option<u64> {
        platform::killed_for_memory(self.identity.pid)
    }

    /// Whether it runs: a zombie does not.
    pub fn alive(&self) -> bool {
        !self.zombie
    }
}

/// What a process takes, beyond memory and time, and how much of it it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open files, sockets and pipes.
    pub fds: Option<u64>,
    /// The most it may have open.
    pub fds_limit: Option<u64>,
    /// Memory mappings.
    pub maps: Option<u64>,
    /// The most that a process may have.
    pub maps_limit: Option<u64>,
}

impl Identity {
    /// The live process of this identity; none if it ended, even if its number lives on.
    pub fn find(&self) -> Result<Option<Process>> {
        Ok(Process::find(self.pid)?.filter(|process| process.identity == *self && process.alive()))
    }

    /// Sends a signal to this process and to no other. False: it had already ended.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        platform::signal(self, signal).with_context(|| format!("cannot signal process {}", self.pid))
    }
}

/// Memory of this machine, and how much of it could be had now, in bytes.
pub fn memory() -> Option<(u64, u64)> {
    platform::memory()
}

/// Has whatever our children leave behind become our own children, to be waited for, where the system can
/// do that (Linux).
pub fn adopt_orphans() -> Result<()> {
    platform::adopt_orphans().context("cannot adopt orphans")
}

/// Every process that can be seen.
pub fn all() -> Result<Vec<Process>> {
    platform::all().context("cannot list the processes")
}

/// Who has any of these files open, as far as can be told (on Linux: by `/proc/PID/fd`). The
/// paths are to be canonical.
pub fn holders(files: &BTreeSet<PathBuf>) -> Vec<(u32, PathBuf)> {
    platform::holders(files)
}

/// Who waits for connections at a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// The process; none: one that we may not look at.
    pub pid: Option<u32>,
}

/// Who listens on any of these ports, at whatever address. None: this platform does not tell.
pub fn listeners(ports: &BTreeSet<u16>) -> Option<Vec<Listener>> {
    platform::listeners(ports)
}

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed, 1 MiB at most.
    pub stdout: Vec<u8>,
    /// What it complained of, 1 MiB at most.
    pub stderr: Vec<u8>,
}

/// Runs a program in a process group of its own and ends the whole group at the deadline; what of it
/// still runs when the program itself is done, then.
///
/// # Errors
/// When it cannot be started, or is not done within `limit`.
pub fn run(mut command: Command, input: Option<&[u8]>, limit: Duration) -> Result<Output> {
    const MOST: usize = 1 << 20;
    let name = command.get_program().to_string_lossy().into_owned();
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let group = rustix::process::Pid::from_child(&child);
    let _running = Running::note(group);
    let deadline = Instant::now() + limit;

    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        let input = input.to_vec();
        // A program that does not read its input must not hold us up.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let collect = |pipe: Option<Box<dyn Read + Send>>| {
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let (mut buffer, mut taken) = ([0; 8192], 0);
            // What is too much is read all the same: a pipe that is closed would end the program.
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let part = &buffer[..count.min(MOST - taken)];
                taken += part.len();
                if !part.is_empty() && send.send(part.to_vec()).is_err() {
                    break;
                }
            }
        });
        receive
    };
    let stdout = collect(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = collect(child.stderr.take().map(|pipe| Box::new(pipe) as _));

    let done = loop {
        if has_ended(group).with_context(|| format!("cannot wait for {name}"))? {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // The child has not been waited for, so its group number is still its own.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    if !done {
        anyhow::bail!("{name} was not done within {}", super::units::Span(limit));
    }
    // One that left the group may hold the pipes open for longer: what was said is in them by now.
    let now = Instant::now();
    let rest = deadline.clamp(now + Duration::from_millis(200), now + Duration::from_secs(1));
    let all = |pipe: mpsc::Receiver<Vec<u8>>| {
        let mut bytes = Vec::new();
        while let Ok(part) = pipe.recv_timeout(rest.saturating_duration_since(Instant::now())) {
            bytes.extend(part);
        }
        bytes
    };
    let (stdout, stderr) = (all(stdout), all(stderr));
    Ok(Output { status, stdout, stderr })
}

/// The groups of programs that run now.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A program that runs, until this is dropped.
struct Running(i32);

impl Running {
    fn note(group: rustix::process::Pid) -> Running {
        let group = group.as_raw_nonzero().get();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(group);
        Running(group)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Ends all programs that [`run`] waits for: before a process ends that nothing else ends.
pub(super) fn end_all() {
    let Ok(running) = RUNNING.try_lock() else { return };
    for group in running.iter().filter_map(|group| rustix::process::Pid::from_raw(*group)) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Whether a child has ended; it stays to be waited for.
pub fn has_ended(child: rustix::process::Pid) -> Result<bool> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(child), options)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_is_itself() {
        let me = Process::find(std::process::id()).unwrap().unwrap();
        assert!(me.alive() && !me.stopped && me.threads >= 1 && me.rss > 0);
        assert!((Utc::now() - me.started).num_seconds() < 3600);
        assert!(me.identity.find().unwrap().is_some());
        let earlier = Identity { start: me.identity.start - 1, ..me.identity.clone() };
        assert!(earlier.find().unwrap().is_none(), "the same number at another time is another process");
        assert!(!earlier.signal(Signal::KILL).unwrap());
        assert!(!me.arguments().is_empty());
        let usage = me.usage();
        assert!(usage.fds.is_none_or(|fds| fds > 2) && usage.maps.is_none_or(|maps| maps > 2), "{usage:?}");
        assert!(usage.fds <= usage.fds_limit, "{usage:?}");
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = Command::new("true").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let process = Process::find(child.id()).unwrap().unwrap();
            if process.zombie {
                assert!(process.identity.find().unwrap().is_none());
                assert!(!process.identity.signal(Signal::TERM).unwrap());
                break;
            }
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_program_is_ended_with_its_children_at_the_deadline() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60 & sleep 60"]);
        let begun = Instant::now();
        let error = run(shell, None, Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("not done within 200ms"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_a_program_leaves_running_neither_outlives_it_nor_holds_us_up() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60 & echo $!"]);
        let begun = Instant::now();
        let output = run(shell, None, Duration::from_secs(30)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Process::find(pid).unwrap().is_some_and(|process| process.alive()) {
            assert!(Instant::now() < deadline, "{pid} still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn input_and_output_go_through() {
        let output = run(Command::new("cat"), Some(b"hello"), Duration::from_secs(10)).unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"hello");
    }
}
