//! Lays files of an archive ready in a folder, verified on the way, whole and synced.

use super::Prepared;
use crate::backup::reader::Shape;
use crate::backup::{self, Content, Entry};
use crate::base::durable::{self, Tree};
use crate::base::progress::Progress;
use crate::base::step::step;
use anyhow::{Context, Result, bail};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

impl Prepared<'_> {
    /// Unpacks the wanted files and links below `folder`, each at its path in the home. When this
    /// returns they are on disk, and all of the archive, or of the wanted files, is verified.
    ///
    /// # Errors
    /// When it is not whole, or cannot be written. The agent was not touched.
    pub(super) fn stage(&self, folder: &Path) -> Result<()> {
        self.lay(folder).map_err(|error| self.untouched(error, folder))
    }

    /// [`Prepared::stage`], with errors as they are.
    pub(super) fn lay(&self, folder: &Path) -> Result<()> {
        let total = if self.whole { self.contents.bytes() } else { self.bytes() };
        let progress = Progress::new("restoring", total, self.run.watched);
        let mut laying = Laying::begin(&self.wanted, folder, &progress)?;
        let take = &mut |entry: &Entry, content: &mut Content<'_>| laying.take(entry, content);
        if self.whole {
            backup::unpack(self.readable.path(), &self.contents, &self.loaded.home.staging(), take)?;
        } else {
            backup::unpack_part(self.readable.path(), &self.contents.damaged(), &self.wanted, take)?;
        }
        laying.finish()
    }
}

/// Files on their way into a folder.
struct Laying<'a> {
    folder: &'a Path,
    tree: Tree,
    /// By the member that has their content: hard links share one.
    files: HashMap<&'a Path, Vec<&'a Entry>>,
    links: Vec<&'a Entry>,
    /// Databases, which get their mode in the end: until then they are checked.
    databases: Vec<&'a Entry>,
    made: HashSet<PathBuf>,
    progress: &'a Progress,
}

