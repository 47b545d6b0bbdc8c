//! The programs of a system that start others: at boot, at login, at a time of day.

use super::beneath::read_small_text;
use super::{launchd, systemd};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

/// A program of the system that runs others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// systemd, on most Linux systems.
    Systemd,
    /// launchd, on macOS.
    Launchd,
}

impl Manager {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Manager::Systemd => "systemd",
            Manager::Launchd => "launchd",
        }
    }

    /// The program by which it is told what to do.
    pub fn program(self) -> &'static str {
        match self {
            Manager::Systemd => "systemctl",
            Manager::Launchd => "launchctl",
        }
    }

    /// The one that systems of this kind have.
    pub fn usual() -> Manager {
        if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd }
    }

    /// What it runs for a user may end when the user logs out: how to have it run from the boot on.
    /// None: it does already, or it cannot be told.
    pub fn beyond_logout(self) -> Option<&'static str> {
        match self {
            Manager::Systemd => (systemd::lingers() == Some(false)).then_some("`loginctl enable-linger`"),
            Manager::Launchd => Some("`sudo ops install --system`"),
        }
    }

    /// Whether a file can be one that it was given by us, as `unit` or (where that is empty) beside one.
    /// A note in a home is believed no further: whoever may write there is not to say what its owner, or
    /// root, stops and takes away.
    pub fn can_be_ours(self, system: bool, unit: &str, path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let (ours, named, folder) = match self {
            Manager::Systemd => {
                let kind = name.ends_with(".service") || name.ends_with(".timer");
                (kind && name.starts_with("agent-ops-"), name == unit, systemd::folder(true))
            }
            Manager::Launchd => {
                let label = name.strip_suffix(".plist");
                let ours = label.is_some_and(|label| label.starts_with("org.agent-ops."));
                (ours, label == Some(unit), launchd::folder(true))
            }
        };
        let there = !system || folder.is_ok_and(|folder| path.parent() == Some(&folder));
        ours && (named || unit.is_empty()) && there
    }

    /// Whether a file that it was given, if it is there, is not that of another home: one that we wrote names
    /// its home.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_of_home(self, path: &Path, home: &Path) -> Result<bool> {
        let text = match read_small_text(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        if !["`ops install`", "`ops cron-install`"].iter().any(|ours| text.contains(ours)) {
            return Ok(true);
        }
        let home = home.to_string_lossy();
        let spelled = match self {
            // As a folder of its own, and as a word of a command.
            Manager::Systemd => vec![systemd::folder_path(&home), systemd::quoted(&home)],
            Manager::Launchd => vec![launchd::escaped(&home)],
        };
        // A folder below it, or one whose name begins like it, is another.
        let ends =
            |rest: &str| !rest.starts_with(|c: char| c == '/' || c == '-' || c == '.' || c.is_alphanumeric());
        let is_in =
            |spelled: &String| text.match_indices(spelled).any(|(at, found)| ends(&text[at + found.len()..]));
        Ok(spelled.iter().any(is_in))
    }

    /// Whether it answers: the system's, or else the user's own.
    ///
    /// # Errors
    /// A [`super::Fault`] of state Unknown when it does not.
    pub fn check(self, system: bool) -> Result<()> {
        match self {
            Manager::Systemd => systemd::check(system),
            Manager::Launchd => launchd::check(system),
        }
    }
}

/// `PATH` for what a manager starts: the folders of ours that mean the same wherever one stands.
pub fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    // A line end would begin a setting of its own.
    let plain = |folder: &&str| folder.starts_with('/') && !folder.contains(char::is_control);
    let folders: Vec<&str> = path.split(':').filter(plain).collect();
    if folders.is_empty() { "/usr/local/bin:/usr/bin:/bin".to_owned() } else { folders.join(":") }
}
