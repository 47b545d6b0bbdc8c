//! What leaves a log under a name of its own: renamed, or copied to the archive before it is cut.
//! No name is given twice.

use super::cut::{self, blank, can_collapse, collapse, next_line, whole_blocks};
use super::ledger::{Cut, Ledger};
use super::pack::{Part, pack, refuse_holes};
use super::plan::Care;
use super::writers::Writers;
use crate::base::beneath::{Options, Refused};
use crate::base::durable::Lock;
use crate::base::name::Name;
use crate::base::step::step;
use crate::base::{Home, Run, durable, lines};
use crate::config::Logs;
use crate::log_files::names::{numbered, rotated, unpacked};
use crate::log_files::{Location, Log, locate, sync_all};
use anyhow::{Context, Result};
use chrono::NaiveDate;
use flate2::bufread::MultiGzDecoder;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, BufReader, Error, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where what leaves a state stream goes today: `archive/YYYYMMDD/` and its own folder.
pub(super) fn folder(home: &Home, log: &Log, today: NaiveDate) -> io::Result<Location> {
    let parent = durable::parent(&log.path);
    let inside = parent.strip_prefix(home.root()).unwrap_or(parent);
    let inside = inside.components().filter(|part| matches!(part, Component::Normal(_)));
    let folder = Path::new("archive").join(today.format("%Y%m%d").to_string());
    Ok(Location::new(&Arc::new(home.dir()?), folder.join(inside.collect::<PathBuf>())))
}

/// So long a backup that is being made is waited for.
const BACKUP: Duration = Duration::from_secs(300);

/// Keeps backups and restores away while a state stream is changed. A backup that is at it would have its
/// beginning and then what is behind the cut, or nothing of it.
///
/// # Errors
/// When one is at it for too long: the stream is to stay as it is.
pub(super) fn undisturbed(home: &Home, run: &Run) -> Result<Lock> {
    Lock::take(home, "backup", run, BACKUP)
}

/// Gives a log another name: the next number of the day, in a folder of the same file system.
/// Whoever has it open goes on writing to it.
pub(super) fn rename(log: &Location, folder: &Location, today: NaiveDate) -> Result<Location> {
    folder.make(0o700).with_context(|| format!("cannot create the folder {}", folder.path().display()))?;
    let to = give_name(log, folder, log.name().as_bytes(), today, "")?;
    step("renamed")?;
    sync_all([folder, &log.folder()]).with_context(|| format!("cannot sync {}", folder.path().display()))?;
    Ok(to)
}

/// Gives a file the name that is next for a log on a day.
pub(super) fn give_name(
    file: &Location,
    folder: &Location,
    log: &[u8],
    day: NaiveDate,
    ending: &str,
) -> Result<Location> {
    let work = || -> io::Result<Location> {
        let mut number = next_number(folder, log, day)?;
        loop {
            let to = folder.join([&rotated(log, day, number)[..], ending.as_bytes()].concat());
            match file.rename(&to) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                result => return result.map(|()| to),
            }
        }
    };
    work()
        .with_context(|| format!("cannot rename {} into {}", file.path().display(), folder.path().display()))
}

/// One more than the largest that is taken: numbers go with time, even if the first ones are gone.
fn next_number(folder: &Location, log: &[u8], today: NaiveDate) -> io::Result<u32> {
    let mut most = 0;
    for entry in folder.root().entries(folder.inside())? {
        let taken = entry?.name;
        let Some(number) = numbered(taken.as_bytes()) else { continue };
        if unpacked(taken.as_bytes()) == rotated(log, today, number) {
            most = most.max(number);
        }
    }
    Ok(most + 1)
}

