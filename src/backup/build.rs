//! One archive: written in its work folder, read back, published. It takes what it can from the archive
//! before it; where that turns out to be damaged, everything is read instead.

use super::bench::Bench;
use super::catalog;
use super::crypt::{Encrypted, Recipients};
use super::dump;
use super::folder;
use super::manifest::{Items, Manifest, SCHEMA};
use super::open::{self, look_beside};
use super::past::{Past, Reading};
use super::places::Places;
use super::plan::Plan;
use super::records::{self, record_look};
use super::shelf::Archive;
use super::sidecar::Sidecar;
use super::space::check_space;
use super::verify;
use super::writer::{Writer, Written};
use crate::base::beneath::{Dir, Options};
use crate::base::descriptors::Raised;
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::one_line;
use crate::base::{Fault, Journal, Run, durable};
use crate::config::Loaded;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The name of an archive, in its work folder, that is not finished.
const PART: &str = "archive.tar.gz";
const PART_ENCRYPTED: &str = "archive.tar.gz.age";

/// An archive that was built and published.
pub(super) struct Built {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) copied: u64,
    pub(super) unread: usize,
    pub(super) manifest: Manifest,
    /// What is wrong with the archive before it.
    pub(super) poisoned: Option<String>,
}

/// Builds, verifies and publishes one archive.
pub(super) fn build(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    mut plan: Plan,
    reading: Reading,
    recipients: Option<&Recipients<'_>>,
) -> Result<Built> {
    let dir = &loaded.config.backup.dir;
    let bench = Bench::set_up(folder::make(loaded)?, run)?;
    bench.sweep_notes(&loaded.config.agent.name)?;
    dump::all(loaded, bench.folder(), &mut plan);
    let _raised = Raised::raise();
    let catalog = catalog::status(loaded, journal)?;
    let archives = &catalog.archives;
    let room = check_space(dir, &plan, archives, recipients.is_some())?;
    let mut manifest = Manifest {
        schema: SCHEMA,
        folder: folder_name(&loaded.config.agent.name),
        agent: loaded.config.agent.name.clone(),
        host: run.host.clone(),
        run: run.id.clone(),
        time: run.now,
        sequence: archives.iter().map(|archive| archive.sequence).max().unwrap_or(0).saturating_add(1),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files: Items::default(),
        databases: Vec::new(),
        damaged: Vec::new(),
        vanished: Vec::new(),
        problems: Vec::new(),
        includes: plan.includes.clone(),
        lacking: Vec::new(),
        links_out: Vec::new(),
        unkept: Vec::new(),
        dumps: Vec::new(),
        no_dumps: Vec::new(),
    };
    let last = last_good(archives);
    let past = last.and_then(|last| open_past(loaded, last, bench.folder(), room));
    if let Some(last) = last {
        // Where it cannot be opened, the journal remembers what is in it.
        let had = past.as_ref().map(|past| past.had.clone());
        let had = had.or_else(|| records::had(journal?, &last.name));
        manifest.lacking = had.unwrap_or_default().expected(&loaded.config, last, &catalog, run.now);
    }
    let attempt = |past: Option<&Past>, plan: &Plan| {
        // In a thread of its own, because it gives way to others for good.
        std::thread::scope(|scope| {
            let write =
                || write_and_verify(loaded, run, bench.folder(), manifest.clone(), plan, past, reading);
            scope.spawn(write).join().unwrap_or_else(|_| Err(anyhow::anyhow!("the backup died")))
        })
    };
    let (written, poisoned) = match (attempt(past.as_ref(), &plan), past) {
        // What was copied was not what it was said to be. Never trust it twice.
        (Err(error), Some(past)) if error.is::<Poisoned>() => {
            let poisoned = condemn(loaded, run, journal, &past.archive);
            (attempt(None, &plan)?, Some(poisoned))
        }
        (done, _) => (done?, None),
    };
    let Written { bytes, copied, unread, manifest, .. } = written;
    let Some(recipients) = recipients else {
        let path = bench.publish(PART, None)?;
        return Ok(Built { path, bytes, copied, unread, manifest, poisoned });
    };
    let (part, encrypted) = (bench.folder().join(PART), bench.folder().join(PART_ENCRYPTED));
    let Encrypted { bytes, sha256 } = recipients.encrypt(&part, &encrypted, run.watched)?;
    let path = bench.publish(PART_ENCRYPTED, Some(&Sidecar::new(&manifest, bytes, sha256)))?;
    Ok(Built { path, bytes, copied, unread, manifest, poisoned })
}

