//! The folder of archives: what is there, what stays, what leaves it.

use super::age::is_encrypted;
use super::flaw::{Flaw, NotJudged, Standing};
use super::folder;
use super::index::peek;
use super::lacking::{Had, mark_last};
use super::manifest::{Manifest, Name};
use super::names::{ENCRYPTED, time_of_name};
use super::records::{self, Records};
use super::retention::Candidate;
use super::sidecar::{self, Sidecar};
use crate::base::beneath::Dir;
use crate::base::step::step;
use crate::base::{Journal, State, units};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Beside an archive, says that it stays.
const PIN: &str = ".pinned";

/// One archive on the shelf.
#[derive(Clone, Debug, Serialize)]
pub struct Archive {
    /// Its file name.
    pub name: String,
    /// Where it is.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
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
    /// Whether it was read back and found whole. A database in it may be damaged all the same.
    pub verified: bool,
    /// What it is good for. None: it is not of this agent.
    pub standing: Option<Standing>,
    /// What is wrong with it.
    pub flaws: Vec<Flaw>,
    /// Databases in it that could not be judged.
    pub unjudged: Vec<NotJudged>,
    /// Databases that are flawed in the newest archive, and of which this is the last that has them.
    pub last_with: Vec<Name>,
    /// When it was last read back; none if the journal does not know.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether a person said that it stays.
    pub pinned: bool,
    /// When it was last restored on trial.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub drilled: Option<DateTime<Utc>>,
    /// Why it cannot be relied on, for people.
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
            standing: self.standing.unwrap_or(Standing::Unreadable),
            pinned: self.pinned,
            last_with: self.last_with.clone(),
        }
    }
}

/// Every archive in the backup folder, newest first. A folder that is not there has none.
///
/// An archive is published only after it was verified. It counts as verified until something
/// speaks against it: its blocks do not follow each other, its size is not the recorded one, or
/// a later look found it damaged. The journal remembers what each says of itself, for as long as its file
/// does not change.
pub fn list(loaded: &Loaded, journal: Option<&Journal>) -> Result<Vec<Archive>> {
    let records = journal.map(|journal| Records::load(journal.connection())).transpose()?.unwrap_or_default();
    list_knowing(loaded, &records, &mut |name, stamp, facts| {
        if let Some(journal) = journal {
            records::remember(journal, name, stamp, facts);
        }
    })
}

/// [`list`], given what the journal knows; `learn` gets what it does not know yet.
pub(super) fn list_knowing(
    loaded: &Loaded,
    records: &Records,
    learn: &mut dyn FnMut(&str, &str, &Facts),
) -> Result<Vec<Archive>> {
    let Some(folder) = folder::open(loaded)? else { return Ok(Vec::new()) };
    let entries = folder
        .entries("")
        .with_context(|| format!("cannot read the backup folder {}", folder.path().display()))?;
    let mut archives = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.name.into_string() else { continue };
        let Some(stamp) = time_of_name(&name) else { continue };
        // Neither `latest` nor any other link.
        let Ok(meta) = folder.metadata(&name) else { continue };
        if !meta.is_file() {
            continue;
        }
        let (row, known) = (records.rows.get(&name), records.facts.get(&name));
        let mut archive = Archive {
            pinned: folder.metadata(pin_name(name.as_ref())).is_ok(),
            path: folder.path().join(&name),
            bytes: meta.len(),
            time: stamp,
            sequence: 0,
            files: None,
            content: None,
            ours: false,
            encrypted: name.ends_with(ENCRYPTED),
            verified: false,
            standing: None,
            flaws: Vec::new(),
            unjudged: Vec::new(),
            last_with: Vec::new(),
            verified_at: row.and_then(|row| row.verified).and_then(DateTime::from_timestamp_millis),
            drilled: row.and_then(|row| row.drilled).and_then(DateTime::from_timestamp_millis),
            problem: None,
            name,
        };
        let stamp = stamp_of(&folder, name_of(&archive), &meta);
        let facts = match &known {
            Some((of, facts)) if *of == stamp => Ok(Some(facts.clone())),
            _ => look(&folder, &archive).inspect(|facts| {
                if let Some(facts) = facts {
                    learn(&archive.name, &stamp, facts);
                }
            }),
        };
        let facts = match facts {
            Ok(Some(facts)) => Some(facts),
            // The journal remembers what we made; else it is of the old scripts, or made by hand.
            Ok(None) if known.is_none() && meta.len() > 0 => None,
            Ok(None) => {
                archive.flaws.push(Flaw::Unreadable { why: "it is not what was made".to_owned() });
                known.map(|(_, facts)| facts.clone())
            }
            Err(error) if is_exhausted(&error) => return Err(error),
            Err(error) => {
                archive.flaws.push(Flaw::Unreadable { why: format!("{error:#}") });
                known.map(|(_, facts)| facts.clone())
            }
        };
        let readable = archive.flaws.is_empty();
        if let Some(facts) = &facts {
            archive.time = facts.time;
            archive.sequence = facts.sequence;
            archive.files = Some(facts.files);
            archive.content = Some(facts.content);
            if facts.agent != loaded.config.agent.name {
                archive.problem = Some(format!("it is of the agent {}", facts.agent));
                archive.verified = readable;
                archives.push(archive);
                continue;
            }
        }
        // One that cannot be read, under a name of ours, counts as ours: it is no other program's to mend.
        archive.ours = facts.is_some() || !readable;
        if let Some(row) = row.filter(|_| archive.ours && readable) {
            if row.state >= i64::from(State::Critical.code()) {
                let why = "the last look at it found it damaged".to_owned();
                archive.flaws.push(Flaw::Unreadable { why });
            } else if row.bytes != archive.bytes.cast_signed() {
                archive
                    .flaws
                    .push(Flaw::Unreadable { why: "it has not the size it was made with".to_owned() });
            }
        }
        archive.verified = archive.ours && archive.flaws.is_empty();
        archive.problem = archive.flaws.first().map(Flaw::to_string);
        if let Some(facts) = facts {
            archive.flaws.extend(facts.flaws);
            archive.unjudged = facts.unjudged;
        }
        archive.standing = archive.ours.then(|| Standing::of(&archive.flaws));
        archives.push(archive);
    }
    mark_last(&mut archives);
    archives.sort_by(|a, b| (b.time, b.sequence, &b.name).cmp(&(a.time, a.sequence, &a.name)));
    Ok(archives)
}

