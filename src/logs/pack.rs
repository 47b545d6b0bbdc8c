//! Gzip members, made on all cores. Any number of them in a row is one file to every reader (RFC
//! 1952, 2.2).

use crate::base::lines;
use crate::base::units::Size;
use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};
use std::fs::{File, Metadata};
use std::io::{self, Error, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most content of a member.
const BLOCK: u64 = 1 << 20;
/// More threads would only wait for the disk.
const MOST_THREADS: usize = 8;
/// Blocks that a thread may be ahead, until what there is is written.
const AHEAD: usize = 8;

/// The beginning of a file, to be packed behind what is in another.
pub(super) struct Part<'a> {
    source: &'a File,
    length: u64,
    into: &'a File,
    crc: Crc,
    failed: Option<Error>,
}

impl<'a> Part<'a> {
    /// The first `length` bytes of `source`, to go to where `into` stands.
    pub(super) fn new(source: &'a File, length: u64, into: &'a File) -> Part<'a> {
        Part { source, length, into, crc: Crc::new(), failed: None }
    }

    /// How it went. What was written, from `start` on, is read back.
    ///
    /// # Errors
    /// Of kind `ResourceBusy`, when the source became shorter meanwhile.
    pub(super) fn done(self, start: u64) -> io::Result<u64> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let end = self.into.metadata()?.len();
        let (mut crc, mut at) = (Crc::new(), start);
        while at < end {
            let bytes = lines::read(self.into, at, end.min(at + BLOCK))?;
            if bytes.is_empty() {
                break;
            }
            crc.update(&bytes);
            at += bytes.len() as u64;
        }
        if crc.sum() != self.crc.sum() {
            return Err(Error::other("what was written reads back differently"));
        }
        Ok(end - start)
    }

    fn put(&mut self, member: io::Result<Vec<u8>>) {
        let put = member.and_then(|member| {
            self.crc.update(&member);
            self.into.write_all(&member)
        });
        self.failed = put.err();
    }
}

/// Packs all parts. Each member is inflated again and compared before it is written.
pub(super) fn pack(parts: &mut [Part<'_>]) {
    let blocks = |part: &Part| (0..part.length.div_ceil(BLOCK).max(1)).map(|number| number * BLOCK);
    let all: Vec<(usize, u64)> = parts
        .iter()
        .enumerate()
        .flat_map(|(index, part)| blocks(part).map(move |from| (index, from)))
        .collect();
    for some in all.chunks(AHEAD * threads()) {
        let wanted: Vec<(usize, u64)> =
            some.iter().filter(|(index, _)| parts[*index].failed.is_none()).copied().collect();
        let members = side_by_side(&wanted, || {
            let mut packer = Packer::new();
            let parts = &*parts;
            move |&(index, from): &(usize, u64)| {
                let part = &parts[index];
                packer.member(part.source, from, part.length.min(from + BLOCK))
            }
        });
        for ((index, _), member) in wanted.into_iter().zip(members) {
            if parts[index].failed.is_none() {
                parts[index].put(member);
            }
        }
    }
}

/// Refuses a file that is nearly all holes: however long it says it is, it takes nothing of the disk, and to pack it
/// might never end.
///
/// # Errors
/// Of kind `ResourceBusy`: it stays as it is.
pub(super) fn refuse_holes(meta: &Metadata) -> io::Result<()> {
    const SMALL: u64 = 1 << 30;
    let takes = meta.blocks().saturating_mul(512);
    if meta.len() > SMALL && meta.len() / 8 > takes {
        let why = format!("it is nearly all holes: {} long, {} on the disk", Size(meta.len()), Size(takes));
        return Err(Error::new(ErrorKind::ResourceBusy, why));
    }
    Ok(())
}

/// So many blocks of a file tell how well it packs.
const SAMPLE: u64 = 8;

/// About how large the first `length` bytes of a file will be.
pub(super) fn estimate(source: &File, length: u64) -> io::Result<u64> {
    let blocks = length.div_ceil(BLOCK).max(1);
    let looked_at = blocks.min(SAMPLE);
    let (mut packer, mut from_bytes, mut to_bytes) = (Packer::new(), 0, 0);
    for number in 0..looked_at {
        let from = number * blocks / looked_at * BLOCK;
        let to = length.min(from + BLOCK);
        to_bytes += packer.member(source, from, to)?.len() as u64;
        from_bytes += to - from;
    }
    if looked_at == blocks {
        return Ok(to_bytes);
    }
    Ok((to_bytes as f64 / from_bytes.max(1) as f64 * length as f64) as u64)
}

struct Packer {
    compressor: Compressor,
    decompressor: Decompressor,
    inflated: Vec<u8>,
}

impl Packer {
    fn new() -> Packer {
        let compressor = Compressor::new(CompressionLvl::default());
        Packer { compressor, decompressor: Decompressor::new(), inflated: Vec::new() }
    }

    fn member(&mut self, source: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let content = lines::read(source, from, to)?;
        if (content.len() as u64) < to - from {
            return Err(Error::new(ErrorKind::ResourceBusy, "it became shorter meanwhile"));
        }
        let mut member = vec![0; self.compressor.gzip_compress_bound(content.len())];
        let length = self.compressor.gzip_compress(&content, &mut member).map_err(Error::other)?;
        member.truncate(length);
        self.inflated.resize(content.len(), 0);
        let count = self.decompressor.gzip_decompress(&member, &mut self.inflated);
        if count.ok() != Some(content.len()) || self.inflated != content {
            return Err(Error::other("what was compressed inflates differently"));
        }
        Ok(member)
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS))
}

