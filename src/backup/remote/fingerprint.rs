//! What a file is, and in which parts it is sent.

use crate::base::text::hex;
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a part, and the most that goes in one request.
pub(super) const PART: u64 = 8 << 20;
/// More parts than this no storage takes.
const MOST_PARTS: u64 = 10_000;

/// What a file is, so that it can be known again at the other side.
pub(super) struct Fingerprint {
    pub(super) bytes: u64,
    /// Bytes of each part but the last.
    pub(super) part: u64,
    pub(super) sha256: String,
    /// The MD5 of each part. (Not for trust: the storage checks by it what arrived.)
    pub(super) md5s: Vec<[u8; 16]>,
}

impl Fingerprint {
    pub(super) fn of(file: &File) -> io::Result<Fingerprint> {
        let bytes = file.metadata()?.len();
        let part = part_size(bytes);
        let mut sha256 = Sha256::new();
        let mut md5s = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < bytes {
            let end = (at + part).min(bytes);
            let mut md5 = Md5::new();
            while at < end {
                let most = buffer.len().min((end - at) as usize);
                file.read_exact_at(&mut buffer[..most], at)?;
                sha256.update(&buffer[..most]);
                md5.update(&buffer[..most]);
                at += most as u64;
            }
            md5s.push(md5.finalize().into());
        }
        Ok(Fingerprint { bytes, part, sha256: hex(&sha256.finalize()), md5s })
    }

    /// Whether it goes in one request.
    pub(super) fn is_single(&self) -> bool {
        self.md5s.len() <= 1
    }

    /// The ETag of such an object, by the custom that nearly every storage keeps to.
    pub(super) fn etag(&self) -> String {
        match self.md5s.as_slice() {
            [] => hex(&Md5::digest([])),
            [one] => hex(one),
            many => format!("{}-{}", hex(&Md5::digest(many.concat())), many.len()),
        }
    }

    pub(super) fn part_bytes(&self, index: usize) -> u64 {
        self.part.min(self.bytes - index as u64 * self.part)
    }
}

/// 8 MiB, or more where there would be too many parts.
fn part_size(bytes: u64) -> u64 {
    bytes.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn parts_cover_a_file_exactly_and_are_never_too_many() {
        assert_eq!((part_size(0), part_size(PART), part_size(80 << 30)), (PART, PART, 9 << 20));
        for bytes in [1u64 << 40, (5 << 40) - 1] {
            assert!(bytes.div_ceil(part_size(bytes)) <= MOST_PARTS, "{bytes}");
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; PART as usize + 5]).unwrap();
        let two = Fingerprint::of(&file).unwrap();
        assert_eq!((two.md5s.len(), two.part_bytes(0), two.part_bytes(1)), (2, PART, 5));
        assert!(!two.is_single() && two.etag().ends_with("-2"));
    }

    #[test]
    fn a_small_file_has_the_etag_that_everybody_gives_it() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(Fingerprint::of(&file).unwrap().etag(), "d41d8cd98f00b204e9800998ecf8427e");
        file.write_all(b"abc").unwrap();
        let one = Fingerprint::of(&file).unwrap();
        assert!(one.is_single());
        assert_eq!(one.etag(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(one.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
