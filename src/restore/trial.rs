//! Restores that leave the agent alone: into another folder, and on trial.

use super::{Prepared, Restored, stage};
use crate::backup::{self, reader::Shape};
use crate::base::database::{self, Verdict};
use crate::base::{Fault, Journal, Run, State, durable, text};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long the check of one restored database may take.
const CHECK: Duration = Duration::from_secs(3600);

/// How the line of a drill begins in the journal's `actions`. The check of its age reads it.
const DRILLED: &str = "drilled ";

/// Journals a drill that failed because its archive was refused. Where it could not be told
/// whether it is whole, there was no drill.
pub fn note_drill(journal: &Journal, run: &Run, which: Option<&str>, why: &anyhow::Error) -> Result<()> {
    if Fault::of(why).0 == State::Critical {
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
        stage::stage(self.readable.path(), &self.wanted, staging.path(), self.run)?;
        let made = stage::make_folders(&self.wanted, &folder)?;
        for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
            let target = folder.join(&entry.path);
            durable::make_folder(durable::parent(&target), 0o755)?;
            stage::move_path(&staging.path().join(&entry.path), &target)?;
        }
        stage::set_folder_modes(&self.wanted, &made, &folder)?;
        let state = if self.notes.is_empty() { State::Ok } else { State::Warning };
        Ok(self.restored(state, None, Vec::new()))
    }

    /// Restores on trial into a scratch folder, checks every file and database there, and notes
    /// the result.
    pub fn drill(self) -> Result<Restored> {
        let scratch = self.loaded.home.staging();
        self.need_room(&scratch)?;
        let folder = tempfile::Builder::new()
            .prefix("drill-")
            .tempdir_in(&scratch)
            .with_context(|| format!("cannot create a folder in {}", scratch.display()))?;
        let tried = self.try_out(folder.path());
        if let Some(journal) = self.journal {
            let manifest = self.contents.manifest.as_ref();
            backup::record_look(
                self.loaded,
                journal,
                self.run,
                &self.archive,
                manifest,
                tried.is_ok(),
                true,
            )?;
            let state = if tried.is_ok() { State::Ok } else { State::Critical };
            journal.note(self.run, &format!("{DRILLED}{}", self.archive.display()), state)?;
        }
        tried?;
        Ok(self.restored(State::Ok, None, Vec::new()))
    }

    fn try_out(&self, folder: &Path) -> Result<()> {
        stage::stage(self.readable.path(), &self.wanted, folder, self.run)?;
        let damaged: BTreeSet<&Path> = self
            .contents
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.databases)
            .filter(|database| !database.is_sound())
            .map(|database| database.path.0.as_path())
            .collect();
        for entry in
            self.wanted.iter().filter(|entry| entry.database && !damaged.contains(entry.path.as_path()))
        {
            let mut connection = database::open_read_only(&folder.join(&entry.path))?;
            if let Verdict::Damaged(text) = database::check(&mut connection, "integrity_check", CHECK)? {
                return Err(Fault::critical(format!(
                    "the restored {} is damaged: {text}",
                    entry.path.display()
                ))
                .into());
            }
        }
        Ok(())
    }
}
