//! Lays files of an archive ready in a folder, verified on the way, whole and synced.

use super::Prepared;
use super::transfer;
use crate::backup::places::{Places, inner, look};
use crate::backup::reader::Shape;
use crate::backup::{self, Content, Entry};
use crate::base::beneath::{Dir, Options};
use crate::base::durable::Tree;
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text;
use crate::base::xattrs::ACL;
use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, Uid};
use std::collections::{HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Seek};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

impl Prepared<'_> {
    /// Unpacks the wanted files and links below `folder`, each at its path in the home. When this
    /// returns they are on disk, and all of the archive, or of the wanted files, is verified. Gives what could
    /// not be set on them.
    ///
    /// # Errors
    /// When it is not whole, or cannot be written. The agent was not touched.
    pub(super) fn stage(&self, folder: &Path) -> Result<Vec<String>> {
        self.lay(folder).map_err(|error| self.untouched(error, folder))
    }

    /// [`Prepared::stage`], with errors as they are.
    pub(super) fn lay(&self, folder: &Path) -> Result<Vec<String>> {
        let total = if self.whole { self.contents.bytes() } else { self.bytes() };
        let progress = Progress::new("restoring", total, self.run.watched);
        let mut laying = Laying::begin(&self.wanted, folder, &progress)?;
        let take = &mut |entry: &Entry, content: &mut Content<'_>| laying.take(entry, content);
        if self.whole {
            backup::unpack(self.readable.path(), &self.contents, &self.loaded.home.staging(), take)?;
        } else {
            backup::unpack_part(self.readable.path(), &self.contents.not_sound(), &self.wanted, take)?;
        }
        laying.finish()
    }
}

