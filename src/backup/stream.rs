//! The file of an archive, and the tar stream in it.

use super::blocks::{self, Block};
use super::damage::refuse;
use super::unpack::Unpacker;
use crate::base::Fault;
use crate::base::beneath::open_named;
use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What may be read between two members: their headers, and what belongs to a header, such as a long
/// name. A tar can claim a name of any length, and it is read into memory.
pub(super) const MOST_BETWEEN: u64 = 4 << 20;

/// The tar stream of an archive: inflated on all processors, if it is made of our blocks.
pub(super) fn content(archive: &Path) -> Result<Box<dyn Read>> {
    Ok(match members(archive)? {
        Some((file, blocks)) => Box::new(Unpacker::new(file, blocks)),
        None => Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 << 10, open(archive)?))),
    })
}

/// The blocks of an archive. None: it is not made of ours.
pub(super) fn members(archive: &Path) -> Result<Option<(File, Vec<Block>)>> {
    let file = open(archive)?;
    match blocks::table(&file) {
        Ok(blocks) => Ok(blocks.map(|blocks| (file, blocks))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(refuse(archive, &error.to_string())),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", archive.display())),
    }
}

fn open(archive: &Path) -> Result<File> {
    open_named(archive).map_err(|error| {
        Fault::unknown(format!("cannot open the archive {}: {error}", archive.display()))
            .hint("`backup list` shows the archives there are")
            .into()
    })
}

/// Counts the zero bytes at the end of a stream: a tar ends with 1024 of them. And bounds what is
/// read of it while `between` has a number.
pub(super) struct Tail<'a, R> {
    inner: R,
    /// How many there are at the end of what was read.
    pub(super) zeros: u64,
    between: &'a Cell<Option<u64>>,
}

impl<'a, R> Tail<'a, R> {
    pub(super) fn new(inner: R, between: &'a Cell<Option<u64>>) -> Tail<'a, R> {
        Tail { inner, zeros: 0, between }
    }
}

impl<R: Read> Read for Tail<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(left) = self.between.get() {
            let left = left.checked_sub(read as u64);
            self.between.set(Some(left.ok_or_else(|| io::Error::other("a name in it has no end"))?));
        }
        match buffer[..read].iter().rposition(|&byte| byte != 0) {
            Some(at) => self.zeros = (read - at - 1) as u64,
            None => self.zeros += read as u64,
        }
        Ok(read)
    }
}
