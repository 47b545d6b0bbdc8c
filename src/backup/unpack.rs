//! Reads the blocks of an archive: inflated side by side, given in order.

use super::blocks::{self, Block};
use super::pool::Pool;
use libdeflater::Decompressor;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The content of some members, one after another.
pub(super) struct Unpacker {
    pool: Pool<(Block, Vec<u8>), io::Result<Vec<u8>>>,
    coming: std::vec::IntoIter<Block>,
    block: Vec<u8>,
    taken: usize,
    /// Memory of blocks that were read, for those to come.
    spare: Vec<Vec<u8>>,
}

impl Unpacker {
    /// Reads these members of `file`.
    pub(super) fn new(file: File, members: Vec<Block>) -> Unpacker {
        let file = Arc::new(file);
        let pool = Pool::new(|| {
            let (mut decompressor, mut member, file) = (Decompressor::new(), Vec::new(), Arc::clone(&file));
            move |(block, mut content): (Block, Vec<u8>)| {
                member.resize(block.length as usize, 0);
                file.read_exact_at(&mut member, block.at)?;
                blocks::inflate(&mut decompressor, &member, &block, &mut content)?;
                Ok(content)
            }
        });
        Unpacker { pool, coming: members.into_iter(), block: Vec::new(), taken: 0, spare: Vec::new() }
    }
}

impl Read for Unpacker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.block.len() {
            while !self.pool.is_full() {
                let Some(block) = self.coming.next() else { break };
                self.pool.push((block, self.spare.pop().unwrap_or_default()))?;
            }
            let Some(block) = self.pool.pop() else { return Ok(0) };
            self.spare.push(std::mem::replace(&mut self.block, block??));
            self.taken = 0;
        }
        let some = buffer.len().min(self.block.len() - self.taken);
        buffer[..some].copy_from_slice(&self.block[self.taken..self.taken + some]);
        self.taken += some;
        Ok(some)
    }
}
