//! Old files out, new files in, and back again: every move is written down before the first one
//! is made, and what has been done is read from the disk, so that a crash at any point can be
//! undone or finished.

use super::stage::move_path;
use crate::backup::manifest::Name;
use crate::base::step::step;
use crate::base::{Home, Run, database, durable, render, units};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How the folders of old files begin, in the home.
pub(super) const ASIDE: &str = ".pre-restore.";
/// In such a folder, the swap that filled it.
pub(super) const RECORD: &str = ".restore.json";
/// In such a folder, what an undo found in the place of the old files.
pub(super) const FOUND: &str = ".found";

/// A swap, as `.ops/restore.json` has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Swap {
    /// The archive.
    pub(super) archive: Name,
    /// The run that began it.
    pub(super) run: String,
    /// When.
    pub(super) at: DateTime<Utc>,
    /// How far it is.
    pub(super) phase: Phase,
    /// Where the new files lie ready, absolute.
    pub(super) stage: Name,
    /// Where the old ones go, absolute.
    pub(super) aside: Name,
    /// The services that ran before and are to run again.
    pub(super) services: Vec<String>,
    /// Every file that is touched.
    pub(super) moves: Vec<Move>,
    /// Folders that were not there before.
    pub(super) folders: Vec<Name>,
    /// Folders that go in the end if nothing is in them any more.
    #[serde(default)]
    pub(super) emptied: Vec<Name>,
}

/// How far a swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Files are being moved: to be undone after a crash.
    Swapping,
    /// The new state is whole: only the services are to be started.
    Placed,
    /// It is being undone.
    Undoing,
}

/// One file that is touched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Move {
    /// Relative to the home.
    pub(super) path: Name,
    /// Whether there was such a file before.
    pub(super) had: bool,
    /// Whether a new one comes; else the old one only goes.
    pub(super) place: bool,
    /// The database that this is a `-wal`, `-shm` or `-journal` of.
    pub(super) belongs_to: Option<Name>,
}

/// The moves for files and databases of the archive, as the home is now. Of each database all
/// three sidecars are named, there or not: an undo must know which ones are not the old one's.
pub(super) fn moves(home: &Path, files: &[&Path], databases: &[&Path]) -> Vec<Move> {
    let exists = |path: &Path| fs::symlink_metadata(home.join(path)).is_ok();
    let placed: BTreeSet<&Path> = files.iter().copied().collect();
    let mut moves = Vec::new();
    for path in files {
        moves.push(Move { path: Name(path.to_path_buf()), had: exists(path), place: true, belongs_to: None });
    }
    // After their database: with it gone, nobody can open what is left by mistake.
    for database in databases {
        for sidecar in database::sidecars(database) {
            if !placed.contains(sidecar.as_path()) {
                let (had, belongs_to) = (exists(&sidecar), Some(Name(database.to_path_buf())));
                moves.push(Move { path: Name(sidecar), had, place: false, belongs_to });
            }
        }
    }
    moves
}

/// The folders that are to be there for these files and are not, and of these folders: outer ones
/// first.
pub(super) fn missing_folders(home: &Path, files: &[&Path], folders: &[&Path]) -> Vec<Name> {
    let parents = files.iter().filter_map(|path| path.parent());
    let wanted = parents.chain(folders.iter().copied()).flat_map(Path::ancestors);
    let missing: BTreeSet<&Path> = wanted.filter(|folder| !home.join(folder).is_dir()).collect();
    missing.into_iter().map(|folder| Name(folder.to_owned())).collect()
}

impl Swap {
    /// A swap without a move yet, with a folder for the old files that is not there so far.
    pub(super) fn begin(
        home: &Home,
        run: &Run,
        archive: Name,
        stage: PathBuf,
        services: Vec<String>,
    ) -> Swap {
        let stamp = units::stamp(run.now);
        let names = std::iter::once(stamp.clone()).chain((1..).map(|n| format!("{stamp}_{n}")));
        let mut asides = names.map(|name| home.path(format!("{ASIDE}{name}")));
        let aside = asides.find(|path| fs::symlink_metadata(path).is_err());
        Swap {
            archive,
            run: run.id.clone(),
            at: run.now,
            phase: Phase::Swapping,
            stage: Name(stage),
            aside: Name(aside.unwrap_or_else(|| home.path(ASIDE))),
            services,
            moves: Vec::new(),
            folders: Vec::new(),
            emptied: Vec::new(),
        }
    }

