//! Processes on Linux, read from `/proc` directly (proc(5)).

use super::{Identity, Listener, Process, Signal, Usage};
use chrono::DateTime;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

pub(super) fn find(pid: u32) -> Result<Option<Process>> {
    let folder = format!("/proc/{pid}");
    let read = || -> Result<(Vec<u8>, u32)> {
        Ok((fs::read(format!("{folder}/stat"))?, fs::metadata(&folder)?.uid()))
    };
    match read() {
        Ok((stat, uid)) => parse(pid, uid, &String::from_utf8_lossy(&stat)).map(Some),
        // ESRCH: it ended between open and read.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The line of `/proc/PID/stat`. The name, field 2, may hold spaces and brackets: the last `)`
/// ends it.
fn parse(pid: u32, uid: u32, stat: &str) -> Result<Process> {
    let wrong = || Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat reads '{stat}'"));
    let (_, rest) = stat.rsplit_once(')').ok_or_else(wrong)?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // `rest` begins with field 3.
    let number = |field: usize| -> Result<u64> {
        fields.get(field - 3).and_then(|text| text.parse().ok()).ok_or_else(wrong)
    };
    let state = fields.first().ok_or_else(wrong)?;
    let start = number(22)?;
    let ticks = rustix::param::clock_ticks_per_second();
    let started_ms = boot_time() * 1000 + start * 1000 / ticks;
    Ok(Process {
        identity: Identity { pid, start, boot: boot_id().to_owned() },
        zombie: matches!(*state, "Z" | "X" | "x"),
        stopped: matches!(*state, "T" | "t"),
        session: number(6)? as u32,
        parent: number(4)? as u32,
        uid,
        started: DateTime::from_timestamp_millis(started_ms as i64).ok_or_else(wrong)?,
        rss: number(24)? * rustix::param::page_size() as u64,
        cpu: Duration::from_millis((number(14)? + number(15)?) * 1000 / ticks),
        threads: number(20)? as u32,
    })
}

pub(super) fn usage(pid: u32) -> Usage {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let number = |text: &str| text.trim().parse().ok();
    Usage {
        fds: fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|fds| fds.count() as u64),
        fds_limit: read("limits").as_deref().and_then(open_files),
        maps: read("maps").map(|maps| maps.lines().count() as u64),
        maps_limit: fs::read_to_string("/proc/sys/vm/max_map_count").ok().as_deref().and_then(number),
    }
}

/// The soft limit in `/proc/PID/limits`: `Max open files  1024  4096  files`. None: unlimited.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A process without rights to look at is passed over, and so is one that just ended.
pub(super) fn holders(files: &BTreeSet<PathBuf>) -> Vec<(u32, PathBuf)> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut holders = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let targets = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        holders.extend(targets.filter(|target| files.contains(target)).map(|target| (pid, target)));
    }
    holders
}

/// Differs from boot to boot, so that a start time of an earlier one is never taken for now.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
}

pub(super) fn is_of_this_boot(identity: &Identity) -> bool {
    identity.boot == boot_id()
}

/// Seconds since 1970 at which the machine booted.
fn boot_time() -> u64 {
    static TIME: OnceLock<u64> = OnceLock::new();
    *TIME.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or_default()
    })
}

pub(super) fn arguments(pid: u32) -> Vec<OsString> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut parts: Vec<_> =
        bytes.split(|&byte| byte == 0).map(|part| OsString::from_vec(part.to_vec())).collect();
    // Each argument ends with a NUL, so the last part is empty.
    parts.pop();
    parts
}

pub(super) fn environment(pid: u32, name: &str) -> Option<OsString> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = bytes
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(OsString::from_vec(value.to_vec()))
}

/// Of one in a container, or whose folder was removed, the path says something else here, or nothing.
pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    let link = PathBuf::from(format!("/proc/{pid}/cwd"));
    let path = fs::read_link(&link).ok()?;
    let file = |path: &PathBuf| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    Some(if file(&path) == file(&link) { path } else { link })
}

/// By the sockets in `/proc/net`, and whose open files they are.
pub(super) fn listeners(ports: &BTreeSet<u16>) -> Option<Vec<Listener>> {
    let mut sockets = BTreeMap::new();
    let mut told = false;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // There is no second one where IPv6 is switched off.
        let Ok(text) = fs::read_to_string(table) else { continue };
        told = true;
        let listening = text.lines().filter_map(listening).filter(|(port, _)| ports.contains(port));
        sockets.extend(listening.map(|(port, inode)| (PathBuf::from(format!("socket:[{inode}]")), port)));
    }
    if !told {
        return None;
    }
    let held = if sockets.is_empty() { Vec::new() } else { holders(&sockets.keys().cloned().collect()) };
    let mut found = Vec::new();
    for (socket, port) in sockets {
        let pids: Vec<_> =
            held.iter().filter(|(_, file)| *file == socket).map(|(pid, _)| Some(*pid)).collect();
        let pids = if pids.is_empty() { vec![None] } else { pids };
        found.extend(pids.into_iter().map(|pid| Listener { port, pid }));
    }
    Some(found)
}

