//! Room for an archive: what is needed, what is free, and what it means when it runs out.

use super::plan::Plan;
use super::shelf::Archive;
use crate::base::units::Size;
use crate::base::{Fault, durable};
use anyhow::{Context, Result};
use rusqlite::ErrorCode;
use std::io;
use std::path::Path;

/// Refuses what cannot fit: the copies of the databases, and an archive as dense as the last one,
/// twice if it is `encrypted`. Gives the bytes that will be free all the same.
pub(super) fn check_space(dir: &Path, plan: &Plan, archives: &[Archive], encrypted: bool) -> Result<u64> {
    let last =
        archives.iter().find(|archive| archive.verified && archive.content.is_some_and(|bytes| bytes > 0));
    let density = last.map_or(0.25, |last| last.bytes as f64 / last.content.unwrap_or(1) as f64);
    let archive = (plan.bytes_on_disk() as f64 * density.min(1.0)) as u64;
    let needed = plan.database_bytes() + archive * if encrypted { 2 } else { 1 };
    let free = free_space(dir)?;
    if needed > free {
        return Err(Fault::critical(format!(
            "no room for a backup in {}: about {} are needed and {} are free",
            dir.display(),
            Size(needed),
            Size(free)
        ))
        .hint("older archives are untouched; free some space, or set another dir in [backup]")
        .into());
    }
    Ok(free - needed)
}

/// Says what a full disk, or one that went away, means for the archives there are.
pub(super) fn no_space(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    if !dir.is_dir() {
        return Fault::critical(format!(
            "the backup folder {} went away while an archive was made: {error:#}",
            dir.display()
        ))
        .hint("is its disk still mounted? Nothing was pruned; run this again when it is back")
        .into();
    }
    if !is_full(&error) {
        return error;
    }
    Fault::critical(format!("no space is left in {}: {error:#}", dir.display()))
        .hint("older archives are untouched and nothing was pruned; free some space and run this again")
        .into()
}

/// The bytes that we may still write where a folder is.
pub fn free_space(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot tell the free space of {}", folder.display()))?;
    // A file system without a size, as some in memory, does not say what is free.
    if stat.f_blocks == 0 {
        return Ok(u64::MAX);
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses a copy of a file of an archive that cannot fit: its length is only what the archive says.
pub(super) fn need_room_for(bytes: u64, copy: &Path) -> Result<()> {
    let folder = durable::parent(copy);
    let free = free_space(folder)?;
    if bytes <= free {
        return Ok(());
    }
    Err(Fault::critical(format!(
        "no room in {} to check a database of the archive: {} are needed and {} are free",
        folder.display(),
        Size(bytes),
        Size(free)
    ))
    .hint("nothing was changed; free some space and run this again")
    .into())
}

/// Whether an error says that there is no room.
pub fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let sqlite = cause.downcast_ref::<rusqlite::Error>();
        cause.downcast_ref().is_some_and(is_out_of_room)
            || sqlite.is_some_and(|sqlite| sqlite.sqlite_error_code() == Some(ErrorCode::DiskFull))
    })
}

/// Whether an error of the file system says so.
pub(super) fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
