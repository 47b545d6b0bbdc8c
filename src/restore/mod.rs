//! Brings a backup back, or leaves everything as it was.
//!
//! [`prepare`] chooses an archive, verifies all of it and looks at what would change; until then
//! nothing is touched. [`Prepared::carry_out`] lays the files ready, stops what runs, moves what
//! is replaced into `.pre-restore.STAMP`, moves the new files in, and starts what ran. Any failure
//! puts everything back. A crash is undone or finished by [`recover`].

mod aside;
mod exchange;
mod select;
mod stage;
mod swap;
mod trial;

pub use aside::{Aside, asides, find_aside, prune_asides, put_back};
pub use exchange::recover;
pub use trial::note_drill;

use crate::backup::reader::Shape;
use crate::backup::verify::Entry;
use crate::backup::{self, Contents, Readable, manifest::Name};
use crate::base::step::step;
use crate::base::units::Size;
use crate::base::{Fault, Journal, Run, State, durable, text};
use crate::config::Loaded;
use anyhow::Result;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use swap::Swap;

/// A verified archive and what restoring it would do.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The archive.
    pub archive: PathBuf,
    readable: Readable,
    /// What is in it.
    pub contents: Contents,
    /// What of it is wanted.
    pub wanted: Vec<Entry>,
    /// Files of the home that would be replaced.
    pub replaced: usize,
    /// The services that run now and would be stopped.
    pub running: Vec<String>,
    /// What will not be restored, and other things a person should know.
    pub notes: Vec<String>,
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    _lock: durable::Lock,
}

/// What a restore came to.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// `ok`, or `warning` when there are notes.
    pub state: State,
    /// The archive.
    pub archive: PathBuf,
    /// Files and links that were put in.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were replaced.
    pub replaced: usize,
    /// Where the replaced files are, if there were any.
    pub aside: Option<PathBuf>,
    /// The services that were stopped and run again.
    pub restarted: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Chooses and verifies an archive, and looks at what it would replace. Changes nothing of the
/// agent's.
///
/// `which` is `latest`, a name, a path or a time; `only` are paths of the home, empty for all.
///
/// # Errors
/// When there is no such archive, when it is not whole and harmless, or when something in the
/// home stands in its way.
pub fn prepare<'a>(
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    which: Option<&str>,
    only: &[PathBuf],
) -> Result<Prepared<'a>> {
    let lock = backup::lock(loaded, run)?;
    if loaded.home.restore_journal().exists() {
        return Err(Fault::unknown("an earlier restore was cut short; nothing was changed")
            .hint("run `restore` or `backup` without --dry-run: it finishes or undoes that first")
            .into());
    }
    let archive = select::choose(loaded, journal, which, run.now)?;
    let scratch = loaded.home.staging();
    // We hold the lock, so whatever is there is of a run that is no more.
    let _ = fs::remove_dir_all(&scratch);
    durable::make_folder(&scratch, 0o700)?;
    let opened = backup::open(&loaded.config.backup, &archive, &scratch);
    if let (Err(error), Some(journal)) = (&opened, journal)
        && backup::reader::is_damage(error)
    {
        // Best effort: the refusal itself matters more.
        let _ = backup::record_look(loaded, journal, run, &archive, None, false, false);
    }
    let (readable, contents) = opened?;
    let home = loaded.home.root();
    let (wanted, notes) = select::entries(loaded, &contents, only)?;
    let mut replaced = 0;
    for entry in &wanted {
        let there = fs::symlink_metadata(home.join(&entry.path)).ok();
        let in_the_way = match (&entry.shape, &there) {
            (_, None) => false,
            (Shape::Folder, Some(_)) => !home.join(&entry.path).is_dir(),
            (_, Some(there)) => there.is_dir(),
        };
        if in_the_way {
            return Err(Fault::unknown(format!(
                "{} is a folder on one side and a file on the other; nothing was changed",
                entry.path.display()
            ))
            .hint("move it away, or restore into another folder with --to")
            .into());
        }
        replaced += usize::from(entry.shape != Shape::Folder && there.is_some());
    }
    let running = exchange::running(loaded, run)?;
    Ok(Prepared {
        archive,
        readable,
        contents,
        wanted,
        replaced,
        running,
        notes,
        loaded,
        run,
        journal,
        _lock: lock,
    })
}

impl Prepared<'_> {
    /// The bytes of what is wanted.
    pub fn bytes(&self) -> u64 {
        self.wanted.iter().map(|entry| entry.size).sum()
    }

    /// How many files and links are wanted.
    pub fn count(&self) -> usize {
        self.wanted.iter().filter(|entry| entry.shape != Shape::Folder).count()
    }

    /// Restores into the home. `force`: services that do not stop are killed.
    ///
    /// # Errors
    /// When it could not be done. Then everything is as it was, and what ran runs again; where
    /// that failed too, the message says what is left to do.
    pub fn carry_out(self, force: bool) -> Result<Restored> {
        let home = self.loaded.home.root();
        let staging = self.loaded.home.staging().join(&self.run.id);
        self.need_room(home)?;
        durable::make_folder(&staging, 0o700)?;
        let staged = stage::stage(self.readable.path(), &self.wanted, &staging, self.run);
        if let Err(error) = staged {
            let _ = fs::remove_dir_all(&staging);
            return Err(error.context("nothing was changed"));
        }
        step("staged")?;

        let mut swap = Swap::begin(
            &self.loaded.home,
            self.run,
            Name(self.archive.clone()),
            staging,
            self.running.clone(),
        );
        exchange::exchange(self.loaded, self.run, &mut swap, &self.wanted, force, |swap| {
            self.plan_moves(swap);
            Ok(())
        })?;
        let aside = Some(swap.aside.0).filter(|aside| aside.is_dir());
        if let Some(journal) = self.journal {
            let what =
                format!("restored {} from {}", text::count(self.count(), "file"), self.archive.display());
            journal.note(self.run, &what, State::Ok)?;
        }
        let state = if self.notes.is_empty() { State::Ok } else { State::Warning };
        Ok(self.restored(state, aside, swap.services))
    }

    /// Writes down every move, as the home is now that nothing writes to it.
    fn plan_moves(&self, swap: &mut Swap) {
        let home = self.loaded.home.root();
        let paths = |want: fn(&Entry) -> bool| -> Vec<&Path> {
            self.wanted.iter().filter(|entry| want(entry)).map(|entry| entry.path.as_path()).collect()
        };
        let files = paths(|entry| entry.shape != Shape::Folder);
        swap.moves = swap::moves(home, &files, &paths(|entry| entry.database));
        swap.folders = swap::missing_folders(home, &files, &paths(|entry| entry.shape == Shape::Folder));
    }

    /// What it came to. Only what took the place of something has replaced it.
    fn restored(self, state: State, aside: Option<PathBuf>, restarted: Vec<String>) -> Restored {
        Restored {
            state,
            files: self.count(),
            bytes: self.bytes(),
            replaced: if aside.is_some() { self.replaced } else { 0 },
            aside,
            restarted,
            archive: self.archive,
            notes: self.notes,
        }
    }

    fn need_room(&self, folder: &Path) -> Result<()> {
        let (needed, free) = (self.bytes(), backup::free_space(folder)?);
        if needed > free {
            return Err(Fault::critical(format!(
                "no room in {}: {} are needed and {} are free; nothing was changed",
                folder.display(),
                Size(needed),
                Size(free)
            ))
            .into());
        }
        Ok(())
    }
}
