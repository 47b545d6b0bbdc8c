//! The last verified archive, and what the next one may take from it.
//!
//! Blocks that come again are known by their hash. A file whose stamp is the one it had then is
//! not even read: its members are copied as they are.

use super::blocks::{self, Block};
use super::extents;
use super::index;
use super::lacking::Had;
use super::manifest::{Database, Item, SCHEMA, Soundness, Unjudged};
use super::members::Stock;
use crate::base::database;
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that was written so shortly before a run gets no stamp: it may be written again without
/// its times changing, by a clock too coarse (some milliseconds) or through a memory map (until
/// the kernel writes the page out, half a minute by default).
const UNSETTLED: TimeDelta = TimeDelta::seconds(60);

/// What of the home is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What changed since the last verified archive, by inode, size and times. Files of up to
    /// 64 KiB are read in any case.
    Changed,
    /// Everything.
    Everything,
}

/// The last verified archive.
pub(super) struct Past {
    /// Where it is.
    pub(super) archive: PathBuf,
    /// Its blocks.
    pub(super) stock: Arc<Stock>,
    blocks: Vec<Block>,
    items: HashMap<PathBuf, Item>,
    databases: HashMap<PathBuf, Database>,
    /// What it says of databases.
    pub(super) had: Had,
}

impl Past {
    /// Opens an archive to take from it. None: its blocks cannot be shared.
    pub(super) fn open(archive: &Path) -> Result<Option<Past>> {
        let reading = || format!("cannot read {}", archive.display());
        let Some(manifest) = index::peek(archive)? else { return Ok(None) };
        let file = File::open(archive).with_context(reading)?;
        let Some(blocks) = blocks::table(&file).with_context(reading)? else { return Ok(None) };
        // From members that lie anywhere there would be nothing to share, now and ever after.
        let unit = extents::unit(&file).unwrap_or(1) as u64;
        let shared = |block: &Block| block.at.is_multiple_of(unit) && block.length.is_multiple_of(unit);
        if !blocks.iter().all(shared) {
            return Ok(None);
        }
        let had = Had::of(&manifest);
        let stock = Arc::new(Stock::new(file, &blocks));
        // An earlier schema does not say all that this one says of a file: it is read anew.
        let complete = manifest.schema == SCHEMA;
        let items = manifest.files.iter().filter(|item| complete && item.stamp.is_some());
        let items = items.map(|item| (item.path.0.clone(), item)).collect();
        // The files of one that is encrypted belong together: they are read anew.
        let good = |database: &Database| {
            !database.is_damaged() && database.soundness != Soundness::Unjudged(Unjudged::Encrypted)
        };
        let databases = manifest.databases.into_iter().filter(good);
        let databases = databases.map(|database| (database.path.0.clone(), database)).collect();
        Ok(Some(Past { archive: archive.to_owned(), stock, blocks, items, databases, had }))
    }

    /// A file that has the stamp it had then, with the members that hold its content.
    pub(super) fn file(&self, path: &Path, stamp: &str) -> Option<(&Item, &[Block])> {
        let item = self.items.get(path).filter(|item| item.stamp.as_deref() == Some(stamp))?;
        Some((item, self.members(item)?))
    }

    /// A database that is not damaged and has the stamp it had then, with the members that hold its content.
    pub(super) fn database(&self, path: &Path, stamp: &str) -> Option<(&Item, &Database, &[Block])> {
        let (item, members) = self.file(path, stamp)?;
        Some((item, self.databases.get(path)?, members))
    }

    /// The members that hold all of a file's content and its padding, and nothing else.
    fn members(&self, item: &Item) -> Option<&[Block]> {
        let (begin, end) = (item.at?, item.at?.checked_add(item.size().checked_next_multiple_of(512)?)?);
        let first = self.blocks.binary_search_by_key(&begin, |block| block.position).ok()?;
        let after = self.blocks.partition_point(|block| block.position < end);
        let members = self.blocks.get(first..after)?;
        let last = members.last()?;
        let fits = last.position + last.content == end && members.iter().all(|block| !block.index);
        fits.then_some(members)
    }
}

/// What changes whenever a file is written, replaced, or given other permissions. None: it was
/// written so shortly before `now` that this cannot be relied on.
pub(super) fn stamp(meta: &Metadata, now: DateTime<Utc>) -> Option<String> {
    (is_settled(meta.mtime(), now) && is_settled(meta.ctime(), now)).then(|| {
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        format!("{}:{}:{}.{:09}:{}.{:09}", meta.ino(), meta.len(), mtime.0, mtime.1, ctime.0, ctime.1)
    })
}

fn is_settled(seconds: i64, now: DateTime<Utc>) -> bool {
    seconds < (now - UNSETTLED).timestamp()
}

/// The stamp of a database and its WAL. None also for one with a rollback journal beside it.
pub(super) fn database_stamp(path: &Path, now: DateTime<Utc>) -> Option<String> {
    let [wal, _, journal] = database::sidecars(path);
    if fs::symlink_metadata(journal).is_ok_and(|journal| journal.len() > 0) {
        return None;
    }
    let main = stamp(&fs::metadata(path).ok()?, now)?;
    match fs::metadata(wal) {
        Ok(wal) => {
            // Without the change time: SQLite itself sets the owner of a WAL when root opens it.
            is_settled(wal.mtime(), now).then(|| {
                format!("{main}|{}:{}:{}.{:09}", wal.ino(), wal.len(), wal.mtime(), wal.mtime_nsec())
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(main),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_given_when_the_dust_has_settled_and_changes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let now = Utc::now();
        let of = |later: i64| stamp(&fs::metadata(&path).unwrap(), now + TimeDelta::seconds(later));
        assert_eq!(of(0), None);
        assert_eq!(of(-3600), None, "a clock that went back");
        let first = of(3600).unwrap();
        assert_eq!(of(7200), Some(first.clone()));
        // The same content in another file, its time set back.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(dir.path().join("b"), "two").unwrap();
        File::options().write(true).open(dir.path().join("b")).unwrap().set_modified(time).unwrap();
        fs::rename(dir.path().join("b"), &path).unwrap();
        assert_ne!(of(3600).unwrap(), first);
    }

    #[test]
    fn the_stamp_of_a_database_is_that_of_its_wal_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        fs::write(&path, "database").unwrap();
        let later = Utc::now() + TimeDelta::hours(1);
        let alone = database_stamp(&path, later).unwrap();
        let [wal, _, journal] = database::sidecars(&path);
        fs::write(wal, "wal").unwrap();
        assert_ne!(database_stamp(&path, later).unwrap(), alone);
        fs::write(journal, "hot").unwrap();
        assert_eq!(database_stamp(&path, later), None);
    }
}
