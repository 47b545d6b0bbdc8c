//! What never goes into an archive, whatever the globs say.

use super::manifest::Name;
use crate::config::Config;
use serde::Serialize;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A pid or lock file holds a number or a line about its holder. A larger `*.lock` is somebody's
/// data (`poetry.lock`).
const LOCK_FILE_BYTES: u64 = 128;

/// Something that an include names and that stays out all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Where it is.
    pub path: Name,
    /// Why it stays out.
    pub reason: Reason,
}

/// Why something stays out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The state of agent-ops itself.
    OwnState,
    /// The archives.
    Archives,
    /// What a restore set aside.
    PreRestore,
    /// A file of agent-ops that is not finished.
    PartFile,
    /// The pid file of a service.
    PidFile,
    /// A small `*.lock` or `*.pid`.
    LockFile,
    /// Part of a database, whose content is in its copy.
    DatabaseSidecar,
    /// A socket.
    Socket,
    /// A FIFO.
    Fifo,
    /// A device.
    Device,
    /// The home, which has includes of its own.
    Home,
    /// What the kernel shows of itself.
    System,
}

impl Reason {
    /// A few words for people.
    pub fn words(self) -> &'static str {
        match self {
            Reason::OwnState => "state of agent-ops",
            Reason::Archives => "the backup folder",
            Reason::PreRestore => "set aside by a restore",
            Reason::PartFile => "an unfinished file of agent-ops",
            Reason::PidFile => "the pid file of a service",
            Reason::LockFile => "a lock or pid file",
            Reason::DatabaseSidecar => "part of a database",
            Reason::Socket => "a socket",
            Reason::Fifo => "a FIFO",
            Reason::Device => "a device",
            Reason::Home => "the home: relative includes name what goes in",
            Reason::System => "a file system of the kernel",
        }
    }
}

/// Knows what stays out by its name.
pub(super) struct AlwaysExcluded {
    /// Files and folders, relative to the home.
    paths: Vec<(PathBuf, Reason)>,
}

impl AlwaysExcluded {
    pub(super) fn new(config: &Config) -> AlwaysExcluded {
        let home = &config.agent.home;
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let inside = |path: &Path| {
            let plain = path.strip_prefix(home).map(Path::to_owned);
            plain.or_else(|_| real(path).strip_prefix(real(home)).map(Path::to_owned)).ok()
        };
        let mut paths = vec![(PathBuf::from(".ops"), Reason::OwnState)];
        paths.extend(inside(&config.backup.dir).map(|dir| (dir, Reason::Archives)));
        let pid_files = config.service.values().filter_map(|service| inside(service.pid_file.as_deref()?));
        paths.extend(pid_files.map(|path| (path, Reason::PidFile)));
        // A home that is its own backup folder would leave out everything.
        paths.retain(|(path, _)| path != Path::new(""));
        AlwaysExcluded { paths }
    }

    /// What stays out of absolute includes.
    pub(super) fn outside(config: &Config) -> AlwaysExcluded {
        let system = ["/proc", "/sys", "/dev"].map(|path| (PathBuf::from(path), Reason::System));
        let mut paths = Vec::from(system);
        paths.push((config.agent.home.clone(), Reason::Home));
        paths.push((config.backup.dir.clone(), Reason::Archives));
        let pid_files = config.service.values().filter_map(|service| service.pid_file.clone());
        paths.extend(pid_files.map(|path| (path, Reason::PidFile)));
        AlwaysExcluded { paths }
    }

    /// Why this path, and all that is below it, stays out.
    pub(super) fn reason(&self, path: &Path) -> Option<Reason> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        // What restores set aside; the old scripts called it `memory.pre-restore.STAMP`.
        if path.components().count() == 1 && name.windows(13).any(|part| part == b".pre-restore.") {
            return Some(Reason::PreRestore);
        }
        if name.starts_with(b".part-") {
            return Some(Reason::PartFile);
        }
        self.paths.iter().find(|(excluded, _)| path.starts_with(excluded)).map(|(_, reason)| *reason)
    }
}

/// Whether a file of this name and size is a lock.
pub(super) fn is_lock_file(path: &Path, size: u64) -> bool {
    size <= LOCK_FILE_BYTES
        && path.extension().is_some_and(|extension| extension == "pid" || extension == "lock")
}
