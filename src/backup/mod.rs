//! Verified, restorable archives of the agent's live state, and which of them stay.
//!
//! [`make`] is one pass: plan, hold all databases at one moment, write beside the final name,
//! read everything back, publish by rename, point `latest`, prune. Nothing old goes before the
//! new archive is known to be whole.

mod blocks;
pub mod manifest;
pub mod plan;
pub mod reader;
pub mod remote;
pub mod retention;
mod shelf;
mod snapshot;
pub mod verify;
mod writer;

pub use plan::Plan;
pub use retention::{Settled, Verdict, settled};
pub use shelf::{Archive, find, list, pin, record_look};
pub use verify::{Contents, verify};

use crate::base::step::step;
use crate::base::text::one_line;
use crate::base::units::Size;
use crate::base::{Fault, Home, Journal, Run, State, durable};
use crate::config::{Config, Loaded};
use anyhow::{Context, Result};
use manifest::{Manifest, SCHEMA};
use serde::Serialize;
use shelf::Bench;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Made {
    /// The closing line: files, bytes in and out, time, where.
    pub fn line(&self, home: &Home) -> String {
        format!(
            "{}, {} in {}, verified, in {:.1}s: {}",
            crate::base::text::count(self.files, "file"),
            Size(self.content),
            ratio(self.bytes, self.content),
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

/// Makes a verified archive, then prunes by the rule.
///
/// # Errors
/// When there is no archive in the end. What was there before is there still, and nothing was
/// pruned.
pub fn make(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Made> {
    let begun = Instant::now();
    let held = lock(loaded, run)?;
    if loaded.home.restore_journal().exists() {
        return Err(Fault::critical("a restore of this home was cut short and is not undone yet")
            .hint("run `restore` or `backup` from the command line: it finishes or undoes that first")
            .into());
    }
    let plan = plan::plan(&loaded.config)?;
    if plan.count() == 0 {
        return Err(Fault::critical("there is nothing to back up: no file is included")
            .hint("look at include and exclude in [backup]; `backup --dry-run` shows what they find")
            .into());
    }
    let dir = &loaded.config.backup.dir;
    let (path, bytes, manifest) = build(loaded, run, journal, plan).map_err(|error| no_space(error, dir))?;
    let name = file_name(&path);
    let mut made = Made {
        state: State::Ok,
        archive: path,
        bytes,
        content: manifest.bytes(),
        files: manifest.count(),
        databases: manifest.databases.len(),
        vanished: manifest.vanished.clone(),
        problems: manifest.problems.clone(),
        pruned: Vec::new(),
        remote: None,
        seconds: 0.0,
    };
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
    made.pruned = delete(&pruning, journal)?;
    Ok(())
}

/// Builds, verifies and publishes one archive.
fn build(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    plan: Plan,
) -> Result<(PathBuf, u64, Manifest)> {
    let dir = &loaded.config.backup.dir;
    let bench = Bench::set_up(dir, run)?;
    let archives = shelf::list(loaded, journal)?;
    check_space(dir, &plan, &archives)?;
    let manifest = Manifest {
        schema: SCHEMA,
        folder: bench.stem.clone(),
        agent: loaded.config.agent.name.clone(),
        host: run.host.clone(),
        run: run.id.clone(),
        time: run.now,
        sequence: archives.iter().map(|archive| archive.sequence).max().unwrap_or(0) + 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files: Vec::new(),
        databases: Vec::new(),
        damaged: Vec::new(),
        vanished: Vec::new(),
        problems: Vec::new(),
    };
    let part = bench.folder.join("archive.tar.gz");
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .with_context(|| format!("cannot create {}", part.display()))?;
    step("begun")?;
    let writer = writer::Writer::new(loaded.home.root(), &bench.folder, file, manifest);
    let (manifest, bytes) = writer.write(plan)?;
    step("synced")?;
    verify(&part, &bench.folder).context("the new archive cannot be verified")?;
    step("verified")?;
    let path = bench.publish(&part)?;
    Ok((path, bytes, manifest))
}

/// Refuses what cannot fit: the copies of the databases, and an archive as dense as the last one.
fn check_space(dir: &Path, plan: &Plan, archives: &[Archive]) -> Result<()> {
    let last =
        archives.iter().find(|archive| archive.verified && archive.content.is_some_and(|bytes| bytes > 0));
    let density = last.map_or(0.25, |last| last.bytes as f64 / last.content.unwrap_or(1) as f64);
    let needed = plan.database_bytes() + (plan.bytes() as f64 * density.min(1.0)) as u64;
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
    Ok(())
}

/// The bytes that we may still write where a folder is.
pub fn free_space(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot tell the free space of {}", folder.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Says what a full disk means for the archives there are.
fn no_space(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    if !snapshot::is_full(&error) {
        return error;
    }
    Fault::critical(format!("no space is left in {}: {error:#}", dir.display()))
        .hint("older archives are untouched and nothing was pruned; free some space and run this again")
        .into()
}

/// What the rule says of every archive of this agent.
#[derive(Debug, Serialize)]
pub struct Pruning {
    /// The verdicts, newest first.
    pub verdicts: Vec<Verdict>,
    /// Bytes that deleting would free.
    pub freed: u64,
    /// Whether it would delete more than looks meant.
    pub drastic: bool,
    #[serde(skip)]
    archives: Vec<Archive>,
}

impl Pruning {
    /// The archives that would go.
    pub fn leaving(&self) -> impl Iterator<Item = &Archive> {
        self.archives
            .iter()
            .zip(&self.verdicts)
            .filter(|(_, verdict)| !verdict.keep)
            .map(|(archive, _)| archive)
    }
}

/// Judges every archive of this agent. Changes nothing.
pub fn judge(loaded: &Loaded, journal: Option<&Journal>, run: &Run) -> Result<Pruning> {
    let mut archives = shelf::list(loaded, journal)?;
    archives.retain(|archive| archive.ours);
    let candidates: Vec<_> = archives.iter().map(Archive::candidate).collect();
    let verdicts = retention::verdicts(&candidates, &loaded.config.backup.keep, run.now);
    let drastic = retention::is_drastic(&verdicts);
    let mut pruning = Pruning { verdicts, freed: 0, drastic, archives };
    pruning.freed = pruning.leaving().map(|archive| archive.bytes).sum();
    Ok(pruning)
}

/// Deletes what the rule lets go, after the archive that everything relies on was read back.
/// Gives the names of what was deleted.
///
/// # Errors
/// When the newest archive turns out to be damaged: then nothing is deleted.
pub fn prune(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Vec<String>> {
    let _lock = lock(loaded, run)?;
    let pruning = judge(loaded, journal, run)?;
    if pruning.leaving().next().is_none() {
        return Ok(Vec::new());
    }
    let newest = find(loaded, journal, "latest")?;
    let checked = verify(&newest, &loaded.config.backup.dir);
    if let (Err(error), Some(journal)) = (&checked, journal)
        && reader::is_damage(error)
    {
        record_look(loaded, journal, run, &newest, None, false, false)?;
    }
    checked.context("nothing was deleted, because the newest archive is not whole")?;
    delete(&pruning, journal)
}

fn delete(pruning: &Pruning, journal: Option<&Journal>) -> Result<Vec<String>> {
    let mut deleted = Vec::new();
    for archive in pruning.leaving() {
        step("prune")?;
        shelf::delete(archive, journal)?;
        deleted.push(archive.name.clone());
    }
    Ok(deleted)
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