    /// The swap that was cut short in this home, if any.
    pub(super) fn load(home: &Home) -> Result<Option<Swap>> {
        let path = home.restore_journal();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Writes down how far it is.
    pub(super) fn save(&mut self, home: &Home, phase: Phase) -> Result<()> {
        self.phase = phase;
        durable::replace(&home.restore_journal(), render::document(self)?.as_bytes(), 0o600)?;
        step("phase")?;
        Ok(())
    }

    /// Moves the old files aside and the new ones in. On disk when it returns.
    pub(super) fn forward(&self, home: &Path) -> Result<()> {
        if self.moves.iter().any(|one| one.had) {
            // First, while nothing has moved yet: old files that nobody knows about are lost too.
            durable::make_folder(&self.aside.0, 0o700)?;
            durable::replace(&self.aside.0.join(RECORD), render::document(self)?.as_bytes(), 0o600)?;
            step("record")?;
        }
        for one in self.moves.iter().filter(|one| one.had) {
            let target = self.aside.0.join(&one.path.0);
            durable::make_folder(durable::parent(&target), 0o700)?;
            move_path(&home.join(&one.path.0), &target)?;
            step("aside")?;
        }
        // The old files are safe before a new one takes the name of any.
        self.sync(home)?;
        for one in self.moves.iter().filter(|one| one.place) {
            let target = home.join(&one.path.0);
            durable::make_folder(durable::parent(&target), 0o755)?;
            move_path(&self.stage.0.join(&one.path.0), &target)?;
            step("place")?;
        }
        self.sync(home)
    }

    /// Puts everything back as it was. May be called again after a crash in the middle.
    ///
    /// A file that is neither the old one nor the restored one (something ran meanwhile) is kept
    /// in `.found` beside the old ones. Gives how many there were.
    pub(super) fn back(&self, home: &Path) -> Result<usize> {
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        let to = |from: &Path, to: &Path| -> Result<()> {
            durable::make_folder(durable::parent(to), 0o700)?;
            move_path(from, to)?;
            step("back")?;
            Ok(())
        };
        let mut found = 0;
        // Backwards, so that a database comes back after its sidecars.
        for one in self.moves.iter().rev() {
            let path = &one.path.0;
            let (here, new, old) = (home.join(path), self.stage.0.join(path), self.aside.0.join(path));
            if let Some(database) = &one.belongs_to
                && self.is_back(home, &database.0)
                && !exists(&old)
            {
                // It belongs to the old database, which may be in use again.
                continue;
            }
            if exists(&here) {
                if one.place && !exists(&new) {
                    to(&here, &new)?;
                } else if exists(&old) || !one.had {
                    to(&here, &self.aside.0.join(FOUND).join(path))?;
                    found += 1;
                }
            }
            if exists(&old) {
                to(&old, &here)?;
            }
        }
        for folder in self.folders.iter().rev() {
            // Only if nothing is in it.
            let _ = fs::remove_dir(home.join(&folder.0));
        }
        self.sync(home)?;
        Ok(found)
    }

    /// Whether the old file is in its place: it was never moved, or has been put back.
    fn is_back(&self, home: &Path, path: &Path) -> bool {
        let exists = |path: PathBuf| fs::symlink_metadata(path).is_ok();
        let replaced = self.moves.iter().any(|one| one.place && one.path.0 == path);
        exists(home.join(path))
            && (!replaced || exists(self.stage.0.join(path)))
            && !exists(self.aside.0.join(path))
    }

    /// Forgets the swap: what lay ready goes, and the folder of old files if it is empty.
    pub(super) fn close(&self, home: &Home) -> Result<()> {
        for folder in self.emptied.iter().filter(|_| self.phase == Phase::Placed) {
            let _ = fs::remove_dir(home.path(&folder.0));
        }
        tidy(&self.aside.0);
        let laid_ready_by_us = self.stage.0.starts_with(home.staging());
        if !laid_ready_by_us {
            // Old files that were put back: what of them is left stays.
            tidy(&self.stage.0);
        }
        let path = home.restore_journal();
        match fs::remove_file(&path) {
            // It could not even be begun.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.with_context(|| format!("cannot remove {}", path.display()))?,
        }
        durable::sync_folder(durable::parent(&path))?;
        step("closed")?;
        if laid_ready_by_us {
            // What cannot be removed now is swept by the next restore.
            let _ = fs::remove_dir_all(&self.stage.0);
        }
        Ok(())
    }

    fn sync(&self, home: &Path) -> Result<()> {
        let mut folders = BTreeSet::new();
        for one in &self.moves {
            for root in [home, &self.stage.0, &self.aside.0] {
                folders.extend(
                    root.join(&one.path.0)
                        .ancestors()
                        .skip(1)
                        .map(Path::to_owned)
                        .take_while(|up| up.starts_with(root)),
                );
            }
        }
        durable::sync_folders(folders.iter().map(PathBuf::as_path).filter(|folder| folder.is_dir()))
    }
}

/// Removes what is empty in a folder of old files, and all of it if only its record is left.
pub(super) fn tidy(aside: &Path) {
    let Ok(entries) = fs::read_dir(aside) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_empty(&entry.path());
    }
    let Ok(left) = fs::read_dir(aside) else { return };
    if left.flatten().all(|entry| entry.file_name() == RECORD) {
        let _ = fs::remove_file(aside.join(RECORD));
        let _ = fs::remove_dir(aside);
    }
}

