//! The folder of archives: what is there, what stays, what leaves it.

use super::index::peek;
use super::names::{ENCRYPTED, time_of_name};
use super::records::{self, row};
use super::retention::Candidate;
use super::sidecar::{self, Sidecar};
use crate::base::step::step;
use crate::base::{Journal, State, durable, units};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Beside an archive, says that it stays.
const PIN: &str = ".pinned";

/// One archive on the shelf.
#[derive(Clone, Debug, Serialize)]
pub struct Archive {
    /// Its file name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was made: by its manifest, else by its name.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// Its place in the order of making; 0 if it is not ours.
    pub sequence: u64,
    /// Files in it.
    pub files: Option<usize>,
    /// Bytes of those files.
    pub content: Option<u64>,
    /// Whether its manifest names this agent. Nothing else is ever pruned.
    pub ours: bool,
    /// Whether it is encrypted. What is known of it then is what its note says.
    pub encrypted: bool,
    /// Whether it was read back and found whole.
    pub verified: bool,
    /// When it was last read back; none if the journal does not know.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether a person said that it stays.
    pub pinned: bool,
    /// When it was last restored on trial.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub drilled: Option<DateTime<Utc>>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Archive {
    /// What retention needs to know of it.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            name: self.name.clone(),
            time: self.time,
            sequence: self.sequence,
            verified: self.verified,
            pinned: self.pinned,
        }
    }
}

/// Every archive in the backup folder, newest first. A folder that is not there has none.
///
/// An archive is published only after it was verified. It counts as verified until something
/// speaks against it: its blocks do not follow each other, its size is not the recorded one, or
/// a later look found it damaged.
pub fn list(loaded: &Loaded, journal: Option<&Journal>) -> Result<Vec<Archive>> {
    let dir = &loaded.config.backup.dir;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the backup folder {}", dir.display()));
        }
    };
    let mut archives = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(stamp) = time_of_name(&name) else { continue };
        // Neither `latest` nor any other link.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if !meta.is_file() {
            continue;
        }
        let mut archive = Archive {
            pinned: pin_path(&entry.path()).exists(),
            path: entry.path(),
            bytes: meta.len(),
            time: stamp,
            sequence: 0,
            files: None,
            content: None,
            ours: false,
            encrypted: name.ends_with(ENCRYPTED),
            verified: false,
            verified_at: None,
            drilled: None,
            problem: None,
            name,
        };
        match known(&archive) {
            Ok(Some(known)) => {
                archive.time = known.time;
                archive.sequence = known.sequence;
                archive.files = Some(known.files);
                archive.content = Some(known.content);
                archive.ours = known.agent == loaded.config.agent.name;
                archive.verified = true;
                if !archive.ours {
                    archive.problem = Some(format!("it is of the agent {}", known.agent));
                }
            }
            // Of the old scripts, or made by hand.
            Ok(None) => {}
            Err(error) => archive.problem = Some(format!("{error:#}")),
        }
        if let Some(row) = journal.map(|journal| row(journal, &archive.name)).transpose()?.flatten() {
            archive.drilled = row.drilled.and_then(DateTime::from_timestamp_millis);
            archive.verified_at = row.verified.and_then(DateTime::from_timestamp_millis);
            if archive.verified && row.state >= i64::from(State::Critical.code()) {
                archive.verified = false;
                archive.problem = Some("the last look at it found it damaged".to_owned());
            } else if archive.verified && row.bytes != archive.bytes.cast_signed() {
                archive.verified = false;
                archive.problem = Some("it has not the size it was made with".to_owned());
            }
        }
        archives.push(archive);
    }
    archives.sort_by(|a, b| (b.time, b.sequence, &b.name).cmp(&(a.time, a.sequence, &a.name)));
    Ok(archives)
}

/// What an archive says of itself, or its note where it is encrypted.
struct Known {
    agent: String,
    time: DateTime<Utc>,
    sequence: u64,
    files: usize,
    content: u64,
}

/// Looks at one archive, quickly. None: it was not made by this program.
fn known(archive: &Archive) -> Result<Option<Known>> {
    if archive.encrypted {
        let Sidecar { agent, time, sequence, files, content, bytes, .. } = Sidecar::read(&archive.path)?;
        anyhow::ensure!(bytes == archive.bytes, "it has not the length that its note says");
        return Ok(Some(Known { agent, time, sequence, files, content }));
    }
    Ok(peek(&archive.path)?.map(|manifest| Known {
        time: manifest.time,
        sequence: manifest.sequence,
        files: manifest.count(),
        content: manifest.bytes(),
        agent: manifest.agent,
    }))
}

fn pin_path(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(PIN);
    PathBuf::from(name)
}

/// Says that an archive stays, or takes it back. False: it was so already.
pub fn pin(archive: &Path, on: bool) -> Result<bool> {
    let mark = pin_path(archive);
    if mark.exists() == on {
        return Ok(false);
    }
    if on {
        durable::replace(&mark, b"kept until `backup pin --off`\n", 0o600)?;
    } else {
        fs::remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))?;
    }
    Ok(true)
}

/// Deletes an archive, then its note: one without the other is swept, the other way round nobody
/// would know whose it is.
pub(super) fn delete(archive: &Archive, journal: Option<&Journal>) -> Result<()> {
    let deleting = || format!("cannot delete {}", archive.path.display());
    fs::remove_file(&archive.path).with_context(deleting)?;
    if archive.encrypted {
        durable::sync_folder(durable::parent(&archive.path))?;
        step("note")?;
        fs::remove_file(sidecar::path(&archive.path)).with_context(deleting)?;
    }
    if let Some(journal) = journal {
        records::forget(journal, &archive.name)?;
    }
    Ok(())
}
