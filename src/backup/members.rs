//! The members of an archive on their way into its file: new ones, and those copied from the archive
//! before it, whole runs at once.

use super::blocks::{Block, Hash};
use super::space::is_out_of_room;
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

    /// A member with this content: where it begins, and its length.
    pub(super) fn member(&self, content: &Hash) -> Option<(u64, u64)> {
        self.blocks.get(content).copied()
    }
}

/// Writes members to a file.
pub(super) struct Members {
    file: File,
    stock: Option<Arc<Stock>>,
    pace: Pace,
    /// A range of the stock that is to be copied, with what may follow it there.
    coming: Option<Range<u64>>,
    written: u64,
    copied: u64,
}

impl Members {
    pub(super) fn new(file: File, stock: Option<Arc<Stock>>) -> io::Result<Members> {
        let pace = Pace::new(file.try_clone()?);
        Ok(Members { file, stock, pace, coming: None, written: 0, copied: 0 })
    }

    /// Writes a member that was made just now.
    pub(super) fn put(&mut self, member: &[u8]) -> io::Result<()> {
        self.copy_coming()?;
        step("block")?;
        self.file.write_all(member)?;
        self.wrote(member.len() as u64);
        Ok(())
    }

    /// Copies a range of the stock, at the latest before something else is written.
    pub(super) fn copy(&mut self, range: Range<u64>) -> io::Result<()> {
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
                Err(error) if is_out_of_room(&error) => return Err(error),
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

    /// Copies what is still to be copied. Gives back the file, its length, and how many bytes of it
    /// were copied from the stock.
    pub(super) fn finish(mut self) -> io::Result<(File, u64, u64)> {
        self.copy_coming()?;
        Ok((self.file, self.written, self.copied))
    }
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
