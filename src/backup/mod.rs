//! Verified, restorable archives of the agent's live state, and which of them stay.
//!
//! [`make`] is one pass: plan, hold all databases at one moment, write beside the final name,
//! read everything back, publish by rename, point `latest`, prune. Nothing old goes before the
//! new archive is known to be whole.

mod age;
mod bench;
mod blocks;
mod body;
mod check;
mod content;
mod contents;
mod crypt;
mod databases;
mod entry;
mod extents;
mod foreign;
mod hashed;
mod index;
pub mod manifest;
mod open;
mod pack;
mod past;
pub mod plan;
mod pool;
mod prune;
pub mod reader;
pub mod remote;
pub mod retention;
mod shelf;
mod sidecar;
mod snapshot;
mod unpack;
pub mod verify;
mod writer;

pub use age::is_encrypted;
pub use content::Content;
pub use contents::{Contents, Entry, Origin};
pub use index::peek;
pub use open::{Look, Readable, look, open, ready};
pub use plan::Plan;
pub use prune::{Pruning, judge, prune};
pub use retention::{Settled, Verdict, settled};
pub use shelf::{Archive, find, list, pin, record_look};
pub use sidecar::Sidecar;
pub use snapshot::is_full;
pub use verify::{unpack, unpack_part, verify};

use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::one_line;
use crate::base::units::Size;
use crate::base::{Fault, Home, Journal, Run, State, durable, units, upgrade};
use crate::config::{Config, Loaded};
use anyhow::{Context, Result};
use bench::Bench;
use crypt::{Encrypted, Recipients};
use manifest::{Manifest, SCHEMA};
use past::Past;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use writer::Written;

/// The name of an archive, in its work folder, that is not finished.
const PART: &str = "archive.tar.gz";

/// An archive that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// `ok`, or `warning` when there are problems.
    pub state: State,
    /// Its file.
    pub archive: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes of what is in it.
    pub content: u64,
    /// Files in it.
    pub files: usize,
    /// Databases in it.
    pub databases: usize,
    /// Files that went away while it was made.
    pub vanished: Vec<manifest::Name>,
    /// What a person should look at.
    pub problems: Vec<String>,
    /// Archives that were deleted by the rule.
    pub pruned: Vec<String>,
    /// What came of the copies in the bucket, if there is one.
    pub remote: Option<remote::Copied>,
    /// Bytes of the archive that were copied from the one before it, not compressed again.
    pub reused: u64,
    /// Files that were not read, because they did not change since then.
    pub unread: usize,
    /// How it is encrypted; none: it is not.
    pub encrypted: Option<Encryption>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How an archive is encrypted.
#[derive(Clone, Debug, Serialize)]
pub struct Encryption {
    /// Whom to, for people: `2 recipients`.
    pub to: String,
    /// Whether it was opened again with the identity here, and compared. Else only its hash, its
    /// form and its length were.
    pub opened: bool,
}

impl Made {
    /// The closing line: files, bytes in and out, what was reused, time, where.
    pub fn line(&self, home: &Home) -> String {
        let encrypted = match &self.encrypted {
            None => String::new(),
            Some(how) if how.opened => format!(", encrypted to {} and opened again", how.to),
            Some(how) => format!(", encrypted to {}", how.to),
        };
        format!(
            "{}, {} in {}, {}% reused, verified{}, in {:.1}s: {}",
            crate::base::text::count(self.files, "file"),
            Size(self.content),
            ratio(self.bytes, self.content),
            self.reused * 100 / self.bytes.max(1),
            encrypted,
            self.seconds,
            home.show(&self.archive)
        )
    }
}

/// `12.3 MB (41%)`.
fn ratio(bytes: u64, content: u64) -> String {
    let share = bytes as f64 / (content.max(1)) as f64 * 100.0;
    format!("{} ({share:.0}%)", Size(bytes))
}

/// What of the home is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What changed since the last verified archive, by inode, size and times. Files of up to
    /// 64 KiB are read in any case.
    Changed,
    /// Everything.
    Everything,
}

