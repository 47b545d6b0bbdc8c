//! Takes the beginning of a log away, in place: whoever writes to it goes on writing to the
//! same file, and loses no line.

use super::writers::Writers;
use crate::base::beneath::Options;
use crate::base::lines;
use crate::base::step::step;
use crate::log_files::Location;
use anyhow::{Context, Result};
use std::fs::{File, Metadata};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Cuts a log to its last `lines` lines, or, where these are more, to `most` bytes or half of
/// it. Gives the number of bytes that went.
///
/// # Errors
/// Of kind `ResourceBusy` in the chain: its writer does not append, and it stays as it is.
pub(super) fn cut(log: &Location, keep: usize, most: u64, writers: &mut Writers) -> Result<u64> {
    let mut work = || -> io::Result<u64> {
        let (file, meta) = open(log, writers)?;
        // What stays fits into what goes: see `shift`.
        let start = lines::start_of_last(&file, meta.len(), keep, most.min(meta.len() / 2))?;
        let taken = whole_blocks(&file, start)?;
        let whole = next_line(&file, taken, start)?.unwrap_or(taken);
        match collapse(&file, taken) {
            Ok(()) => {
                step("cut")?;
                // A blank line stands for the end of the line that the last block began with.
                blank(&file, (whole - taken).saturating_sub(1))?;
                Ok(taken)
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => shift(&file, start),
            Err(error) => Err(error),
        }
    };
    work().with_context(|| format!("cannot cut {}", log.path().display()))
}

/// How many bytes would go, and nothing is changed.
///
/// # Errors
/// As those of [`cut`].
pub(super) fn foresee(log: &Location, keep: usize, most: u64, writers: &mut Writers) -> Result<u64> {
    let mut work = || {
        let (file, meta) = open(log, writers)?;
        let start = lines::start_of_last(&file, meta.len(), keep, most.min(meta.len() / 2))?;
        if can_collapse(&file) { whole_blocks(&file, start) } else { Ok(start) }
    };
    work().with_context(|| format!("cannot cut {}", log.path().display()))
}

/// Whether the file system takes the beginning of a file away.
pub(super) fn can_collapse(file: &File) -> bool {
    // A single byte is refused everywhere, but not for the same reason.
    #[cfg(target_os = "linux")]
    return !matches!(
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::COLLAPSE_RANGE, 0, 1),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS)
    );
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

/// Opens a log to cut it, if its writers bear that.
pub(super) fn open(log: &Location, writers: &mut Writers) -> io::Result<(File, Metadata)> {
    // Asked before we open it for writing ourselves.
    let known = log.metadata()?;
    if let Some(writer) = writers.of(&log.path(), &known).filter(|writer| !writer.appends) {
        // It would go on at its old offset, and leave a hole of NUL bytes before it.
        let why = format!(
            "{} (pid {}) does not append to it: after a cut it would begin with a hole; have that one write by >> \
             instead of >, or restart it to begin a new log",
            writer.name, writer.pid
        );
        return Err(Error::new(ErrorKind::ResourceBusy, why));
    }
    let file = log.open_with(&Options::new().read().write())?;
    let meta = file.metadata()?;
    if meta.nlink() != 1 || (meta.dev(), meta.ino()) != (known.dev(), known.ino()) {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file with one name"));
    }
    Ok((file, meta))
}

