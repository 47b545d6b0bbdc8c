//! Takes the beginning of a log away, in place: whoever writes to it goes on writing to the
//! same file, and loses no line.

use super::writers::Writers;
use crate::base::lines;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Cuts a log to its last `lines` lines, or, where these are more, to `most` bytes or half of
/// it. Gives the number of bytes that went.
pub(super) fn cut(log: &Path, keep: usize, most: u64, writers: &mut Writers) -> Result<u64> {
    let mut work = || -> io::Result<u64> {
        // Asked before we open it for writing ourselves.
        let in_the_way = writers.of(&std::fs::symlink_metadata(log)?).is_some_and(|writer| !writer.appends);
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(log)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file with one name"));
        }
        // What stays fits into what goes: see `shift`.
        let start = lines::start_of_last(&file, meta.len(), keep, most.min(meta.len() / 2))?;
        if in_the_way {
            // It would go on at its old offset and leave a hole before it: make the hole now.
            return punch(&file, start);
        }
        match collapse(&file, start) {
            Err(error) if error.kind() == ErrorKind::Unsupported => shift(&file, start),
            result => result,
        }
    };
    work().with_context(|| format!("cannot cut {}", log.display()))
}

/// Lets the file system take whole blocks from the front (fallocate(2)): nothing is copied, so
/// there is no moment at which a line could be lost. Up to a block more stays, and with it the
/// end of a line that began before.
#[cfg(target_os = "linux")]
fn collapse(file: &File, start: u64) -> io::Result<u64> {
    use rustix::fs::{FallocateFlags, fallocate};
    let size = whole_blocks(file, start)?;
    if size == 0 {
        return Ok(0);
    }
    match fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, size) {
        Ok(()) => Ok(size),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
            Err(ErrorKind::Unsupported.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives the blocks before `start` back to the file system; length and offsets stay.
#[cfg(target_os = "linux")]
fn punch(file: &File, start: u64) -> io::Result<u64> {
    use rustix::fs::{FallocateFlags, fallocate};
    let size = whole_blocks(file, start)?;
    if size > 0 {
        fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, size)?;
    }
    Ok(size)
}

#[cfg(target_os = "linux")]
fn whole_blocks(file: &File, bytes: u64) -> io::Result<u64> {
    let block = rustix::fs::fstatvfs(file)?.f_bsize.max(512);
    Ok(bytes / block * block)
}

#[cfg(not(target_os = "linux"))]
fn collapse(_file: &File, _start: u64) -> io::Result<u64> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn punch(_file: &File, _start: u64) -> io::Result<u64> {
    Err(ErrorKind::Unsupported.into())
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
    use std::io::Write;
    use std::path::PathBuf;

    fn log_of(dir: &Path, lines: usize) -> PathBuf {
        let path = dir.join("x.log");
        let text: String = (0..lines).map(|number| format!("line {number:06}\n")).collect();
        fs::write(&path, text).unwrap();
        path
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_writer_that_does_not_append_keeps_its_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut writer = File::create(&path).unwrap();
        writer.write_all("a line\n".repeat(100_000).as_bytes()).unwrap();
        writer.sync_all().unwrap();
        let before = fs::metadata(&path).unwrap();
        assert!(cut(&path, 10, u64::MAX, &mut Writers::default()).unwrap() > 0);
        writer.write_all(b"last\n").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.len(), before.len() + 5);
        assert!(after.blocks() < before.blocks());
        assert_eq!(lines::last_lines(&path, 2, 1 << 20).unwrap(), ["a line", "last"]);
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