/// Makes a verified archive, then prunes by the rule.
///
/// # Errors
/// When there is no archive in the end. What was there before is there still, and nothing was
/// pruned. A [`Fault`] of state Warning while an upgrade is under way.
pub fn make(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Made> {
    make_reading(loaded, run, journal, Reading::Changed)
}

/// [`make`], told how much to trust the times of files.
pub fn make_reading(loaded: &Loaded, run: &Run, journal: Option<&Journal>, reading: Reading) -> Result<Made> {
    let begun = Instant::now();
    let held = lock(loaded, run)?;
    if loaded.home.restore_journal().exists() {
        return Err(Fault::critical("a restore of this home was cut short and is not undone yet")
            .hint("run `restore` or `backup` from the command line: it finishes or undoes that first")
            .into());
    }
    not_half_new(&loaded.home)?;
    let plan = plan::plan(&loaded.config)?;
    if plan.count() == 0 {
        return Err(Fault::critical("there is nothing to back up: no file is included")
            .hint("look at include and exclude in [backup]; `backup --dry-run` shows what they find")
            .into());
    }
    let dir = &loaded.config.backup.dir;
    let gone = shelf::gone(loaded, journal);
    let recipients = Recipients::ready(&loaded.config.backup)?;
    let built = build(loaded, run, journal, plan, reading, recipients.as_ref());
    let Built { path, bytes, copied, unread, manifest, poisoned } =
        built.map_err(|error| no_space(error, dir))?;
    let key = recipients.as_ref().and_then(|recipients| recipients.problem.clone());
    let name = file_name(&path);
    let mut made = Made {
        state: State::Ok,
        archive: path,
        bytes,
        content: manifest.bytes(),
        files: manifest.count(),
        databases: manifest.databases.len(),
        vanished: manifest.vanished.clone(),
        problems: manifest.problems.iter().cloned().chain(poisoned).chain(key).collect(),
        pruned: Vec::new(),
        remote: None,
        reused: copied,
        unread,
        encrypted: recipients
            .map(|recipients| Encryption { to: recipients.shown(), opened: recipients.opens }),
        seconds: 0.0,
    };
    made.problems.extend(gone.map(|gone| format!("{gone}: is a disk not mounted?")));
    // The archive is safe now, whatever else goes wrong.
    if let Err(error) = after(loaded, run, journal, &name, &manifest, &mut made) {
        made.problems.push(format!("the archive is whole, but {error:#}"));
    }
    drop(held);
    made.remote = remote::copy(loaded, run, journal);
    made.problems.extend(made.remote.iter().flat_map(|copied| copied.problems.clone()));
    if !made.problems.is_empty() {
        made.state = State::Warning;
    }
    made.seconds = begun.elapsed().as_secs_f64();
    Ok(made)
}

/// Refuses to save what an upgrade is at: `latest` would be of a state that never was. Its own backup is made
/// before its note, and stays the newest. What one left that was cut short goes on changing, and is saved.
fn not_half_new(home: &Home) -> Result<()> {
    // A note that cannot be read is told by the checks; it is no reason to go without backups.
    let Ok(Some(note)) = upgrade::under_way(home) else { return Ok(()) };
    let (since, own) = (units::local(note.at), home.show(&note.archive.0));
    let what = format!("no backup was made: the upgrade of {since} (pid {}) is at it", note.pid());
    Err(Fault::warning(format!("{what}; that of just before is {own}"))
        .hint("run this again when it is done; its own backup is pinned until then")
        .into())
}

/// What follows a new archive: `latest`, the journal, and pruning.
fn after(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    name: &str,
    manifest: &Manifest,
    made: &mut Made,
) -> Result<()> {
    step("published")?;
    shelf::point_latest(&loaded.config.backup.dir, name)?;
    step("latest")?;
    if let Some(journal) = journal {
        let state = if made.problems.is_empty() { State::Ok } else { State::Warning };
        shelf::record(journal, run, name, made.bytes, manifest, state)?;
    }
    step("journaled")?;
    let pruning = judge(loaded, journal, run)?;
    if pruning.drastic {
        made.problems.push(format!(
            "the rule would delete {} of {} archives, which looks like a slip: `backup prune` does it",
            pruning.leaving().count(),
            pruning.verdicts.len()
        ));
        return Ok(());
    }
    made.pruned = prune::delete(&pruning, journal)?;
    Ok(())
}

/// An archive that was built and published.
struct Built {
    path: PathBuf,
    bytes: u64,
    copied: u64,
    unread: usize,
    manifest: Manifest,
    /// What is wrong with the archive before it.
    poisoned: Option<String>,
}

/// Builds, verifies and publishes one archive.
fn build(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    plan: Plan,
    reading: Reading,
    recipients: Option<&Recipients<'_>>,
) -> Result<Built> {
    let dir = &loaded.config.backup.dir;
    let bench = Bench::set_up(dir, run)?;
    bench::sweep_notes(dir, &loaded.config.agent.name)?;
    let archives = shelf::list(loaded, journal)?;
    let room = check_space(dir, &plan, &archives, recipients.is_some())?;
    let manifest = Manifest {
        schema: SCHEMA,
        folder: folder_name(&loaded.config.agent.name),
        agent: loaded.config.agent.name.clone(),
        host: run.host.clone(),
        run: run.id.clone(),
        time: run.now,
        sequence: archives.iter().map(|archive| archive.sequence).max().unwrap_or(0).saturating_add(1),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files: Vec::new(),
        databases: Vec::new(),
        damaged: Vec::new(),
        vanished: Vec::new(),
        problems: Vec::new(),
    };
    let past = last_good(loaded, &archives, &bench.folder, room);
    let part = bench.folder.join(PART);
    let attempt = |past: Option<&Past>, plan: Plan| {
        // In a thread of its own, because it gives way to others for good.
        std::thread::scope(|scope| {
            let write =
                || write_and_verify(loaded, run, &bench.folder, manifest.clone(), plan, past, reading);
            scope.spawn(write).join().unwrap_or_else(|_| Err(anyhow::anyhow!("the backup died")))
        })
    };
    let (written, poisoned) = match (attempt(past.as_ref(), plan.clone()), past) {
        // What was copied was not what it was said to be. Never trust it twice.
        (Err(error), Some(past)) if error.is::<Poisoned>() => {
            let poisoned = condemn(loaded, run, journal, &past.archive);
            (attempt(None, plan)?, Some(poisoned))
        }
        (done, _) => (done?, None),
    };
    let Written { bytes, copied, unread, manifest, .. } = written;
    let Some(recipients) = recipients else {
        let path = bench.publish(&part, None)?;
        return Ok(Built { path, bytes, copied, unread, manifest, poisoned });
    };
    let encrypted = bench.folder.join("archive.tar.gz.age");
    let Encrypted { bytes, sha256 } = recipients.encrypt(&part, &encrypted, run.watched)?;
    let path = bench.publish(&encrypted, Some(&Sidecar::new(&manifest, bytes, sha256)))?;
    Ok(Built { path, bytes, copied, unread, manifest, poisoned })
}

/// Writes an archive and reads it back, while the disk takes it.
fn write_and_verify(
    loaded: &Loaded,
    run: &Run,
    folder: &Path,
    manifest: Manifest,
    plan: Plan,
    past: Option<&Past>,
    reading: Reading,
) -> Result<Written> {
    let part = &folder.join(PART);
    let creating = || format!("cannot create {}", part.display());
    let _ = fs::remove_file(part);
    let progress = Progress::new("backing up", plan.bytes(), run.watched);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    let file = file.with_context(creating)?;
    step("begun")?;
    let writer = writer::Writer::new(loaded.home.root(), folder, file, manifest, past, reading, progress);
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

/// The last verified archive of this agent, to take from; none, if it cannot be opened. One that is
/// encrypted can be only where the identity is, and `room` for it to lie open meanwhile.
fn last_good(loaded: &Loaded, archives: &[Archive], folder: &Path, room: u64) -> Option<Past> {
    let backup = &loaded.config.backup;
    let good = archives.iter().filter(|archive| archive.verified && archive.ours);
    let last = good.max_by_key(|archive| archive.sequence)?;
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
    let checked = look(&loaded.config.backup, archive, &loaded.config.backup.dir);
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

/// Refuses what cannot fit: the copies of the databases, and an archive as dense as the last one,
/// twice if it is `encrypted`. Gives the bytes that will be free all the same.
fn check_space(dir: &Path, plan: &Plan, archives: &[Archive], encrypted: bool) -> Result<u64> {
    let last =
        archives.iter().find(|archive| archive.verified && archive.content.is_some_and(|bytes| bytes > 0));
    let density = last.map_or(0.25, |last| last.bytes as f64 / last.content.unwrap_or(1) as f64);
    let archive = (plan.bytes_on_disk() as f64 * density.min(1.0)) as u64;
    let needed = plan.database_bytes() + archive * if encrypted { 2 } else { 1 };
    let free = free_space(dir)?;
    if needed > free {
        return Err(Fault::critical(format!(
            "no room for a backup in {}: about {} are needed and {} are free",
            dir.display(),
            Size(needed),
            Size(free)
        ))
        .hint("older archives are untouched; free some space, or set another dir in [backup]")
        .into());
    }
    Ok(free - needed)
}

/// The bytes that we may still write where a folder is.
pub fn free_space(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot tell the free space of {}", folder.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Says what a full disk, or one that went away, means for the archives there are.
fn no_space(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    if !dir.is_dir() {
        return Fault::critical(format!(
            "the backup folder {} went away while an archive was made: {error:#}",
            dir.display()
        ))
        .hint("is its disk still mounted? Nothing was pruned; run this again when it is back")
        .into();
    }
    if !snapshot::is_full(&error) {
        return error;
    }
    Fault::critical(format!("no space is left in {}: {error:#}", dir.display()))
        .hint("older archives are untouched and nothing was pruned; free some space and run this again")
        .into()
}

/// Takes the lock of everything that writes archives or files of the home. Waits a little for
/// another run, then says who it is.
pub fn lock(loaded: &Loaded, run: &Run) -> Result<durable::Lock> {
    need_home(&loaded.config)?;
    durable::Lock::take(&loaded.home, "backup", run, durable::PATIENCE)
}

/// Refuses to work on a home that is not there: making one would hide a slip, or a missing mount.
pub fn need_home(config: &Config) -> Result<()> {
    let home = &config.agent.home;
    if !fs::metadata(home).is_ok_and(|meta| meta.is_dir()) {
        return Err(Fault::unknown(format!("the home {} does not exist", home.display()))
            .hint("is a disk not mounted? `[agent] home` or --home says where it is")
            .into());
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    one_line(&path.file_name().unwrap_or_default().to_string_lossy(), 300)
}