/// Removes a folder if there are only empty folders in it.
fn remove_empty(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home with an old database and its WAL, and a new one lying ready.
    fn scene(dir: &Path) -> (Home, Swap) {
        let home = Home::new(dir.join("home"));
        let stage = home.staging().join("x");
        for (path, content) in [
            (home.path("memory/a.db"), "old"),
            (home.path("memory/a.db-wal"), "old wal"),
            (stage.join("memory/a.db"), "new"),
            (stage.join("memory/sub/fresh"), "new"),
        ] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let (db, fresh) = (Path::new("memory/a.db"), Path::new("memory/sub/fresh"));
        let swap = Swap {
            archive: Name("a".into()),
            run: "r".to_owned(),
            at: Utc::now(),
            phase: Phase::Swapping,
            stage: Name(stage),
            aside: Name(home.path(".pre-restore.x")),
            services: Vec::new(),
            moves: moves(home.root(), &[db, fresh], &[db]),
            folders: vec![Name("memory/sub".into())],
            emptied: Vec::new(),
        };
        (home, swap)
    }

    fn read(home: &Home, path: &str) -> Option<String> {
        fs::read_to_string(home.path(path)).ok()
    }

    #[test]
    fn forward_and_back_again() {
        let dir = tempfile::tempdir().unwrap();
        let (home, swap) = scene(dir.path());
        swap.forward(home.root()).unwrap();
        assert_eq!(read(&home, "memory/a.db").as_deref(), Some("new"));
        assert_eq!(read(&home, "memory/a.db-wal"), None);
        assert_eq!(read(&home, ".pre-restore.x/memory/a.db-wal").as_deref(), Some("old wal"));
        // What an agent wrote beside the new database is not the old one's.
        fs::write(home.path("memory/a.db-wal"), "new wal").unwrap();
        assert_eq!(swap.back(home.root()).unwrap(), 1);
        assert_eq!(read(&home, "memory/a.db").as_deref(), Some("old"));
        assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("old wal"));
        assert_eq!(read(&home, "memory/sub/fresh"), None);
        assert!(!home.path("memory/sub").exists());
        assert_eq!(read(&home, ".pre-restore.x/.found/memory/a.db-wal").as_deref(), Some("new wal"));
        // The old agent goes on; a second undo leaves its files alone.
        fs::write(home.path("memory/a.db-wal"), "newer wal").unwrap();
        swap.back(home.root()).unwrap();
        assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("newer wal"));
    }

    #[test]
    fn whatever_was_done_can_be_undone() {
        // Every prefix of the moves, made by hand.
        for done in 0..=4 {
            let dir = tempfile::tempdir().unwrap();
            let (home, swap) = scene(dir.path());
            let aside = |path: &str| (home.path(path), swap.aside.0.join(path));
            let place = |path: &str| (swap.stage.0.join(path), home.path(path));
            let all = [
                aside("memory/a.db"),
                aside("memory/a.db-wal"),
                place("memory/a.db"),
                place("memory/sub/fresh"),
            ];
            for (from, to) in &all[..done] {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::rename(from, to).unwrap();
            }
            assert_eq!(swap.back(home.root()).unwrap(), 0, "after {done}");
            assert_eq!(read(&home, "memory/a.db").as_deref(), Some("old"), "after {done}");
            assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("old wal"), "after {done}");
            assert_eq!(read(&home, "memory/sub/fresh"), None, "after {done}");
        }
    }
}