/// Cuts a state stream at whole lines; what goes is in the archive before. Gives the bytes that went,
/// and where they are.
///
/// The ledger knows of it until it is done: whenever this is cut short, [`finish`] tells what there is
/// to do, and no line is lost or there twice.
///
/// # Errors
/// Of kind `ResourceBusy` in the chain: it cannot be cut without risk to a line, and stays.
pub(super) fn cut(
    home: &Home,
    rules: &Logs,
    run: &Run,
    log: &Log,
    today: NaiveDate,
    ledger: &mut Ledger,
    writers: &mut Writers,
) -> Result<(u64, Location)> {
    let care = Care::of(log, rules);
    let cutting = || format!("cannot cut {}", log.path.display());
    // There is room for one: another that could not be completed comes first.
    finish(home, rules, ledger)?;
    let Beginning { file, meta, taken, copied } = beginning(&log.at, &care, writers).with_context(cutting)?;
    let folder = folder(home, log, today)?;
    let archiving = || format!("cannot write into {}", folder.path().display());
    folder.make(0o700).with_context(archiving)?;
    let temp = folder.temp().with_context(archiving)?;
    let mut parts = [Part::new(&file, copied, &temp.file)];
    pack(&mut parts);
    let [part] = parts;
    part.done(0).with_context(archiving)?;
    let owner = rustix::fs::Uid::from_raw(meta.uid());
    let _ = rustix::fs::fchown(&temp.file, Some(owner), Some(rustix::fs::Gid::from_raw(meta.gid())));
    temp.file.set_permissions(Permissions::from_mode(meta.mode() & 0o7777)).with_context(archiving)?;
    temp.file.sync_all().with_context(archiving)?;
    let copy = temp.keep().with_context(archiving)?;
    folder.sync().with_context(archiving)?;
    step("copied")?;
    let _undisturbed = undisturbed(home, run).inspect_err(|_| drop(copy.remove())).with_context(cutting)?;

    let cut = Cut {
        log: Name(home.relative(&log.path).unwrap_or(&log.path).to_owned()),
        file: (meta.dev(), meta.ino()),
        length: meta.len(),
        copied,
        taken,
        copy: Name(copy.inside().to_owned()),
        day: today,
    };
    ledger.cut = Some(cut.clone());
    ledger.write(home)?;
    step("noted")?;
    let collapsed = still_grows(&file, &meta, &log.at).and_then(|()| collapse(&file, taken));
    step("cut")?;
    let pending = Pending { cut: &cut, log: log.at.clone(), copy };
    let member = match collapsed {
        Ok(()) => pending.complete(&file),
        Err(error) => pending.copy.remove().and(Err(error)).with_context(cutting),
    };
    // If it cannot be completed, the next run tries again.
    if member.is_ok() || !pending.copy.is_file() {
        ledger.cut = None;
        ledger.write(home)?;
    }
    Ok((taken, member?))
}

/// What would go of a state stream.
struct Beginning {
    file: File,
    meta: Metadata,
    /// So many bytes of it the file system takes away.
    taken: u64,
    /// So many are copied: whole lines.
    copied: u64,
}

fn beginning(log: &Location, care: &Care, writers: &mut Writers) -> io::Result<Beginning> {
    let (file, meta) = cut::open(log, writers)?;
    refuse_holes(&meta)?;
    if !can_collapse(&file) {
        // It is not copied over itself: between the last look and the cut a line could come.
        let why = "this file system cannot take the beginning of a file away; if its writer opens it anew for each line, \
                   or when it is told to, set discipline = \"rename\"";
        return Err(Error::new(ErrorKind::ResourceBusy, why));
    }
    let most = (care.max_size.0 / 2).min(meta.len() / 2);
    let start = lines::start_of_last(&file, meta.len(), care.keep_lines, most)?;
    let taken = whole_blocks(&file, start)?;
    match next_line(&file, taken, start)?.filter(|_| taken > 0) {
        Some(copied) => Ok(Beginning { file, meta, taken, copied }),
        None => Err(Error::new(ErrorKind::ResourceBusy, "no line ends in what would go")),
    }
}

/// How many bytes of a state stream would go, and nothing is changed.
///
/// # Errors
/// As those of [`cut`].
pub(super) fn foresee(log: &Location, care: &Care, writers: &mut Writers) -> Result<u64> {
    let beginning =
        beginning(log, care, writers).with_context(|| format!("cannot cut {}", log.path().display()))?;
    Ok(beginning.taken)
}

/// The name that a log would get in a folder, if those are given already.
pub(super) fn foresee_name(
    log: &Location,
    folder: &Location,
    day: NaiveDate,
    given: &[&Path],
) -> Result<Location> {
    let name = log.name().as_bytes();
    let work = || -> io::Result<Location> {
        let first = match next_number(folder, name, day) {
            Err(error) if error.kind() == ErrorKind::NotFound => 1,
            first => first?,
        };
        let mut names = (first..).map(|number| folder.join(rotated(name, day, number)));
        let free = |to: &Location| !given.contains(&&*to.path());
        names.find(free).ok_or_else(|| Error::other("there is no free name"))
    };
    work().with_context(|| format!("cannot rename {} into {}", log.path().display(), folder.path().display()))
}

