//! From `NAME.log` to `NAME.log.gz`, so that at every moment one of the two is whole.

use super::pack::{Part, estimate, pack, refuse_holes, side_by_side};
use super::writers::Writers;
use crate::base::beneath::Options;
use crate::base::step::step;
use crate::log_files::names::packed;
use crate::log_files::{Location, Log, Temp, sync_all};
use anyhow::{Context, Result};
use flate2::bufread::MultiGzDecoder;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// So many logs at most are dealt with together: each takes two open files.
const TOGETHER: usize = 64;
/// Nothing is added to what holds more, or is a bomb.
const MOST_CONTENT: u64 = 16 << 30;
/// And about so many bytes of them: so much more of the disk they take at most.
const BYTES_TOGETHER: u64 = 256 << 20;

/// Compresses logs and takes the originals away; gives for each the size of what was added.
///
/// A `.gz` that is there already gets the log as a further member (RFC 1952, 2.2), unless it is one
/// that stays whole. One that is damaged, or whose last line has no end, is left as it is, and the log
/// goes to the next free name beside it.
///
/// # Errors
/// Of kind `ResourceBusy` in the chain: the log is still being written, and stays.
pub(super) fn compress(logs: &[Log], writers: &mut Writers) -> Vec<Result<u64>> {
    let mut results = Vec::new();
    let mut rest = logs;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |log: &&Log| {
            let fits = bytes < BYTES_TOGETHER;
            bytes += log.bytes;
            fits
        };
        let count = rest.iter().take(TOGETHER).take_while(fits).count();
        let (some, others) = rest.split_at(count);
        results.extend(together(some, writers));
        // Who was seen writing to what came of them may have been us.
        *writers = Writers::default();
        rest = others;
    }
    results
}

/// About how large logs would be, and nothing is changed. Each is what is at `at` in truth.
///
/// # Errors
/// As those of [`compress`].
pub(super) fn foresee(at: &[Location], writers: &mut Writers) -> Vec<Result<u64>> {
    at.chunks(TOGETHER).flat_map(|some| foresee_together(some, writers)).collect()
}

fn foresee_together(at: &[Location], writers: &mut Writers) -> Vec<Result<u64>> {
    let mut sources = Vec::new();
    for log in at {
        let mut open = || {
            let source = log.open()?;
            let before = source.metadata()?;
            refuse_holes(&before)?;
            unchanged(log, &before, writers).map(|()| (source, before.len()))
        };
        sources.push(open());
    }
    let sizes = side_by_side(&sources, || {
        |source: &io::Result<(File, u64)>| match source {
            Ok((source, length)) => Some(estimate(source, *length)),
            Err(_) => None,
        }
    });
    let result = |((source, size), log): ((io::Result<_>, Option<io::Result<u64>>), &Location)| {
        let size = source.and_then(|_| size.unwrap_or(Ok(0)));
        size.with_context(|| format!("cannot read {}", log.path().display()))
    };
    sources.into_iter().zip(sizes).zip(at).map(result).collect()
}

/// A log on its way.
struct Job<'a> {
    log: &'a Location,
    source: File,
    before: Metadata,
    target: Location,
    /// Where in the target the log begins: what is before it was there already.
    start: u64,
    /// None: the target holds it already.
    temp: Option<Temp>,
    /// Whether it holds it by our doing.
    published: bool,
}

