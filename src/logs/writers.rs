//! Who holds which file open for writing.

use crate::base::durable;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A process that may write to a file at any moment.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// Its pid.
    pub(super) pid: u32,
    /// Its name.
    pub(super) name: String,
    /// Whether every write of it goes to the end of the file (`O_APPEND`).
    pub(super) appends: bool,
}

/// Files by device and inode, and who writes to them.
type Known = HashMap<(u64, u64), Writer>;

/// The writers of files, as they stood at one moment.
#[derive(Debug, Default)]
pub(super) struct Writers {
    seen: Option<(Instant, PathBuf)>,
    of: Known,
}

/// Looking at every process takes a millisecond or more: not for each of many files. To run another
/// program takes longer.
const FRESH: Duration = Duration::from_millis(if cfg!(target_os = "linux") { 100 } else { 2000 });

impl Writers {
    /// The writer of a file, by what the system told less than a moment ago.
    ///
    /// Only processes that we may look into are seen: ours, or all for root.
    pub(super) fn of(&mut self, path: &Path, file: &fs::Metadata) -> Option<&Writer> {
        let folder = durable::parent(path);
        let covered = |seen: &Path| cfg!(target_os = "linux") || seen == folder;
        if !self.seen.as_ref().is_some_and(|(at, seen)| at.elapsed() < FRESH && covered(seen)) {
            self.of = scan(folder);
            self.seen = Some((Instant::now(), folder.to_owned()));
        }
        self.of.get(&(file.dev(), file.ino()))
    }
}

/// Whether no process hides from us what it has open: all may be seen by root, unless it is confined.
#[cfg(target_os = "linux")]
pub(super) fn sees_all() -> bool {
    let Ok(mut processes) = fs::read_dir("/proc") else { return false };
    let refuses = |process: fs::DirEntry| {
        let is_process = process.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let denied = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        is_process && fs::read_dir(process.path().join("fd")).err().is_some_and(denied)
    };
    // Where others are hidden (`hidepid`), the first one is as well.
    Path::new("/proc/1").exists() && !processes.any(|process| process.is_ok_and(refuses))
}

/// As `lsof` tells: to root of all, to others only of theirs.
#[cfg(not(target_os = "linux"))]
pub(super) fn sees_all() -> bool {
    rustix::process::geteuid().is_root()
}

/// Of several writers, one that does not append is the one to beware of.
fn add(known: &mut Known, file: (u64, u64), writer: Writer) {
    let before = known.entry(file).or_insert_with(|| writer.clone());
    if before.appends && !writer.appends {
        *before = writer;
    }
}

/// From `/proc/PID/fd` (proc(5)): the owner's write bit of a link says how it was opened.
#[cfg(target_os = "linux")]
fn scan(_folder: &Path) -> Known {
    let mut found = Known::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(handles) = fs::read_dir(process.path().join("fd")) else { continue };
        for handle in handles.flatten() {
            let path = handle.path();
            let writes = fs::symlink_metadata(&path).is_ok_and(|link| link.mode() & 0o200 != 0);
            let of_disk = |to: &Path| !to.starts_with("/dev") || to.starts_with("/dev/shm");
            let is_file = || fs::read_link(&path).is_ok_and(|to| to.is_absolute() && of_disk(&to));
            if !writes || !is_file() {
                continue;
            }
            let Ok(meta) = fs::metadata(&path) else { continue };
            let info = process.path().join("fdinfo").join(handle.file_name());
            let appends = fs::read_to_string(info).is_ok_and(|info| appends(&info));
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            add(&mut found, (meta.dev(), meta.ino()), Writer { pid, name: name.trim().to_owned(), appends });
        }
    }
    found
}

/// The line `flags:` of `/proc/PID/fdinfo/FD` is octal; `O_APPEND` is 02000.
#[cfg(target_os = "linux")]
fn appends(info: &str) -> bool {
    info.lines()
        .find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok())
        .is_some_and(|flags| flags & 0o2000 != 0)
}

/// From `lsof`, which comes with macOS, about the files of one folder.
#[cfg(not(target_os = "linux"))]
fn scan(folder: &Path) -> Known {
    const APPEND: u32 = 0x8;
    let mut command = std::process::Command::new("/usr/sbin/lsof");
    command.args(["-n", "-P", "-w", "+fg", "-F", "pcfaGDi", "+d"]).arg(folder);
    let said = crate::base::process::run(command, None, Duration::from_secs(10));
    said.map(|said| read_lsof(&String::from_utf8_lossy(&said.stdout), APPEND)).unwrap_or_default()
}

/// A line a field, its letter first: process, command, then for each file descriptor, access, flags,
/// device and inode (lsof(8), "OUTPUT FOR OTHER PROGRAMS"). Whose flags it does not tell is taken to append.
#[cfg(any(test, not(target_os = "linux")))]
fn read_lsof(text: &str, append: u32) -> Known {
    let hexadecimal = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let mut found = Known::new();
    let mut writer = Writer { pid: 0, name: String::new(), appends: true };
    let (mut writes, mut device) = (false, None);
    for line in text.lines() {
        let Some((field, value)) = line.split_at_checked(1) else { continue };
        match field {
            "p" => writer.pid = value.parse().unwrap_or_default(),
            "c" => writer.name = value.to_owned(),
            "f" => (writes, device, writer.appends) = (false, None, true),
            "a" => writes = value.contains(['w', 'u']),
            "G" => {
                let flags = value.split(';').next().and_then(hexadecimal);
                writer.appends = flags.is_none_or(|flags| flags & u64::from(append) != 0);
            }
            "D" => device = hexadecimal(value),
            "i" => {
                if let (true, Some(device), Ok(inode)) = (writes, device, value.parse()) {
                    add(&mut found, (device, inode), writer.clone());
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn writers_are_seen_and_readers_are_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let meta = file.as_file().metadata().unwrap();
        let writer = Writers::default().of(file.path(), &meta).unwrap().clone();
        assert_eq!((writer.pid, writer.appends), (std::process::id(), false));
        let path = file.into_temp_path();
        let _reader = fs::File::open(&path).unwrap();
        assert!(Writers::default().of(&path, &meta).is_none());
        let _append = fs::OpenOptions::new().append(true).open(&path).unwrap();
        assert!(Writers::default().of(&path, &meta).unwrap().appends);
    }

    /// What `lsof` 4.95 said of a process that had one file open to append and to read, and one to write.
    #[test]
    fn what_lsof_says_is_understood() {
        let text = "p14363\ncpython3\nf3\naw\ntREG\nG0x88401;0x0\nD0xfe00\ni10027458\n\
                    f4\naw\ntREG\nG0x88001;0x0\nD0xfe00\ni10027476\nf5\nar\ntREG\nG0x88000;0x0\nD0xfe00\ni7\n\
                    f6\nau\nD0xfe00\ni8\n";
        let found = read_lsof(text, 0x400);
        assert_eq!(found.len(), 3);
        let of = |inode| found.get(&(65024, inode)).map(|writer| (writer.pid, &*writer.name, writer.appends));
        assert_eq!(of(10_027_458), Some((14363, "python3", true)));
        assert_eq!(of(10_027_476), Some((14363, "python3", false)));
        assert_eq!(of(8), Some((14363, "python3", true)));
        assert!(read_lsof("p\nfoo\nG\ni\n\u{fffd}", 8).is_empty());
    }
}
