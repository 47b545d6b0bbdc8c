//! Who holds which file open for writing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
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

/// The writers of all files, as they stood at one moment.
#[derive(Debug, Default)]
pub(super) struct Writers {
    at: Option<Instant>,
    of: HashMap<(u64, u64), Writer>,
}

impl Writers {
    /// The writer of a file, by what the system told less than a moment ago.
    ///
    /// Only processes that we may look into are seen: ours, or all for root. On macOS none are.
    pub(super) fn of(&mut self, file: &fs::Metadata) -> Option<&Writer> {
        // Looking at every process takes a millisecond or more: not for each of many files.
        if self.at.is_none_or(|at| at.elapsed() > Duration::from_millis(100)) {
            self.of = scan();
            self.at = Some(Instant::now());
        }
        self.of.get(&(file.dev(), file.ino()))
    }
}

/// From `/proc/PID/fd` (proc(5)): the owner's write bit of a link says how it was opened.
fn scan() -> HashMap<(u64, u64), Writer> {
    let mut found: HashMap<(u64, u64), Writer> = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(handles) = fs::read_dir(process.path().join("fd")) else { continue };
        for handle in handles.flatten() {
            let path = handle.path();
            let writes = fs::symlink_metadata(&path).is_ok_and(|link| link.mode() & 0o200 != 0);
            let is_file = || fs::read_link(&path).is_ok_and(|to| to.is_absolute() && !to.starts_with("/dev"));
            if !writes || !is_file() {
                continue;
            }
            let Ok(meta) = fs::metadata(&path) else { continue };
            let info = process.path().join("fdinfo").join(handle.file_name());
            let appends = fs::read_to_string(info).is_ok_and(|info| appends(&info));
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let writer = Writer { pid, name: name.trim().to_owned(), appends };
            // Of several writers, one that does not append is the one to beware of.
            let known = found.entry((meta.dev(), meta.ino())).or_insert_with(|| writer.clone());
            if known.appends && !appends {
                *known = writer;
            }
        }
    }
    found
}

/// The line `flags:` of `/proc/PID/fdinfo/FD` is octal; `O_APPEND` is 02000.
fn appends(info: &str) -> bool {
    info.lines()
        .find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok())
        .is_some_and(|flags| flags & 0o2000 != 0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn writers_are_seen_and_readers_are_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let meta = file.as_file().metadata().unwrap();
        let writer = Writers::default().of(&meta).unwrap().clone();
        assert_eq!((writer.pid, writer.appends), (std::process::id(), false));
        let (path, handle) = (file.path().to_owned(), file.into_temp_path());
        let _reader = fs::File::open(&path).unwrap();
        assert!(Writers::default().of(&meta).is_none());
        let _append = fs::OpenOptions::new().append(true).open(&path).unwrap();
        assert!(Writers::default().of(&meta).unwrap().appends);
        drop(handle);
    }
}
