//! Restores that leave the agent alone: into another folder, and on trial.

use super::transfer::{self, Spot};
use super::{Prepared, Restored, stage};
use crate::backup::places::{self, Places, inner, look};
use crate::backup::{self, Globs, reader::Shape};
use crate::base::beneath::{Dir, Refused};
use crate::base::database::{self, Verdict};
use crate::base::step::step;
use crate::base::{Fault, Journal, Run, State, durable, text};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the check of one restored database may take.
const CHECK: Duration = Duration::from_secs(3600);

const NEW_OR_EMPTY: &str = "--to takes a new or empty folder";

/// How the line of a drill begins in the journal's `actions`. The check of its age reads it.
const DRILLED: &str = "drilled ";

/// Journals a drill that failed because its archive was refused. Where it could not be told
/// whether it is whole, there was no drill.
pub fn note_drill(journal: &Journal, run: &Run, which: Option<&str>, why: &anyhow::Error) -> Result<()> {
    if Fault::is_of_damage(why) {
        let which = text::one_line(which.unwrap_or("latest"), 200);
        journal.note(run, &format!("{DRILLED}{which}"), State::Critical)?;
    }
    Ok(())
}

/// Refuses to replace anything in another folder, or to write through a link in it.
fn need_free(target: &Dir, path: &Path) -> Result<()> {
    let shown = target.path().join(path);
    let what = match look(target, path) {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => "is there already",
        Err(error) if Refused::of(&error) == Some(Refused::Link) => "lies behind a link",
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", shown.display())),
    };
    Err(Fault::unknown(format!("{} {what}; nothing was changed", shown.display())).hint(NEW_OR_EMPTY).into())
}

/// Refuses a folder that has something in it, but for what a new file system has.
fn need_empty(target: &Dir) -> Result<()> {
    let shown = target.path().display();
    let mut entries = target.entries("").with_context(|| format!("cannot look into {shown}"))?;
    let other = entries.find(|entry| entry.as_ref().map_or(true, |entry| entry.name != "lost+found"));
    match other.transpose().with_context(|| format!("cannot look into {shown}"))? {
        None => Ok(()),
        Some(entry) => {
            let name = text::sanitize(&entry.name.to_string_lossy());
            let message = format!("{shown} is not empty ({name} is in it); nothing was changed");
            Err(Fault::unknown(message).hint(NEW_OR_EMPTY).into())
        }
    }
}

impl Prepared<'_> {
    /// Refuses a folder of the home that backups take: the agent would find a second copy of its files there.
    fn need_outside(&self, folder: &Path) -> Result<()> {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
        let rest = folder.strip_prefix(there).unwrap_or(Path::new(""));
        let place = canonical(there).join(rest);
        let Ok(inside) = place.strip_prefix(canonical(self.loaded.home.root())) else { return Ok(()) };
        let globs = Globs::of(&self.loaded.config.backup)?;
        if !globs.takes(inside) && !globs.takes(&inside.join("memory")) {
            return Ok(());
        }
        let message = format!("{} is in a folder that backups take; nothing was changed", folder.display());
        Err(Fault::unknown(message).hint("name a folder outside of the home for --to").into())
    }

    /// Unpacks into another folder. Nothing in it is replaced, nothing is stopped. What is from outside
    /// the home goes into `.outside` there.
    pub fn carry_out_to(mut self, folder: &Path) -> Result<Restored> {
        self.into_folder();
        let folder = std::path::absolute(folder)?;
        self.need_outside(&folder)?;
        if let Ok(target) = Dir::open(&folder) {
            for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
                need_free(&target, &inner(&entry.path))?;
            }
            need_empty(&target)?;
        }
        durable::make_folder(&folder, 0o700)?;
        self.need_room(&folder)?;
        let target = Dir::open(&folder).with_context(|| format!("cannot open {}", folder.display()))?;
        let staging = tempfile::Builder::new()
            .prefix(".part-restore-")
            .tempdir_in(&folder)
            .with_context(|| format!("cannot create a folder in {}", folder.display()))?;
        let notes = self.stage(staging.path())?;
        self.notes.extend(notes);
        let staged = staging.path().file_name().unwrap_or_default();
        let staged = target.open_dir(staged).context("cannot open the folder of files that are ready")?;
        for entry in &mut self.wanted {
            entry.path = inner(&entry.path).into_owned();
        }
        let places = Places::only(target);
        let target = &places.home;
        let made = stage::make_folders(&self.wanted, &places)?;
        let mut parents: BTreeSet<PathBuf> = made.iter().cloned().collect();
        for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
            let parent = entry.path.parent().unwrap_or(Path::new(""));
            if !parents.contains(parent) {
                let made = target.make_dir(parent, 0o755).map(drop);
                made.with_context(|| format!("cannot create {}", folder.join(parent).display()))?;
                parents.insert(parent.to_owned());
            }
            need_free(target, &entry.path)?;
            transfer::move_path(Spot(&staged, &entry.path), Spot(target, &entry.path))?;
            step("place")?;
        }
        let touched: BTreeSet<&Path> = parents.iter().flat_map(|path| path.ancestors()).collect();
        places::sync(touched.into_iter().map(|path| (target, path.to_owned())))?;
        durable::sync_folder(durable::parent(&folder))?;
        let notes = stage::finish_folders(&self.wanted, &made, &places)?;
        self.notes.extend(notes);
        let state = if self.notes.is_empty() { State::Ok } else { State::Warning };
        Ok(self.restored(state, None, Vec::new()))
    }

    /// Restores on trial into a scratch folder, checks every file and database there, and notes
    /// the result.
    pub fn drill(mut self) -> Result<Restored> {
        self.whole = true;
        let scratch = self.loaded.home.staging();
        self.need_room(&scratch)?;
        let folder = tempfile::Builder::new()
            .prefix("drill-")
            .tempdir_in(&scratch)
            .with_context(|| format!("cannot create a folder in {}", scratch.display()))?;
        let tried = self.try_out(folder.path());
        let damaged = tried.as_ref().err().is_some_and(Fault::is_of_damage);
        if let Some(journal) = self.journal.filter(|_| tried.is_ok() || damaged) {
            let (archive, manifest) = (&self.archive, self.contents.manifest.as_ref());
            backup::record_look(self.loaded, journal, self.run, archive, manifest, !damaged, true)?;
            let state = if damaged { State::Critical } else { State::Ok };
            journal.note(self.run, &format!("{DRILLED}{}", archive.display()), state)?;
        }
        tried.map_err(|error| self.untouched(error, &scratch))?;
        let state = if self.flawed { State::Warning } else { State::Ok };
        Ok(self.restored(state, None, Vec::new()))
    }

    fn try_out(&self, folder: &Path) -> Result<()> {
        self.lay(folder)?;
        let not_sound = self.contents.not_sound();
        for entry in
            self.wanted.iter().filter(|entry| entry.database && !not_sound.contains(entry.path.as_path()))
        {
            let mut connection = database::open_read_only(&folder.join(inner(&entry.path)))?;
            if let Verdict::Damaged(text) = database::check(&mut connection, "integrity_check", CHECK)? {
                return Err(Fault::critical(format!(
                    "the restored {} is damaged: {text}",
                    entry.path.display()
                ))
                .of_damage()
                .into());
            }
        }
        Ok(())
    }
}
