//! A folder to work in beside the archives.

use crate::base::beneath::{Dir, fresh};
use anyhow::{Context, Result};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A folder that is removed when it is dropped, and that no run sweeps before. Nobody knows its name
/// beforehand: below a folder that is exchanged for another there is none of that name.
#[derive(Debug)]
pub(super) struct Scratch {
    within: Dir,
    name: String,
    path: PathBuf,
    _held: File,
}

impl Scratch {
    /// A new one in a folder; `prefix` says what for.
    pub(super) fn new(within: &Path, prefix: &str) -> Result<Scratch> {
        let folder = Dir::open(within);
        Scratch::beneath(folder.with_context(|| format!("cannot open {}", within.display()))?, prefix)
    }

    /// A new one in a folder that is held.
    pub(super) fn beneath(within: Dir, prefix: &str) -> Result<Scratch> {
        Scratch::named(within, fresh(prefix))
    }

    /// A new one of this name.
    pub(super) fn named(within: Dir, name: String) -> Result<Scratch> {
        let path = within.path().join(&name);
        within
            .create_dir(&name, 0o700)
            .with_context(|| format!("cannot create a folder in {}", within.path().display()))?;
        let held = hold(&within, &name)
            .with_context(|| format!("cannot hold the work folder {}", path.display()))?;
        Ok(Scratch { within, name, path, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder it is in.
    pub(super) fn within(&self) -> &Dir {
        &self.within
    }

    /// Where a file of it is, seen from the folder it is in.
    pub(super) fn inside(&self, file: &str) -> PathBuf {
        Path::new(&self.name).join(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run sweeps what cannot be removed now.
        let _ = self.within.remove_tree(&self.name);
    }
}

/// Holds a folder: as long as this is open, no run that begins meanwhile sweeps it.
pub(super) fn hold(within: &Dir, name: &str) -> io::Result<File> {
    let file = within.open_dir(name)?.to_file()?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}
