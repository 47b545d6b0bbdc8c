//! Logs that the agent's own logger, or logrotate, renames from `.1` to `.2`: made ours before anything is done to them.

use super::archive::give_name;
use super::compress::unchanged;
use super::writers::Writers;
use crate::base::step::step;
use crate::log_files::Log;
use crate::log_files::names::kin;
use anyhow::{Context, Result};
use chrono::Local;
use std::fs::Metadata;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;

/// Takes a log that another program renames again and again out of its reach, by a name that only we give: what is done
/// to it then is done to no other.
///
/// # Errors
/// Of kind `ResourceBusy` in the chain: somebody writes to it, or it got another name meanwhile.
pub(super) fn adopt(log: &Log, writers: &mut Writers) -> Result<Log> {
    let Some(kin) = kin(log.name()) else { return Ok(log.clone()) };
    let taking = || format!("cannot rename {}", log.path.display());
    let meanwhile = |more: String| {
        let why = format!("it was renamed meanwhile{more}");
        Err(Error::new(ErrorKind::ResourceBusy, why)).with_context(taking)
    };
    // Its own program may be at it.
    let still = |meta: &Metadata| (meta.dev(), meta.ino()) == log.file;
    let before = match log.at.metadata() {
        Ok(meta) if still(&meta) => meta,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(taking),
        _ => return meanwhile(String::new()),
    };
    match unchanged(&log.at, &before, writers) {
        Err(error) if error.kind() == ErrorKind::NotFound => return meanwhile(String::new()),
        result => result.with_context(taking)?,
    }
    let day = log.modified.with_timezone(&Local).date_naive();
    let ending = if log.compressed { ".gz" } else { "" };
    let to = match give_name(&log.at, &log.at.folder(), kin.log, day, ending) {
        Err(_) if log.at.metadata().is_err() => return meanwhile(String::new()),
        result => result?,
    };
    step("adopted")?;
    let meta = to.metadata().with_context(taking)?;
    if !still(&meta) {
        // It has our name now instead, and is dealt with in its time.
        return meanwhile(format!("; another is {} now", to.path().display()));
    }
    let Log { rule, whole, state, .. } = log.clone();
    Ok(Log { rule, whole, state, ..Log::new(to, &meta) })
}
