//! What stands in the way of files: found before anything is moved.

use crate::backup::places::{Places, look};
use crate::backup::reader::Shape;
use crate::base::beneath::{Dir, Refused};
use crate::base::{Fault, text};
use anyhow::Result;
use rustix::fs::{Access, AtFlags};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a file can be neither replaced nor removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// `chattr +i` of the file or its folder.
    Immutable,
    /// `chattr +a` of the file or its folder.
    AppendOnly,
    /// Its file system is mounted read-only.
    ReadOnly,
    /// Its folder is not ours to change.
    NotWritable,
    /// It is mounted there, and what comes is no file.
    Mount,
    /// A link stands where a folder should be.
    Link,
    /// A folder on one side and something else on the other.
    Folder,
}

impl Obstacle {
    /// What is so, for people.
    pub fn what(self) -> &'static str {
        match self {
            Obstacle::Immutable => "is immutable (chattr +i), or its folder is",
            Obstacle::AppendOnly => "can only be appended to (chattr +a), or its folder can",
            Obstacle::ReadOnly => "is on a file system that is mounted read-only",
            Obstacle::NotWritable => "is in a folder that may not be written to",
            Obstacle::Mount => "is a mount point, which only a file can be written over",
            Obstacle::Link => "lies behind a link, which a restore does not follow",
            Obstacle::Folder => "is a folder on one side and a file on the other",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Obstacle::Immutable | Obstacle::AppendOnly => "`chattr -i -a` takes that away (lsattr shows it)",
            Obstacle::ReadOnly => "mount it read-write",
            Obstacle::NotWritable => "run this as its owner",
            Obstacle::Mount => "unmount it",
            Obstacle::Link | Obstacle::Folder => "move it away",
        }
    }
}

/// What is at a path.
#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) meta: Metadata,
    /// It is mounted there: it cannot be renamed, replaced or removed.
    pub(super) mounted: bool,
}

impl There {
    /// What of it changes with every change. A copy has another one.
    pub(super) fn stamp(&self) -> String {
        let meta = &self.meta;
        format!("{}:{}:{}:{}.{}", meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec())
    }
}

/// What is at a path, and whether it is a mount; none: nothing.
pub(super) fn find(dir: &Dir, path: &Path) -> io::Result<Option<There>> {
    let Some(meta) = look(dir, path)? else { return Ok(None) };
    Ok(Some(There { meta, mounted: flags(dir, path)?.mounted }))
}

#[derive(Clone, Copy, Default)]
struct Flags {
    immutable: bool,
    append_only: bool,
    mounted: bool,
}

#[cfg(target_os = "linux")]
fn flags(dir: &Dir, path: &Path) -> io::Result<Flags> {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    let (folder, name) = if path.as_os_str().is_empty() {
        (dir.open_dir("")?, std::ffi::OsStr::new("."))
    } else {
        dir.holder(path)?
    };
    let how = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let has = match statx(&folder, name, how, StatxFlags::TYPE) {
        // Old kernels and sandboxes: then the move itself tells.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => return Ok(Flags::default()),
        found => found?.stx_attributes,
    };
    Ok(Flags {
        immutable: has.contains(StatxAttributes::IMMUTABLE),
        append_only: has.contains(StatxAttributes::APPEND),
        mounted: has.contains(StatxAttributes::MOUNT_ROOT),
    })
}

#[cfg(target_os = "macos")]
fn flags(dir: &Dir, path: &Path) -> io::Result<Flags> {
    use std::os::macos::fs::MetadataExt as _;
    // UF_IMMUTABLE and SF_IMMUTABLE, UF_APPEND and SF_APPEND.
    let flags = dir.metadata(path)?.st_flags();
    Ok(Flags { immutable: flags & 0x2_0002 != 0, append_only: flags & 0x4_0004 != 0, mounted: false })
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn flags(_: &Dir, _: &Path) -> io::Result<Flags> {
    Ok(Flags::default())
}

/// What was found of the files that a restore touches.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// How many are there.
    pub(super) there: usize,
    pub(super) obstacles: Vec<(PathBuf, Obstacle)>,
    /// Mounts, which are written over in place.
    pub(super) in_place: Vec<PathBuf>,
    /// Folders on another file system than the home: their files are copied.
    pub(super) elsewhere: BTreeSet<PathBuf>,
    /// The bytes of the files that are there and go to the file system of the home by a copy.
    pub(super) copied: u64,
    /// Whether a folder may be changed, as far as it was asked.
    folders: BTreeMap<PathBuf, Option<Obstacle>>,
}

