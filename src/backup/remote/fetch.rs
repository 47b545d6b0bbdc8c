//! Brings an archive back from the storage: checked by its hash, then verified like a new one,
//! and only then on the shelf.

use super::client::Client;
use super::copies::{self, Copy, copies, newest_known};
use super::signing::{Keys, Origin};
use crate::backup::bench::Bench;
use crate::backup::crypt;
use crate::backup::find::{find, point_latest};
use crate::backup::folder;
use crate::backup::hashed::Hashed;
use crate::backup::lock::lock;
use crate::backup::names::{ENCRYPTED, is_free, split_name};
use crate::backup::open::open;
use crate::backup::records::record_look;
use crate::backup::sidecar::Sidecar;
use crate::backup::space::free_space;
use crate::base::beneath::{Dir, Options};
use crate::base::progress::Progress;
use crate::base::text::one_line;
use crate::base::{Fault, Journal, Run, durable, units};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An archive that was brought here.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is now.
    pub path: PathBuf,
    /// What a person should know of its origin.
    pub doubts: Vec<Doubt>,
}

/// What is odd about a bucket or a copy in it.
#[derive(Clone, Debug)]
pub enum Doubt {
    /// This one was taken on the word of a person: that is in the way of it otherwise.
    Trusted(String, Objection),
    /// A newer one was passed over.
    PassedOver(String, Objection),
    /// The newest that was there before is gone.
    Gone(String, DateTime<Utc>),
}

/// Why a copy is not taken from the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Its origin is not proved.
    Origin(Origin),
    /// It is plain, and archives are encrypted here.
    Plain,
}

impl fmt::Display for Objection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Objection::Origin(Origin::Signed) => "it is signed",
            Objection::Origin(Origin::Unsigned) => "it is not signed",
            Objection::Origin(Origin::OtherKey) => "it is signed with a key that is not here",
            Objection::Origin(Origin::Forged) => "its signature is forged: it is not what was signed here",
            Objection::Plain => "it is not encrypted, and encrypt_to in [backup] says that archives are",
        })
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Trusted(name, why) => write!(formatter, "{name} is taken because of --trust: {why}"),
            Doubt::PassedOver(name, why) => {
                write!(formatter, "{name} in the bucket is newer and not taken: {why}")
            }
            Doubt::Gone(name, time) => write!(
                formatter,
                "{name} of {} was in the bucket when it was last looked at, and is gone",
                units::local(*time)
            ),
        }
    }
}

/// Brings an archive to the backup folder: `latest` or a name. One that is there already, and is
/// the same, is not fetched again. With `trust`, also one whose origin is not proved, and a plain one
/// where archives are encrypted.
///
/// # Errors
/// When there is no such archive, none that is proved to be of this host, or what came is not whole.
/// Nothing is left then.
pub fn fetch(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    which: &str,
    trust: bool,
) -> Result<Fetched> {
    let client = copies::client(loaded)?;
    let keys = Keys::read(&loaded.home)?;
    let all = copies(&client, loaded, &keys)?;
    let (copy, mut doubts) = choose(&client, loaded, run, &all, which, trust)?;
    if let Some((name, time)) = journal.and_then(|journal| newest_known(loaded, journal))
        && which == "latest"
        && time > copy.time
        && !all.iter().any(|copy| copy.name == name)
    {
        doubts.push(Doubt::Gone(name, time));
    }
    let path = bring(&client, loaded, run, journal, copy)?;
    Ok(Fetched { path, doubts })
}

fn bring(
    client: &Client,
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    copy: &Copy,
) -> Result<PathBuf> {
    let dir = &loaded.config.backup.dir;
    let encrypted = copy.name.ends_with(ENCRYPTED);
    if encrypted {
        // Nobody waits for what cannot be opened then.
        crypt::need_identity(&loaded.config.backup, Path::new(&copy.name))?;
    }
    let folder = folder::make(loaded)?;
    let here = dir.join(&copy.name);
    if folder.metadata(&copy.name).is_ok_and(|meta| meta.len() == copy.bytes)
        && folder.open_file(&copy.name).and_then(hash).is_ok_and(|sha256| sha256 == copy.sha256)
    {
        if let Some(note) = copy.note()
            && Sidecar::read_in(&folder, copy.name.as_ref()).is_err()
        {
            note.write_in(&folder, copy.name.as_ref())?;
        }
        return Ok(here);
    }
    let bench = Bench::set_up(folder, run)?;
    let free = free_space(dir)?;
    if free < copy.bytes {
        return Err(Fault::critical(format!("no room for {} in {}", copy.name, dir.display()))
            .hint("free some space, or set another dir in [backup]; nothing was changed")
            .into());
    }
    let part = bench.folder().join(&copy.name);
    download(client, copy, &part, run)?;
    if let Some(note) = copy.note() {
        note.write(&part)?;
    }
    let (_, contents) = open(&loaded.config.backup, &part, bench.folder())
        .with_context(|| format!("{} came over whole and cannot be verified", copy.name))?;
    // A backup would sweep a note without its archive.
    let held = lock(loaded, run)?;
    let name = free_name(bench.dir(), &copy.name)?;
    if let Some(note) = copy.note() {
        note.write_in(bench.dir(), name.as_ref())?;
    }
    let path = bench.move_out(&copy.name, name.as_ref())?;
    drop(held);
    if let Some(journal) = journal {
        record_look(loaded, journal, run, &path, contents.manifest.as_ref(), true, false)?;
    }
    let newest = find(loaded, journal, "latest")?;
    if newest == path {
        point_latest(bench.dir(), &name)?;
    }
    Ok(path)
}