/// Files on their way into a folder.
struct Laying<'a> {
    folder: Dir,
    tree: Tree,
    /// By the member that has their content: hard links share one.
    files: HashMap<&'a Path, Vec<&'a Entry>>,
    links: Vec<&'a Entry>,
    /// Databases, which get their mode in the end: until then they are checked.
    databases: Vec<(&'a Entry, Permissions)>,
    made: HashSet<PathBuf>,
    /// What could not be set.
    notes: Vec<String>,
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
            folder: Dir::open(folder).with_context(|| format!("cannot open {}", folder.display()))?,
            tree: Tree::open(folder, wanted.len())?,
            files,
            links,
            databases: Vec::new(),
            made: HashSet::new(),
            notes: Vec::new(),
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
        let (file, target) = self.create(&first.path)?;
        content.unpack(&file, &target, &mut |bytes| {
            self.progress.add(bytes);
            self.tree.wrote(bytes);
        })?;
        for entry in copies {
            let (copy, path) = self.create(&entry.path)?;
            (&file)
                .rewind()
                .and_then(|()| transfer::copy_content(&file, &copy))
                .with_context(|| writing(&path))?;
            self.settle(&copy, &path, entry)?;
            self.progress.add(entry.size);
        }
        self.settle(&file, &target, first)?;
        Ok(Some(target))
    }

    /// Gives a file that was written its owner, attributes, time and mode.
    fn settle(&mut self, file: &File, path: &Path, entry: &'a Entry) -> Result<()> {
        if let Some((uid, gid)) = owner(entry) {
            fchown(file, Some(uid), Some(gid)).with_context(|| owning(path))?;
        }
        let mode = dress(file, entry, &mut self.notes);
        if entry.database {
            self.databases.push((entry, mode));
        } else {
            file.set_permissions(mode).with_context(|| writing(path))?;
        }
        file.set_modified(SystemTime::from(entry.mtime)).with_context(|| writing(path))?;
        self.tree.done(file).with_context(|| writing(path))?;
        step("stage")?;
        Ok(())
    }

    /// Makes the links, and all of it last.
    fn finish(mut self) -> Result<Vec<String>> {
        for entry in std::mem::take(&mut self.links) {
            let target = self.room_for(&entry.path)?;
            let path = self.folder.path().join(&target);
            if let Shape::Link(points_to) = &entry.shape {
                self.folder
                    .symlink(points_to, &target)
                    .with_context(|| format!("cannot create the link {}", path.display()))?;
            }
            settle_link(&self.folder, &target, entry).with_context(|| owning(&path))?;
            step("stage")?;
        }
        for (entry, mode) in std::mem::take(&mut self.databases) {
            let file = self.folder.open_file(inner(&entry.path));
            let set = file.and_then(|file| file.set_permissions(mode));
            set.with_context(|| writing(&self.folder.path().join(&entry.path)))?;
        }
        if let Some(gone) = self.files.keys().min() {
            bail!("{} is not in the archive any more; did it change?", gone.display());
        }
        self.tree.sync()?;
        Ok(self.notes)
    }

    /// A new file for one of the home, and its path for messages.
    fn create(&mut self, path: &Path) -> Result<(File, PathBuf)> {
        let target = self.room_for(path)?;
        let path = self.folder.path().join(&target);
        let options = Options::new().read().write().create_new(0o600);
        let file = self.folder.open_with(&target, &options).with_context(|| writing(&path))?;
        Ok((file, path))
    }

    /// Where a file of the home goes; its folder is there then.
    fn room_for(&mut self, path: &Path) -> Result<PathBuf> {
        let target = inner(path).into_owned();
        let parent = target.parent().unwrap_or(Path::new(""));
        if !self.made.contains(parent) {
            let made = self.folder.make_dir(parent, 0o700);
            made.with_context(|| format!("cannot create the folder {}", parent.display()))?;
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

/// Gives an open file or folder its attributes and access control lists. Gives the permissions to set then, and
/// notes what could not be set: where that is a list, nobody may more than without it.
fn dress(file: &File, entry: &Entry, notes: &mut Vec<String>) -> Permissions {
    let lost = entry.xattrs.set(file);
    let mut mode = entry.mode;
    if lost.iter().any(|name| name == ACL) {
        mode = entry.xattrs.mode_without_acl(mode);
    }
    if !lost.is_empty() {
        let names: Vec<_> = lost.iter().map(|name| text::one_line(name, 100)).collect();
        notes.push(format!("{}: cannot set {} here", entry.path.display(), names.join(", ")));
    }
    // Nothing that an archive says makes a file run as somebody else. Of a folder these bits say who owns
    // what is made in it, and who may remove it.
    let bits = if entry.shape == Shape::Folder { 0o3777 } else { 0o777 };
    Permissions::from_mode(mode & bits)
}

/// The owner and group to give, where we may: root restores for other users.
fn owner(entry: &Entry) -> Option<(u32, u32)> {
    let (uid, gid) = entry.owner;
    let known = uid != u32::MAX && gid != u32::MAX;
    (known && rustix::process::geteuid().is_root()).then_some((uid, gid))
}

/// Gives a link its owner, where we may, and its time.
fn settle_link(dir: &Dir, path: &Path, entry: &Entry) -> std::io::Result<()> {
    let (folder, name) = dir.holder(path)?;
    if let Some((uid, gid)) = owner(entry) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let (tv_sec, nanos) = (entry.mtime.timestamp(), entry.mtime.timestamp_subsec_nanos().min(999_999_999));
    let saved = Timespec { tv_sec, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: saved, last_modification: saved };
    // Best effort: some file systems keep no times of links.
    let _ = rustix::fs::utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW);
    Ok(())
}

/// Creates the wanted folders that are not there, for us alone until [`finish_folders`]. Gives those it created.
pub(super) fn make_folders(wanted: &[Entry], places: &Places) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<&Path> = folders(wanted).map(|entry| entry.path.as_path()).collect();
    folders.sort_unstable();
    let mut made = Vec::new();
    for path in folders {
        match places.at(path) {
            Ok((dir, rest)) if look(dir, rest).is_ok_and(|there| there.is_some_and(|meta| meta.is_dir())) => {
                continue;
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
        // With those above that the archive does not have.
        places.make_folder(path, 0o755)?;
        let folder = places.at(path).and_then(|(dir, rest)| dir.open_dir(rest)?.to_file());
        let set = folder.and_then(|folder| folder.set_permissions(Permissions::from_mode(0o700)));
        set.with_context(|| format!("cannot set the mode of {}", path.display()))?;
        made.push(path.to_owned());
    }
    Ok(made)
}

/// Gives folders we made their owners, attributes, modes and times, when everything is in them. Gives what could
/// not be set.
pub(super) fn finish_folders(wanted: &[Entry], made: &[PathBuf], places: &Places) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let made: HashSet<&Path> = made.iter().map(PathBuf::as_path).collect();
    let mut folders: Vec<&Entry> =
        folders(wanted).filter(|entry| made.contains(entry.path.as_path())).collect();
    // The inner ones first: each change in a folder changes its time.
    folders.sort_unstable_by(|a, b| b.path.cmp(&a.path));
    for entry in folders {
        let folder = places.at(&entry.path).and_then(|(dir, rest)| dir.open_dir(rest)?.to_file());
        let setting = || format!("cannot set the mode of {}", entry.path.display());
        let folder = folder.with_context(setting)?;
        if let Some((uid, gid)) = owner(entry) {
            fchown(&folder, Some(uid), Some(gid)).with_context(|| owning(&entry.path))?;
        }
        folder.set_permissions(dress(&folder, entry, &mut notes)).with_context(setting)?;
        folder.set_modified(SystemTime::from(entry.mtime)).with_context(setting)?;
    }
    Ok(notes)
}

/// Says of which folders that are there the archive has another mode or owner: they are no part of an undo, and
/// stay as they are.
pub(super) fn kept_folders(wanted: &[Entry], places: &Places) -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    let kept = folders(wanted).filter_map(|entry| {
        let (dir, rest) = places.at(&entry.path).ok()?;
        let meta = look(dir, rest).ok()?.filter(|meta| meta.is_dir())?;
        let (mode, saved) = (meta.permissions().mode() & 0o7777, entry.mode & 0o7777);
        let other_owner = is_root && owner(entry).is_some_and(|saved| saved != (meta.uid(), meta.gid()));
        let path = entry.path.display();
        let owned = format!("{path} (of {}:{})", meta.uid(), meta.gid());
        (mode != saved)
            .then(|| format!("{path} ({mode:04o}, in the archive {saved:04o})"))
            .or(other_owner.then_some(owned))
    });
    let kept: Vec<String> = kept.collect();
    let first = kept.first()?;
    Some(format!(
        "{} that are there keep their modes and owners, which are others in the archive, such as {first}",
        text::count(kept.len(), "folder")
    ))
}

fn folders(wanted: &[Entry]) -> impl Iterator<Item = &Entry> {
    wanted.iter().filter(|entry| entry.shape == Shape::Folder)
}
