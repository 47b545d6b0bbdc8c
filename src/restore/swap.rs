//! Old files out, new files in, and back again: every move is written down before the first one
//! is made, and what has been done is read from the disk, so that a crash at any point can be
//! undone or finished.

use super::beside::Beside;
use super::record::STAGING;
use super::survey::{self, There};
use super::transfer::{self, Spot};
use crate::backup::manifest::Name;
use crate::backup::places::{self, Places, inner, look};
use crate::base::beneath::{Dir, FileType};
use crate::base::own_files::open_own;
use crate::base::step::step;
use crate::base::{Home, Run, units};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
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
    /// Where the new files lie ready, relative to the home. Under `stage` it was absolute: versions that
    /// take it for that cannot read this.
    #[serde(alias = "stage")]
    pub(super) staged: Name,
    /// Where the old ones go, relative to the home.
    #[serde(alias = "aside")]
    pub(super) set_aside: Name,
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
    /// Relative to the home, or absolute outside it.
    pub(super) path: Name,
    /// Whether there was such a file before.
    pub(super) had: bool,
    /// Whether a new one comes; else the old one only goes.
    pub(super) place: bool,
    /// The database that this is a `-wal`, `-shm` or `-journal` of.
    pub(super) belongs_to: Option<Name>,
    /// Whether it is a mount: the old content is copied aside, the new one written over it.
    #[serde(default)]
    pub(super) in_place: bool,
    /// What tells the old file from a copy of it.
    #[serde(default)]
    pub(super) was: Option<String>,
}

/// The moves for files and links of the archive, as the home is now. What lies beside `regular` ones goes, if
/// it would be taken for part of what comes and nothing takes its place.
pub(super) fn moves(places: &Places, files: &[&Path], regular: &[&Path]) -> Result<Vec<Move>> {
    let placed: HashSet<&Path> = files.iter().copied().collect();
    let mut moves = Vec::new();
    for path in files {
        moves.push(plan(places, path, true, None)?);
    }
    // After their database: with it gone, nobody can open what is left by mistake.
    let mut beside = Beside::new(places);
    for file in regular {
        for sidecar in beside.of(file)? {
            if !placed.contains(sidecar.as_path()) {
                moves.push(plan(places, &sidecar, false, Some(Name(file.to_path_buf())))?);
            }
        }
    }
    Ok(moves)
}

/// One move, as what is there is now.
pub(super) fn plan(places: &Places, path: &Path, place: bool, belongs_to: Option<Name>) -> Result<Move> {
    let there = find(places, path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(Move {
        path: Name(path.to_owned()),
        had: there.is_some(),
        place,
        belongs_to,
        in_place: there.as_ref().is_some_and(|there| there.mounted),
        was: there.map(|there| there.stamp()),
    })
}

fn find(places: &Places, path: &Path) -> std::io::Result<Option<There>> {
    match places.at(path) {
        Ok((dir, rest)) => survey::find(dir, rest),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The folders that are to be there for these files and are not, and of these folders: outer ones
/// first.
pub(super) fn missing_folders(places: &Places, files: &[&Path], folders: &[&Path]) -> Vec<Name> {
    let parents = files.iter().filter_map(|path| path.parent());
    let wanted = parents.chain(folders.iter().copied()).flat_map(Path::ancestors);
    let wanted: BTreeSet<&Path> = wanted.filter(|folder| folder.file_name().is_some()).collect();
    let missing = wanted.into_iter().filter(|folder| match places.at(folder) {
        Ok((dir, rest)) => !look(dir, rest).is_ok_and(|there| there.is_some_and(|meta| meta.is_dir())),
        Err(_) => !folder.is_dir(),
    });
    missing.map(|folder| Name(folder.to_owned())).collect()
}

/// The folders of one swap, held.
struct Trees<'a> {
    places: &'a Places,
    stage: Option<Dir>,
    aside: Option<Dir>,
}

impl Trees<'_> {
    fn here<'p>(&self, path: &'p Path) -> Result<Option<(&Dir, &'p Path)>> {
        match self.places.at(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
        }
    }
}

fn exists(tree: Option<&Dir>, path: &Path) -> Result<bool> {
    let Some(dir) = tree else { return Ok(false) };
    let there = look(dir, path);
    Ok(there.with_context(|| format!("cannot look at {}", dir.path().join(path).display()))?.is_some())
}

