//! Whether a line of a log is being written at this moment.

use super::writers::Writers;
use crate::base::lines;
use crate::log_files::Log;
use serde::de::IgnoredAny;
use std::fs::{File, Metadata};
use std::io::{self, Error, ErrorKind};
use std::time::{Duration, SystemTime};

/// So long after the last write a line without an end is taken for finished.
const QUIET: Duration = Duration::from_secs(1);

/// So often that is waited for.
const TRIES: u32 = 3;

/// More of a line is not looked at.
const LONGEST: u64 = 1 << 20;

/// Waits until the end of a log is no half-written line: a writer that opens the file for each write would go on in
/// the next one. Whoever holds it open goes on in this one, whatever it is called.
///
/// # Errors
/// Of kind `ResourceBusy`: a line of it is still being written.
pub(super) fn settle(log: &Log, writers: &mut Writers) -> io::Result<()> {
    let file = &log.at.open()?;
    for tries in 0..=TRIES {
        let meta = file.metadata()?;
        let Some(wait) = unfinished_for(file, &meta)? else { return Ok(()) };
        if writers.of(&log.path, &meta).is_some() || tries == TRIES && is_json(file, meta.len())? {
            return Ok(());
        }
        if tries < TRIES {
            std::thread::sleep(wait);
        }
    }
    Err(Error::new(ErrorKind::ResourceBusy, "a line of it is being written"))
}

/// How long to wait for the end of the last line. None: it has one, or nobody is writing it.
fn unfinished_for(file: &File, meta: &Metadata) -> io::Result<Option<Duration>> {
    let last = lines::read(file, meta.len().saturating_sub(1), meta.len())?;
    // A time to come is none of a write just now.
    let since = SystemTime::now().duration_since(meta.modified()?).unwrap_or(QUIET);
    Ok((!last.is_empty() && last != b"\n" && since < QUIET).then(|| QUIET - since))
}

/// Whether what follows the last newline is a JSON value: some writers put the newline before it.
fn is_json(file: &File, length: u64) -> io::Result<bool> {
    let bytes = lines::read(file, length.saturating_sub(LONGEST), length)?;
    let line = bytes.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice::<IgnoredAny>(line).is_ok())
}
