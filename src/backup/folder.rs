//! The folder of archives, held open. A link in its place is followed only where ops.toml names `dir`.

use crate::base::beneath::{Dir, Refused};
use crate::base::{Fault, durable};
use crate::config::Loaded;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// Opens it; none: it is not there.
///
/// # Errors
/// Also when it is a link that ops.toml does not name.
pub(super) fn open(loaded: &Loaded) -> Result<Option<Dir>> {
    match look(loaded) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(error, &loaded.config.backup.dir)),
    }
}

/// Opens it, and makes it, 0700, if it is not there.
pub(super) fn make(loaded: &Loaded) -> Result<Dir> {
    if let Some(folder) = open(loaded)? {
        return Ok(folder);
    }
    let dir = &loaded.config.backup.dir;
    match unnamed(loaded) {
        Some(rel) => {
            loaded.home.dir().and_then(|home| home.make_dir(rel, 0o700)).map_err(|e| explain(e, dir))
        }
        None => {
            durable::make_folder(dir, 0o700)?;
            look(loaded).map_err(|error| explain(error, dir))
        }
    }
}

/// The folder that an archive is in, held, and its name. One that lies elsewhere the operator named.
pub(super) fn of<'a>(loaded: &Loaded, archive: &'a Path) -> Result<(Dir, &'a OsStr)> {
    let folder = durable::parent(archive);
    let opened = if folder == loaded.config.backup.dir { look(loaded) } else { Dir::open(folder) };
    let name = archive.file_name().context("that is no archive's name")?;
    Ok((opened.map_err(|error| explain(error, folder))?, name))
}

fn look(loaded: &Loaded) -> io::Result<Dir> {
    match unnamed(loaded) {
        Some(rel) => loaded.home.dir()?.open_dir(rel),
        None => Dir::open(&loaded.config.backup.dir),
    }
}

/// Where it is in the home, if ops.toml does not say.
fn unnamed(loaded: &Loaded) -> Option<&Path> {
    let backup = &loaded.config.backup;
    loaded.home.relative(&backup.dir).filter(|_| !backup.dir_is_named)
}

fn explain(error: io::Error, dir: &Path) -> anyhow::Error {
    if Refused::of(&error) == Some(Refused::Link) {
        let message = format!("{} is a symbolic link, which is not followed", dir.display());
        return Fault::critical(message)
            .hint("if you made that link, say so in ops.toml: `dir = \"backups\"` below `[backup]`")
            .into();
    }
    anyhow::Error::new(error).context(format!("cannot open the backup folder {}", dir.display()))
}
