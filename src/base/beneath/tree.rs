//! Removes a folder with all that is below it.

use super::{Dir, FileType};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// So many levels are open at a time. A folder deeper down moves up before it is emptied.
const LEVELS: usize = 32;
/// Who goes on filling a folder while it is emptied wins in the end.
const ROUNDS: usize = 10_000;

pub(super) fn remove(folder: &Dir, name: &OsStr) -> io::Result<()> {
    let is_folder = match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        // What a folder answers: Linux, and POSIX.
        Err(error @ (Errno::ISDIR | Errno::PERM)) => error,
        result => return Ok(result?),
    };
    let top = folder.open_dir(Path::new(name)).map_err(|_| is_folder)?;
    let mut deep = 0;
    for _ in 0..ROUNDS {
        let before = deep;
        empty(&top, &top, LEVELS, &mut deep)?;
        match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if deep > before => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

fn empty(folder: &Dir, top: &Dir, levels: usize, deep: &mut usize) -> io::Result<()> {
    for entry in folder.entries("")?.collect::<io::Result<Vec<_>>>()? {
        let name = Path::new(&entry.name);
        let gone = match entry.kind {
            FileType::Directory if levels == 0 => {
                *deep += 1;
                folder.rename(name, top, super::fresh(".deep-"))
            }
            FileType::Directory => folder
                .open_dir(name)
                .and_then(|below| empty(&below, top, levels - 1, deep))
                .and_then(|()| folder.remove_dir(name)),
            _ => folder.remove_file(name),
        };
        match gone {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}