fn together(logs: &[Log], writers: &mut Writers) -> Vec<Result<u64>> {
    let jobs: Vec<Result<Job>> = logs.iter().map(|log| Job::begin(log, writers)).collect();
    let mut parts: Vec<Part> = jobs.iter().filter_map(|job| job.as_ref().ok()?.part()).collect();
    pack(&mut parts);
    let mut parts = parts.into_iter();
    let size =
        |job: &Job| job.temp.as_ref().and_then(|_| parts.next()).map_or(Ok(0), |part| part.done(job.start));
    let sizes: Vec<io::Result<u64>> = jobs.iter().filter_map(|job| job.as_ref().ok()).map(size).collect();
    let written = side_by_side(&jobs, || |job: &Result<Job>| job.as_ref().map_or(Ok(()), Job::keep));

    let mut sizes = sizes.into_iter();
    let published: Vec<Result<(Job, u64)>> = jobs
        .into_iter()
        .zip(written)
        .map(|(job, written)| {
            let job = job?;
            let writing = || format!("cannot write {}", job.target.path().display());
            let size = sizes.next().unwrap_or(Ok(0)).with_context(writing)?;
            written.with_context(writing)?;
            Ok((job.publish(writers)?, size))
        })
        .collect();
    let folders: Vec<Location> = logs.iter().map(|log| log.at.folder()).collect();
    // The new names last before the old ones go. An old one that comes back after a power cut is
    // known by the next run.
    let lasts = sync_all(&folders).context("cannot sync the folders of the logs");
    let removed = published.into_iter().map(|job| {
        let (job, size) = job?;
        match &lasts {
            Ok(()) => job.remove(writers).map(|()| size),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        }
    });
    let results = removed.collect();
    let _ = sync_all(&folders);
    results
}

impl<'a> Job<'a> {
    fn begin(log: &'a Log, writers: &mut Writers) -> Result<Job<'a>> {
        let reading = || format!("cannot read {}", log.path.display());
        let source = log.at.open().with_context(reading)?;
        let before = source.metadata().with_context(reading)?;
        refuse_holes(&before).with_context(reading)?;
        unchanged(&log.at, &before, writers).with_context(reading)?;
        let (target, earlier, done) =
            match place(&log.at, &source, &before, log.whole || log.number().is_some())? {
                // Killed between the rename and the removal, a run before us left both.
                Place::Done(target) => (target, None, true),
                Place::Further(target, earlier) => (target, Some(earlier), false),
                Place::New(target) => (target, None, false),
            };
        let mut job = Job { log: &log.at, source, before, target, start: 0, temp: None, published: false };
        if done {
            return Ok(job);
        }
        let writing = || format!("cannot write {}", job.target.path().display());
        let mut temp = log.at.folder().temp().with_context(writing)?;
        if let Some(mut earlier) = earlier {
            earlier.seek(SeekFrom::Start(0)).with_context(writing)?;
            job.start = io::copy(&mut earlier, &mut temp.file).with_context(writing)?;
        }
        job.temp = Some(temp);
        Ok(job)
    }

    fn part(&self) -> Option<Part<'_>> {
        let temp = self.temp.as_ref()?;
        Some(Part::new(&self.source, self.before.len(), &temp.file))
    }

    /// Gives what was written the log's mode, owner and time, and makes it last.
    fn keep(&self) -> io::Result<()> {
        let Some(temp) = &self.temp else { return Ok(()) };
        let file = &temp.file;
        // Only root can give files away; anyone else owns the log already. The mode comes later: a
        // change of owner takes bits of it away.
        let owner = rustix::fs::Uid::from_raw(self.before.uid());
        let _ = rustix::fs::fchown(file, Some(owner), Some(rustix::fs::Gid::from_raw(self.before.gid())));
        file.set_permissions(fs::Permissions::from_mode(self.before.mode() & 0o7777))?;
        file.set_modified(self.before.modified()?)?;
        file.sync_all()?;
        step("compressed")
    }

    /// Gives what was written its name, if the log is still as it was.
    fn publish(mut self, writers: &mut Writers) -> Result<Job<'a>> {
        let Some(temp) = self.temp.take() else { return Ok(self) };
        let writing = || format!("cannot write {}", self.target.path().display());
        unchanged(self.log, &self.before, writers).with_context(writing)?;
        if self.start == 0 { temp.publish(&self.target) } else { temp.replace(&self.target) }
            .with_context(writing)?;
        step("published").with_context(writing)?;
        self.published = true;
        Ok(self)
    }

    fn remove(self, writers: &mut Writers) -> Result<()> {
        let removed = unchanged(self.log, &self.before, writers)
            .and_then(|()| self.log.remove())
            .with_context(|| format!("cannot remove {}", self.log.path().display()));
        if removed.is_err() && self.published {
            self.take_back();
        }
        removed
    }

    /// The log stays after all: no line is to be there twice.
    fn take_back(&self) {
        let _ = match self.start {
            0 => self.target.remove(),
            start => self.target.open_with(&Options::new().write()).and_then(|file| file.set_len(start)),
        };
    }
}

