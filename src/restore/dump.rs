//! One dump out of an archive: verified, then for whoever asked for it.

use super::record::{self, STAGING};
use super::select;
use crate::backup;
use crate::backup::places::{Places, open_home};
use crate::base::beneath::Options;
use crate::base::step::step;
use crate::base::{Fault, Journal, Run, durable};
use crate::config::Loaded;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

/// A dump of an archive, verified.
#[derive(Debug)]
pub struct Dumped {
    /// The archive.
    pub archive: PathBuf,
    /// What is wrong with newer archives, for people.
    pub notes: Vec<String>,
    /// Bytes.
    pub bytes: u64,
    /// Its content, to be read from here on. It has no name any more.
    pub content: File,
    _lock: durable::Lock,
}

/// Takes a dump out of an archive. What it gives has the hash that the archive says.
///
/// # Errors
/// When there is no such archive or dump in it, or when it is damaged.
pub fn take_dump(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    which: Option<&str>,
    name: &str,
) -> Result<Dumped> {
    let lock = backup::lock(loaded, run)?;
    if record::is_cut_short(&loaded.home)? {
        return Err(Fault::unknown("an earlier restore was cut short; nothing was changed")
            .hint("run `restore` or `backup` without --dump: it finishes or undoes that first")
            .into());
    }
    let (archive, newer) = select::choose(loaded, journal, which, run.now)?;
    let places = Places::only(open_home(&loaded.home)?);
    let _ = places.home.remove_tree(STAGING);
    let staging = places.home.make_dir(STAGING, 0o700).context("cannot create the folder .ops/restore")?;
    let scratch = loaded.home.staging();
    let readable = backup::ready(&loaded.config.backup, &archive, &scratch)?;
    let contents = backup::read_contents(readable.path())?;
    let Some(entry) = contents.dump(name) else {
        let dumps = contents.manifest.iter().flat_map(|manifest| &manifest.dumps);
        let names: Vec<&str> = dumps.map(|dump| dump.name.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Fault::unknown(format!("{} has no dump '{name}'; it has: {there}", archive.display()))
            .hint("`backup list` shows other archives")
            .into());
    };
    let part = Path::new("dump");
    let options = Options::new().read().write().create_new(0o600);
    let mut content = staging.open_with(part, &options).context("cannot create a file in .ops/restore")?;
    let free = backup::free_space(&scratch)?;
    if entry.size > free {
        return Err(super::room::untouched(
            std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
            loaded.home.root(),
            entry.size,
        ));
    }
    let shown = scratch.join(part);
    let wanted = [entry];
    backup::unpack_part(readable.path(), &HashSet::new(), &wanted, &mut |_, reading| {
        reading.unpack(&content, &shown, &mut |_| {})?;
        step("dump taken")?;
        Ok(None)
    })?;
    staging.remove_file(part).context("cannot remove a file in .ops/restore")?;
    step("dump ready")?;
    content.rewind().context("cannot read the dump")?;
    let bytes = wanted.iter().map(|entry| entry.size).sum();
    Ok(Dumped { archive, notes: newer, bytes, content, _lock: lock })
}
