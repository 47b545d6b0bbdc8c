//! The body of one file on its way into an archive: read where it has data, zeros elsewhere.

use super::pack::Packer;
use crate::base::text::hex;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// The most that is read at once: it is hashed while it is in the processor's cache.
const AT_ONCE: u64 = 128 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What came of the body of a file.
pub(super) struct Body {
    /// Its length: what was asked for.
    pub(super) size: u64,
    /// How much of it the source had. The rest are zeros.
    pub(super) read: u64,
    /// Why there was no more.
    pub(super) failed: Option<io::Error>,
    /// Its hash.
    pub(super) sha256: String,
}

/// Writes exactly `size` bytes of a source; what it does not have is zeros.
///
/// # Errors
/// When they cannot be written.
pub(super) fn put(blocks: &mut Packer, source: &mut dyn Read, size: u64) -> io::Result<Body> {
    let mut putting = Putting::new(blocks);
    putting.data(source, size)?;
    putting.finish(size)
}

/// [`put`], without reading the holes of a sparse file.
pub(super) fn put_file(blocks: &mut Packer, file: &File, meta: &Metadata, size: u64) -> io::Result<Body> {
    let mut source = file;
    if meta.blocks().saturating_mul(512) >= size {
        return put(blocks, &mut source, size);
    }
    let mut putting = Putting::new(blocks);
    let mut at = 0;
    while at < size && putting.is_well() {
        // A file system that does not tell has no holes.
        let data = next_data(file, at, size).unwrap_or(at..size);
        putting.zeros(data.start - at)?;
        putting.read += data.start - at;
        match source.seek(SeekFrom::Start(data.start)) {
            Ok(_) => putting.data(&mut source, data.end - data.start)?,
            Err(error) => putting.failed = Some(error),
        }
        at = data.end;
    }
    putting.finish(size)
}

/// Where a file has data next. Empty and at `end`, if there is none.
fn next_data(file: &File, from: u64, end: u64) -> io::Result<Range<u64>> {
    let begin = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)) {
        Ok(begin) => begin.clamp(from, end),
        Err(Errno::NXIO) => return Ok(end..end),
        Err(error) => return Err(error.into()),
    };
    let stop = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(begin))?;
    // Somebody may be punching holes meanwhile: never go over the same place again.
    Ok(begin..if stop > begin { stop.min(end) } else { end })
}

/// A body being written.
struct Putting<'a> {
    blocks: &'a mut Packer,
    hash: Sha256,
    written: u64,
    read: u64,
    short: bool,
    failed: Option<io::Error>,
}

impl Putting<'_> {
    fn new(blocks: &mut Packer) -> Putting<'_> {
        Putting { blocks, hash: Sha256::new(), written: 0, read: 0, short: false, failed: None }
    }

    /// Whether the source had everything so far.
    fn is_well(&self) -> bool {
        !self.short && self.failed.is_none()
    }

    /// Writes so much of a source, or what it has.
    fn data(&mut self, source: &mut dyn Read, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 && self.is_well() {
            self.blocks.make_room()?;
            match self.blocks.fill(source, left.min(AT_ONCE)) {
                Ok([]) => self.short = true,
                Ok(bytes) => {
                    self.hash.update(bytes);
                    let read = bytes.len() as u64;
                    (self.read, self.written) = (self.read + read, self.written + read);
                    left -= read;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failed = Some(error),
            }
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let some = left.min(ZEROS.len() as u64);
            self.hash.update(&ZEROS[..some as usize]);
            left -= some;
        }
        self.written += count;
        self.blocks.put_zeros(count)
    }

    fn finish(mut self, size: u64) -> io::Result<Body> {
        self.zeros(size - self.written)?;
        let sha256 = hex(&self.hash.finalize());
        Ok(Body { size, read: self.read, failed: self.failed, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::blocks::{self, BLOCK};
    use crate::backup::unpack::Unpacker;
    use std::os::unix::fs::FileExt;

    /// What was put, the content of the archive, and its length.
    fn archived(put: impl FnOnce(&mut Packer) -> io::Result<Body>) -> (Body, Vec<u8>, u64) {
        let mut packer = Packer::new(tempfile::tempfile().unwrap(), None).unwrap();
        let content = put(&mut packer).unwrap();
        packer.begin_index().unwrap();
        io::Write::write_all(&mut packer, b"i").unwrap();
        let (file, length, _) = packer.finish().unwrap();
        let table = blocks::table(&file).unwrap().unwrap();
        let mut bytes = Vec::new();
        Unpacker::new(file, table).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(b'i'));
        assert_eq!(content.sha256, hex(&Sha256::digest(&bytes)));
        (content, bytes, length)
    }

    #[test]
    fn holes_are_zeros_and_cost_next_to_nothing() {
        let file = tempfile::tempfile().unwrap();
        let size = 40 * BLOCK as u64 + 12_345;
        file.set_len(size).unwrap();
        for at in [0, 3 * BLOCK as u64 + 77, 39 * BLOCK as u64] {
            file.write_all_at(b"data here", at).unwrap();
        }
        let meta = file.metadata().unwrap();
        let (content, bytes, length) = archived(|packer| put_file(packer, &file, &meta, size));
        assert_eq!((content.size, content.read), (size, size));
        let mut whole = vec![0; size as usize];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert!(bytes == whole);
        assert!(length < 100_000, "{length}");
    }

    #[test]
    fn a_file_that_is_all_hole_or_ends_in_one_keeps_its_length() {
        for (size, data) in [(0, None), (1, None), (5 << 20, None), (5 << 20, Some(1 << 20))] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            if let Some(at) = data {
                file.write_all_at(b"x", at).unwrap();
            }
            let meta = file.metadata().unwrap();
            let (content, bytes, _) = archived(|packer| put_file(packer, &file, &meta, size));
            assert_eq!((content.read, bytes.len() as u64), (size, size));
            assert_eq!(bytes.iter().position(|&byte| byte != 0).map(|at| at as u64), data);
        }
    }

    #[test]
    fn a_source_that_fails_half_way_is_filled_up_and_told_of() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(Errno::IO.into());
                }
                let some = self.0.min(buffer.len());
                buffer[..some].fill(b'x');
                self.0 -= some;
                Ok(some)
            }
        }
        let size = 3_000_000;
        let (content, bytes, _) = archived(|packer| put(packer, &mut Failing(1_500_000), size));
        assert_eq!(content.read, 1_500_000);
        assert_eq!(content.failed.unwrap().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert_eq!(bytes.len() as u64, size);
        assert!(bytes[1_500_000..].iter().all(|&byte| byte == 0));
        let (short, bytes, _) = archived(|packer| put(packer, &mut &b"little"[..], 100));
        assert!(short.failed.is_none() && short.read == 6 && bytes.len() == 100);
    }
}
