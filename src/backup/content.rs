//! The content of files on its way out of an archive: hashed by a thread of its own, while
//! whoever reads it does something else with it.

use super::damage::{MOST_PROBLEMS, unreadable};
use crate::base::text::hex;
use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// The length of a piece.
const PIECE: u64 = 256 << 10;
/// The most pieces that wait to be hashed.
const WAITING: usize = 8;
/// Zeros of this length, at a multiple of it, become a hole. Not shorter ones: a file full of small
/// holes is slow to write later.
const HOLE: usize = 64 << 10;

enum Job {
    More(Arc<Vec<u8>>),
    /// The end of a file, which should have this hash.
    End(PathBuf, String),
}

/// Hashes one file after another.
pub(super) struct Hasher {
    queue: mpsc::SyncSender<Job>,
    thread: JoinHandle<Vec<PathBuf>>,
}

impl Hasher {
    pub(super) fn begin() -> Hasher {
        let (queue, coming) = mpsc::sync_channel(WAITING);
        let thread = std::thread::spawn(move || {
            let (mut hash, mut wrong) = (Sha256::new(), Vec::new());
            for job in coming {
                match job {
                    Job::More(piece) => hash.update(piece.as_slice()),
                    Job::End(name, expected) => {
                        if hex(&hash.finalize_reset()) != expected && wrong.len() < MOST_PROBLEMS {
                            wrong.push(name);
                        }
                    }
                }
            }
            wrong
        });
        Hasher { queue, thread }
    }

    fn add(&self, job: Job) -> Result<()> {
        self.queue.send(job).map_err(|_| anyhow!("the hashing ended early"))
    }

    /// The names of the first files that have another SHA-256 than they should.
    pub(super) fn finish(self) -> Result<Vec<PathBuf>> {
        drop(self.queue);
        self.thread.join().map_err(|_| anyhow!("the hashing ended early"))
    }
}

/// The content of one file. It is as untrusted as the archive: what its hash is, is known later.
pub struct Content<'a> {
    archive: &'a Path,
    inner: &'a mut dyn Read,
    hasher: &'a Hasher,
    /// What is still to come, if the archive is honest.
    left: u64,
}

impl<'a> Content<'a> {
    pub(super) fn new(
        archive: &'a Path,
        inner: &'a mut dyn Read,
        size: u64,
        hasher: &'a Hasher,
    ) -> Content<'a> {
        Content { archive, inner, hasher, left: size }
    }

    /// The next piece; none at the end. All but the last are of one length.
    ///
    /// # Errors
    /// A [`crate::base::Fault`] when the archive is damaged here.
    pub fn piece(&mut self) -> Result<Option<Arc<Vec<u8>>>> {
        let mut piece = Vec::with_capacity(self.left.min(PIECE) as usize);
        let read = self.inner.take(PIECE).read_to_end(&mut piece);
        read.map_err(|error| unreadable(self.archive, error))?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        let piece = Arc::new(piece);
        self.hasher.add(Job::More(Arc::clone(&piece)))?;
        Ok(Some(piece))
    }

    /// [`Content::unpack`] to a new file, 0600.
    pub(super) fn unpack_to(&mut self, target: &Path) -> Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
        let file = file.with_context(|| format!("cannot write {}", target.display()))?;
        self.unpack(&file, target, &mut |_| {})
    }

    /// Writes all of it to an empty file, `target`, with holes where there are only zeros. Not synced.
    /// `wrote` is told of the bytes that are done.
    ///
    /// # Errors
    /// As of [`Content::piece`], and when the file cannot be written.
    pub fn unpack(&mut self, file: &File, target: &Path, wrote: &mut dyn FnMut(u64)) -> Result<()> {
        let writing = || format!("cannot write {}", target.display());
        let (mut at, mut ends_in_hole) = (0, false);
        while let Some(piece) = self.piece()? {
            for (from, part) in solid(&piece) {
                file.write_all_at(part, at + from as u64).with_context(writing)?;
            }
            ends_in_hole = is_hole(piece.chunks(HOLE).next_back().unwrap_or_default());
            at += piece.len() as u64;
            wrote(piece.len() as u64);
        }
        if ends_in_hole {
            file.set_len(at).with_context(writing)?;
        }
        Ok(())
    }

    /// Reads what nobody wanted. All of it should have this hash.
    pub(super) fn end(mut self, name: &Path, sha256: &str) -> Result<()> {
        while self.piece()?.is_some() {}
        self.hasher.add(Job::End(name.to_owned(), sha256.to_owned()))
    }
}

fn is_hole(part: &[u8]) -> bool {
    let (words, rest) = part.as_chunks::<16>();
    part.len() == HOLE && rest.is_empty() && words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
}

/// What is to be written of a piece: each run without a hole, and where in the piece it begins.
fn solid(piece: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs = Vec::new();
    let mut begin = None;
    for (number, part) in piece.chunks(HOLE).enumerate() {
        match (is_hole(part), begin) {
            (true, Some(from)) => {
                runs.push((from, &piece[from..number * HOLE]));
                begin = None;
            }
            (false, None) => begin = Some(number * HOLE),
            _ => {}
        }
    }
    runs.extend(begin.map(|from| (from, &piece[from..])));
    runs
}

/// The hash of a small file; its content is given to `take` piece by piece.
pub(super) fn hash(
    archive: &Path,
    content: &mut dyn Read,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => {
                hash.update(&buffer[..read]);
                take(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(archive, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn unpacked(content: &[u8], dir: &Path) -> (Vec<u8>, u64) {
        let (target, hasher) = (dir.join("file"), Hasher::begin());
        let _ = fs::remove_file(&target);
        let (mut inner, mut done) = (content, 0);
        let mut reading = Content::new(Path::new("x"), &mut inner, content.len() as u64, &hasher);
        let file = File::create(&target).unwrap();
        reading.unpack(&file, &target, &mut |bytes| done += bytes).unwrap();
        let sha256 = hex(&Sha256::digest(content));
        reading.end(Path::new("right"), &sha256).unwrap();
        let mut empty = io::empty();
        Content::new(Path::new("x"), &mut empty, 0, &hasher).end(Path::new("wrong"), "ab").unwrap();
        assert_eq!(done, content.len() as u64);
        let blocks = fs::metadata(&target).unwrap().blocks();
        assert_eq!(hasher.finish().unwrap(), [Path::new("wrong")]);
        (fs::read(&target).unwrap(), blocks * 512)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn what_is_unpacked_is_what_was_in_it(
            runs in prop::collection::vec((any::<bool>(), 0usize..200_000), 0..6)
        ) {
            let content: Vec<u8> = runs
                .iter()
                .flat_map(|&(zero, length)| (0..length).map(move |n| if zero { 0 } else { n as u8 | 1 }))
                .collect();
            let dir = tempfile::tempdir().unwrap();
            let (found, _) = unpacked(&content, dir.path());
            prop_assert!(found == content);
        }
    }

    #[test]
    fn long_runs_of_zeros_take_no_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut content = vec![0; 8 << 20];
        content[3 << 20] = 1;
        let (found, space) = unpacked(&content, dir.path());
        assert!(found == content);
        assert!(space <= 256 << 10, "{space} bytes for one");
    }
}
