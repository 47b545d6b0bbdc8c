//! Where we are in one log that is followed: a file that grows, is cut, or goes.

use crate::base::lines;
use crate::log_files::{Location, Log};
use chrono::{DateTime, Utc};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

/// How much of a line without end is held back, and how much is read at once.
const MOST: u64 = 1 << 20;

/// How much is read before it is shown.
const AT_ONCE: u64 = 16 << 20;

/// How many of the last bytes are remembered, to find the place again in a file that was cut.
const REMEMBERED: u64 = 512;

#[derive(Debug)]
pub(super) struct Place {
    /// The log's name, as it was when it was found.
    pub(super) name: String,
    pub(super) at: Location,
    pub(super) path: PathBuf,
    /// In what order the files were found.
    pub(super) number: u64,
    /// Held open once something came, or is to come.
    pub(super) file: Option<File>,
    /// When it was last written, as far as that was looked at.
    pub(super) modified: DateTime<Utc>,
    pub(super) offset: u64,
    /// It was closed as nothing came: it is opened again when it was written.
    pub(super) rests: bool,
    /// When something came.
    pub(super) grew: Instant,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
    /// What begins there was shown as far as it ever is.
    skips: bool,
    /// What comes right before `offset`.
    last: Vec<u8>,
}

impl Place {
    /// A file at its beginning, or at its end.
    pub(super) fn new(name: &str, log: &Log, number: u64, whole: bool) -> Place {
        let end = || log.at.metadata().map_or(0, |meta| meta.len());
        Place {
            name: name.to_owned(),
            at: log.at.clone(),
            path: log.path.clone(),
            number,
            file: None,
            modified: if whole { DateTime::UNIX_EPOCH } else { log.modified },
            offset: if whole { 0 } else { end() },
            rests: false,
            grew: Instant::now(),
            begun: Vec::new(),
            skips: false,
            last: Vec::new(),
        }
    }

    /// Opens the file, if it is still this one. `anew`: if it is shorter than it was, it is another one that got the
    /// number of one that was deleted.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub(super) fn open(&mut self, known: (u64, u64), anew: bool) -> io::Result<()> {
        let file = match self.at.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let meta = file.metadata()?;
        if (meta.dev(), meta.ino()) != known {
            return Ok(());
        }
        if meta.len() < self.offset && anew {
            self.offset = 0;
            self.last.clear();
        } else if self.last.is_empty() {
            self.offset = self.offset.min(meta.len());
            self.last = before(&file, self.offset, REMEMBERED);
        }
        self.grew = Instant::now();
        self.rests = false;
        self.file = Some(file);
        Ok(())
    }

    /// Closes the file, unless something came that was not read yet.
    pub(super) fn close(&mut self) {
        let meta = self.file.as_ref().and_then(|file| file.metadata().ok());
        if let Some(meta) = meta.filter(|meta| meta.len() == self.offset) {
            self.modified = meta.modified().map(DateTime::from).unwrap_or_default();
            self.rests = true;
            self.file = None;
        }
    }

    /// Whether it is open and no folder has it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.file.as_ref().and_then(|file| file.metadata().ok()).is_none_or(|meta| meta.nlink() == 0)
    }

    /// The beginning of a line that nothing more will come to.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then(|| std::mem::take(&mut self.begun))
    }

    /// Adds the whole lines that came, as far as they are read at once. Whether it was cut, and what was shown last is no
    /// longer in it: then more may be missing.
    pub(super) fn read(&mut self, came: &mut Vec<Vec<u8>>) -> bool {
        let Some(file) = &self.file else { return false };
        let Ok(length) = file.metadata().map(|meta| meta.len()) else { return false };
        if length == self.offset {
            return false;
        }
        let mut cut = false;
        if length < self.offset || before(file, self.offset, self.last.len() as u64) != self.last {
            let again = find_again(file, length, &self.last);
            cut = again.is_none() && self.offset > 0;
            self.offset = again.unwrap_or_default();
            if again.is_none() {
                self.last.clear();
            }
            self.begun.clear();
            self.skips = false;
        }
        let end = length.min(self.offset + AT_ONCE);
        while let Some(file) = self.file.as_ref().filter(|_| self.offset < end) {
            let Ok(bytes) = lines::read(file, self.offset, end.min(self.offset + MOST)) else { break };
            if bytes.is_empty() {
                break;
            }
            self.offset += bytes.len() as u64;
            self.last.extend_from_slice(&bytes);
            self.last.drain(..self.last.len().saturating_sub(REMEMBERED as usize));
            self.take(&bytes, came);
            self.grew = Instant::now();
        }
        cut
    }

    fn take(&mut self, bytes: &[u8], came: &mut Vec<Vec<u8>>) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if !self.skips {
                self.begun.extend_from_slice(part);
                if ends || self.begun.len() as u64 >= MOST {
                    came.push(std::mem::take(&mut self.begun));
                    // Of a giant the beginning is enough.
                    self.skips = !ends;
                }
            } else if ends {
                self.skips = false;
            }
        }
    }
}

fn before(file: &File, offset: u64, bytes: u64) -> Vec<u8> {
    lines::read(file, offset.saturating_sub(bytes), offset).unwrap_or_default()
}

/// Where to go on in a file that was cut: after what was shown last, if that is still in it.
fn find_again(file: &File, length: u64, last: &[u8]) -> Option<u64> {
    let from = length.saturating_sub(64 * MOST);
    let bytes = lines::read(file, from, length).ok()?;
    if last.is_empty() || bytes.len() < last.len() {
        return None;
    }
    let found = bytes.windows(last.len()).rposition(|window| window == last)?;
    Some(from + (found + last.len()) as u64)
}
