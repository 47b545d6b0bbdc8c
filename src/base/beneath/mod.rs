//! Files are opened beneath a folder that is held open, so that nobody can lead us elsewhere.
//!
//! The agent can put a link, a FIFO or a device anywhere in its home, and can swap a folder for a link
//! while we run. A path that was checked is worth nothing a moment later; a descriptor is. So:
//!
//! - [`Dir::open`] resolves the path that the operator named, links included, once.
//! - Everything below is named relative to it. No symbolic link is followed, neither at the end nor on the
//!   way, and `..` is refused: what is opened lies in that folder. Bind mounts below it are entered.
//! - A file is opened without blocking and judged by its descriptor: a regular file, or [`Refused`].
//! - A small file is read up to a limit.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let home = tempfile::tempdir()?;
//! # let home = home.path();
//! use agent_ops::base::beneath::{Dir, Options};
//! let home = Dir::open(home)?;
//! home.make_dir(".ops/service", 0o700)?;
//! home.replace(".ops/service/daemon.json", b"{}", 0o600)?;
//! let record = home.read_small(".ops/service/daemon.json", 1 << 20)?;
//! let log = home.open_with("health_check.log", &Options::new().append().create(0o640))?;
//! # Ok(())
//! # }
//! ```
//!
//! A path that the operator names himself (a pid file, a certificate) may end in a link on purpose:
//! [`open_named`] and [`read_small_file`] follow it, and are as careful for the rest.

mod options;
mod resolve;
#[cfg(test)]
mod tests;
mod tree;

pub use options::Options;
pub(in crate::base) use resolve::regular;
pub use rustix::fs::FileType;

use super::units::Size;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// More bytes than people or programs write into a config, a unit, a pid or status file.
pub const SMALL: u64 = 1 << 20;

/// Why a file was refused although it is there. It travels inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An absolute path, `..`, or nothing at all.
    #[error("the path does not stay in its folder")]
    Outside,
    /// A symbolic link, as the last part of the path or before it.
    #[error("a symbolic link is in the way, which is not followed")]
    Link,
    /// A folder, FIFO, socket or device.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// A folder for our eyes alone that is somebody else's.
    #[error("it belongs to user {0}")]
    Foreign(u32),
    /// A folder for our eyes alone that others may write.
    #[error("others may write in it")]
    Shared,
    /// More bytes than a file of this kind can have.
    #[error("it is larger than {}", Size(*.0))]
    TooLarge(u64),
}

impl Refused {
    /// The refusal that an error is about.
    pub fn of(error: &io::Error) -> Option<Refused> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, refused)
    }
}