/// That it was not written anew while it was copied: what is at its beginning now is in no archive.
fn still_grows(file: &File, before: &Metadata, log: &Location) -> io::Result<()> {
    let named = log.metadata()?;
    if named.ino() != before.ino() || file.metadata()?.len() < before.len() {
        return Err(Error::new(ErrorKind::ResourceBusy, "it was begun anew meanwhile"));
    }
    Ok(())
}

/// A cut that was noted, with its files.
struct Pending<'a> {
    cut: &'a Cut,
    log: Location,
    copy: Location,
}

/// So much is compared at a time.
const PART: usize = 1 << 16;

impl Pending<'_> {
    /// What is left to do when the beginning is gone: the rest of the last line of it that was copied is
    /// made blank, and the copy gets its name.
    fn complete(&self, file: &File) -> Result<Location> {
        let writing = || format!("cannot write {}", self.log.path().display());
        let reading = || format!("cannot read {}", self.copy.path().display());
        let mut copied = self.inflate()?;
        io::copy(&mut copied.by_ref().take(self.cut.taken), &mut io::sink()).with_context(reading)?;
        let rest = self.cut.copied - self.cut.taken;
        if begins_with(file, copied.take(rest + 1), rest).with_context(reading)? {
            // With its newline: the next line begins with spaces, which JSON allows, and an empty line is none.
            blank(file, rest).with_context(writing)?;
        }
        file.sync_all().with_context(writing)?;
        step("blanked")?;
        self.name_copy()
    }

    fn name_copy(&self) -> Result<Location> {
        let folder = self.copy.folder();
        let member = give_name(&self.copy, &folder, self.log.name().as_bytes(), self.cut.day, ".gz")?;
        step("named")?;
        folder.sync().with_context(|| format!("cannot sync {}", folder.path().display()))?;
        Ok(member)
    }

    fn inflate(&self) -> Result<MultiGzDecoder<BufReader<File>>> {
        let file = self.copy.open().with_context(|| format!("cannot read {}", self.copy.path().display()))?;
        Ok(MultiGzDecoder::new(BufReader::new(file)))
    }

    /// Its writers only append: without its beginning it is shorter, or begins otherwise.
    fn remains(&self, file: &File) -> Result<Remains> {
        let reading = || format!("cannot read {}", self.log.path().display());
        let meta = file.metadata().with_context(reading)?;
        if (meta.dev(), meta.ino()) != self.cut.file {
            return Ok(Remains::Another);
        }
        let whole = meta.len() >= self.cut.length
            && begins_with(file, self.inflate()?.take(self.cut.copied), self.cut.copied)
                .with_context(reading)?;
        Ok(if whole { Remains::Whole } else { Remains::Taken })
    }
}

/// Whether a file begins with what can be read, and that is so many bytes.
fn begins_with(file: &File, mut text: impl Read, length: u64) -> io::Result<bool> {
    let (mut at, mut part) = (0, Vec::with_capacity(PART));
    loop {
        part.clear();
        text.by_ref().take(PART as u64).read_to_end(&mut part)?;
        if part.is_empty() {
            return Ok(at == length);
        }
        if lines::read(file, at, at + part.len() as u64)? != part {
            return Ok(false);
        }
        at += part.len() as u64;
    }
}

/// Finishes, or takes back, what a run before this one was at.
pub(super) fn finish(home: &Home, rules: &Logs, ledger: &mut Ledger) -> Result<()> {
    let Some(cut) = ledger.cut.clone() else { return Ok(()) };
    let find = |name: &Name| {
        locate(home, rules, &name.0).with_context(|| format!("cannot look at {}", name.0.display()))
    };
    let pending = Pending { cut: &cut, log: find(&cut.log)?, copy: find(&cut.copy)? };
    if pending.copy.is_file() {
        match pending.log.open_with(&Options::new().read().write()) {
            Ok(file) => match pending.remains(&file)? {
                Remains::Another => drop(pending.name_copy()?),
                Remains::Taken => drop(pending.complete(&file)?),
                Remains::Whole => pending
                    .copy
                    .remove()
                    .with_context(|| format!("cannot remove {}", pending.copy.path().display()))?,
            },
            // Whatever lies there now is not what was cut.
            Err(error) if error.kind() == ErrorKind::NotFound || Refused::of(&error).is_some() => {
                drop(pending.name_copy()?)
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", pending.log.path().display()));
            }
        }
    }
    ledger.cut = None;
    ledger.write(home)
}

/// What there is of a stream whose beginning was copied.
enum Remains {
    /// Another file has its name. Whatever became of it, the copy stays.
    Another,
    /// Its beginning is gone.
    Taken,
    /// It is as it was, or longer.
    Whole,
}
