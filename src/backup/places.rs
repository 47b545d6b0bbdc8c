//! The folders that backups read and restores write, held open: the home, and what absolute includes name
//! outside it.
//!
//! Nothing is read, written, moved or removed but below one of them, through no link.

use super::manifest::{OUTSIDE, RENAMED};
use super::outside::{Outside, is_plain};
use crate::base::beneath::{Dir, Refused};
use crate::base::{Home, durable};
use crate::config::Backup;
use anyhow::{Context, Result};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The home, and what is read and restored outside it.
#[derive(Debug)]
pub struct Places {
    /// The home.
    pub home: Dir,
    outside: Vec<(Outside, OnceCell<Dir>)>,
}

impl Places {
    /// The home, and what the absolute includes of `[backup]` name.
    pub fn open(home: &Home, backup: &Backup) -> Result<Places> {
        Ok(Places::of(open_home(home)?, backup))
    }

    /// [`Places::open`], of a home that is held already.
    pub fn of(home: Dir, backup: &Backup) -> Places {
        let outside = Outside::all(backup).into_iter().map(|outside| (outside, OnceCell::new()));
        Places { home, outside: outside.collect() }
    }

    /// One folder and nothing else.
    pub fn only(folder: Dir) -> Places {
        Places { home: folder, outside: Vec::new() }
    }

    /// Whether a restore may touch this path: a relative one of the home, or an absolute one that an
    /// include of `[backup]` names.
    pub fn allow(&self, path: &Path) -> bool {
        if path.is_absolute() {
            return self.outside.iter().any(|(outside, _)| outside.covers(path));
        }
        is_below(path)
    }

    /// The folder that a path is in, held, and the rest of the path.
    ///
    /// # Errors
    /// [`Refused::Outside`] for a path that is not allowed; `NotFound` when the folder of an include is
    /// missing.
    pub fn at<'p>(&self, path: &'p Path) -> io::Result<(&Dir, &'p Path)> {
        if !path.is_absolute() {
            return Ok((&self.home, path));
        }
        let covers = |(outside, _): &&(Outside, OnceCell<Dir>)| outside.covers(path);
        let (outside, held) = self.outside.iter().find(covers).ok_or(Refused::Outside)?;
        let rest = path.strip_prefix(&outside.root).map_err(|_| Refused::Outside)?;
        if let Some(dir) = held.get() {
            return Ok((dir, rest));
        }
        let dir = Dir::open(&outside.root)?;
        Ok((held.get_or_init(|| dir), rest))
    }

    /// Makes a folder, with what is missing above it.
    pub fn make_folder(&self, path: &Path, mode: u32) -> Result<()> {
        let making = || format!("cannot create the folder {}", path.display());
        let (dir, rest) = match self.at(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_absolute() => {
                let covers = |(outside, _): &&(Outside, OnceCell<Dir>)| outside.covers(path);
                let root = self.outside.iter().find(covers).map(|(outside, _)| outside.root.as_path());
                make_root(root.unwrap_or(path), mode).with_context(making)?;
                self.at(path).with_context(making)?
            }
            found => found.with_context(making)?,
        };
        dir.make_dir(rest, mode).map(drop).with_context(making)
    }

    /// Removes a folder if nothing is in it.
    pub fn remove_if_empty(&self, path: &Path) {
        let removed = match self.at(path) {
            Ok((dir, rest)) if !rest.as_os_str().is_empty() => dir.remove_dir(rest),
            // The root of an include, or a folder above it.
            _ if path.is_absolute() => parent_and_name(path).and_then(|(dir, name)| dir.remove_dir(name)),
            _ => return,
        };
        // Best effort: what is in use stays.
        let _ = removed;
    }

    /// Whether it may make, and so remove, this folder: one of the home, or one that leads to what an
    /// include names.
    pub fn allow_folder(&self, path: &Path) -> bool {
        let leads_to = |(outside, _): &(Outside, OnceCell<Dir>)| outside.root.starts_with(path);
        self.allow(path) || (is_plain(path) && self.outside.iter().any(leads_to))
    }
}