impl<'a> Laying<'a> {
    fn begin(wanted: &'a [Entry], folder: &'a Path, progress: &'a Progress) -> Result<Laying<'a>> {
        let mut files: HashMap<&Path, Vec<&Entry>> = HashMap::new();
        for entry in wanted.iter().filter(|entry| entry.shape == Shape::File) {
            files.entry(entry.member.as_path()).or_default().push(entry);
        }
        let links = wanted.iter().filter(|entry| matches!(entry.shape, Shape::Link(_))).collect();
        Ok(Laying {
            folder,
            tree: Tree::open(folder, wanted.len())?,
            files,
            links,
            databases: Vec::new(),
            made: HashSet::new(),
            progress,
        })
    }

    /// Takes a file if it is wanted.
    fn take(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<Option<PathBuf>> {
        let Some(wanted) = self.files.remove(entry.member.as_path()) else {
            self.progress.add(entry.size);
            return Ok(None);
        };
        let [first, copies @ ..] = wanted.as_slice() else { return Ok(None) };
        let target = self.room_for(&first.path)?;
        let file = content.unpack(&target, &mut |bytes| {
            self.progress.add(bytes);
            self.tree.wrote(bytes);
        })?;
        for entry in copies {
            let copy = self.room_for(&entry.path)?;
            let copied = fs::copy(&target, &copy).and_then(|_| File::options().write(true).open(&copy));
            self.settle(&copied.with_context(|| writing(&copy))?, &copy, entry)?;
            self.progress.add(entry.size);
        }
        self.settle(&file, &target, first)?;
        Ok(Some(target))
    }

    /// Gives a file that was written its owner, time and mode.
    fn settle(&mut self, file: &File, path: &Path, entry: &'a Entry) -> Result<()> {
        if let Some((uid, gid)) = owner(entry) {
            fchown(file, Some(uid), Some(gid)).with_context(|| owning(path))?;
        }
        if entry.database {
            self.databases.push(entry);
        } else {
            file.set_permissions(harmless(entry)).with_context(|| writing(path))?;
        }
        file.set_modified(SystemTime::from(entry.mtime)).with_context(|| writing(path))?;
        self.tree.done(file).with_context(|| writing(path))?;
        step("stage")?;
        Ok(())
    }

    /// Makes the links, and all of it last.
    fn finish(mut self) -> Result<()> {
        for entry in std::mem::take(&mut self.links) {
            let target = self.room_for(&entry.path)?;
            if let Shape::Link(points_to) = &entry.shape {
                symlink(points_to, &target)
                    .with_context(|| format!("cannot create the link {}", target.display()))?;
            }
            if let Some((uid, gid)) = owner(entry) {
                lchown(&target, Some(uid), Some(gid)).with_context(|| owning(&target))?;
            }
            step("stage")?;
        }
        for entry in &self.databases {
            let path = self.folder.join(&entry.path);
            fs::set_permissions(&path, harmless(entry)).with_context(|| writing(&path))?;
        }
        if let Some(gone) = self.files.keys().min() {
            bail!("{} is not in the archive any more; did it change?", gone.display());
        }
        self.tree.sync()
    }

    /// Where a file of the home goes; its folder is there then.
    fn room_for(&mut self, path: &Path) -> Result<PathBuf> {
        let target = self.folder.join(path);
        let parent = durable::parent(&target);
        if !self.made.contains(parent) {
            durable::make_folder(parent, 0o700)?;
            self.made.insert(parent.to_owned());
        }
        Ok(target)
    }
}

fn writing(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn owning(path: &Path) -> String {
    format!("cannot set the owner of {}", path.display())
}

/// The permissions of a file or folder. Nothing that an archive says makes a file run as somebody
/// else.
fn harmless(entry: &Entry) -> Permissions {
    Permissions::from_mode(entry.mode & 0o777)
}

/// The owner and group to give, where we may: root restores for other users.
fn owner(entry: &Entry) -> Option<(u32, u32)> {
    let (uid, gid) = entry.owner;
    let known = uid != u32::MAX && gid != u32::MAX;
    (known && rustix::process::geteuid().is_root()).then_some((uid, gid))
}

/// Creates the wanted folders that are not there, with their modes. Gives those it created.
pub(super) fn make_folders(wanted: &[Entry], root: &Path) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for entry in wanted.iter().filter(|entry| entry.shape == Shape::Folder) {
        let path = root.join(&entry.path);
        if path.is_dir() {
            continue;
        }
        durable::make_folder(&path, 0o755)?;
        if let Some((uid, gid)) = owner(entry) {
            chown(&path, Some(uid), Some(gid)).with_context(|| owning(&path))?;
        }
        made.push(entry.path.clone());
    }
    Ok(made)
}

/// Gives folders we made their modes, when everything is in them.
pub(super) fn set_folder_modes(wanted: &[Entry], made: &[PathBuf], root: &Path) -> Result<()> {
    for entry in wanted.iter().filter(|entry| entry.shape == Shape::Folder && made.contains(&entry.path)) {
        let path = root.join(&entry.path);
        fs::set_permissions(&path, harmless(entry))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    }
    Ok(())
}

/// Moves a file or link, to another file system by a synced copy. The folders are not synced.
pub(super) fn move_path(from: &Path, to: &Path) -> Result<()> {
    let moving = || format!("cannot move {} to {}", from.display(), to.display());
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {}
        done => return done.with_context(moving),
    }
    let meta = fs::symlink_metadata(from).with_context(moving)?;
    let part = durable::parent(to).join(format!(".part-move-{}", std::process::id()));
    let _ = fs::remove_file(&part);
    if meta.is_symlink() {
        fs::read_link(from).and_then(|target| symlink(target, &part)).with_context(moving)?;
    } else {
        fs_extra::file::copy(from, &part, &fs_extra::file::CopyOptions::new()).with_context(moving)?;
        let file = File::options().write(true).open(&part).with_context(moving)?;
        file.set_permissions(meta.permissions()).with_context(moving)?;
        file.set_modified(meta.modified().with_context(moving)?).with_context(moving)?;
        file.sync_all().with_context(moving)?;
    }
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt;
        lchown(&part, Some(meta.uid()), Some(meta.gid())).with_context(moving)?;
    }
    fs::rename(&part, to).with_context(moving)?;
    durable::sync_folder(durable::parent(to))?;
    fs::remove_file(from).with_context(moving)
}
