//! The work folder of one run beside the archives: made, swept when its run is dead, and emptied onto
//! the shelf.

use super::names::{ENCRYPTED, PLAIN, WORK, is_free, time_of_name};
use super::scratch::{Scratch, hold};
use super::sidecar::{self, Sidecar};
use crate::base::beneath::Dir;
use crate::base::step::step;
use crate::base::{Fault, Run, units};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// A work folder beside the archives, held by this run, with the name its archive will have.
#[derive(Debug)]
pub(super) struct Bench {
    /// The archive's name without its ending.
    pub(super) stem: String,
    work: Scratch,
}

impl Bench {
    /// Sweeps what dead runs left, then sets up.
    pub(super) fn set_up(dir: Dir, run: &Run) -> Result<Bench> {
        sweep(&dir)?;
        let stamp = units::stamp(run.now);
        let names = std::iter::once(stamp.clone()).chain((1..).map(|n| format!("{stamp}_{n}")));
        let mut free = names.filter(|stem| is_free(&dir, stem));
        let stem = free.next().unwrap_or(stamp);
        let work = Scratch::named(dir, format!("{WORK}{stem}-{}", run.id))?;
        Ok(Bench { stem, work })
    }

    /// The work folder.
    pub(super) fn folder(&self) -> &Path {
        self.work.path()
    }

    /// The folder of archives.
    pub(super) fn dir(&self) -> &Dir {
        self.work.within()
    }

    /// Gives a finished file of the work folder its final name, where it was not there before. An encrypted one
    /// has a note, which is there first: without it, nobody would know whose archive it is.
    pub(super) fn publish(&self, file: &str, note: Option<&Sidecar>) -> Result<PathBuf> {
        let suffix = if note.is_some() { ENCRYPTED } else { PLAIN };
        let name = format!("{}{suffix}", self.stem);
        if !is_free(self.dir(), &self.stem) {
            return Err(Fault::critical(format!(
                "{} appeared meanwhile",
                self.dir().path().join(name).display()
            ))
            .hint("another agent uses the same backup folder; run this again")
            .into());
        }
        if let Some(note) = note {
            note.write_in(self.dir(), name.as_ref())?;
            step("noted")?;
        }
        self.move_out(file, name.as_ref())
    }

    /// Moves a file of the work folder to the archives, to last.
    pub(super) fn move_out(&self, file: &str, name: &OsStr) -> Result<PathBuf> {
        let (dir, path) = (self.dir(), self.dir().path().join(name));
        dir.rename(self.work.inside(file), dir, name)
            .and_then(|()| dir.sync())
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Removes the notes of this agent whose archive never came, or went. The lock of backups must be
    /// held: a note is there for a moment before its archive.
    pub(super) fn sweep_notes(&self, agent: &str) -> Result<()> {
        let dir = self.dir();
        for entry in entries(dir)? {
            let Some(archive) = entry
                .to_str()
                .and_then(sidecar::archive_of)
                .filter(|archive| time_of_name(archive).is_some())
            else {
                continue;
            };
            let gone = dir.metadata(archive).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            if gone && Sidecar::read_in(dir, archive.as_ref()).is_ok_and(|note| note.agent == agent) {
                dir.remove_file(&entry)
                    .with_context(|| format!("cannot remove {}", dir.path().join(&entry).display()))?;
            }
        }
        Ok(())
    }
}

fn entries(dir: &Dir) -> Result<Vec<PathBuf>> {
    let entries = dir.entries("");
    let entries =
        entries.with_context(|| format!("cannot read the backup folder {}", dir.path().display()))?;
    Ok(entries.flatten().map(|entry| PathBuf::from(entry.name)).collect())
}

/// Removes work folders that nobody holds, and links and files that were not finished.
fn sweep(dir: &Dir) -> Result<()> {
    for name in entries(dir)? {
        let Some(name) = name.to_str().filter(|name| name.starts_with(WORK)) else { continue };
        let is_folder = dir.metadata(name).is_ok_and(|meta| meta.is_dir());
        let removed = if is_folder {
            match hold(dir, name) {
                Ok(_held) => dir.remove_tree(name),
                // Another agent's run, at work in the same folder.
                Err(_) => continue,
            }
        } else {
            dir.remove_file(name)
        };
        let path = dir.path().join(name);
        removed
            .with_context(|| format!("cannot remove {}, left by a run that was cut short", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_the_work_of_dead_runs_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::begin("backup");
        let live = Bench::set_up(Dir::open(dir.path()).unwrap(), &run).unwrap();
        let dead = dir.path().join(".part-20200101_000000-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("archive"), "half").unwrap();
        let second = Bench::set_up(Dir::open(dir.path()).unwrap(), &Run::begin("backup")).unwrap();
        assert!(live.folder().exists() && second.folder().exists() && !dead.exists());
        let left = live.folder().to_owned();
        drop(live);
        assert!(!left.exists());
    }
}