pub(super) fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    };
    Some((of("MemTotal:")?, of("MemAvailable:")?))
}

/// By its state, and the place in the kernel, where that may be read.
pub(super) fn waits(pid: u32) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    Some(waiting(state, place.trim()))
}

fn waiting(state: char, place: &str) -> String {
    let meant = match place {
        _ if place.contains("futex") => "a lock, or another thread",
        _ if place.contains("poll") || place.contains("select") => "the network, a pipe or a timer",
        _ if place.contains("nanosleep") => "a timer",
        _ if place.contains("wait") && !place.contains("page") && place.contains("do_") => "a child",
        _ if place.contains("pipe") => "a pipe",
        _ if place.contains("sk_") || place.contains("tcp") || place.contains("unix") => "a connection",
        _ if place.contains("nfs") || place.contains("rpc") || place.contains("fuse") => {
            "a file system on the network"
        }
        _ => "",
    };
    let how = match state {
        'R' => "it runs: busy, not waiting",
        'D' => "it waits without a way to interrupt it: a disk, or a file system on the network",
        'T' | 't' => "it was stopped by a signal",
        _ => "it waits",
    };
    let what = if meant.is_empty() || state != 'S' { String::new() } else { format!(" for {meant}") };
    let place = if place.is_empty() || place == "0" { String::new() } else { format!(" (in {place})") };
    format!("{how}{what}{place}")
}

/// `memory.events` of the second kind of groups, `memory.oom_control` of the first (cgroups(7)).
pub(super) fn killed_for_memory(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let file = match controllers {
            "" => format!("/sys/fs/cgroup{path}/memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                format!("/sys/fs/cgroup/memory{path}/memory.oom_control")
            }
            _ => return None,
        };
        let text = fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    })
}

/// Port and inode of a listening socket, from a line of `/proc/net/tcp`:
/// `0: 0100007F:1F90 00000000:0000 0A … uid timeout inode`, addresses in hexadecimal.
fn listening(line: &str) -> Option<(u16, u64)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    let inode = fields.get(9)?.parse().ok()?;
    (*fields.get(3)? == LISTEN).then_some((u16::from_str_radix(port, 16).ok()?, inode))
}

pub(super) fn signal(identity: &Identity, signal: Signal) -> Result<bool> {
    let Some(pid) = Pid::from_raw(identity.pid as i32) else { return Ok(false) };
    // The pidfd first, the identity then: from here on the number cannot go to another.
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match find(identity.pid)? {
        Some(process) if process.identity == *identity && process.alive() => {}
        _ => return Ok(false),
    }
    match pidfd_send_signal(&handle, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn adopt_orphans() -> Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

pub(super) fn all() -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended meanwhile, or may not be looked at, is not there for us.
        processes.extend(find(pid).ok().flatten());
    }
    Ok(processes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_may_hold_anything() {
        let stat = "42 (a) R (b) S 1 42 42 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 3 0 1000 4096 10 1 1 1";
        let process = super::parse(42, 0, stat).unwrap();
        assert!(process.alive());
        assert_eq!((process.session, process.parent, process.threads), (42, 1, 3));
        assert_eq!(process.identity.start, 1000);
        assert_eq!(process.cpu.as_millis(), 2000);
        assert!(super::parse(42, 0, "42 (a").is_err());
        assert!(super::parse(42, 0, "42 (a) Z 1").is_err());
    }

    #[test]
    fn a_listening_socket_is_told_from_others() {
        let line = |state: &str| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0"
            )
        };
        assert_eq!(super::listening(&line("0A")), Some((8080, 12345)));
        assert_eq!(super::listening(&line("01")), None);
        let six = "   1: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0";
        assert_eq!(super::listening(six), Some((80, 77)));
        assert_eq!(super::listening("  sl  local_address rem_address   st tx_queue rx_queue tr"), None);
    }

    #[test]
    fn what_a_process_waits_for_is_said_in_words() {
        for (state, place, said) in [
            ('S', "futex_wait_queue", "it waits for a lock, or another thread (in futex_wait_queue)"),
            ('S', "do_epoll_wait", "it waits for the network, a pipe or a timer (in do_epoll_wait)"),
            ('S', "do_wait", "it waits for a child (in do_wait)"),
            ('S', "0", "it waits"),
            ('R', "", "it runs: busy, not waiting"),
            (
                'D',
                "nfs_wait_bit",
                "it waits without a way to interrupt it: a disk, or a file system on the network (in nfs_wait_bit)",
            ),
        ] {
            assert_eq!(super::waiting(state, place), said);
        }
        assert!(super::waits(std::process::id()).is_some());
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(super::open_files(limits), Some(1024));
        assert_eq!(
            super::open_files("Max open files            unlimited            unlimited            files"),
            None
        );
    }
}
