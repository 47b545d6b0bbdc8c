//! What leaves a log under a name of its own: renamed, or copied to the archive before it is cut.
//! No name is given twice.

use super::cut::{self, blank, can_collapse, collapse, next_line, whole_blocks};
use super::ledger::{Cut, Ledger};
use super::pack::{Part, pack};
use super::plan::Care;
use super::writers::Writers;
use crate::base::durable::Lock;
use crate::base::step::step;
use crate::base::{Home, Run, durable, lines};
use crate::log_files::names::{numbered, rotated};
use anyhow::{Context, Result};
use chrono::NaiveDate;
use flate2::bufread::MultiGzDecoder;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufReader, Error, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where what leaves a state stream goes today: `archive/YYYYMMDD/` and its own folder.
pub(super) fn folder(home: &Home, log: &Path, today: NaiveDate) -> PathBuf {
    let parent = durable::parent(log);
    let inside = parent.strip_prefix(home.root()).or_else(|_| parent.strip_prefix("/")).unwrap_or(parent);
    home.archive().join(today.format("%Y%m%d").to_string()).join(inside)
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
pub(super) fn rename(log: &Path, folder: &Path, today: NaiveDate) -> Result<PathBuf> {
    durable::make_folder(folder, 0o700)?;
    let to = give_name(log, folder, log, today, "")?;
    step("renamed")?;
    durable::sync_folder(folder)?;
    if folder != durable::parent(log) {
        durable::sync_folder(durable::parent(log))?;
    }
    Ok(to)
}

/// Gives a file the name that is next for a log on a day.
pub(super) fn give_name(
    file: &Path,
    folder: &Path,
    log: &Path,
    day: NaiveDate,
    ending: &str,
) -> Result<PathBuf> {
    let work = || -> io::Result<PathBuf> {
        let name = name_of(log)?;
        let mut number = next_number(folder, name, day)?;
        loop {
            let to = folder.join(rotated(name, day, number) + ending);
            match rename_to_free(file, &to) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                result => return result.map(|()| to),
            }
        }
    };
    work().with_context(|| format!("cannot rename {} into {}", file.display(), folder.display()))
}

fn name_of(log: &Path) -> io::Result<&str> {
    log.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "its name is not UTF-8"))
}

/// One more than the largest that is taken: numbers go with time, even if the first ones are gone.
fn next_number(folder: &Path, name: &str, today: NaiveDate) -> io::Result<u32> {
    let mut most = 0;
    for entry in fs::read_dir(folder)? {
        let taken = entry?.file_name();
        let Some(taken) = taken.to_str() else { continue };
        let Some(number) = numbered(taken) else { continue };
        if taken.strip_suffix(".gz").unwrap_or(taken) == rotated(name, today, number) {
            most = most.max(number);
        }
    }
    Ok(most + 1)
}

