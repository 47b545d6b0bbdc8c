//! Restores that leave the agent alone: into another folder, and on trial.

use super::{Prepared, Restored, stage};
use crate::backup::{self, reader::Shape};
use crate::base::database::{self, Verdict};
use crate::base::step::step;
use crate::base::{Fault, Journal, Run, State, durable, text};
use anyhow::{Context, Result};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the check of one restored database may take.
const CHECK: Duration = Duration::from_secs(3600);

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

impl Prepared<'_> {
    /// Unpacks into another folder. Nothing in it is replaced, nothing is stopped.
    pub fn carry_out_to(self, folder: &Path) -> Result<Restored> {
        let folder = std::path::absolute(folder)?;
        for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
            if fs::symlink_metadata(folder.join(&entry.path)).is_ok() {
                return Err(Fault::unknown(format!(
                    "{} is there already; nothing was changed",
                    folder.join(&entry.path).display()
                ))
                .hint("--to takes a new or empty folder")
                .into());
            }
        }
        durable::make_folder(&folder, 0o700)?;
        self.need_room(&folder)?;
        let staging = tempfile::Builder::new()
            .prefix(".part-restore-")
            .tempdir_in(&folder)
            .with_context(|| format!("cannot create a folder in {}", folder.display()))?;
        self.stage(staging.path())?;
        let made = stage::make_folders(&self.wanted, &folder)?;
        let mut parents: HashSet<PathBuf> = made.iter().map(|path| folder.join(path)).collect();
        for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
            let target = folder.join(&entry.path);
            let parent = durable::parent(&target);
            if !parents.contains(parent) {
                durable::make_folder(parent, 0o755)?;
                parents.insert(parent.to_owned());
            }
            stage::move_path(&staging.path().join(&entry.path), &target)?;
            step("place")?;
        }
        let touched = parents.iter().flat_map(|path| path.ancestors()).filter(|up| up.starts_with(&folder));
        let touched: BTreeSet<&Path> = touched.chain([durable::parent(&folder)]).collect();
        durable::sync_folders(touched)?;
        stage::set_folder_modes(&self.wanted, &made, &folder)?;
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
        Ok(self.restored(State::Ok, None, Vec::new()))
    }

    fn try_out(&self, folder: &Path) -> Result<()> {
        self.lay(folder)?;
        let damaged = self.contents.damaged();
        for entry in
            self.wanted.iter().filter(|entry| entry.database && !damaged.contains(entry.path.as_path()))
        {
            let mut connection = database::open_read_only(&folder.join(&entry.path))?;
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