/// What an archive says of itself, or its note where it is encrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    agent: String,
    time: DateTime<Utc>,
    sequence: u64,
    files: usize,
    content: u64,
    flaws: Vec<Flaw>,
    unjudged: Vec<NotJudged>,
    /// What it says of databases; only of one that is encrypted, because any other can be asked.
    #[serde(default)]
    pub(super) had: Option<Had>,
}

impl Facts {
    /// What a manifest says.
    pub(super) fn of(manifest: &Manifest) -> Facts {
        Facts {
            had: None,
            agent: manifest.agent.clone(),
            time: manifest.time,
            sequence: manifest.sequence,
            files: manifest.count(),
            content: manifest.bytes(),
            flaws: manifest.flaws(),
            unjudged: manifest.not_judged(),
        }
    }
}

/// Looks at one archive, quickly. None: it was not made by this program.
fn look(folder: &Dir, archive: &Archive) -> Result<Option<Facts>> {
    if archive.encrypted {
        let note = Sidecar::read_in(folder, name_of(archive))?;
        anyhow::ensure!(note.bytes == archive.bytes, "it has not the length that its note says");
        let (flaws, unjudged) = (note.flaws(), Vec::new());
        let Sidecar { agent, time, sequence, files, content, .. } = note;
        return Ok(Some(Facts { agent, time, sequence, files, content, flaws, unjudged, had: None }));
    }
    Ok(peek(&archive.path)?.map(|manifest| Facts::of(&manifest)))
}

/// Has the journal remember an archive that was made just now, so that it need not be opened for that; if it
/// is encrypted, it can be asked nothing later.
pub(super) fn remember_new(
    loaded: &Loaded,
    journal: &Journal,
    archive: &Path,
    manifest: &Manifest,
) -> Option<()> {
    let (folder, name) = folder::of(loaded, archive).ok()?;
    let meta = folder.metadata(name).ok()?;
    let had = is_encrypted(archive).then(|| Had::of(manifest));
    let facts = Facts { had, ..Facts::of(manifest) };
    let stamp = stamp_of(&folder, name, &meta);
    records::remember(journal, name.to_str()?, &stamp, &facts);
    Some(())
}

/// What changes whenever the file of an archive does, or its note.
fn stamp_of(folder: &Dir, name: &OsStr, meta: &Metadata) -> String {
    let of = |meta: &Metadata| {
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        format!("{}:{}:{}.{:09}:{}.{:09}", meta.ino(), meta.len(), mtime.0, mtime.1, ctime.0, ctime.1)
    };
    let name = Path::new(name);
    let is_encrypted = name.extension().is_some_and(|extension| extension == "age");
    let note = is_encrypted.then(|| folder.metadata(sidecar::path(name)));
    match note {
        Some(note) => format!("{}|{}", of(meta), note.map_or(String::new(), |note| of(&note))),
        None => of(meta),
    }
}

/// Whether an error says that this run has no more files or memory to open anything with: that is no
/// judgement on what it opened.
pub(super) fn is_exhausted(error: &anyhow::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    let os = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>()?.raw_os_error();
    error.chain().filter_map(os).any(|code| codes.contains(&code))
}

fn name_of(archive: &Archive) -> &OsStr {
    OsStr::new(&archive.name)
}

fn pin_name(archive: &OsStr) -> OsString {
    [archive, OsStr::new(PIN)].iter().copied().collect()
}

/// Says that an archive stays, or takes it back. False: it was so already.
pub fn pin(loaded: &Loaded, archive: &Path, on: bool) -> Result<bool> {
    let (folder, name) = folder::of(loaded, archive)?;
    let mark = pin_name(name);
    if folder.metadata(&mark).is_ok() == on {
        return Ok(false);
    }
    let done = match on {
        true => folder.replace(&mark, b"kept until `backup pin --off`\n", 0o600),
        false => folder.remove_file(&mark),
    };
    done.with_context(|| format!("cannot change {}", folder.path().join(mark).display()))?;
    Ok(true)
}

/// Deletes an archive, then its note: one without the other is swept, the other way round nobody
/// would know whose it is.
pub(super) fn delete(folder: &Dir, archive: &Archive, journal: Option<&Journal>) -> Result<()> {
    let deleting = || format!("cannot delete {}", archive.path.display());
    folder.remove_file(&archive.name).with_context(deleting)?;
    if archive.encrypted {
        folder.sync().with_context(deleting)?;
        step("note")?;
        folder.remove_file(sidecar::path(Path::new(&archive.name))).with_context(deleting)?;
    }
    if let Some(journal) = journal {
        records::forget(journal, &archive.name)?;
    }
    Ok(())
}
