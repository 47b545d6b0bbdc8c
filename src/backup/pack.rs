//! Writes the blocks of an archive: compressed side by side, or copied from the archive before it.

use super::blocks::{self, BLOCK, Block, Hash, Maker};
use super::extents;
use super::pool::{Pool, give_way};
use crate::base::progress::Progress;
use crate::base::step::step;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;

/// After so many bytes the disk is asked to begin writing, so that the last sync is short.
const PACE: u64 = 32 << 20;

/// Blocks of a verified archive, to be copied where their content comes again.
pub(super) struct Stock {
    file: File,
    blocks: HashMap<Hash, (u64, u64)>,
}

impl Stock {
    /// The members of an archive, those of its index aside.
    pub(super) fn new(file: File, blocks: &[Block]) -> Stock {
        let content = blocks.iter().filter(|block| !block.index);
        let blocks = content.map(|block| (block.hash, (block.at, block.length))).collect();
        Stock { file, blocks }
    }
}

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
    file: File,
    stock: Option<Arc<Stock>>,
    pool: Pool<Job, io::Result<(Piece, Vec<u8>)>>,
    pace: Pace,
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
    /// A range of the stock that is to be copied, with what may follow it there.
    coming: Option<Range<u64>>,
    unit: usize,
    index: bool,
    position: u64,
    written: u64,
    copied: u64,
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
                    let known = stock.as_ref().and_then(|stock| stock.blocks.get(&hash)).filter(|_| !index);
                    let piece = match known {
                        Some(&(at, length)) => Piece::Copy(at, length),
                        None => Piece::Fresh(maker.member(content, &hash, index)?),
                    };
                    Ok((piece, block))
                }
            })
        };
        let pace = Pace::new(file.try_clone()?);
        Ok(Packer {
            file,
            stock,
            pool,
            pace,
            block: vec![0; BLOCK],
            filled: 0,
            most: BLOCK,
            spare: Vec::new(),
            progress: None,
            zeros: None,
            coming: None,
            unit,
            index: false,
            position: 0,
            written: 0,
            copied: 0,
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
                self.put_member(&member)?;
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
        self.copy_range(first.at..last.at + last.length)?;
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
            Piece::Fresh(member) => self.put_member(&member)?,
            Piece::Copy(at, length) => self.copy_range(at..at + length)?,
        }
        Ok(true)
    }

    fn put_member(&mut self, member: &[u8]) -> io::Result<()> {
        self.copy_coming()?;
        step("block")?;
        self.file.write_all(member)?;
        self.wrote(member.len() as u64);
        Ok(())
    }

    /// Copies a range of the stock, at the latest before something else is written.
    fn copy_range(&mut self, range: Range<u64>) -> io::Result<()> {
        match &mut self.coming {
            Some(coming) if coming.end == range.start => coming.end = range.end,
            _ => {
                self.copy_coming()?;
                self.coming = Some(range);
            }
        }
        Ok(())
    }

    fn copy_coming(&mut self) -> io::Result<()> {
        let Some(range) = self.coming.take() else { return Ok(()) };
        step("copy")?;
        let gone = |why: &dyn std::fmt::Display| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the archive before this one cannot be read: {why}"),
            )
        };
        let Some(stock) = self.stock.clone() else { return Err(gone(&"there is none")) };
        let mut source = &stock.file;
        source.seek(SeekFrom::Start(range.start))?;
        let mut left = range.end - range.start;
        while left > 0 {
            // In parts, so that the disk begins to write meanwhile. On Linux this is copy_file_range(2),
            // which shares what lies on blocks of the file system, where that can.
            let part = left.min(PACE);
            match io::copy(&mut source.take(part), &mut self.file) {
                Ok(copied) if copied == part => {}
                Ok(_) => return Err(gone(&"it became shorter")),
                Err(error) if is_full(&error) => return Err(error),
                Err(error) => return Err(gone(&error)),
            }
            left -= part;
            self.copied += part;
            self.wrote(part);
        }
        Ok(())
    }

    fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
        self.pace.wrote(bytes);
    }

    /// Writes what is left. Gives back the file, its length, and how many bytes of it were copied
    /// from the stock.
    pub(super) fn finish(mut self) -> io::Result<(File, u64, u64)> {
        self.cut()?;
        self.settle()?;
        self.copy_coming()?;
        Ok((self.file, self.written, self.copied))
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

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Asks the disk now and then to write what it has, from a thread of its own.
struct Pace {
    ask: std::sync::mpsc::SyncSender<()>,
    since: u64,
}

impl Pace {
    fn new(file: File) -> Pace {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            while let Ok(()) = asked.recv() {
                // The sync at the end tells what went wrong.
                let _ = file.sync_data();
            }
        });
        Pace { ask, since: 0 }
    }

    fn wrote(&mut self, bytes: u64) {
        self.since += bytes;
        if self.since >= PACE {
            self.since = 0;
            // It is at it still.
            let _ = self.ask.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::unpack::Unpacker;
    use flate2::read::{GzDecoder, MultiGzDecoder};
    use proptest::prelude::*;

    fn archive(pieces: &[(&[u8], bool)], stock: Option<Arc<Stock>>) -> (File, u64) {
        archive_of(1, pieces, stock)
    }

    fn archive_of(unit: usize, pieces: &[(&[u8], bool)], stock: Option<Arc<Stock>>) -> (File, u64) {
        let mut packer = Packer::with_unit(tempfile::tempfile().unwrap(), stock, unit).unwrap();
        for (piece, cut) in pieces {
            packer.write_all(piece).unwrap();
            if *cut {
                packer.cut().unwrap();
            }
        }
        packer.begin_index().unwrap();
        packer.write_all(b"the index").unwrap();
        let (mut file, length, copied) = packer.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        file.rewind().unwrap();
        (file, copied)
    }

    fn stock(file: &File) -> (Arc<Stock>, Vec<Block>) {
        let table = blocks::table(file).unwrap().unwrap();
        (Arc::new(Stock::new(file.try_clone().unwrap(), &table)), table)
    }

    fn inflated(mut file: &File) -> Vec<u8> {
        let mut content = Vec::new();
        file.rewind().unwrap();
        MultiGzDecoder::new(file).read_to_end(&mut content).unwrap();
        content
    }

    fn large() -> Vec<u8> {
        (0..875_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
    }

    #[test]
    fn every_member_is_read_back_not_only_the_first() {
        let large = large();
        let (mut file, _) = archive(&[(b"small", true), (&large, false)], None);
        assert_eq!(inflated(&file), [b"small", large.as_slice(), b"the index"].concat());
        // The trap that the test is for: the other decoder stops after one member, contentedly.
        file.rewind().unwrap();
        let mut first = Vec::new();
        GzDecoder::new(&file).read_to_end(&mut first).unwrap();
        assert_eq!(first, b"small");

        let table = blocks::table(&file).unwrap().unwrap();
        let index = table.iter().find(|block| block.index).unwrap();
        file.seek(SeekFrom::Start(index.at)).unwrap();
        let mut content = Vec::new();
        MultiGzDecoder::new(&file).read_to_end(&mut content).unwrap();
        assert_eq!(content, b"the index");
    }

    #[test]
    fn what_was_there_is_copied_not_compressed() {
        let mut content = large();
        let (first, copied) = archive(&[(b"head", true), (&content, true)], None);
        assert_eq!(copied, 0);
        let (stock, table) = stock(&first);
        content[1_000_000] ^= 1;
        content.extend_from_slice(b"and more");
        let (second, copied) = archive(&[(b"new head", true), (&content, true)], Some(Arc::clone(&stock)));
        assert_eq!(inflated(&second), [b"new head", content.as_slice(), b"the index"].concat());
        let changed: Vec<_> = blocks::table(&second)
            .unwrap()
            .unwrap()
            .into_iter()
            .filter(|block| !table.iter().any(|old| old.hash == block.hash))
            .map(|block| block.position)
            .collect();
        // The head, the block of the flipped bit, the last one.
        assert_eq!(changed.len(), 3, "{changed:?}");
        assert!(copied > first.metadata().unwrap().len() * 5 / 10, "{copied}");
    }

    #[test]
    fn members_can_all_lie_on_blocks_of_the_file_system() {
        let content = large();
        let pieces: Vec<_> = (0..600).map(|length| (&content[..length * 7], true)).collect();
        let (first, _) = archive_of(4096, &pieces, None);
        let (stock, table) = stock(&first);
        assert!(table.iter().all(|block| block.at % 4096 == 0 && block.length % 4096 == 0));
        assert_eq!(table.len(), 600, "one has nothing in it, and there is the index");
        let (second, copied) = archive_of(4096, &pieces, Some(stock));
        assert_eq!(copied, table.iter().filter(|block| !block.index).map(|block| block.length).sum::<u64>());
        let whole =
            pieces.iter().map(|piece| piece.0).chain([&b"the index"[..]]).collect::<Vec<_>>().concat();
        assert_eq!(inflated(&second), whole);
        assert_eq!(inflated(&first), whole);
    }

    #[test]
    fn a_run_of_members_is_copied_whole() {
        let content = large();
        let (first, _) = archive(&[(b"head", true), (&content, true)], None);
        let (stock, table) = stock(&first);
        let mut packer = Packer::new(tempfile::tempfile().unwrap(), Some(stock)).unwrap();
        packer.write_all(b"another head").unwrap();
        let members: Vec<_> =
            table.iter().filter(|block| !block.index && block.position > 0).copied().collect();
        packer.copy(&members).unwrap();
        assert_eq!(packer.position(), 12 + content.len() as u64);
        packer.begin_index().unwrap();
        packer.write_all(b"index").unwrap();
        let (file, ..) = packer.finish().unwrap();
        assert_eq!(inflated(&file), [b"another head", content.as_slice(), b"index"].concat());
    }

    #[test]
    fn a_cut_is_seen_wherever_it_is_made() {
        let whole = {
            let mut bytes = Vec::new();
            archive(&[(b"first block", true), (b"second block", true)], None)
                .0
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        };
        for length in 1..whole.len() {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&whole[..length]).unwrap();
            match blocks::table(&file) {
                Err(_) => {}
                // So short that it could be any gzip file.
                Ok(None) => assert!(length < 57, "{length}"),
                Ok(Some(_)) => panic!("a cut at {length} was not seen"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_seen_wherever_it_is() {
        let (mut whole, _) = archive(&[(b"first block, first block", true), (b"second block", true)], None);
        let mut bytes = Vec::new();
        whole.read_to_end(&mut bytes).unwrap();
        let content = inflated(&whole);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            let Ok(Some(table)) = blocks::table(&file) else { continue };
            let mut read = Vec::new();
            // The hash and the mark of the index are not looked at here; all else speaks up.
            if Unpacker::new(file, table).read_to_end(&mut read).is_ok() {
                assert_eq!(read, content, "bit {bit}");
            }
        }
    }

    #[test]
    fn foreign_gzip_files_are_told_apart() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(blocks::table(&file).unwrap().is_none());
        file.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert!(blocks::table(&file).unwrap().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_pieces_come_back_whole_and_the_same_again_from_the_stock(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), 1usize..120, any::<bool>()), 1..12),
        ) {
            let pieces: Vec<(Vec<u8>, bool)> =
                pieces.into_iter().map(|(piece, times, cut)| (piece.repeat(times), cut)).collect();
            let pieces: Vec<(&[u8], bool)> = pieces.iter().map(|(piece, cut)| (piece.as_slice(), *cut)).collect();
            let (first, _) = archive(&pieces, None);
            let table = blocks::table(&first).unwrap().unwrap();
            let mut read = Vec::new();
            Unpacker::new(first.try_clone().unwrap(), table).read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, &inflated(&first));
            let (second, copied) = archive(&pieces, Some(stock(&first).0));
            prop_assert_eq!(inflated(&second), read);
            let content = blocks::table(&second).unwrap().unwrap().iter().filter(|b| !b.index).map(|b| b.length).sum::<u64>();
            prop_assert_eq!(copied, content);
        }

        #[test]
        fn any_bytes_are_a_table_or_an_error(bytes in any::<Vec<u8>>()) {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let _ = blocks::table(&file);
        }
    }
}