/// A folder held open. What is named relative to it is found in it even if its path leads elsewhere now.
///
/// Its descriptor ([`AsFd`]) serves the calls of the `at` family; on Linux it is an `O_PATH` one. For
/// `fchmod`, `flock` and the like see [`Dir::to_file`].
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Without `openat2`.
    stepwise: bool,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a folder by the path that the operator named: links in it are followed, this once.
    ///
    /// # Errors
    /// It is not there, is no folder, or may not be entered.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Dir> {
        let path = path.as_ref();
        let fd = rustix::fs::openat(CWD, path, resolve::FOLDER, Mode::empty())?;
        Ok(Dir { fd, path: path.to_owned(), stepwise: cfg!(not(target_os = "linux")) })
    }

    /// The path it was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below this one; an empty path is this one.
    pub fn open_dir(&self, rel: impl AsRef<Path>) -> io::Result<Dir> {
        let rel = rel.as_ref();
        let fd = self.resolve(rel, resolve::FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Dir { fd, path: self.path.join(rel), stepwise: self.stepwise })
    }

    /// A folder below this one, made with what is missing above it; new ones get `mode`.
    pub fn make_dir(&self, rel: impl AsRef<Path>, mode: u32) -> io::Result<Dir> {
        let mut folder = self.open_dir("")?;
        for part in resolve::normal(rel.as_ref())?.components() {
            match folder.create_dir(part, mode) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => folder = folder.open_dir(part)?,
            }
        }
        Ok(folder)
    }

    /// A new folder. What is there already is an error.
    pub fn create_dir(&self, rel: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let (folder, name) = self.holder(rel.as_ref())?;
        Ok(rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(mode as _))?)
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, rel: impl AsRef<Path>) -> io::Result<File> {
        self.open_with(rel, &Options::new().read())
    }

    /// Opens a regular file as the options say.
    pub fn open_with(&self, rel: impl AsRef<Path>, options: &Options) -> io::Result<File> {
        let flags = options.flags() | OFlags::NOFOLLOW;
        let fd = self.resolve(resolve::named(rel.as_ref())?, flags, options.mode());
        options.accept(File::from(fd.map_err(not_regular)?))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub fn read_small(&self, rel: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        read_limited(&self.open_file(rel)?, limit)
    }

    /// What is there, a link itself for a link; of this folder for an empty path.
    #[cfg(target_os = "linux")]
    pub fn metadata(&self, rel: impl AsRef<Path>) -> io::Result<Metadata> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        File::from(self.resolve(rel.as_ref(), flags, Mode::empty())?).metadata()
    }

    /// What is there, a link itself for a link; of this folder for an empty path.
    #[cfg(not(target_os = "linux"))]
    pub fn metadata(&self, rel: impl AsRef<Path>) -> io::Result<Metadata> {
        use std::os::unix::fs::MetadataExt;
        if rel.as_ref().as_os_str().is_empty() {
            return self.to_file()?.metadata();
        }
        let (folder, name) = self.holder(rel.as_ref())?;
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let real = OsString::from_vec(rustix::fs::getpath(&folder)?.into_bytes());
        let meta = std::fs::symlink_metadata(Path::new(&real).join(name))?;
        // By a path, for want of a descriptor: what it leads to must be the same.
        let same = meta.dev() == stat.st_dev as u64 && meta.ino() == stat.st_ino;
        if same { Ok(meta) } else { Err(Refused::Link.into()) }
    }

    /// Where a symbolic link leads.
    pub fn read_link(&self, rel: impl AsRef<Path>) -> io::Result<PathBuf> {
        let (folder, name) = self.holder(rel.as_ref())?;
        let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// A new symbolic link that leads to `target`, whatever that is.
    pub fn symlink(&self, target: impl AsRef<Path>, rel: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.holder(rel.as_ref())?;
        Ok(rustix::fs::symlinkat(target.as_ref(), &folder, name)?)
    }

    /// Renames, over what is at the new place (which `to` is relative to). Not made to last: [`Dir::sync`].
    pub fn rename(&self, from: impl AsRef<Path>, to_dir: &Dir, to: impl AsRef<Path>) -> io::Result<()> {
        let ((folder, name), (other, new)) = (self.holder(from.as_ref())?, to_dir.holder(to.as_ref())?);
        Ok(rustix::fs::renameat(&folder, name, &other, new)?)
    }

    /// [`Dir::rename`] with flags, as not to replace or to exchange. Not every file system can.
    pub fn rename_with(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Dir,
        to: impl AsRef<Path>,
        flags: RenameFlags,
    ) -> io::Result<()> {
        let ((folder, name), (other, new)) = (self.holder(from.as_ref())?, to_dir.holder(to.as_ref())?);
        Ok(rustix::fs::renameat_with(&folder, name, &other, new, flags)?)
    }

    /// A second name of a file (or of a link itself).
    pub fn hard_link(&self, from: impl AsRef<Path>, to_dir: &Dir, to: impl AsRef<Path>) -> io::Result<()> {
        let ((folder, name), (other, new)) = (self.holder(from.as_ref())?, to_dir.holder(to.as_ref())?);
        Ok(rustix::fs::linkat(&folder, name, &other, new, AtFlags::empty())?)
    }

    /// Removes anything but a folder.
    pub fn remove_file(&self, rel: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.holder(rel.as_ref())?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, rel: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.holder(rel.as_ref())?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes what is there and all that is below it; links go, not what they lead to.
    pub fn remove_tree(&self, rel: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.holder(rel.as_ref())?;
        tree::remove(&folder, name)
    }

    /// The names in a folder, in no order; an empty path is this one.
    pub fn entries(&self, rel: impl AsRef<Path>) -> io::Result<Entries> {
        let folder = self.open_dir(rel)?;
        let list = rustix::fs::Dir::new(OwnedFd::from(folder.to_file()?))?;
        Ok(Entries { folder, list })
    }

    /// Replaces a file whole: written beside it, synced, renamed over it, folder synced. A reader sees
    /// the old content or the new. The new file has just this mode, whatever the umask.
    pub fn replace(&self, rel: impl AsRef<Path>, content: &[u8], mode: u32) -> io::Result<()> {
        self.replace_with(rel, mode, |file| file.write_all(content))
    }

    /// [`Dir::replace`] with content that is written piece by piece.
    pub fn replace_with(
        &self,
        rel: impl AsRef<Path>,
        mode: u32,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let (folder, name) = self.holder(rel.as_ref())?;
        let temp = fresh(".part-");
        let mut file = folder.open_with(&temp, &Options::new().read().write().create_new(0o600))?;
        write(&mut file)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::renameat(&folder, &temp, &folder, name)?))
            .inspect_err(|_| drop(folder.remove_file(&temp)))?;
        folder.sync()
    }

    /// Makes the names in it last (a rename or a deletion).
    pub fn sync(&self) -> io::Result<()> {
        self.to_file()?.sync_all()
    }

    /// The folder opened for reading: to list it, lock it, or change its mode, owner and times by.
    pub fn to_file(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?.into())
    }

    /// The folder that a path is in, held, and the last name of the path: for calls that are not here.
    pub fn holder<'a>(&self, rel: &'a Path) -> io::Result<(Dir, &'a OsStr)> {
        let rel = resolve::named(rel)?;
        let name = rel.file_name().ok_or(Refused::Outside)?;
        Ok((self.open_dir(rel.parent().unwrap_or(Path::new("")))?, name))
    }

    fn resolve(&self, rel: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        resolve::open(self.fd.as_fd(), rel, flags, mode, self.stepwise)
    }
}