/// Lets the file system take whole blocks from the front (fallocate(2)): nothing is copied, so
/// there is no moment at which a line could be lost.
///
/// # Errors
/// Of kind `Unsupported`, where the file system cannot.
#[cfg(target_os = "linux")]
pub(super) fn collapse(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
            Err(ErrorKind::Unsupported.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// How much of so many bytes the file system can take away.
#[cfg(target_os = "linux")]
pub(super) fn whole_blocks(file: &File, bytes: u64) -> io::Result<u64> {
    let block = rustix::fs::fstatvfs(file)?.f_bsize.max(512);
    Ok(bytes / block * block)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn collapse(_file: &File, _bytes: u64) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn whole_blocks(_file: &File, _bytes: u64) -> io::Result<u64> {
    Ok(0)
}

/// Where the first whole line at or after `from` begins, if that is not after `to`.
pub(super) fn next_line(file: &File, from: u64, to: u64) -> io::Result<Option<u64>> {
    // The byte before may be the end of a line.
    let mut at = from.saturating_sub(1);
    if from == 0 {
        return Ok(Some(0));
    }
    while at < to {
        let bytes = lines::read(file, at, to.min(at + (64 << 10)))?;
        if bytes.is_empty() {
            break;
        }
        if let Some(index) = bytes.iter().position(|&byte| byte == b'\n') {
            return Ok(Some(at + index as u64 + 1));
        }
        at += bytes.len() as u64;
    }
    Ok(None)
}

/// Writes spaces over the beginning.
pub(super) fn blank(file: &File, bytes: u64) -> io::Result<()> {
    let spaces = [b' '; 4096];
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(spaces.len() as u64);
        file.write_all_at(&spaces[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

/// Copies what stays over the beginning, then cuts the rest off. What stays is also still
/// where it was until the very end, so a run killed half-way loses nothing; and it needs no
/// room on a full disk.
///
/// A line that is appended between the last look and the cut is lost: two system calls apart.
fn shift(file: &File, start: u64) -> io::Result<u64> {
    let mut from = start;
    let mut to = 0;
    loop {
        let bytes = lines::read(file, from, from + (1 << 20))?;
        if bytes.is_empty() {
            break;
        }
        file.write_all_at(&bytes, to)?;
        from += bytes.len() as u64;
        to += bytes.len() as u64;
    }
    file.set_len(to)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    fn log_of(dir: &Path, lines: usize) -> PathBuf {
        let path = dir.join("x.log");
        let text: String = (0..lines).map(|number| format!("line {number:06}\n")).collect();
        fs::write(&path, text).unwrap();
        path
    }

    fn cut(path: &Path, keep: usize, most: u64, writers: &mut Writers) -> Result<u64> {
        super::cut(&Location::named(path).unwrap(), keep, most, writers)
    }

    #[test]
    fn the_last_lines_stay_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = log_of(dir.path(), 10_000);
        let inode = fs::metadata(&path).unwrap().ino();
        let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
        let gone = cut(&path, 1000, u64::MAX, &mut Writers::default()).unwrap();
        assert!(gone > 0);
        writer.write_all(b"after\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!((1001..1500).contains(&lines.len()), "{}", lines.len());
        assert_eq!(lines[lines.len() - 1001..][..2], ["line 009000", "line 009001"]);
        assert!(text.ends_with("line 009999\nafter\n"));
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn without_help_of_the_file_system_it_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = log_of(dir.path(), 5000);
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let start = lines::start_of_last(&file, file.metadata().unwrap().len(), 100, u64::MAX).unwrap();
        shift(&file, start).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert!(text.starts_with("line 004900\n") && text.ends_with("line 004999\n"));
    }

    /// Guards against the predecessor's `tail > temp; mv`, after which the writer went on
    /// writing to a deleted file.
    #[test]
    fn no_line_is_lost_while_a_writer_is_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = log_of(dir.path(), 50_000);
        let probe = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let lossless = collapse(&probe, 1 << 16).is_ok();
        drop(probe);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut log = OpenOptions::new().append(true).open(&path).unwrap();
                let mut number = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    log.write_all(format!("new {number:06}\n").as_bytes()).unwrap();
                    number += 1;
                }
                number
            });
            for _ in 0..10 {
                cut(&path, 100_000_000, 60_000, &mut Writers::default()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap()
        });
        let text = fs::read_to_string(&path).unwrap();
        let numbers: Vec<usize> =
            text.lines().filter_map(|line| line.strip_prefix("new ")?.parse().ok()).collect();
        assert_eq!(numbers.last(), Some(&(written - 1)), "the last line written is there");
        // The first may be the end of a cut line. Where the file system cannot collapse, lines
        // that came between two system calls may be missing.
        let gaps = numbers[1..].windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(gaps == 0 || !lossless && gaps <= 10, "{gaps} gaps");
    }

    /// It would go on at its old offset: no cut may leave it with a hole of NUL bytes.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_whose_writer_does_not_append_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut writer = File::create(&path).unwrap();
        writer.write_all("a line\n".repeat(100_000).as_bytes()).unwrap();
        let error = cut(&path, 10, u64::MAX, &mut Writers::default()).unwrap_err();
        assert!(format!("{error:#}").contains("does not append"), "{error:#}");
        writer.write_all(b"last\n").unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            ["a line\n".repeat(100_000), "last\n".to_owned()].concat().as_bytes()
        );
        // Its next run begins anew, or what is left of it can be cut.
        drop(writer);
        assert!(cut(&path, 10, u64::MAX, &mut Writers::default()).unwrap() > 0);
    }

    #[test]
    fn whole_lines_are_found_at_any_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "ab\ncd\nno end").unwrap();
        let file = File::open(&path).unwrap();
        let from = |from| next_line(&file, from, 13).unwrap();
        assert_eq!(
            [from(0), from(1), from(3), from(4), from(6)],
            [Some(0), Some(3), Some(3), Some(6), Some(6)]
        );
        assert_eq!(from(7), None);
    }

    #[test]
    fn links_are_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = log_of(dir.path(), 5000);
        let link = dir.path().join("link.log");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(cut(&link, 10, 1, &mut Writers::default()).is_err());
        fs::hard_link(&path, dir.path().join("hard.log")).unwrap();
        assert!(cut(&path, 10, 1, &mut Writers::default()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 5000);
    }
}
