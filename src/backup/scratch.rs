//! A folder to work in beside the archives.

use anyhow::{Context, Result};
use std::fs::File;
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// A folder that is removed when it is dropped, and that no run sweeps before.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: TempDir,
    _held: File,
}

impl Scratch {
    /// A new one in a folder; `prefix` says what for.
    pub(super) fn new(within: &Path, prefix: &str) -> Result<Scratch> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(within);
        let folder = folder.with_context(|| format!("cannot create a folder in {}", within.display()))?;
        let held = hold(folder.path())?;
        Ok(Scratch { folder, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Holds a folder: as long as this is open, no run that begins meanwhile sweeps it.
pub(super) fn hold(folder: &Path) -> Result<File> {
    File::open(folder)
        .and_then(|file| file.try_lock().map_err(io::Error::from).map(|()| file))
        .with_context(|| format!("cannot hold the work folder {}", folder.display()))
}
