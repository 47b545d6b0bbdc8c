//! The outer form of an archive: gzip members, each a block of the tar stream, compressed side
//! by side.
//!
//! Any gzip reader sees one file (RFC 1952, 2.2: members may be concatenated). Each member
//! names, in an extra field `AO`, its own length, the length and SHA-256 of its content, and
//! whether it belongs to the index at the end. So the members can be walked without inflating
//! them, and a list needs only the last few.

use flate2::{Compression, Crc, write::DeflateEncoder};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, mpsc};

/// The most content of one member.
pub(super) const BLOCK: usize = 1 << 20;

/// The header of a member up to the values of its extra field (RFC 1952, 2.3): magic, deflate,
/// FEXTRA, no time, no hint, Unix; 45 bytes of extra field, of which `AO` takes 41.
const HEAD: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 45, 0, b'A', b'O', 41, 0];
/// Header, values, CRC and length.
const FRAME: usize = HEAD.len() + 41 + 8;

/// Writes blocks: whatever is written is cut into members.
pub(super) struct Blocks {
    file: File,
    block: Vec<u8>,
    index: bool,
    jobs: Option<mpsc::SyncSender<Job>>,
    pending: VecDeque<mpsc::Receiver<io::Result<Vec<u8>>>>,
    most_pending: usize,
    written: u64,
}

struct Job {
    block: Vec<u8>,
    index: bool,
    done: mpsc::Sender<io::Result<Vec<u8>>>,
}

impl Blocks {
    /// Members go to `file`, compressed by as many threads as there are processors.
    pub(super) fn new(file: File) -> Blocks {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        let (jobs, queue) = mpsc::sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                loop {
                    let job = match queue.lock() {
                        Ok(queue) => queue.recv(),
                        Err(_) => return,
                    };
                    let Ok(job) = job else { return };
                    // Nobody waits for it any more when the archive was given up.
                    let _ = job.done.send(member(&job.block, job.index));
                }
            });
        }
        let block = Vec::with_capacity(BLOCK);
        let pending = VecDeque::new();
        Blocks { file, block, index: false, jobs: Some(jobs), pending, most_pending: 2 * threads, written: 0 }
    }

    /// Ends the present block: what comes next begins a member.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (done, result) = mpsc::channel();
        let gone = || io::Error::other("the compressing threads are gone");
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { block, index: self.index, done }).map_err(|_| gone())?;
        self.pending.push_back(result);
        self.settle(self.most_pending)
    }

    /// What comes next is the index.
    pub(super) fn begin_index(&mut self) -> io::Result<()> {
        self.cut()?;
        self.index = true;
        Ok(())
    }

    /// Writes finished members, in order, until at most so many are still being made.
    fn settle(&mut self, most: usize) -> io::Result<()> {
        while self.pending.len() > most {
            let Some(result) = self.pending.pop_front() else { break };
            let member = result.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
            crate::base::step::step("block")?;
            self.file.write_all(&member)?;
            self.written += member.len() as u64;
        }
        Ok(())
    }

    /// Writes what is left and gives back the file and its length.
    pub(super) fn finish(mut self) -> io::Result<(File, u64)> {
        self.cut()?;
        self.settle(0)?;
        self.jobs = None;
        Ok((self.file, self.written))
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.cut()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One member.
fn member(content: &[u8], index: bool) -> io::Result<Vec<u8>> {
    let mut member = Vec::with_capacity(content.len() / 2 + FRAME);
    member.extend_from_slice(&HEAD);
    let length_at = member.len();
    member.extend_from_slice(&[0; 4]);
    member.extend_from_slice(&(content.len() as u32).to_le_bytes());
    member.push(u8::from(index));
    member.extend_from_slice(&Sha256::digest(content));
    let mut encoder = DeflateEncoder::new(member, Compression::default());
    encoder.write_all(content)?;
    let mut member = encoder.finish()?;
    let mut crc = Crc::new();
    crc.update(content);
    member.extend_from_slice(&crc.sum().to_le_bytes());
    member.extend_from_slice(&(content.len() as u32).to_le_bytes());
    let length = member.len() as u32;
    member[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(member)
}

/// Whether a file is made of our members, and then where its index begins.
///
/// # Errors
/// `InvalidData`, when it begins with one of our members but they do not follow each other to
/// its end, or lead to no index: it was cut or damaged.
pub(super) fn find_index(file: &File) -> io::Result<Option<u64>> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(128, file);
    let mut at = reader.seek(SeekFrom::Start(0))?;
    let mut index = None;
    while at < size {
        let mut head = [0; HEAD.len() + 9];
        let read = reader.read_exact(&mut head);
        let ours = read.is_ok() && head.starts_with(&HEAD);
        if !ours && at == 0 {
            return Ok(None);
        }
        if !ours {
            return Err(broken("its blocks do not follow each other: it is damaged or was cut"));
        }
        let length = u64::from(u32::from_le_bytes([head[16], head[17], head[18], head[19]]));
        if length < FRAME as u64 || at + length > size {
            return Err(broken("its last block is cut off"));
        }
        if head[24] == 1 {
            index.get_or_insert(at);
        }
        at += length;
        reader.seek_relative(length as i64 - head.len() as i64)?;
    }
    match index {
        Some(at) => Ok(Some(at)),
        None if size == 0 => Ok(None),
        None => Err(broken("its index is missing: it was cut")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::{GzDecoder, MultiGzDecoder};

    fn blocks(pieces: &[(&[u8], bool)]) -> File {
        let mut blocks = Blocks::new(tempfile::tempfile().unwrap());
        for (piece, cut) in pieces {
            blocks.write_all(piece).unwrap();
            if *cut {
                blocks.cut().unwrap();
            }
        }
        blocks.begin_index().unwrap();
        blocks.write_all(b"the index").unwrap();
        let (mut file, length) = blocks.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        file.rewind().unwrap();
        file
    }

    #[test]
    fn every_member_is_read_back_not_only_the_first() {
        let large: Vec<u8> = (0..3_500_000u32).flat_map(|n| n.to_le_bytes()).take(3_500_000).collect();
        let mut file = blocks(&[(b"small", true), (&large, false)]);
        let mut content = Vec::new();
        MultiGzDecoder::new(&file).read_to_end(&mut content).unwrap();
        assert_eq!(content, [b"small", large.as_slice(), b"the index"].concat());
        // The trap that the test is for: the other decoder stops after one member, contentedly.
        file.rewind().unwrap();
        let mut first = Vec::new();
        GzDecoder::new(&file).read_to_end(&mut first).unwrap();
        assert_eq!(first, b"small");

        let at = find_index(&file).unwrap().unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        let mut index = Vec::new();
        MultiGzDecoder::new(&file).read_to_end(&mut index).unwrap();
        assert_eq!(index, b"the index");
    }

    #[test]
    fn a_cut_is_seen_wherever_it_is_made() {
        let whole = {
            let mut bytes = Vec::new();
            blocks(&[(b"first block", true), (b"second block", true)]).read_to_end(&mut bytes).unwrap();
            bytes
        };
        for length in 1..whole.len() {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&whole[..length]).unwrap();
            match find_index(&file) {
                Err(_) => {}
                // So short that it could be any gzip file.
                Ok(None) => assert!(length < HEAD.len() + 9, "{length}"),
                Ok(Some(_)) => panic!("a cut at {length} was not seen"),
            }
        }
    }

    #[test]
    fn foreign_gzip_files_are_told_apart() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(find_index(&file).unwrap(), None);
        file.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(find_index(&file).unwrap(), None);
    }
}
