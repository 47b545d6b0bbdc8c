//! From a folder that is held and a relative path to a descriptor, through no link.

use super::Refused;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path};
use std::time::Duration;

/// How a folder is held: on Linux without the right to list it, which not every folder gives.
#[cfg(target_os = "linux")]
pub(super) const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
pub(super) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// A path of normal parts alone, or none.
pub(super) fn normal(rel: &Path) -> io::Result<&Path> {
    match rel.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(rel),
        false => Err(Refused::Outside.into()),
    }
}

/// A path of normal parts, at least one.
pub(super) fn named(rel: &Path) -> io::Result<&Path> {
    if rel.as_os_str().is_empty() { Err(Refused::Outside.into()) } else { normal(rel) }
}

pub(super) fn open(
    folder: BorrowedFd<'_>,
    rel: &Path,
    flags: OFlags,
    mode: Mode,
    stepwise: bool,
) -> io::Result<OwnedFd> {
    let rel = normal(rel)?;
    if rel.as_os_str().is_empty() {
        return Ok(openat(folder, ".", flags, mode)?);
    }
    #[cfg(target_os = "linux")]
    if !stepwise {
        use rustix::fs::{ResolveFlags, openat2};
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match patiently(|| openat2(folder, rel, flags, mode, how)) {
            // An old kernel, a sandbox that does not know the call, or a path too long for one call. And
            // what is no folder may be a link.
            Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG | Errno::NOTDIR) => {}
            Err(Errno::LOOP) => return Err(Refused::Link.into()),
            result => return Ok(result?),
        }
    }
    let _ = stepwise;
    step_by_step(folder, rel, flags, mode)
}

/// A part at a time, each opened in the one before, and none of them a link.
fn step_by_step(folder: BorrowedFd<'_>, rel: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut parts = rel.components().peekable();
    let mut held: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let folder = held.as_ref().map_or(folder, AsFd::as_fd);
        let last = parts.peek().is_none();
        let (flags, mode) = if last { (flags, mode) } else { (FOLDER | OFlags::NOFOLLOW, Mode::empty()) };
        let name = part.as_os_str();
        held = match patiently(|| openat(folder, name, flags, mode)) {
            Ok(opened) => Some(opened),
            // What a link answers depends on the other flags.
            Err(error @ (Errno::LOOP | Errno::NOTDIR | Errno::MLINK)) => {
                let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
                return Err(if is_link { Refused::Link.into() } else { error.into() });
            }
            Err(error) => return Err(error.into()),
        };
    }
    held.ok_or_else(|| Refused::Outside.into())
}

/// Opens again for a moment where another process has a lease on the file, which the first try makes it
/// give back: it would have us wait for 45 s otherwise.
pub(super) fn patiently<T>(open: impl Fn() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..8 {
        match open() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(25)),
            result => return result,
        }
    }
    open()
}

/// Refuses what is no regular file.
pub(in crate::base) fn regular(meta: &Metadata) -> io::Result<()> {
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => return Err(Refused::Link.into()),
        () => "a device",
    };
    Err(Refused::NotRegular(what).into())
}