/// Writes an archive and reads it back, while the disk takes it.
fn write_and_verify(
    loaded: &Loaded,
    run: &Run,
    folder: &Path,
    manifest: Manifest,
    plan: &Plan,
    past: Option<&Past>,
    reading: Reading,
) -> Result<Written> {
    let part = &folder.join(PART);
    let creating = || format!("cannot create {}", part.display());
    durable::remove(part)?;
    let progress = Progress::new("backing up", plan.bytes(), run.watched);
    let options = Options::new().write().create_new(0o600);
    let file =
        Dir::open(folder).and_then(|folder| folder.open_with(PART, &options)).with_context(creating)?;
    step("begun")?;
    let home = Places::open(&loaded.home, &loaded.config.backup)?;
    let writer = Writer::new(&home, folder, file, manifest, past, reading, progress);
    let written = writer.with_context(creating)?.write(plan).map_err(|error| {
        let bad = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::InvalidData;
        if error.chain().filter_map(|cause| cause.downcast_ref()).any(bad) {
            error.context(Poisoned)
        } else {
            error
        }
    })?;
    let syncing = written.file.try_clone().with_context(|| format!("cannot write {}", part.display()))?;
    let synced = std::thread::spawn(move || syncing.sync_all());
    let verified = verify::verify_new(part, folder, &written.manifest);
    let synced = synced.join().unwrap_or_else(|_| Err(std::io::Error::other("the sync died")));
    synced.context("cannot write the archive")?;
    step("synced")?;
    verified.map_err(|error| {
        let copied = written.copied > 0 && Fault::is_of_damage(&error);
        let error = error.context("the new archive cannot be verified");
        if copied { error.context(Poisoned) } else { error }
    })?;
    step("verified")?;
    Ok(written)
}

/// Says of an error that it may come from blocks of the archive before this one.
#[derive(Debug)]
struct Poisoned;

impl std::fmt::Display for Poisoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("with blocks of the archive before it")
    }
}

/// The last archive of this agent that can be read. Its blocks are good, whatever is wrong with the
/// databases in it.
fn last_good(archives: &[Archive]) -> Option<&Archive> {
    archives.iter().filter(|archive| archive.verified && archive.ours).max_by_key(|archive| archive.sequence)
}

/// Opens an archive to take from; none, if it cannot be opened. One that is encrypted can be only where the
/// identity is, and `room` for it to lie open meanwhile.
fn open_past(loaded: &Loaded, last: &Archive, folder: &Path, room: u64) -> Option<Past> {
    let backup = &loaded.config.backup;
    if !last.encrypted {
        return Past::open(&last.path).ok().flatten();
    }
    let note = Sidecar::read(&last.path).ok()?;
    if backup.identity.is_none() || last.bytes > room {
        return None;
    }
    let readable = open::decrypt(backup, &last.path, Some(&note), folder).ok()?;
    // Its file stays open when its name goes.
    let mut past = Past::open(readable.path()).ok().flatten()?;
    past.archive.clone_from(&last.path);
    Some(past)
}

/// Looks at an archive whose blocks turned out to be wrong, and says what it is.
fn condemn(loaded: &Loaded, run: &Run, journal: Option<&Journal>, archive: &Path) -> String {
    let name = file_name(archive);
    let checked = look_beside(loaded, archive);
    match checked {
        Err(error) if Fault::is_of_damage(&error) => {
            if let Some(journal) = journal {
                // Best effort: the next look at it finds the same.
                let _ = record_look(loaded, journal, run, archive, None, false, false);
            }
            format!("the archive before this one is damaged: {}", one_line(&format!("{error:#}"), 300))
        }
        _ => format!("blocks of {name} could not be used again; everything was read"),
    }
}

/// The top folder of an archive: the agent's name, the same in all its archives, so that the members
/// that hold headers come again and need not be compressed again.
fn folder_name(agent: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = agent.chars().take(64).map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "backup".to_owned() } else { name.to_owned() }
}

/// An archive's name, to be shown.
pub(super) fn file_name(path: &Path) -> String {
    one_line(&path.file_name().unwrap_or_default().to_string_lossy(), 300)
}
