//! What a rotation has begun, so that the next one can finish it: `.ops/rotation.json`.

use crate::base::{Home, durable};
use anyhow::{Context, Result};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

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
    /// The stream.
    pub(super) log: PathBuf,
    /// Which file that was: device and inode.
    pub(super) file: (u64, u64),
    /// How long it was.
    pub(super) length: u64,
    /// How many bytes, from its beginning, were copied: whole lines.
    pub(super) copied: u64,
    /// How many of them the file system takes away. The rest is made blank.
    pub(super) taken: u64,
    /// The copy, in the folder of the archive where it gets its name.
    pub(super) copy: PathBuf,
    /// The day that is in its name.
    pub(super) day: NaiveDate,
}

impl Ledger {
    /// # Errors
    /// When there is one that cannot be read: what it says must not be passed over.
    pub(super) fn read(home: &Home) -> Result<Ledger> {
        let path = home.rotation();
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Ledger::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; move it away if no rotation was cut short", path.display())
            }),
        }
    }

    pub(super) fn write(&self, home: &Home) -> Result<()> {
        let path = home.rotation();
        if *self == Ledger::default() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", path.display()))
                }
                // One that comes back after a power cut says what is long done: that is seen then.
                _ => Ok(()),
            };
        }
        durable::make_folder(&home.ops(), 0o700)?;
        durable::replace(&path, &serde_json::to_vec(self)?, 0o600)
    }
}