fn is_there(here: Option<(&Dir, &Path)>) -> Result<bool> {
    here.map_or(Ok(false), |(dir, rest)| exists(Some(dir), rest))
}

impl Swap {
    /// A swap without a move yet, with a folder for the old files that is not there so far.
    pub(super) fn begin(
        home: &Dir,
        run: &Run,
        archive: Name,
        staged: PathBuf,
        services: Vec<String>,
    ) -> Result<Swap> {
        let stamp = units::stamp(run.now);
        let names = std::iter::once(stamp.clone()).chain((1..10_000).map(|n| format!("{stamp}_{n}")));
        let mut asides = names.map(|name| PathBuf::from(format!("{ASIDE}{name}")));
        let aside = asides.find(|path| look(home, path).is_ok_and(|there| there.is_none()));
        Ok(Swap {
            archive,
            run: run.id.clone(),
            at: run.now,
            phase: Phase::Swapping,
            staged: Name(staged),
            set_aside: Name(aside.context("there are too many folders of old files of this second")?),
            services,
            moves: Vec::new(),
            folders: Vec::new(),
            emptied: Vec::new(),
        })
    }

    /// The folder of old files, absolute, if there is one.
    pub(super) fn old_files(&self, home: &Home) -> Option<PathBuf> {
        Some(home.path(&self.set_aside.0)).filter(|aside| aside.is_dir())
    }

