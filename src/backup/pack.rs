//! Cuts what an archive holds into blocks, and makes members of them: compressed side by side, or
//! found in the archive before it.

use super::blocks::{self, BLOCK, Block, Maker};
use super::extents;
use super::members::{Members, Stock};
use super::pool::{Pool, give_way};
use crate::base::progress::Progress;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// How a block comes into the archive.
enum Piece {
    /// Compressed just now.
    Fresh(Vec<u8>),
    /// A member of the stock: where it begins, and its length.
    Copy(u64, u64),
}

/// A block to be made into a member.
struct Job {
    /// Holds the content, and perhaps more.
    block: Vec<u8>,
    length: usize,
    index: bool,
}

/// Writes blocks: whatever is written is cut into members.
pub(super) struct Packer {
    members: Members,
    pool: Pool<Job, io::Result<(Piece, Vec<u8>)>>,
    /// The present block, as long as any may be, of which so much is filled.
    block: Vec<u8>,
    filled: usize,
    /// The most content of a block, for now.
    most: usize,
    /// Memory of blocks that were written, for those to come.
    spare: Vec<Vec<u8>>,
    progress: Option<Progress>,
    /// A member of so many zeros.
    zeros: Option<(usize, Vec<u8>)>,
    unit: usize,
    index: bool,
    position: u64,
}

impl Packer {
    /// Members go to `file`.
    pub(super) fn new(file: File, stock: Option<Arc<Stock>>) -> io::Result<Packer> {
        let unit = extents::unit(&file).unwrap_or(1);
        Packer::with_unit(file, stock, unit)
    }

    /// Members go to `file`, each as long as a number of `unit` bytes.
    fn with_unit(file: File, stock: Option<Arc<Stock>>, unit: usize) -> io::Result<Packer> {
        let pool = {
            let stock = stock.clone();
            Pool::new(move || {
                let (mut maker, stock) = (Maker::new(unit), stock.clone());
                let mut begun = false;
                move |Job { block, length, index }| {
                    if !std::mem::replace(&mut begun, true) {
                        give_way();
                    }
                    let content = &block[..length];
                    let hash = blocks::hash(content);
                    let known = stock.as_ref().and_then(|stock| stock.member(&hash)).filter(|_| !index);
                    let piece = match known {
                        Some((at, length)) => Piece::Copy(at, length),
                        None => Piece::Fresh(maker.member(content, &hash, index)?),
                    };
                    Ok((piece, block))
                }
            })
        };
        Ok(Packer {
            members: Members::new(file, stock)?,
            pool,
            block: vec![0; BLOCK],
            filled: 0,
            most: BLOCK,
            spare: Vec::new(),
            progress: None,
            zeros: None,
            unit,
            index: false,
            position: 0,
        })
    }

    /// Tells somebody who watches how much of the content is done.
    pub(super) fn watched(self, progress: Progress) -> Packer {
        Packer { progress: Some(progress), ..self }
    }

    /// Where in the tar stream the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The content that still fits into the present block.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.filled)
    }

    /// The content of the present block.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Ends the present block: what comes next begins a member.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        while self.pool.is_full() {
            self.settle_one()?;
        }
        let next = self.spare.pop().unwrap_or_else(|| vec![0; BLOCK]);
        let block = std::mem::replace(&mut self.block, next);
        let length = std::mem::take(&mut self.filled);
        self.tell(length as u64);
        self.pool.push(Job { block, length, index: self.index })
    }

    /// Ends the present block. Those that come hold at most so much, which is at most [`BLOCK`].
    pub(super) fn cut_for(&mut self, most: usize) -> io::Result<()> {
        self.most = most.min(BLOCK);
        self.cut()
    }

    /// Begins another block, if the present one is full.
    pub(super) fn make_room(&mut self) -> io::Result<()> {
        if self.room() == 0 { self.cut() } else { Ok(()) }
    }

    /// Reads at most so much of a source into the present block, in which there is room. Gives what
    /// was read: nothing at the end of the source.
    ///
    /// # Errors
    /// Those of the source.
    pub(super) fn fill(&mut self, source: &mut dyn Read, most: u64) -> io::Result<&[u8]> {
        let begin = self.filled;
        let most = usize::try_from(most).unwrap_or(BLOCK).min(self.room());
        let read = source.read(&mut self.block[begin..begin + most])?;
        self.filled += read;
        self.position += read as u64;
        Ok(&self.block[begin..begin + read])
    }

    /// Writes zeros. Those that fill a block are compressed once.
    pub(super) fn put_zeros(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            self.make_room()?;
            let some = left.min(self.room() as u64) as usize;
            if self.filled == 0 && some == self.most {
                self.settle()?;
                let member = match self.zeros.take() {
                    Some((length, member)) if length == some => member,
                    _ => {
                        let zeros = vec![0; some];
                        Maker::new(self.unit).member(&zeros, &blocks::hash(&zeros), self.index)?
                    }
                };
                self.members.put(&member)?;
                self.zeros = Some((some, member));
                self.tell(some as u64);
            } else {
                self.block[self.filled..self.filled + some].fill(0);
                self.filled += some;
            }
            self.position += some as u64;
            left -= some as u64;
        }
        Ok(())
    }

    /// Puts in members of the stock as they are, one after another there.
    pub(super) fn copy(&mut self, members: &[Block]) -> io::Result<()> {
        let (Some(first), Some(last)) = (members.first(), members.last()) else { return Ok(()) };
        self.cut()?;
        self.settle()?;
        self.members.copy(first.at..last.at + last.length)?;
        let content = members.iter().map(|member| member.content).sum::<u64>();
        self.position += content;
        self.tell(content);
        Ok(())
    }

    fn tell(&self, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress.add(bytes);
        }
    }

    /// What comes next is the index.
    pub(super) fn begin_index(&mut self) -> io::Result<()> {
        self.cut()?;
        self.index = true;
        Ok(())
    }

    /// Writes all members that are under way.
    fn settle(&mut self) -> io::Result<()> {
        while self.settle_one()? {}
        Ok(())
    }

    /// Writes the next member. False: none is under way.
    fn settle_one(&mut self) -> io::Result<bool> {
        let Some(made) = self.pool.pop() else { return Ok(false) };
        let (piece, block) = made??;
        self.spare.push(block);
        match piece {
            Piece::Fresh(member) => self.members.put(&member)?,
            Piece::Copy(at, length) => self.members.copy(at..at + length)?,
        }
        Ok(true)
    }

    /// Writes what is left. Gives back the file, its length, and how many bytes of it were copied
    /// from the stock.
    pub(super) fn finish(mut self) -> io::Result<(File, u64, u64)> {
        self.cut()?;
        self.settle()?;
        self.members.finish()
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.make_room()?;
        let taken = bytes.len().min(self.room());
        self.block[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        self.position += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