/// The home, held.
pub fn open_home(home: &Home) -> Result<Dir> {
    Dir::open(home.root()).with_context(|| format!("cannot open the home {}", home.root().display()))
}

/// Makes the root of an include: links above it are the operator's.
fn make_root(root: &Path, mode: u32) -> io::Result<()> {
    let there = root.ancestors().find(|up| up.is_dir()).ok_or(ErrorKind::NotFound)?;
    let rest = root.strip_prefix(there).map_err(|_| ErrorKind::NotFound)?;
    Dir::open(there)?.make_dir(rest, mode).map(drop)
}

fn parent_and_name(path: &Path) -> io::Result<(Dir, &OsStr)> {
    let name = path.file_name().ok_or(Refused::Outside)?;
    Ok((Dir::open(durable::parent(path))?, name))
}

/// Whether a path is relative and made of normal parts.
pub fn is_below(path: &Path) -> bool {
    let normal = |part| matches!(part, std::path::Component::Normal(_));
    !path.as_os_str().is_empty() && path.components().all(normal)
}

/// Where a path lies in a folder that has a place for all of them: laid ready, set aside, or below `--to`.
pub fn inner(path: &Path) -> Cow<'_, Path> {
    if let Ok(rest) = path.strip_prefix("/") {
        return Cow::Owned(Path::new(OUTSIDE).join(rest));
    }
    let first = path.iter().next().unwrap_or_default();
    if first == OUTSIDE || first == RENAMED {
        return Cow::Owned(Path::new(RENAMED).join(path));
    }
    Cow::Borrowed(path)
}

/// The path that lies there: [`inner`] backwards.
pub fn outer(path: &Path) -> PathBuf {
    if let Ok(rest) = path.strip_prefix(OUTSIDE) {
        return Path::new("/").join(rest);
    }
    path.strip_prefix(RENAMED).unwrap_or(path).to_owned()
}

/// What is there; none: nothing.
///
/// # Errors
/// Also when a link is in the way.
pub fn look(dir: &Dir, path: &Path) -> io::Result<Option<std::fs::Metadata>> {
    match dir.metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the names in folders last: those of one file system together, where they are many.
pub fn sync<'a>(folders: impl IntoIterator<Item = (&'a Dir, PathBuf)>) -> Result<()> {
    /// So many syncs one by one take about as long as one of a file system that is not busy.
    const FEW: usize = 8;
    let syncing =
        |dir: &Dir, path: &Path| format!("cannot sync the folder {}", dir.path().join(path).display());
    let mut by_device: BTreeMap<u64, Vec<(&Dir, PathBuf)>> = BTreeMap::new();
    for (dir, path) in folders {
        if let Some(meta) =
            look(dir, &path).with_context(|| syncing(dir, &path))?.filter(|meta| meta.is_dir())
        {
            by_device.entry(meta.dev()).or_default().push((dir, path));
        }
    }
    for folders in by_device.values() {
        let together = folders.len() > FEW && cfg!(target_os = "linux");
        for (dir, path) in &folders[..if together { 1 } else { folders.len() }] {
            let folder = dir.open_dir(path).and_then(|folder| folder.to_file());
            let synced = folder.and_then(|file| match together {
                true => durable::sync_file_system(&file),
                false => file.sync_all(),
            });
            synced.with_context(|| syncing(dir, path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_place_of_its_own_and_is_found_again() {
        for (path, within) in [
            ("memory/a", "memory/a"),
            ("/srv/chroma/a", ".outside/srv/chroma/a"),
            (".outside/srv/a", ".home/.outside/srv/a"),
            (".home/a", ".home/.home/a"),
        ] {
            assert_eq!(inner(Path::new(path)), Path::new(within));
            assert_eq!(outer(Path::new(within)), Path::new(path));
        }
    }
}