/// What is in the way of taking a copy.
fn objection(loaded: &Loaded, copy: &Copy) -> Option<Objection> {
    if copy.origin != Origin::Signed {
        return Some(Objection::Origin(copy.origin));
    }
    let plain = !loaded.config.backup.encrypt_to.is_empty() && !copy.name.ends_with(ENCRYPTED);
    plain.then_some(Objection::Plain)
}

fn refused(copy: &Copy, shown: &str, why: Objection) -> anyhow::Error {
    let message = format!("{} in {shown} is not taken: {why}", copy.name);
    let (fault, hint) = match why {
        Objection::Origin(Origin::Forged) => (
            Fault::critical(message),
            "somebody else can write to the bucket; `backup list --remote` shows the other copies",
        ),
        Objection::Origin(_) => (
            Fault::unknown(message),
            "`backup key import FILE` brings the signing key of the host that made it; --trust takes it without a proof",
        ),
        Objection::Plain => (
            Fault::unknown(message),
            "--trust takes it all the same; `backup list --remote` shows the other copies",
        ),
    };
    fault.hint(hint).into()
}

/// The copy that is meant, and what is to be said of it and of newer ones.
fn choose<'a>(
    client: &Client,
    loaded: &Loaded,
    run: &Run,
    copies: &'a [Copy],
    which: &str,
    trust: bool,
) -> Result<(&'a Copy, Vec<Doubt>)> {
    let shown = client.shown();
    if which == "latest" {
        // By time, not by sequence: a rebuilt host counts from 1 again.
        let mut good: Vec<&Copy> =
            copies.iter().filter(|copy| copy.ours && copy.whole && copy.time <= run.now).collect();
        good.sort_by_key(|copy| std::cmp::Reverse((copy.time, copy.sequence)));
        let mut doubts = Vec::new();
        for copy in &good {
            match objection(loaded, copy) {
                None => return Ok((copy, doubts)),
                Some(why) if trust => {
                    doubts.push(Doubt::Trusted(copy.name.clone(), why));
                    return Ok((copy, doubts));
                }
                Some(why) => doubts.push(Doubt::PassedOver(copy.name.clone(), why)),
            }
        }
        return Err(match good.first().and_then(|copy| Some((copy, objection(loaded, copy)?))) {
            Some((copy, why)) => refused(copy, shown, why),
            None => Fault::unknown(format!("there is no good archive in {shown}"))
                .hint("`backup list --remote` shows what is there")
                .into(),
        });
    }
    let stem = |name: &str| split_name(name).map_or(name, |(stem, _)| stem).to_owned();
    let Some(copy) = copies.iter().find(|copy| stem(&copy.name) == stem(which)) else {
        return Err(Fault::unknown(format!("there is no archive '{}' in {shown}", one_line(which, 100)))
            .hint("`backup list --remote` shows what is there")
            .into());
    };
    if copy.sha256.is_empty() || (copy.note().is_none() && copy.name.ends_with(ENCRYPTED)) {
        return Err(Fault::unknown(format!("{} in {shown} was not put there by this program", copy.name))
            .hint("fetch it by hand; `restore PATH` takes it then")
            .into());
    }
    match objection(loaded, copy) {
        Some(why) if trust => Ok((copy, vec![Doubt::Trusted(copy.name.clone(), why)])),
        Some(why) => Err(refused(copy, shown, why)),
        None => Ok((copy, Vec::new())),
    }
}

fn download(client: &Client, copy: &Copy, part: &Path, run: &Run) -> Result<()> {
    let writing = || format!("cannot write {}", part.display());
    let options = Options::new().write().create_new(0o600);
    let name = part.file_name().unwrap_or_default();
    let file = Dir::open(durable::parent(part)).and_then(|folder| folder.open_with(name, &options));
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

fn hash(file: File) -> io::Result<String> {
    let mut file = Hashed::new(file, None);
    io::copy(&mut file, &mut io::sink())?;
    Ok(file.finish())
}

/// The name in the folder, or one beside it if another file (perhaps a damaged one) has it.
fn free_name(dir: &Dir, name: &str) -> Result<String> {
    let (stem, suffix) = split_name(name).context("that is no archive's name")?;
    let base = stem.get(..15).unwrap_or(stem);
    let mut stems = std::iter::once(stem.to_owned()).chain((1..1000).map(|n| format!("{base}_{n}")));
    let free = stems.find(|stem| is_free(dir, stem));
    let free =
        free.with_context(|| format!("there is no free name for {name} in {}", dir.path().display()))?;
    Ok(format!("{free}{suffix}"))
}
