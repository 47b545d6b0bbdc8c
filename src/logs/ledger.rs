//! What a rotation has begun, so that the next one can finish it: `.ops/rotation.json`.

use crate::base::Home;
use crate::base::beneath::Refused;
use crate::base::name::Name;
use crate::config::Logs;
use crate::log_files::{Location, begins_with_day, locate};
use anyhow::{Context, Result};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, PathBuf};
use std::sync::Arc;

/// What is owed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The rules whose writers are to be told.
    #[serde(default)]
    pub(super) tell: BTreeSet<String>,
    /// A state stream whose beginning was copied, and perhaps taken away already.
    #[serde(default)]
    pub(super) cut: Option<Cut>,
    /// A leap of time that keeps logs from going by their age.
    #[serde(default)]
    pub(super) leap: Option<Seen>,
}

/// Since when something was seen by each run, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) since: DateTime<Utc>,
    pub(super) last: DateTime<Utc>,
}

/// The beginning of a state stream on its way to the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// The stream: relative to the home, or absolute in a folder that the config names.
    pub(super) log: Name,
    /// Which file that was: device and inode.
    pub(super) file: (u64, u64),
    /// How long it was.
    pub(super) length: u64,
    /// How many bytes, from its beginning, were copied: whole lines.
    pub(super) copied: u64,
    /// How many of them the file system takes away. The rest is made blank.
    pub(super) taken: u64,
    /// The copy, in the folder of the archive where it gets its name: relative to the home.
    pub(super) copy: Name,
    /// The day that is in its name.
    pub(super) day: NaiveDate,
}

/// Where one is put that no rotation wrote.
const REFUSED: &str = "rotation.json.refused";

impl Ledger {
    /// Reads what the last run left. The agent can write there too: what no rotation writes is refused.
    ///
    /// # Errors
    /// When there is one that cannot be read: what it says must not be passed over. One that is refused has a
    /// [`Refused`] in the chain.
    pub(super) fn read(home: &Home, rules: &Logs) -> Result<Ledger> {
        let path = home.rotation();
        let bytes = match home.read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ledger::default()),
            bytes => bytes.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let mut ledger: Ledger = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is damaged; move it away if no rotation was cut short", path.display())
        })?;
        if let Some(cut) = &mut ledger.cut {
            cut.judge(home, rules)
                .with_context(|| format!("{} names what no rotation does", path.display()))?;
        }
        Ok(ledger)
    }

    /// Puts away one that was refused. Gives where it is then.
    pub(super) fn set_aside(home: &Home) -> std::io::Result<PathBuf> {
        let (root, path) = home.place(&home.rotation())?;
        let root = Arc::new(root);
        let aside = Location::new(&root, path.with_file_name(REFUSED));
        Location::new(&root, path).rename(&aside)?;
        Ok(aside.path())
    }

    /// Whether one that was refused lies there: it may speak of what looks like rubbish.
    pub(super) fn is_refused(home: &Home) -> bool {
        home.has(&home.rotation().with_file_name(REFUSED))
    }

    pub(super) fn write(&self, home: &Home) -> Result<()> {
        match *self == Ledger::default() {
            // One that comes back after a power cut says what is long done: that is seen then.
            true => home.remove(&home.rotation()),
            false => home.replace(&home.rotation(), &serde_json::to_vec(self)?, 0o600),
        }
    }
}

impl Cut {
    /// Makes the paths of one that an earlier version wrote relative, and refuses what leads elsewhere.
    fn judge(&mut self, home: &Home, rules: &Logs) -> Result<(), std::io::Error> {
        // Wherever the home was then: `archive/20261120/…/.part-…` is the end of the path.
        if self.copy.0.is_absolute() {
            let parts: Vec<_> = self.copy.0.components().collect();
            let is_archive = |at: &usize| {
                let rest: PathBuf = parts[at + 1..].iter().collect();
                parts[*at].as_os_str() == "archive" && begins_with_day(&rest)
            };
            let at = (0..parts.len()).rev().find(is_archive).ok_or(Refused::Outside)?;
            let (then, inside): (PathBuf, PathBuf) =
                (parts[..at].iter().collect(), parts[at..].iter().collect());
            if let Ok(log) = self.log.0.strip_prefix(&then) {
                self.log = Name(log.to_owned());
            }
            self.copy = Name(inside);
        }
        let of_a_day = self.copy.0.strip_prefix("archive").is_ok_and(begins_with_day);
        let is_temp =
            self.copy.0.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".part-"));
        let normal = |name: &Name| name.0.components().all(|part| matches!(part, Component::Normal(_)));
        let log = self.log.0.is_absolute() && locate(home, rules, &self.log.0).is_ok() || normal(&self.log);
        let sizes = self.taken <= self.copied && self.copied <= self.length;
        let named = self.log.0.file_name().is_some();
        if log && named && normal(&self.copy) && of_a_day && is_temp && sizes {
            Ok(())
        } else {
            Err(Refused::Outside.into())
        }
    }
}
