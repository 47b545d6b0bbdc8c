//! Where things are: every path under an agent's home is spelled here and nowhere else.

use super::text;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The home folder of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    #[serde(with = "crate::base::name::path")]
    root: PathBuf,
    /// Where its operator has put the logs; none: in `logs`.
    #[serde(default, with = "crate::base::name::maybe_path")]
    logs: Option<PathBuf>,
}

impl Home {
    /// A home at an absolute path. Nothing is created.
    pub fn new(root: PathBuf) -> Home {
        Home { root, logs: None }
    }

    /// With the logs in a folder that the operator named, which may be a link on purpose.
    #[must_use]
    pub fn with_logs(self, logs: PathBuf) -> Home {
        Home { logs: Some(logs), ..self }
    }

    /// The folder of logs that the operator named.
    pub fn named_logs(&self) -> Option<&Path> {
        self.logs.as_deref()
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether what was noted for the home `noted` is of this one: it is this folder, or it was moved
    /// from there. Where there still is another folder of that name, this one is a copy of it.
    pub fn is_or_was(&self, noted: &Path) -> bool {
        match noted.canonicalize() {
            Ok(noted) => self.root.canonicalize().is_ok_and(|root| root == noted),
            Err(_) => true,
        }
    }

    /// A path as a config writes it: absolute, or relative to the home.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Our own state: `.ops`, mode 0700.
    pub fn ops(&self) -> PathBuf {
        self.root.join(".ops")
    }

    /// The journal: `.ops/ops.db`.
    pub fn journal(&self) -> PathBuf {
        self.ops().join("ops.db")
    }

    /// The format of our own state: `.ops/format`.
    pub fn format(&self) -> PathBuf {
        self.ops().join("format")
    }

    /// What we know of one service: `.ops/service/NAME.json`.
    pub fn service_record(&self, service: &str) -> PathBuf {
        self.ops().join("service").join(format!("{service}.json"))
    }

    /// The lock of one kind of work: `.ops/locks/NAME.lock`.
    pub fn lock(&self, work: &str) -> PathBuf {
        self.ops().join("locks").join(format!("{work}.lock"))
    }

    /// What a restore is doing, while it does it: `.ops/restore.json`.
    pub fn restore_journal(&self) -> PathBuf {
        self.ops().join("restore.json")
    }

    /// Where a restore lays files ready before it moves anything: `.ops/restore`.
    pub fn staging(&self) -> PathBuf {
        self.ops().join("restore")
    }

    /// What an upgrade is doing, while it does it: `.ops/upgrade.json`.
    pub fn upgrade_note(&self) -> PathBuf {
        self.ops().join("upgrade.json")
    }

    /// The agent's logs and ours: `logs`.
    pub fn logs(&self) -> PathBuf {
        self.logs.clone().unwrap_or_else(|| self.root.join("logs"))
    }

    /// One of our text logs: `logs/NAME.log`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// What a rotation has begun and still owes: `.ops/rotation.json`.
    pub fn rotation(&self) -> PathBuf {
        self.ops().join("rotation.json")
    }

    /// Where what leaves a state stream goes, a folder a day: `archive`.
    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// The status page: `logs/dashboard.html`.
    pub fn dashboard_page(&self) -> PathBuf {
        self.logs().join("dashboard.html")
    }

    /// The status for machines: `logs/ops_status.json`.
    pub fn status_json(&self) -> PathBuf {
        self.logs().join("ops_status.json")
    }

    /// A path relative to the home, if it is inside it.
    pub fn relative<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root).ok().filter(|inside| !inside.as_os_str().is_empty())
    }

    /// A path as people read it, safe to print: relative to the home where it is inside it.
    pub fn show(&self, path: &Path) -> String {
        text::name(self.relative(path).unwrap_or(path).as_os_str())
    }
}
