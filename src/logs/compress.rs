//! From `NAME.log` to `NAME.log.gz`, so that at every moment one of the two is whole.

use super::writers::Writers;
use crate::base::{durable, lines};
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Error, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Compresses a log and takes the original away; gives the size of what was added.
///
/// A `.gz` that is there already gets the log as a further member (RFC 1952, 2.2). One that is
/// damaged is left as it is, and the log goes to the next free name beside it.
///
/// # Errors
/// Of kind `ResourceBusy` in the chain: the log is still being written, and stays.
pub(super) fn compress(log: &Path, writers: &mut Writers) -> Result<u64> {
    let source = lines::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    let before = source.metadata()?;
    let target = match place(log, &source, before.len())? {
        Place::New(target) => target,
        Place::Further(target) => target,
        Place::Done => {
            // Killed between the rename and the removal, a run before us left both.
            remove_unless_changed(log, &before, writers)?;
            return Ok(0);
        }
    };
    let earlier = lines::open(&target).ok();
    let start = earlier.as_ref().map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()))?;

    let mut added = 0;
    durable::replace_with(&target, before.mode() & 0o7777, |temp| {
        if let Some(earlier) = &earlier {
            io::copy(&mut &*earlier, temp)?;
        }
        let mut encoder = GzEncoder::new(&mut *temp, Compression::new(6));
        (&source).seek(SeekFrom::Start(0))?;
        io::copy(&mut (&source).take(before.len()), &mut encoder)?;
        encoder.finish()?;
        added = temp.stream_position()? - start;
        // What was written is read back before the original may go.
        temp.seek(SeekFrom::Start(start))?;
        (&source).seek(SeekFrom::Start(0))?;
        let written = MultiGzDecoder::new(BufReader::new(&*temp));
        if !same(written, BufReader::new((&source).take(before.len())))? {
            return Err(Error::other("what was written reads back differently"));
        }
        temp.set_modified(before.modified()?)?;
        // Only root can give files away; anyone else owns the log already.
        let owner = rustix::fs::Uid::from_raw(before.uid());
        let _ = rustix::fs::fchown(&*temp, Some(owner), Some(rustix::fs::Gid::from_raw(before.gid())));
        unchanged(log, &before, writers)
    })?;
    match remove_unless_changed(log, &before, writers) {
        Ok(()) => Ok(added),
        Err(error) => {
            // Rather a line twice than never: a member added to an older file stays.
            if earlier.is_none() {
                let _ = fs::remove_file(&target);
            }
            Err(error)
        }
    }
}

/// Where the compressed log goes.
enum Place {
    /// A new file.
    New(PathBuf),
    /// A sound file that gets a further member.
    Further(PathBuf),
    /// Its end is this very log.
    Done,
}

fn place(log: &Path, source: &File, size: u64) -> Result<Place> {
    // A number goes before `.log.gz`, so that the patterns of the config still fit.
    let beside = |number: u32| {
        let name = log.file_name().unwrap_or_default().as_bytes();
        let (stem, ending) = name.strip_suffix(b".log").map_or((name, &b""[..]), |stem| (stem, b".log"));
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        log.with_file_name(OsStr::from_bytes(&[stem, number.as_bytes(), ending, b".gz"].concat()))
    };
    for number in 0..1000 {
        let target = beside(number);
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::New(target)),
            Ok(meta) if meta.is_file() && meta.nlink() == 1 => {}
            // A link or the like is not ours to replace.
            Ok(_) => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look at {}", target.display()));
            }
        }
        let decoder = || Ok::<_, Error>(MultiGzDecoder::new(BufReader::new(lines::open(&target)?)));
        let length = decoder().and_then(|mut decoder| io::copy(&mut decoder, &mut io::sink()));
        let Ok(length) = length else { continue };
        if size > 0 && length >= size {
            let mut decoder = decoder()?;
            io::copy(&mut decoder.by_ref().take(length - size), &mut io::sink())?;
            let mut source = source;
            source.seek(SeekFrom::Start(0))?;
            if same(decoder, BufReader::new(source.take(size)))? {
                return Ok(Place::Done);
            }
        }
        return Ok(Place::Further(target));
    }
    anyhow::bail!("there is no free name beside {}", log.display())
}

/// Whether two streams hold the same bytes.
fn same(mut a: impl Read, mut b: impl Read) -> io::Result<bool> {
    let mut left = vec![0; 1 << 16];
    let mut right = vec![0; 1 << 16];
    loop {
        let count = fill(&mut a, &mut left)?;
        if fill(&mut b, &mut right)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// An error of kind `ResourceBusy`, unless the file is as it was and nobody may write to it.
pub(super) fn unchanged(log: &Path, before: &Metadata, writers: &mut Writers) -> io::Result<()> {
    let now = fs::symlink_metadata(log)?;
    let key = |meta: &Metadata| (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    let busy = |why: String| Err(Error::new(ErrorKind::ResourceBusy, why));
    if key(&now) != key(before) {
        return busy("it was written meanwhile".to_owned());
    }
    match writers.of(&now) {
        Some(writer) => busy(format!("{} (pid {}) holds it open for writing", writer.name, writer.pid)),
        None => Ok(()),
    }
}

fn remove_unless_changed(log: &Path, before: &Metadata, writers: &mut Writers) -> Result<()> {
    unchanged(log, before, writers)
        .and_then(|()| fs::remove_file(log))
        .with_context(|| format!("cannot remove {}", log.display()))?;
    durable::sync_folder(durable::parent(log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    fn inflate(path: &Path) -> String {
        let mut text = String::new();
        MultiGzDecoder::new(BufReader::new(File::open(path).unwrap())).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_log_becomes_a_gz_with_its_mode_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("d_20261119.log");
        fs::write(&log, "one\ntwo\n").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        File::options().write(true).open(&log).unwrap().set_modified(at).unwrap();
        compress(&log, &mut Writers::default()).unwrap();
        let gz = dir.path().join("d_20261119.log.gz");
        let meta = fs::metadata(&gz).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.modified().unwrap()), (0o640, at));
        assert_eq!(inflate(&gz), "one\ntwo\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the original is gone and no rubbish left");
    }

    #[test]
    fn a_gz_that_is_there_gets_a_further_member() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("d.log");
        for text in ["one\n", "two\n", ""] {
            fs::write(&log, text).unwrap();
            compress(&log, &mut Writers::default()).unwrap();
        }
        assert_eq!(inflate(&dir.path().join("d.log.gz")), "one\ntwo\n");
        // As a run that was killed before it removed the original leaves it.
        fs::write(&log, "two\n").unwrap();
        compress(&log, &mut Writers::default()).unwrap();
        assert_eq!(inflate(&dir.path().join("d.log.gz")), "one\ntwo\n");
        assert!(!log.exists());
    }

    #[test]
    fn a_damaged_gz_is_left_and_another_name_taken() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("d.log");
        fs::write(dir.path().join("d.log.gz"), "half a gz").unwrap();
        fs::write(&log, "one\n").unwrap();
        compress(&log, &mut Writers::default()).unwrap();
        assert_eq!(fs::read(dir.path().join("d.log.gz")).unwrap(), b"half a gz");
        assert_eq!(inflate(&dir.path().join("d.1.log.gz")), "one\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_that_is_held_open_stays() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("d.log");
        let _writer = File::create(&log).unwrap();
        let error = compress(&log, &mut Writers::default()).unwrap_err();
        assert!(format!("{error:#}").contains("holds it open"), "{error:#}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
