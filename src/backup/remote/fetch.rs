//! Brings an archive back from the storage: checked by its hash, then verified like a new one,
//! and only then on the shelf.

use super::client::Client;
use super::copies::{self, Copy, copies};
use crate::backup::bench::Bench;
use crate::backup::crypt;
use crate::backup::find::{find, point_latest};
use crate::backup::hashed::Hashed;
use crate::backup::lock::lock;
use crate::backup::names::{ENCRYPTED, is_free, split_name};
use crate::backup::open::open;
use crate::backup::records::record_look;
use crate::backup::sidecar::Sidecar;
use crate::backup::space::free_space;
use crate::base::progress::Progress;
use crate::base::text::one_line;
use crate::base::{Fault, Journal, Run, durable};
use crate::config::Loaded;
use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Brings an archive to the backup folder: `latest` or a name. One that is there already, and is
/// the same, is not fetched again.
///
/// # Errors
/// When there is no such archive, or what came is not whole. Nothing is left then.
pub fn fetch(loaded: &Loaded, run: &Run, journal: Option<&Journal>, which: &str) -> Result<PathBuf> {
    let client = copies::client(loaded)?;
    let copy = choose(&client, loaded, run, which)?;
    let dir = &loaded.config.backup.dir;
    let encrypted = copy.name.ends_with(ENCRYPTED);
    if encrypted {
        // Nobody waits for what cannot be opened then.
        crypt::need_identity(&loaded.config.backup, Path::new(&copy.name))?;
    }
    let here = dir.join(&copy.name);
    if fs::metadata(&here).is_ok_and(|meta| meta.len() == copy.bytes)
        && hash(&here).is_ok_and(|sha256| sha256 == copy.sha256)
    {
        if let Some(note) = &copy.note
            && Sidecar::read(&here).is_err()
        {
            note.write(&here)?;
        }
        return Ok(here);
    }
    let bench = Bench::set_up(dir, run)?;
    let free = free_space(dir)?;
    if free < copy.bytes {
        return Err(Fault::critical(format!("no room for {} in {}", copy.name, dir.display()))
            .hint("free some space, or set another dir in [backup]; nothing was changed")
            .into());
    }
    let part = bench.folder.join(&copy.name);
    download(&client, &copy, &part, run)?;
    if let Some(note) = &copy.note {
        note.write(&part)?;
    }
    let (_, contents) = open(&loaded.config.backup, &part, &bench.folder)
        .with_context(|| format!("{} came over whole and cannot be verified", copy.name))?;
    // A backup would sweep a note without its archive.
    let held = lock(loaded, run)?;
    let path = free_name(dir, &copy.name)?;
    if let Some(note) = &copy.note {
        note.write(&path)?;
    }
    durable::rename(&part, &path)?;
    drop(held);
    if let Some(journal) = journal {
        record_look(loaded, journal, run, &path, contents.manifest.as_ref(), true, false)?;
    }
    let newest = find(loaded, journal, "latest")?;
    if newest == path
        && let Some(name) = path.file_name().and_then(|name| name.to_str())
    {
        point_latest(dir, name)?;
    }
    Ok(path)
}

/// The copy that is meant.
fn choose(client: &Client, loaded: &Loaded, run: &Run, which: &str) -> Result<Copy> {
    let copies = copies(client, loaded)?;
    let shown = client.shown();
    if which == "latest" {
        // By time, not by sequence: a rebuilt host counts from 1 again.
        let good = copies.into_iter().filter(|copy| copy.ours && copy.verified && copy.time <= run.now);
        return good.max_by_key(|copy| (copy.time, copy.sequence)).ok_or_else(|| {
            Fault::unknown(format!("there is no good archive in {shown}"))
                .hint("`backup list --remote` shows what is there")
                .into()
        });
    }
    let stem = |name: &str| split_name(name).map_or(name, |(stem, _)| stem).to_owned();
    let Some(copy) = copies.into_iter().find(|copy| stem(&copy.name) == stem(which)) else {
        return Err(Fault::unknown(format!("there is no archive '{}' in {shown}", one_line(which, 100)))
            .hint("`backup list --remote` shows what is there")
            .into());
    };
    if copy.sha256.is_empty() || (copy.note.is_none() && copy.name.ends_with(ENCRYPTED)) {
        return Err(Fault::unknown(format!("{} in {shown} was not put there by this program", copy.name))
            .hint("fetch it by hand; `restore PATH` takes it then")
            .into());
    }
    Ok(copy)
}

fn download(client: &Client, copy: &Copy, part: &Path, run: &Run) -> Result<()> {
    let writing = || format!("cannot write {}", part.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    let progress = Progress::new("fetching", copy.bytes, run.watched);
    let mut file = Hashed::new(file.with_context(writing)?, Some(&progress));
    client.read(&copy.name, copy.bytes, &mut |piece| file.write_all(piece).with_context(writing))?;
    file.inner.sync_all().with_context(writing)?;
    if file.finish() != copy.sha256 {
        return Err(Fault::critical(format!(
            "{} in {} is damaged: its checksum is another",
            copy.name,
            client.shown()
        ))
        .hint("`backup list --remote` shows the others; the archives here are untouched")
        .into());
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = Hashed::new(File::open(path)?, None);
    io::copy(&mut file, &mut io::sink())?;
    Ok(file.finish())
}

/// The name in the folder, or one beside it if another file (perhaps a damaged one) has it.
fn free_name(dir: &Path, name: &str) -> Result<PathBuf> {
    let (stem, suffix) = split_name(name).context("that is no archive's name")?;
    let base = stem.get(..15).unwrap_or(stem);
    let mut stems = std::iter::once(stem.to_owned()).chain((1..1000).map(|n| format!("{base}_{n}")));
    let free = stems.find(|stem| is_free(dir, stem));
    let free = free.with_context(|| format!("there is no free name for {name} in {}", dir.display()))?;
    Ok(dir.join(format!("{free}{suffix}")))
}