/// Renames, but over nothing.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can. Nobody else gives such names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
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
    run: &Run,
    log: &Path,
    care: &Care,
    today: NaiveDate,
    ledger: &mut Ledger,
    writers: &mut Writers,
) -> Result<(u64, PathBuf)> {
    let cutting = || format!("cannot cut {}", log.display());
    // There is room for one: another that could not be completed comes first.
    finish(home, ledger)?;
    let Beginning { file, meta, taken, copied } = beginning(log, care, writers).with_context(cutting)?;
    let folder = folder(home, log, today);
    durable::make_folder(&folder, 0o700)?;
    let archiving = || format!("cannot write into {}", folder.display());
    let temp = tempfile::Builder::new().prefix(".part-").tempfile_in(&folder).with_context(archiving)?;
    let mut parts = [Part::new(&file, copied, temp.as_file())];
    pack(&mut parts);
    let [part] = parts;
    part.done(0).with_context(archiving)?;
    let owner = rustix::fs::Uid::from_raw(meta.uid());
    let _ = rustix::fs::fchown(temp.as_file(), Some(owner), Some(rustix::fs::Gid::from_raw(meta.gid())));
    temp.as_file().set_permissions(Permissions::from_mode(meta.mode() & 0o7777)).with_context(archiving)?;
    temp.as_file().sync_all().with_context(archiving)?;
    let (_, copy) = temp.keep().with_context(archiving)?;
    durable::sync_folder(&folder)?;
    step("copied")?;
    let _undisturbed =
        undisturbed(home, run).inspect_err(|_| drop(fs::remove_file(&copy))).with_context(cutting)?;

    let cut = Cut {
        log: log.to_owned(),
        file: (meta.dev(), meta.ino()),
        length: meta.len(),
        copied,
        taken,
        copy,
        day: today,
    };
    ledger.cut = Some(cut.clone());
    ledger.write(home)?;
    step("noted")?;
    let collapsed = still_grows(&file, &meta, log).and_then(|()| collapse(&file, taken));
    step("cut")?;
    let member = match collapsed {
        Ok(()) => complete(&cut, &file),
        Err(error) => fs::remove_file(&cut.copy).and(Err(error)).with_context(cutting),
    };
    // If it cannot be completed, the next run tries again.
    if member.is_ok() || !cut.copy.exists() {
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

fn beginning(log: &Path, care: &Care, writers: &mut Writers) -> io::Result<Beginning> {
    let (file, meta) = cut::open(log, writers)?;
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
pub(super) fn foresee(log: &Path, care: &Care, writers: &mut Writers) -> Result<u64> {
    let beginning = beginning(log, care, writers).with_context(|| format!("cannot cut {}", log.display()))?;
    Ok(beginning.taken)
}

/// The name that a log would get in a folder, if those are given already.
pub(super) fn foresee_name(log: &Path, folder: &Path, day: NaiveDate, given: &[&Path]) -> Result<PathBuf> {
    let work = || -> io::Result<PathBuf> {
        let name = name_of(log)?;
        let first = if folder.exists() { next_number(folder, name, day)? } else { 1 };
        let mut names = (first..).map(|number| folder.join(rotated(name, day, number)));
        let free = |path: &PathBuf| !given.contains(&&**path);
        names.find(free).ok_or_else(|| Error::other("there is no free name"))
    };
    work().with_context(|| format!("cannot rename {} into {}", log.display(), folder.display()))
}

/// That it was not written anew while it was copied: what is at its beginning now is in no archive.
fn still_grows(file: &File, before: &Metadata, log: &Path) -> io::Result<()> {
    let named = fs::symlink_metadata(log)?;
    if named.ino() != before.ino() || file.metadata()?.len() < before.len() {
        return Err(Error::new(ErrorKind::ResourceBusy, "it was begun anew meanwhile"));
    }
    Ok(())
}

/// What is left to do when the beginning is gone: the rest of the last line of it that was copied is
/// made blank, and the copy gets its name.
fn complete(cut: &Cut, file: &File) -> Result<PathBuf> {
    let rest = cut.copied - cut.taken;
    let begins = lines::read(file, 0, rest).with_context(|| format!("cannot read {}", cut.log.display()))?;
    let mut copied = inflate(&cut.copy)?;
    let skipped = io::copy(&mut copied.by_ref().take(cut.taken), &mut io::sink());
    let mut ends = Vec::new();
    skipped
        .and_then(|_| copied.read_to_end(&mut ends))
        .with_context(|| format!("cannot read {}", cut.copy.display()))?;
    if begins == ends {
        // With its newline: the next line begins with spaces, which JSON allows, and an empty line is none.
        blank(file, rest).with_context(|| format!("cannot write {}", cut.log.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot write {}", cut.log.display()))?;
    step("blanked")?;
    name_copy(cut)
}

fn name_copy(cut: &Cut) -> Result<PathBuf> {
    let folder = durable::parent(&cut.copy);
    let member = give_name(&cut.copy, folder, &cut.log, cut.day, ".gz")?;
    step("named")?;
    durable::sync_folder(folder)?;
    Ok(member)
}

fn inflate(path: &Path) -> Result<MultiGzDecoder<BufReader<File>>> {
    let file = lines::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(MultiGzDecoder::new(BufReader::new(file)))
}

/// Finishes, or takes back, what a run before this one was at.
pub(super) fn finish(home: &Home, ledger: &mut Ledger) -> Result<()> {
    let Some(cut) = ledger.cut.clone() else { return Ok(()) };
    if fs::symlink_metadata(&cut.copy).is_ok_and(|meta| meta.is_file()) {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        match OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(&cut.log) {
            Ok(file) => match remains(&cut, &file)? {
                Remains::Another => drop(name_copy(&cut)?),
                Remains::Taken => drop(complete(&cut, &file)?),
                Remains::Whole => fs::remove_file(&cut.copy)
                    .with_context(|| format!("cannot remove {}", cut.copy.display()))?,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => drop(name_copy(&cut)?),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", cut.log.display())),
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

/// Its writers only append: without its beginning it is shorter, or begins otherwise.
fn remains(cut: &Cut, file: &File) -> Result<Remains> {
    let reading = || format!("cannot read {}", cut.log.display());
    let meta = file.metadata().with_context(reading)?;
    if (meta.dev(), meta.ino()) != cut.file {
        return Ok(Remains::Another);
    }
    if meta.len() < cut.length {
        return Ok(Remains::Taken);
    }
    let mut copied = inflate(&cut.copy)?;
    let (mut at, mut part) = (0, Vec::new());
    loop {
        part.clear();
        let read = copied.by_ref().take(1 << 16).read_to_end(&mut part);
        read.with_context(|| format!("cannot read {}", cut.copy.display()))?;
        if part.is_empty() {
            return Ok(Remains::Whole);
        }
        if lines::read(file, at, at + part.len() as u64).with_context(reading)? != part {
            return Ok(Remains::Taken);
        }
        at += part.len() as u64;
    }
}