/// Where the compressed log goes.
enum Place {
    /// A new file.
    New(Location),
    /// A sound file that gets a further member.
    Further(Location, File),
    /// Its end is this very log.
    Done(Location),
}

fn place(log: &Location, source: &File, before: &Metadata, alone: bool) -> Result<Place> {
    for number in 0..1000 {
        let target = log.beside(packed(log.name().as_bytes(), number));
        let there = match target.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::New(target)),
            // A link or the like is not ours to replace.
            Ok(meta) if !meta.is_file() || meta.nlink() != 1 => continue,
            Ok(_) => target.open(),
            Err(error) => Err(error),
        };
        let there = there.with_context(|| format!("cannot look at {}", target.path().display()))?;
        let decoder = || {
            (&there).seek(SeekFrom::Start(0))?;
            Ok::<_, Error>(MultiGzDecoder::new(BufReader::new(&there)))
        };
        let mut content = Content::default();
        let length = decoder().and_then(|decoder| io::copy(&mut decoder.take(MOST_CONTENT), &mut content));
        let Some(length) = length.ok().filter(|length| *length < MOST_CONTENT) else { continue };
        let size = before.len();
        // It got the log's time then. The same lines written again have another.
        if length >= size && there.metadata()?.modified()? == before.modified()? {
            let mut decoder = decoder()?;
            io::copy(&mut decoder.by_ref().take(length - size), &mut io::sink())?;
            let mut source = source;
            source.seek(SeekFrom::Start(0))?;
            if same(decoder, BufReader::new(source.take(size)))? {
                return Ok(Place::Done(target));
            }
        }
        // Behind a line without an end the log would begin in that line.
        if !alone && content.ends() {
            return Ok(Place::Further(target, there));
        }
    }
    anyhow::bail!("there is no free name beside {}", log.path().display())
}

/// Takes what a file holds, and knows how it ends.
#[derive(Default)]
struct Content {
    last: Option<u8>,
}

impl Content {
    /// Whether the last line has an end.
    fn ends(&self) -> bool {
        self.last.is_none_or(|byte| byte == b'\n')
    }
}

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.last = bytes.last().copied().or(self.last);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
pub(super) fn unchanged(log: &Location, before: &Metadata, writers: &mut Writers) -> io::Result<()> {
    let now = log.metadata()?;
    let key = |meta: &Metadata| (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    let busy = |why: String| Err(Error::new(ErrorKind::ResourceBusy, why));
    if key(&now) != key(before) {
        return busy("it was written meanwhile".to_owned());
    }
    match writers.of(&log.path(), &now) {
        Some(writer) => busy(format!("{} (pid {}) holds it open for writing", writer.name, writer.pid)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn inflate(path: &Path) -> String {
        let mut text = String::new();
        MultiGzDecoder::new(BufReader::new(File::open(path).unwrap())).read_to_string(&mut text).unwrap();
        text
    }

    fn compress(log: &Path, writers: &mut Writers) -> Result<u64> {
        super::compress(&[Log::new(Location::named(log).unwrap(), &fs::metadata(log).unwrap())], writers)
            .remove(0)
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
        let at = fs::metadata(dir.path().join("d.log.gz")).unwrap().modified().unwrap();
        fs::write(&log, "two\n").unwrap();
        File::options().write(true).open(&log).unwrap().set_modified(at).unwrap();
        compress(&log, &mut Writers::default()).unwrap();
        assert_eq!(inflate(&dir.path().join("d.log.gz")), "one\ntwo\n");
        assert!(!log.exists());
        // The same words at another time are others.
        fs::write(&log, "two\n").unwrap();
        compress(&log, &mut Writers::default()).unwrap();
        assert_eq!(inflate(&dir.path().join("d.log.gz")), "one\ntwo\ntwo\n");
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