impl Survey {
    /// Looks at where something of this shape is to go, or, without one, at a file that is to go away.
    pub(super) fn look_at(&mut self, places: &Places, path: &Path, shape: Option<&Shape>) -> io::Result<()> {
        let home = places.home.metadata("")?.dev();
        let (dir, rest) = match places.at(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let there = match find(dir, rest) {
            Err(error) if Refused::of(&error) == Some(Refused::Link) => {
                self.obstacles.push((path.to_owned(), Obstacle::Link));
                return Ok(());
            }
            found => found?,
        };
        if shape == Some(&Shape::Folder) {
            if there.is_some_and(|there| !there.meta.is_dir()) {
                self.obstacles.push((path.to_owned(), Obstacle::Folder));
            }
            return Ok(());
        }
        let parent = rest.parent().unwrap_or(Path::new(""));
        let shown = path.parent().unwrap_or(Path::new("")).to_owned();
        let in_folder = match self.folders.get(&shown) {
            Some(known) => *known,
            None => {
                let found = folder_obstacle(dir, parent)?;
                if look(dir, parent)?.is_some_and(|meta| meta.dev() != home) {
                    self.elsewhere.insert(shown.clone());
                }
                self.folders.insert(shown.clone(), found);
                found
            }
        };
        let Some(there) = there else {
            let in_folder = in_folder.filter(|_| shape.is_some());
            self.obstacles.extend(in_folder.map(|obstacle| (path.to_owned(), obstacle)));
            return Ok(());
        };
        self.there += usize::from(shape.is_some());
        let has = flags(dir, rest)?;
        let obstacle = if there.meta.is_dir() {
            Some(Obstacle::Folder)
        } else if has.immutable {
            Some(Obstacle::Immutable)
        } else if has.append_only {
            Some(Obstacle::AppendOnly)
        } else if !there.mounted {
            in_folder
        } else if !matches!(shape, Some(Shape::Link(_))) && there.meta.is_file() {
            self.in_place.push(path.to_owned());
            may_write(dir, rest)?
        } else {
            Some(Obstacle::Mount)
        };
        self.obstacles.extend(obstacle.map(|obstacle| (path.to_owned(), obstacle)));
        if there.mounted || there.meta.dev() != home {
            self.copied += there.meta.len();
        }
        Ok(())
    }

    /// Refuses to go on where something stands in the way.
    pub(super) fn need_clear_way(&self) -> Result<()> {
        let Some((path, obstacle)) = self.obstacles.first() else { return Ok(()) };
        let more = match self.obstacles.len() - 1 {
            0 => String::new(),
            more => format!(", and {} like it", text::count(more, "file")),
        };
        let what = obstacle.what();
        let path = text::one_line(&path.display().to_string(), 300);
        Err(Fault::unknown(format!("{path} {what}{more}; nothing was changed"))
            .hint(format!("{}, or restore into another folder with --to", obstacle.remedy()))
            .into())
    }

    /// What people should know of where the files are, besides what stops it.
    pub(super) fn notes(&self) -> Vec<String> {
        let list = |paths: &mut dyn Iterator<Item = &PathBuf>| {
            let shown: Vec<_> = paths.take(5).map(|path| path.display().to_string()).collect();
            text::one_line(&shown.join(", "), 500)
        };
        let mut notes = Vec::new();
        if !self.in_place.is_empty() {
            let paths = list(&mut self.in_place.iter());
            notes.push(format!("mounted as a single file, so written in place: {paths}"));
        }
        if !self.elsewhere.is_empty() {
            let paths = list(&mut self.elsewhere.iter());
            notes.push(format!("on another file system than the home, so moved by a copy: {paths}"));
        }
        notes
    }
}

/// Why names in a folder cannot be changed. A folder that is missing is asked for what is above it.
fn folder_obstacle(dir: &Dir, folder: &Path) -> io::Result<Option<Obstacle>> {
    let mut there = folder;
    while look(dir, there)?.is_none() {
        let Some(up) = there.parent() else { return Ok(None) };
        there = up;
    }
    let has = flags(dir, there)?;
    if has.immutable || has.append_only {
        return Ok(Some(if has.immutable { Obstacle::Immutable } else { Obstacle::AppendOnly }));
    }
    match dir.open_dir(there) {
        Err(error) if Refused::of(&error) == Some(Refused::Link) => Ok(Some(Obstacle::Link)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Some(Obstacle::Folder)),
        held => may_write(&held?, Path::new("")),
    }
}

/// Why a file or folder cannot be written to.
fn may_write(dir: &Dir, path: &Path) -> io::Result<Option<Obstacle>> {
    let (folder, name) = if path.as_os_str().is_empty() {
        (dir.open_dir("")?, std::ffi::OsStr::new("."))
    } else {
        dir.holder(path)?
    };
    Ok(match rustix::fs::accessat(&folder, name, Access::WRITE_OK, AtFlags::EACCESS) {
        Err(rustix::io::Errno::ROFS) => Some(Obstacle::ReadOnly),
        Err(rustix::io::Errno::ACCESS) => Some(Obstacle::NotWritable),
        // An old kernel does not know the question.
        _ => None,
    })
}
