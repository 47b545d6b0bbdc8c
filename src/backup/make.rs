//! One pass: plan, hold all databases at one moment, write beside the final name, read everything
//! back, publish by rename, point `latest`, prune. Nothing old goes before the new archive is known
//! to be whole.

use super::build::{Built, build, file_name};
use super::crypt::Recipients;
use super::flaw::{Flaw, NotJudged};
use super::lock::lock;
use super::manifest::{self, Manifest};
use super::past::Reading;
use super::prune::{self, judge};
use super::space::no_space;
use super::{find, plan, records, remote, shelf};
use crate::base::step::step;
use crate::base::text::count;
use crate::base::units::Size;
use crate::base::{Fault, Home, Journal, Run, State, units, upgrade, watchdog};
use crate::config::Loaded;
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// An archive that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// `ok`, or `warning` when there are problems.
    pub state: State,
    /// Its file.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
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
    /// Files without their last line, which was being written.
    pub cut: Vec<Cut>,
    /// Links that lead to nothing in the archive.
    pub links_out: Vec<manifest::LinkOut>,
    /// What could not be kept as it was.
    pub unkept: Vec<manifest::Unkept>,
    /// What is wrong with what is in it.
    pub flaws: Vec<Flaw>,
    /// Databases in it that could not be judged.
    pub unjudged: Vec<NotJudged>,
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

/// A file whose unfinished last line is not in the archive.
#[derive(Clone, Debug, Serialize)]
pub struct Cut {
    /// The file, relative to the home.
    pub path: manifest::Name,
    /// The bytes that were left out.
    pub bytes: u64,
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
            count(self.files, "file"),
            Size(self.content),
            ratio(self.bytes, self.content),
            self.reused * 100 / self.bytes.max(1),
            encrypted,
            self.seconds,
            home.show(&self.archive)
        )
    }
}

/// `12.3 MB (41%)`. Of next to nothing an archive is larger than what is in it: no share is told then.
fn ratio(bytes: u64, content: u64) -> String {
    if bytes > content {
        return Size(bytes).to_string();
    }
    let share = bytes as f64 / content.max(1) as f64 * 100.0;
    format!("{} ({share:.0}%)", Size(bytes))
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
    if loaded.home.has(&loaded.home.restore_journal()) {
        return Err(Fault::critical("a restore of this home was cut short and is not undone yet")
            .hint("run `restore` or `backup` from the command line: it finishes or undoes that first")
            .into());
    }
    not_half_new(&loaded.home)?;
    watchdog::phase("listing what is to be archived");
    let plan = plan::plan(&loaded.config)?;
    if plan.count() == 0 && loaded.config.backup.dump.is_empty() {
        return Err(Fault::critical("there is nothing to back up: no file is included")
            .hint("look at include and exclude in [backup]; `backup --dry-run` shows what they find")
            .into());
    }
    let dir = &loaded.config.backup.dir;
    let gone = records::gone(loaded, journal);
    let recipients = Recipients::ready(&loaded.config.backup)?;
    watchdog::phase("writing the archive");
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
        flaws: manifest.flaws(),
        unjudged: manifest.not_judged(),
        cut: cut(&manifest),
        links_out: manifest.links_out.clone(),
        unkept: manifest.unkept.clone(),
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
    watchdog::phase("pruning old archives");
    if let Err(error) = after(loaded, run, journal, &name, &manifest, &mut made) {
        made.problems.push(format!("the archive is whole, but {error:#}"));
    }
    drop(held);
    watchdog::phase("copying to the bucket");
    made.remote = remote::copy(loaded, run, journal, false);
    made.problems.extend(made.remote.iter().flat_map(|copied| copied.problems.clone()));
    if !made.problems.is_empty() {
        made.state = State::Warning;
    }
    made.seconds = begun.elapsed().as_secs_f64();
    Ok(made)
}

fn cut(manifest: &Manifest) -> Vec<Cut> {
    let cut = |item: manifest::Item| Some(Cut { bytes: item.cut?, path: item.path });
    manifest.files.iter().filter_map(cut).collect()
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
    if let Some(journal) = journal {
        let _ = shelf::remember_new(loaded, journal, &made.archive, manifest);
    }
    step("published")?;
    find::refresh_latest(loaded, journal)?;
    step("latest")?;
    if let Some(journal) = journal {
        let state = if made.problems.is_empty() { State::Ok } else { State::Warning };
        records::record(journal, run, name, made.bytes, manifest, state)?;
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
    made.pruned = prune::delete(loaded, &pruning, journal)?;
    Ok(())
}
