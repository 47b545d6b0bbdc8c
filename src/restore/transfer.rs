//! Moves and copies beneath folders that are held, also from one file system to another.

use crate::backup::places::look;
use crate::base::beneath::{Dir, Options};
use crate::base::xattrs::{self, ACL};
use anyhow::{Context, Result};
use rustix::fs::AtFlags;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// A copy that is not finished. There is one at a time in a folder.
pub(super) const PART: &str = ".part-move";
/// Zeros of this length become a hole.
const PIECE: usize = 64 << 10;

/// A folder that is held, and a path in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a>(pub(super) &'a Dir, pub(super) &'a Path);

impl Spot<'_> {
    fn shown(&self) -> String {
        self.0.path().join(self.1).display().to_string()
    }
}

/// Moves a file or link, to another file system by a synced copy. The folders are not synced.
///
/// # Errors
/// When it could not be moved. It is where it was then; a copy that is whole may be there too.
pub(super) fn move_path(from: Spot<'_>, to: Spot<'_>) -> Result<()> {
    let moving = || format!("cannot move {} to {}", from.shown(), to.shown());
    match from.0.rename(from.1, to.0, to.1) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        done => return done.with_context(moving),
    }
    copy_path(from, to)?;
    from.0.remove_file(from.1).with_context(moving)
}

/// Copies a file or link with its mode, owner, times and attributes. When this returns the copy is on disk
/// and whole; before, there is none under its name.
pub(super) fn copy_path(from: Spot<'_>, to: Spot<'_>) -> Result<()> {
    let copying = || format!("cannot copy {} to {}", from.shown(), to.shown());
    let part = to.1.parent().unwrap_or(Path::new("")).join(PART);
    let part = Spot(to.0, &part);
    let _ = part.0.remove_file(part.1);
    let meta = from.0.metadata(from.1).with_context(copying)?;
    if meta.is_symlink() {
        let target = from.0.read_link(from.1).with_context(copying)?;
        part.0.symlink(target, part.1).with_context(copying)?;
        give_link(part, &meta).with_context(copying)?;
    } else {
        let source = from.0.open_file(from.1).with_context(copying)?;
        let options = Options::new().read().write().create_new(0o600);
        let file = part.0.open_with(part.1, &options).with_context(copying)?;
        copy_content(&source, &file).and_then(|()| settle(&source, &file)).with_context(copying)?;
    }
    part.0.rename(part.1, to.0, to.1).with_context(copying)?;
    let folder = to.0.open_dir(to.1.parent().unwrap_or(Path::new("")));
    folder.and_then(|folder| folder.sync()).with_context(copying)
}

/// Writes the content of a file over that of another, which stays the same file: a mount cannot be replaced.
pub(super) fn overwrite(from: Spot<'_>, to: Spot<'_>) -> Result<()> {
    let writing = || format!("cannot write {} over {}", from.shown(), to.shown());
    let source = from.0.open_file(from.1).with_context(writing)?;
    let file = to.0.open_with(to.1, &Options::new().write()).with_context(writing)?;
    file.set_len(0)
        .and_then(|()| copy_content(&source, &file))
        .and_then(|()| settle(&source, &file))
        .with_context(writing)
}

/// Empties a file that cannot be removed.
pub(super) fn empty(file: Spot<'_>) -> Result<()> {
    let emptied = file.0.open_with(file.1, &Options::new().write().truncate());
    emptied.and_then(|file| file.sync_all()).with_context(|| format!("cannot empty {}", file.shown()))
}

/// Removes what a copy that was cut short has left in the folder of a path.
pub(super) fn sweep(dir: &Dir, path: &Path) {
    let part = path.parent().unwrap_or(Path::new("")).join(PART);
    if look(dir, &part).is_ok_and(|part| part.is_some()) {
        let _ = dir.remove_file(part);
    }
}

/// Copies from where the source is to its end, with holes where there are only zeros.
pub(super) fn copy_content(mut source: &File, mut file: &File) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut length = 0;
    loop {
        let mut filled = 0;
        while filled < piece.len() {
            match source.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return file.set_len(length);
        }
        length += filled as u64;
        if piece[..filled].iter().all(|&byte| byte == 0) {
            file.seek(SeekFrom::Start(length))?;
        } else {
            file.write_all(&piece[..filled])?;
        }
    }
}

/// Gives a copy what its source has, and makes it last.
fn settle(source: &File, file: &File) -> io::Result<()> {
    let meta = source.metadata()?;
    if rustix::process::geteuid().is_root() {
        fchown(file, Some(meta.uid()), Some(meta.gid()))?;
    }
    let xattrs = xattrs::read(source)?.kept;
    let mut mode = meta.mode() & 0o7777;
    if xattrs.set(file).iter().any(|name| name == ACL) {
        // This file system keeps no lists: nobody may more than without it.
        mode = xattrs.mode_without_acl(mode);
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(meta.modified()?)?;
    file.sync_all()
}

fn give_link(link: Spot<'_>, meta: &Metadata) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (folder, name) = link.0.holder(link.1)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(meta.uid()), rustix::fs::Gid::from_raw(meta.gid()));
    Ok(rustix::fs::chownat(&folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The folder of a path is there.
pub(super) fn make_parent(to: Spot<'_>, mode: u32) -> Result<()> {
    let folder = to.1.parent().unwrap_or(Path::new(""));
    let made = to.0.make_dir(folder, mode).map(drop);
    made.with_context(|| format!("cannot create the folder of {}", to.shown()))
}