    fn trees<'a>(&self, places: &'a Places) -> Result<Trees<'a>> {
        let open = |path: &Path| match open_own(&places.home, path) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        Ok(Trees { places, stage: open(&self.staged.0)?, aside: open(&self.set_aside.0)? })
    }

    /// Moves the old files aside and the new ones in. On disk when it returns.
    pub(super) fn forward(&self, places: &Places) -> Result<()> {
        if self.moves.iter().any(|one| one.had) {
            // First, while nothing has moved yet: old files that nobody knows about are lost too.
            let making = || format!("cannot create the folder {}", self.set_aside.0.display());
            let aside = places.home.make_dir(&self.set_aside.0, 0o700).with_context(making)?;
            aside.replace(RECORD, &self.document()?, 0o600).with_context(making)?;
            step("record")?;
        }
        let trees = self.trees(places)?;
        for one in self.moves.iter().filter(|one| one.had) {
            let within = inner(&one.path.0);
            let (Some(here), Some(aside)) = (trees.here(&one.path.0)?, &trees.aside) else { continue };
            let (here, old) = (Spot(here.0, here.1), Spot(aside, &within));
            transfer::make_parent(old, 0o700)?;
            if one.in_place {
                transfer::copy_path(here, old)?
            } else {
                transfer::move_path(here, old)?
            }
            step("aside")?;
        }
        // The old files are safe before a new one takes the name of any.
        self.sync(&trees)?;
        for one in self.moves.iter().filter(|one| one.place || one.in_place) {
            if let Some(parent) = one.path.0.parent().filter(|parent| parent.file_name().is_some()) {
                places.make_folder(parent, 0o755)?;
            }
            let within = inner(&one.path.0);
            let (Some(here), Some(stage)) = (trees.here(&one.path.0)?, &trees.stage) else { continue };
            let (here, new) = (Spot(here.0, here.1), Spot(stage, &within));
            match (one.in_place, one.place) {
                (false, _) => transfer::move_path(new, here)?,
                (true, true) => transfer::overwrite(new, here)?,
                (true, false) => transfer::empty(here)?,
            }
            step("place")?;
        }
        self.sync(&trees)
    }

    /// Puts everything back as it was. May be called again after a crash in the middle.
    ///
    /// A file that is neither the old one nor the restored one (something ran meanwhile) is kept
    /// in `.found` beside the old ones. Gives how many there were.
    pub(super) fn back(&self, places: &Places) -> Result<usize> {
        let trees = self.trees(places)?;
        let mut found = 0;
        let known: HashSet<&Path> = self.moves.iter().map(|one| one.path.0.as_path()).collect();
        let mut beside = Beside::new(places);
        // Backwards, so that a database comes back after its sidecars.
        for one in self.moves.iter().rev() {
            if one.place && self.brings_regular(&trees, &one.path.0)? {
                for path in beside.of(&one.path.0)? {
                    if !known.contains(path.as_path()) {
                        // It came after the restored file and belongs to that.
                        let belongs_to = Some(one.path.clone());
                        let (path, place, in_place) = (Name(path), false, false);
                        let sidecar = Move { path, had: false, place, belongs_to, in_place, was: None };
                        found += self.back_one(&trees, &sidecar)?;
                    }
                }
            }
            found += self.back_one(&trees, one)?;
        }
        for folder in self.folders.iter().rev() {
            places.remove_if_empty(&folder.0);
        }
        self.sync(&trees)?;
        Ok(found)
    }

    fn back_one(&self, trees: &Trees<'_>, one: &Move) -> Result<usize> {
        let path = &one.path.0;
        let within = inner(path);
        let (new, old) = (exists(trees.stage.as_ref(), &within)?, exists(trees.aside.as_ref(), &within)?);
        if let Some(database) = &one.belongs_to
            && !old
            && self.is_back(trees, &database.0)?
        {
            // It belongs to the old database, which may be in use again.
            return Ok(0);
        }
        let Some((dir, rest)) = trees.here(path)? else { return Ok(0) };
        let here = Spot(dir, rest);
        if let (true, Some(aside)) = (old, &trees.aside) {
            let back = Spot(aside, &within);
            if one.in_place {
                // A copy that is there is whole. Written over the new content, or over itself.
                transfer::overwrite(back, here)?;
                step("back")?;
            }
            let there =
                survey::find(dir, rest).with_context(|| format!("cannot look at {}", path.display()))?;
            let is_the_old_one = there.is_some_and(|there| one.was == Some(there.stamp()));
            if one.in_place || is_the_old_one {
                // It was copied, and could not be taken away.
                let removed = aside.remove_file(&within);
                return removed.map(|()| 0).with_context(|| format!("cannot remove {}", within.display()));
            }
        } else if one.in_place {
            return Ok(0);
        }
        let mut found = 0;
        if exists(Some(dir), rest)? {
            if let (true, false, Some(stage)) = (one.place, new, &trees.stage) {
                put(here, Spot(stage, &within))?;
            } else if old || !one.had {
                let aside = trees.places.home.make_dir(&self.set_aside.0, 0o700);
                let aside = aside.with_context(|| format!("cannot open {}", self.set_aside.0.display()))?;
                put(here, Spot(&aside, &Path::new(FOUND).join(&within)))?;
                found += 1;
            }
        }
        if let (true, Some(aside)) = (old, &trees.aside) {
            put(Spot(aside, &within), here)?;
        }
        Ok(found)
    }

    /// Whether what takes a place is a regular file, wherever it is now.
    fn brings_regular(&self, trees: &Trees<'_>, path: &Path) -> Result<bool> {
        let ready = trees.stage.as_ref().and_then(|stage| look(stage, &inner(path)).ok().flatten());
        let placed = || Ok(trees.here(path)?.and_then(|(dir, rest)| look(dir, rest).ok().flatten()));
        let there = ready.map_or_else(placed, |ready| anyhow::Ok(Some(ready)))?;
        Ok(there.is_some_and(|meta| meta.is_file()))
    }

    /// Whether the old file is in its place: it was never moved, or has been put back.
    fn is_back(&self, trees: &Trees<'_>, path: &Path) -> Result<bool> {
        let within = inner(path);
        let replaced = self.moves.iter().any(|one| one.place && one.path.0 == path);
        Ok(is_there(trees.here(path)?)?
            && (!replaced || exists(trees.stage.as_ref(), &within)?)
            && !exists(trees.aside.as_ref(), &within)?)
    }

    /// Forgets the swap: what lay ready goes, and the folder of old files if it is empty.
    pub(super) fn close(&self, places: &Places) -> Result<()> {
        let placed = self.phase == Phase::Placed;
        let trees = self.trees(places)?;
        for one in self.moves.iter().filter(|one| placed && one.place && one.in_place) {
            // Its content was copied; what was put back goes as if it had been moved.
            if let Some(stage) = &trees.stage {
                let _ = stage.remove_file(inner(&one.path.0));
            }
        }
        for folder in self.emptied.iter().filter(|_| placed) {
            places.remove_if_empty(&folder.0);
        }
        tidy(&places.home, &self.set_aside.0);
        let laid_ready_by_us = self.staged.0.starts_with(STAGING);
        if !laid_ready_by_us {
            // Old files that were put back: what of them is left stays.
            tidy(&places.home, &self.staged.0);
        }
        Swap::forget(&places.home)?;
        step("closed")?;
        if laid_ready_by_us {
            // What cannot be removed now is swept by the next restore.
            let _ = places.home.remove_tree(&self.staged.0);
        }
        Ok(())
    }

    fn sync(&self, trees: &Trees<'_>) -> Result<()> {
        let mut folders: BTreeSet<(usize, PathBuf)> = BTreeSet::new();
        let mut dirs: Vec<&Dir> = Vec::new();
        for one in &self.moves {
            let within = inner(&one.path.0);
            let here = trees.here(&one.path.0)?;
            let stage = trees.stage.as_ref().map(|stage| (stage, &*within));
            let aside = trees.aside.as_ref().map(|aside| (aside, &*within));
            for (dir, path) in [here, stage, aside].into_iter().flatten() {
                let number = dirs.iter().position(|known| std::ptr::eq(*known, dir)).unwrap_or_else(|| {
                    dirs.push(dir);
                    dirs.len() - 1
                });
                let above = path.ancestors().skip(1).map(|up| (number, up.to_owned()));
                folders.extend(above);
            }
        }
        for (number, folder) in &folders {
            transfer::sweep(dirs[*number], &folder.join("x"));
        }
        places::sync(folders.into_iter().map(|(number, folder)| (dirs[number], folder)))
    }
}