/// What a folder holds.
#[derive(Debug)]
pub struct Entries {
    folder: Dir,
    list: rustix::fs::Dir,
}

/// One name in a folder, and what it is (a link is a link).
#[derive(Debug)]
pub struct Entry {
    /// The name alone.
    pub name: OsString,
    /// When it was listed.
    pub kind: FileType,
    /// The number of the file in its file system (for a mount point: of what it covers).
    pub inode: u64,
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        loop {
            let entry = match self.list.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown
                && let Ok(stat) = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            {
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            return Some(Ok(Entry { name: name.to_owned(), kind, inode: entry.ino() }));
        }
    }
}

/// Opens a file that the operator named for reading: links are followed, but it must be a regular file, and
/// opening it does not block.
pub fn open_named(path: impl AsRef<Path>) -> io::Result<File> {
    // Opening a device may already do something: look first. The descriptor is judged all the same.
    resolve::regular(&std::fs::metadata(path.as_ref())?)?;
    let options = Options::new().read();
    let open = || rustix::fs::openat(CWD, path.as_ref(), options.flags(), options.mode());
    options.accept(File::from(resolve::patiently(open)?))
}

/// Reads a file that the operator named, of at most `limit` bytes.
pub fn read_small_file(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    read_limited(&open_named(path)?, limit)
}

/// [`read_small_file`] of a text of at most [`SMALL`] bytes.
pub fn read_small_text(path: impl AsRef<Path>) -> io::Result<String> {
    let not_utf8 = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(read_small_file(path, SMALL)?).map_err(not_utf8)
}

/// What is left to read of a file, of at most `limit` bytes.
pub fn read_limited(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    let mut content = Vec::new();
    if size <= limit {
        content.reserve_exact(size as usize);
        // It may have grown since, and files of /proc say that they are empty.
        file.take(limit + 1).read_to_end(&mut content)?;
    }
    if size > limit || content.len() as u64 > limit {
        return Err(Refused::TooLarge(limit).into());
    }
    Ok(content)
}

/// A name that nobody else has.
pub fn fresh(prefix: &str) -> String {
    format!("{prefix}{:016x}", RandomState::new().build_hasher().finish())
}

/// What a FIFO without a reader or a socket answers to being opened.
fn not_regular(error: io::Error) -> io::Error {
    match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::NXIO) => Refused::NotRegular("a FIFO or socket").into(),
        _ => error,
    }
}
