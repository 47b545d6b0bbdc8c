//! A file with the hash of what went through it.

use crate::base::progress::Progress;
use crate::base::text::hex;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// Hashes and counts what goes through.
pub(super) struct Hashed<'a, T> {
    /// What is read or written.
    pub(super) inner: T,
    /// How much went through.
    pub(super) bytes: u64,
    hash: Sha256,
    progress: Option<&'a Progress>,
}

impl<'a, T> Hashed<'a, T> {
    /// Tells `progress` of it too.
    pub(super) fn new(inner: T, progress: Option<&'a Progress>) -> Hashed<'a, T> {
        Hashed { inner, hash: Sha256::new(), bytes: 0, progress }
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Some(progress) = self.progress {
            progress.add(bytes.len() as u64);
        }
    }

    /// The SHA-256, hexadecimal.
    pub(super) fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl<T: Read> Read for Hashed<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.took(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.took(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