/// What the workers, one a thread, make of all items; in their order.
pub(super) fn side_by_side<T: Sync, R: Send, W: FnMut(&T) -> R>(
    items: &[T],
    worker: impl Fn() -> W + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        give_way();
        let mut work = worker();
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads().min(items.len())).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().flat_map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Lets the agent go first. Elsewhere it would be for the whole process.
fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(5);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::bufread::MultiGzDecoder;
    use std::io::{BufReader, Read, Seek};

    #[test]
    fn parts_of_many_sizes_come_back_whole_and_in_order() {
        let sizes = [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20, 17];
        let files: Vec<(File, File, Vec<u8>)> = sizes
            .iter()
            .map(|&size| {
                let content: Vec<u8> = (0..size as u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
                let mut source = tempfile::tempfile().unwrap();
                source.write_all(&content).unwrap();
                source.write_all(b"what came later").unwrap();
                (source, tempfile::tempfile().unwrap(), content)
            })
            .collect();
        let mut parts: Vec<Part> = files
            .iter()
            .map(|(source, into, content)| Part::new(source, content.len() as u64, into))
            .collect();
        pack(&mut parts);
        for part in parts {
            assert!(part.done(0).unwrap() >= 20);
        }
        for (_, mut into, content) in files {
            into.rewind().unwrap();
            let mut inflated = Vec::new();
            MultiGzDecoder::new(BufReader::new(into)).read_to_end(&mut inflated).unwrap();
            assert!(inflated == content, "{} bytes", content.len());
        }
    }

    #[test]
    fn the_size_is_known_before() {
        for (size, exact) in [(0, true), (100, true), (5 << 20, true), (40 << 20, false)] {
            let mut source = tempfile::tempfile().unwrap();
            let content: Vec<u8> = (0..size as u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
            source.write_all(&content).unwrap();
            let into = tempfile::tempfile().unwrap();
            let mut parts = [Part::new(&source, size, &into)];
            pack(&mut parts);
            let [part] = parts;
            let (real, about) = (part.done(0).unwrap(), estimate(&source, size).unwrap());
            assert!(real == about || !exact && real.abs_diff(about) * 10 < real, "{size}: {real} {about}");
        }
    }

    #[test]
    fn one_that_fails_does_not_stop_the_others() {
        let (short, fine) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        (&fine).write_all(b"fine").unwrap();
        let into = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let mut parts = [Part::new(&short, 100, &into[0]), Part::new(&fine, 4, &into[1])];
        pack(&mut parts);
        let [first, second] = parts.map(|part| part.done(0));
        assert_eq!(first.unwrap_err().kind(), ErrorKind::ResourceBusy);
        assert!(second.is_ok());
        // Something else than was made is in the file.
        let mut parts = [Part::new(&fine, 4, &into[0])];
        pack(&mut parts);
        (&into[0]).write_all(b"x").unwrap();
        let [part] = parts;
        assert!(part.done(0).is_err());
    }
}
