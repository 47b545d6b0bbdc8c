//! Where a log is: beneath a folder that is held open.

use crate::base::beneath::{Dir, Options};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file or folder beneath a folder that is held open: no link and no folder that is exchanged leads us elsewhere.
#[derive(Clone, Debug)]
pub struct Location {
    root: Arc<Dir>,
    inside: PathBuf,
}

/// What has the same path is the same.
impl PartialEq for Location {
    fn eq(&self, other: &Location) -> bool {
        self.path() == other.path()
    }
}

impl Eq for Location {}

/// So many syncs one by one take about as long as one of a file system that is not busy.
#[cfg(target_os = "linux")]
const FEW: usize = 8;

impl Location {
    pub(crate) fn new(root: &Arc<Dir>, inside: impl Into<PathBuf>) -> Location {
        Location { root: Arc::clone(root), inside: inside.into() }
    }

    /// A file by a path that the operator named: links to its folder are followed, this once.
    #[cfg(test)]
    pub(crate) fn named(path: &Path) -> io::Result<Location> {
        let name = path.file_name().unwrap_or_default();
        Ok(Location::new(&Arc::new(Dir::open(crate::base::durable::parent(path))?), name))
    }

    /// Its path, for messages and to know it again.
    pub fn path(&self) -> PathBuf {
        self.root.path().join(&self.inside)
    }

    /// Its path relative to the folder that is held open.
    pub(crate) fn inside(&self) -> &Path {
        &self.inside
    }

    /// The folder that is held open.
    pub(crate) fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// Its name.
    pub(crate) fn name(&self) -> &OsStr {
        self.inside.file_name().unwrap_or_default()
    }

    /// The folder it is in.
    pub(crate) fn folder(&self) -> Location {
        Location::new(&self.root, self.inside.parent().unwrap_or(Path::new("")))
    }

    /// What lies in this folder under a name.
    pub(crate) fn join(&self, name: impl Into<Vec<u8>>) -> Location {
        Location::new(&self.root, self.inside.join(OsString::from_vec(name.into())))
    }

    /// What lies beside it under a name.
    pub(crate) fn beside(&self, name: impl Into<Vec<u8>>) -> Location {
        self.folder().join(name)
    }

    /// Opens a regular file to read it.
    pub fn open(&self) -> io::Result<File> {
        self.root.open_file(&self.inside)
    }

    /// Opens a regular file as the options say.
    pub(crate) fn open_with(&self, options: &Options) -> io::Result<File> {
        self.root.open_with(&self.inside, options)
    }

    /// What is there: of a link, the link.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.root.metadata(&self.inside)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.metadata().is_ok_and(|meta| meta.is_file())
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        self.root.remove_file(&self.inside)
    }

    /// Renames, over what is there.
    pub(crate) fn rename_over(&self, to: &Location) -> io::Result<()> {
        self.root.rename(&self.inside, &to.root, &to.inside)
    }

    /// Renames, but over nothing.
    pub(crate) fn rename(&self, to: &Location) -> io::Result<()> {
        let renamed = self.root.rename_with(&self.inside, &to.root, &to.inside, RenameFlags::NOREPLACE);
        let cannot = |error: &io::Error| {
            matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP))
        };
        match renamed {
            // Not every file system can. Nobody else gives such names.
            Err(error) if cannot(&error) => match to.metadata() {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => self.rename_over(to),
            },
            result => result,
        }
    }

    /// Makes the names in this folder last.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.root.open_dir(&self.inside)?.sync()
    }

    /// Makes this folder with what is missing above it, so that it lasts.
    pub(crate) fn make(&self, mode: u32) -> io::Result<()> {
        match self.root.open_dir(&self.inside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map(drop),
        }
        self.root.make_dir(&self.inside, mode)?;
        self.inside.ancestors().skip(1).try_for_each(|above| self.root.open_dir(above)?.sync())
    }

    /// A new file in this folder, under a name that nobody has.
    pub(crate) fn temp(&self) -> io::Result<Temp> {
        let random = RandomState::new().build_hasher().finish();
        let at = self.join(format!(".part-{random:016x}"));
        let file = at.open_with(&Options::new().read().write().create_new(0o600))?;
        Ok(Temp { file, at: Some(at) })
    }
}

/// Makes the names in many folders last: those of one file system together, where that is quicker.
pub(crate) fn sync_all<'a>(folders: impl IntoIterator<Item = &'a Location>) -> io::Result<()> {
    let different: BTreeMap<PathBuf, &Location> =
        folders.into_iter().map(|folder| (folder.path(), folder)).collect();
    let mut by_device: BTreeMap<u64, Vec<&Location>> = BTreeMap::new();
    for folder in different.into_values() {
        by_device.entry(folder.metadata()?.dev()).or_default().push(folder);
    }
    by_device.into_values().try_for_each(|folders| match folders[..] {
        #[cfg(target_os = "linux")]
        [first, ..] if folders.len() > FEW => {
            Ok(rustix::fs::syncfs(first.root.open_dir(&first.inside)?.to_file()?)?)
        }
        _ => folders.iter().try_for_each(|folder| folder.sync()),
    })
}

/// A file that goes again unless it gets its name.
#[derive(Debug)]
pub(crate) struct Temp {
    pub(crate) file: File,
    at: Option<Location>,
}

impl Temp {
    /// Gives it a name that is free.
    pub(crate) fn publish(mut self, to: &Location) -> io::Result<()> {
        self.at.as_ref().map_or(Ok(()), |at| at.rename(to)).map(|()| self.at = None)
    }

    /// Gives it a name, whatever has it.
    pub(crate) fn replace(mut self, to: &Location) -> io::Result<()> {
        self.at.as_ref().map_or(Ok(()), |at| at.rename_over(to)).map(|()| self.at = None)
    }

    /// Leaves it under its own name.
    pub(crate) fn keep(mut self) -> io::Result<Location> {
        self.at.take().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Some(at) = self.at.take() {
            let _ = at.remove();
        }
    }
}
