//! Lays the files of a verified archive ready in a folder, whole and synced.

use crate::backup::reader::{self, Shape};
use crate::backup::verify::Entry;
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::{Run, durable, text::hex};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Unpacks the wanted files and links below `folder`, each at its path in the home. Hashes are
/// compared once more: the archive may have changed since it was verified.
pub(super) fn stage(archive: &Path, wanted: &[Entry], folder: &Path, run: &Run) -> Result<()> {
    let bytes = wanted.iter().map(|entry| entry.size).sum();
    let progress = Progress::new("restoring", bytes, run.watched);
    let mut wanted: HashMap<&Path, &Entry> = wanted
        .iter()
        .filter(|entry| entry.shape != Shape::Folder)
        .map(|entry| (entry.member.as_path(), entry))
        .collect();
    reader::walk(archive, &mut |member, content| {
        let Some(entry) = wanted.remove(member.name.as_path()) else { return Ok(()) };
        let target = folder.join(&entry.path);
        durable::make_folder(durable::parent(&target), 0o700)?;
        match &entry.shape {
            Shape::Link(points_to) => {
                symlink(points_to, &target)
                    .with_context(|| format!("cannot create the link {}", target.display()))?;
                own(&target, entry, true)?;
            }
            _ => write(&target, entry, content, &progress)?,
        }
        step("stage")?;
        Ok(())
    })?;
    match wanted.keys().min() {
        None => Ok(()),
        Some(gone) => bail!("{} is no longer in the archive; did it change?", gone.display()),
    }
}

fn write(target: &Path, entry: &Entry, content: &mut dyn Read, progress: &Progress) -> Result<()> {
    let writing = || format!("cannot write {}", target.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).with_context(writing)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read =
            content.read(&mut buffer).with_context(|| format!("cannot unpack {}", target.display()))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).with_context(writing)?;
        progress.add(read as u64);
    }
    if hex(&hash.finalize()) != entry.sha256 {
        bail!("{} is not what was verified a moment ago; did the archive change?", entry.member.display());
    }
    own(target, entry, false)?;
    // Nothing that an archive says makes a file run as somebody else.
    file.set_permissions(Permissions::from_mode(entry.mode & 0o777)).with_context(writing)?;
    file.set_modified(SystemTime::from(entry.mtime)).with_context(writing)?;
    file.sync_all().with_context(writing)
}

/// Gives a file its owner, where we may: root restores for other users.
fn own(target: &Path, entry: &Entry, link: bool) -> Result<()> {
    let (uid, gid) = entry.owner;
    if !rustix::process::geteuid().is_root() || uid == u32::MAX || gid == u32::MAX {
        return Ok(());
    }
    let change = if link { lchown } else { chown };
    change(target, Some(uid), Some(gid))
        .with_context(|| format!("cannot set the owner of {}", target.display()))
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
        own(&path, entry, false)?;
        made.push(entry.path.clone());
    }
    Ok(made)
}

/// Gives folders we made their modes, when everything is in them.
pub(super) fn set_folder_modes(wanted: &[Entry], made: &[PathBuf], root: &Path) -> Result<()> {
    for entry in wanted.iter().filter(|entry| entry.shape == Shape::Folder && made.contains(&entry.path)) {
        let path = root.join(&entry.path);
        fs::set_permissions(&path, Permissions::from_mode(entry.mode & 0o777))
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
