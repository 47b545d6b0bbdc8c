//! The work folder of one run beside the archives: made, swept when its run is dead, and emptied onto
//! the shelf.

use super::names::{ENCRYPTED, PLAIN, WORK, is_free, time_of_name};
use super::scratch::hold;
use super::sidecar::{self, Sidecar};
use crate::base::step::step;
use crate::base::{Fault, Run, durable, units};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A work folder beside the archives, held by this run, with the name its archive will have.
#[derive(Debug)]
pub(super) struct Bench {
    /// The folder.
    pub(super) folder: PathBuf,
    /// The archive's name without its ending.
    pub(super) stem: String,
    dir: PathBuf,
    _held: File,
}

impl Bench {
    /// Sweeps what dead runs left, then sets up. The backup folder is made, 0700, if there is
    /// none.
    pub(super) fn set_up(dir: &Path, run: &Run) -> Result<Bench> {
        if !dir.is_dir() {
            durable::make_folder(dir, 0o700)?;
        }
        sweep(dir)?;
        let stamp = units::stamp(run.now);
        let names = std::iter::once(stamp.clone()).chain((1..).map(|n| format!("{stamp}_{n}")));
        let mut free = names.filter(|stem| is_free(dir, stem));
        let stem = free.next().unwrap_or(stamp);
        let folder = dir.join(format!("{WORK}{stem}-{}", run.id));
        durable::make_folder(&folder, 0o700)?;
        let held = hold(&folder)?;
        Ok(Bench { folder, stem, dir: dir.to_owned(), _held: held })
    }

    /// Gives a finished file its final name, where it was not there before. An encrypted one has a
    /// note, which is there first: without it, nobody would know whose archive it is.
    pub(super) fn publish(&self, file: &Path, note: Option<&Sidecar>) -> Result<PathBuf> {
        let suffix = if note.is_some() { ENCRYPTED } else { PLAIN };
        let path = self.dir.join(format!("{}{suffix}", self.stem));
        if !is_free(&self.dir, &self.stem) {
            return Err(Fault::critical(format!("{} appeared meanwhile", path.display()))
                .hint("another agent uses the same backup folder; run this again")
                .into());
        }
        if let Some(note) = note {
            note.write(&path)?;
            step("noted")?;
        }
        durable::rename(file, &path)?;
        Ok(path)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The next run sweeps what cannot be removed now.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the notes of this agent whose archive never came, or went. The lock of backups must be
/// held: a note is there for a moment before its archive.
pub(super) fn sweep_notes(dir: &Path, agent: &str) -> Result<()> {
    let entries =
        fs::read_dir(dir).with_context(|| format!("cannot read the backup folder {}", dir.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(archive) = sidecar::archive_of(&name).filter(|archive| time_of_name(archive).is_some())
        else {
            continue;
        };
        let archive = dir.join(archive);
        let gone = fs::symlink_metadata(&archive).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if gone && Sidecar::read(&archive).is_ok_and(|note| note.agent == agent) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Removes work folders that nobody holds, and links and files that were not finished.
fn sweep(dir: &Path) -> Result<()> {
    let entries =
        fs::read_dir(dir).with_context(|| format!("cannot read the backup folder {}", dir.display()))?;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(WORK) {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            match File::open(&path).map(|file| file.try_lock().map(|()| file)) {
                Ok(Ok(_held)) => fs::remove_dir_all(&path),
                // Another agent's run, at work in the same folder.
                _ => continue,
            }
        } else {
            fs::remove_file(&path)
        };
        removed
            .with_context(|| format!("cannot remove {}, left by a run that was cut short", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_of_dead_runs_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::begin("backup");
        let live = Bench::set_up(dir.path(), &run).unwrap();
        let dead = dir.path().join(".part-20200101_000000-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("archive"), "half").unwrap();
        let second = Bench::set_up(dir.path(), &Run::begin("backup")).unwrap();
        assert!(live.folder.exists() && second.folder.exists() && !dead.exists());
        let left = live.folder.clone();
        drop(live);
        assert!(!left.exists());
    }
}