fn put(from: Spot<'_>, to: Spot<'_>) -> Result<()> {
    transfer::make_parent(to, 0o700)?;
    transfer::move_path(from, to)?;
    step("back")?;
    Ok(())
}

/// Removes what is empty in a folder of old files, and all of it if only its record is left.
pub(super) fn tidy(home: &Dir, aside: &Path) {
    let Ok(aside_dir) = home.open_dir(aside) else { return };
    remove_empty_below(&aside_dir);
    let Ok(mut left) = aside_dir.entries("") else { return };
    if left.all(|entry| entry.is_ok_and(|entry| entry.name == RECORD)) {
        let _ = aside_dir.remove_file(RECORD);
        let _ = home.remove_dir(aside);
    }
}

/// Removes the folders below that have only empty folders in them.
fn remove_empty_below(folder: &Dir) {
    let Ok(entries) = folder.entries("") else { return };
    for entry in entries.flatten().filter(|entry| entry.kind == FileType::Directory) {
        if let Ok(below) = folder.open_dir(Path::new(&entry.name)) {
            remove_empty_below(&below);
            let _ = folder.remove_dir(Path::new(&entry.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    /// A home with an old database and its WAL, and a new one lying ready.
    fn scene(dir: &Path) -> (Home, Places, Swap) {
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
        let places = Places::only(Dir::open(home.root()).unwrap());
        let swap = Swap {
            archive: Name("a".into()),
            run: "r".to_owned(),
            at: Utc::now(),
            phase: Phase::Swapping,
            staged: Name(".ops/restore/x".into()),
            set_aside: Name(".pre-restore.x".into()),
            services: Vec::new(),
            moves: moves(&places, &[db, fresh], &[db, fresh]).unwrap(),
            folders: vec![Name("memory/sub".into())],
            emptied: Vec::new(),
        };
        (home, places, swap)
    }

    fn read(home: &Home, path: &str) -> Option<String> {
        fs::read_to_string(home.path(path)).ok()
    }

    #[test]
    fn forward_and_back_again() {
        let dir = tempfile::tempdir().unwrap();
        let (home, places, swap) = scene(dir.path());
        swap.forward(&places).unwrap();
        assert_eq!(read(&home, "memory/a.db").as_deref(), Some("new"));
        assert_eq!(read(&home, "memory/a.db-wal"), None);
        assert_eq!(read(&home, ".pre-restore.x/memory/a.db-wal").as_deref(), Some("old wal"));
        // What an agent wrote beside the new database is not the old one's.
        fs::write(home.path("memory/a.db-wal"), "new wal").unwrap();
        assert_eq!(swap.back(&places).unwrap(), 1);
        assert_eq!(read(&home, "memory/a.db").as_deref(), Some("old"));
        assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("old wal"));
        assert_eq!(read(&home, "memory/sub/fresh"), None);
        assert!(!home.path("memory/sub").exists());
        assert_eq!(read(&home, ".pre-restore.x/.found/memory/a.db-wal").as_deref(), Some("new wal"));
        // The old agent goes on; a second undo leaves its files alone.
        fs::write(home.path("memory/a.db-wal"), "newer wal").unwrap();
        swap.back(&places).unwrap();
        assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("newer wal"));
    }

    #[test]
    fn what_was_written_beside_a_restored_file_goes_with_it_when_that_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let (home, places, swap) = scene(dir.path());
        swap.forward(&places).unwrap();
        for path in ["memory/a.db-journal", "memory/sub/fresh-wal", "memory/other-wal"] {
            fs::write(home.path(path), "new").unwrap();
        }
        assert_eq!(swap.back(&places).unwrap(), 2);
        assert_eq!(read(&home, "memory/a.db-journal"), None);
        assert!(!home.path("memory/sub").exists());
        assert_eq!(read(&home, "memory/other-wal").as_deref(), Some("new"));
        for path in ["memory/a.db-journal", "memory/sub/fresh-wal"] {
            assert_eq!(read(&home, &format!(".pre-restore.x/.found/{path}")).as_deref(), Some("new"));
        }
    }

    #[test]
    fn whatever_was_done_can_be_undone() {
        // Every prefix of the moves, made by hand.
        for done in 0..=4 {
            let dir = tempfile::tempdir().unwrap();
            let (home, places, swap) = scene(dir.path());
            let aside = |path: &str| (home.path(path), home.path(".pre-restore.x").join(path));
            let place = |path: &str| (home.staging().join("x").join(path), home.path(path));
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
            assert_eq!(swap.back(&places).unwrap(), 0, "after {done}");
            assert_eq!(read(&home, "memory/a.db").as_deref(), Some("old"), "after {done}");
            assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("old wal"), "after {done}");
            assert_eq!(read(&home, "memory/sub/fresh"), None, "after {done}");
        }
    }

    #[test]
    fn a_file_that_was_copied_and_could_not_be_taken_away_is_left_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (home, places, swap) = scene(dir.path());
        let aside = home.path(".pre-restore.x/memory");
        fs::create_dir_all(&aside).unwrap();
        fs::copy(home.path("memory/a.db"), aside.join("a.db")).unwrap();
        let before = fs::metadata(home.path("memory/a.db")).unwrap();
        assert_eq!(swap.back(&places).unwrap(), 0);
        let after = fs::metadata(home.path("memory/a.db")).unwrap();
        assert_eq!((before.ino(), read(&home, "memory/a.db").as_deref()), (after.ino(), Some("old")));
        assert!(!aside.join("a.db").exists());
    }

    #[test]
    fn what_is_written_in_place_is_undone_in_place() {
        for cut in ["nothing", "aside", "half", "whole"] {
            let dir = tempfile::tempdir().unwrap();
            let (home, places, mut swap) = scene(dir.path());
            let one = swap.moves.iter_mut().find(|one| one.path.0 == Path::new("memory/a.db")).unwrap();
            one.in_place = true;
            let inode = fs::metadata(home.path("memory/a.db")).unwrap().ino();
            let aside = home.path(".pre-restore.x/memory");
            if cut == "whole" {
                swap.forward(&places).unwrap();
                assert_eq!(read(&home, "memory/a.db").as_deref(), Some("new"));
            } else if cut != "nothing" {
                fs::create_dir_all(&aside).unwrap();
                fs::copy(home.path("memory/a.db"), aside.join("a.db")).unwrap();
            }
            if cut == "half" {
                fs::write(home.path("memory/a.db"), "n").unwrap();
            }
            swap.back(&places).unwrap();
            assert_eq!(read(&home, "memory/a.db").as_deref(), Some("old"), "{cut}");
            assert_eq!(fs::metadata(home.path("memory/a.db")).unwrap().ino(), inode, "{cut}");
            assert_eq!(read(&home, "memory/a.db-wal").as_deref(), Some("old wal"), "{cut}");
        }
    }
}
