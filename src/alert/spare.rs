//! What a run remembers when the journal cannot be written: a full disk must not make every
//! run tell the same again. A small file where temporary files go, until the journal works.

use super::incident::Incident;
use super::past::Past;
use super::store::Change;
use crate::base::beneath::{self, Dir};
use crate::base::{Home, durable, text};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// It is no larger.
const LIMIT: u64 = 16 << 20;

/// The memory of a home without a journal.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Spare {
    /// The last incident of each check.
    pub(super) incidents: BTreeMap<String, Incident>,
    /// When recovery tried to start each service.
    pub(super) attempts: BTreeMap<String, Vec<DateTime<Utc>>>,
}

impl Spare {
    /// What an earlier run left, if one had to. A file that is not ours is not read.
    pub(super) fn read(home: &Home) -> Option<Spare> {
        places(home).into_iter().find_map(|path| {
            // Anybody may write there.
            let folder = Dir::open(durable::parent(&path)).ok()?;
            let file = folder.open_file(path.file_name()?).ok()?;
            let ours = file.metadata().ok()?.uid() == rustix::process::geteuid().as_raw();
            serde_json::from_slice(&beneath::read_limited(&file, LIMIT).ok().filter(|_| ours)?).ok()
        })
    }

    /// Puts what it remembers over what the journal last held.
    pub(super) fn overlay(
        self,
        incidents: &mut BTreeMap<String, Incident>,
        attempts: &mut BTreeMap<String, Vec<DateTime<Utc>>>,
    ) {
        for (check, spare) in self.incidents {
            let open = incidents.get(&check).filter(|incident| incident.closed.is_none());
            let id = open.and_then(|incident| incident.id);
            incidents.insert(check, Incident { id, ..spare });
        }
        for (service, times) in self.attempts {
            let known = attempts.entry(service).or_default();
            known.extend(times);
            known.sort_unstable();
            known.dedup();
        }
    }

    /// What there is to remember after a run: of what reached nobody, that it was not told.
    pub(super) fn after(changes: &[Change], past: Past, reached: impl Fn(&str) -> bool) -> Spare {
        let Past { mut incidents, attempts, .. } = past;
        for Change { incident, message } in changes {
            let told = message.as_ref().is_none_or(|message| reached(&message.uid));
            if told {
                incidents.insert(incident.check.clone(), incident.clone());
            }
        }
        Spare { incidents, attempts }
    }

    /// Writes it where that is possible. False: nowhere.
    pub(super) fn write(&self, home: &Home) -> bool {
        let Ok(text) = serde_json::to_vec(self) else { return false };
        places(home).iter().any(|path| durable::replace(path, &text, 0o600).is_ok())
    }

    /// The journal holds it all: no spare is needed.
    pub(super) fn remove(home: &Home) {
        for path in places(home) {
            let _ = durable::remove(&path);
        }
    }
}

/// Where it may be, the best first: each home has a name of its own.
fn places(home: &Home) -> Vec<PathBuf> {
    let hash = Sha256::digest(home.root().as_os_str().as_bytes());
    let name = format!("agent-ops-{}.json", text::hex(&hash[..8]));
    let mut places = vec![std::env::temp_dir().join(&name)];
    if cfg!(target_os = "linux") {
        places.push(PathBuf::from("/dev/shm").join(name));
    }
    places
}
