//! What lies beside a file and would be taken for part of the one that takes its place: `-wal`, `-shm` and
//! `-journal`. An encrypted database is not known by its content, so this is asked of every file.

use crate::backup::places::Places;
use crate::base::beneath::{FileType, Refused};
use crate::base::database;
use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The sidecars there are, each folder listed once.
pub(super) struct Beside<'a> {
    places: &'a Places,
    folders: HashMap<PathBuf, HashSet<OsString>>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(places: &'a Places) -> Beside<'a> {
        Beside { places, folders: HashMap::new() }
    }

    /// Those of one file.
    pub(super) fn of(&mut self, file: &Path) -> Result<Vec<PathBuf>> {
        let folder = file.parent().unwrap_or(Path::new(""));
        if !self.folders.contains_key(folder) {
            let names = list(self.places, folder);
            let names = names.with_context(|| format!("cannot look at what is beside {}", file.display()))?;
            self.folders.insert(folder.to_owned(), names);
        }
        let there = self.folders.get(folder);
        let is_there =
            |path: &PathBuf| there.zip(path.file_name()).is_some_and(|(names, name)| names.contains(name));
        Ok(database::sidecars(file).into_iter().filter(is_there).collect())
    }
}

/// The names in a folder that end like those of sidecars, and are of no folder.
fn list(places: &Places, folder: &Path) -> io::Result<HashSet<OsString>> {
    let entries = match places.at(folder).and_then(|(dir, rest)| dir.entries(rest)) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                // Nothing is moved through a link: whoever looks at the file itself says so.
                || Refused::of(&error) == Some(Refused::Link) =>
        {
            return Ok(HashSet::new());
        }
        entries => entries?,
    };
    let mut names = HashSet::new();
    for entry in entries {
        let entry = entry?;
        if entry.kind != FileType::Directory && database::of_sidecar(Path::new(&entry.name)).is_some() {
            names.insert(entry.name);
        }
    }
    Ok(names)
}
