//! Whether there is room for a restore, and what to say when there is none.

use super::Prepared;
use crate::backup;
use crate::backup::places::inner;
use crate::base::units::Size;
use crate::base::{Fault, durable};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

impl Prepared<'_> {
    /// Refuses what cannot fit: all of it in `folder`, where it is laid ready, and what goes on to
    /// another file system there too.
    pub(super) fn need_room(&self, folder: &Path) -> Result<()> {
        let mut needed: BTreeMap<u64, (PathBuf, u64)> = BTreeMap::new();
        let staged = fs::metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        // With the old files that come from other file systems.
        let old = if folder == self.loaded.home.root() { self.survey.copied } else { 0 };
        needed.insert(staged.dev(), (folder.to_owned(), self.bytes().saturating_add(old)));
        let mut devices: HashMap<PathBuf, u64> = HashMap::new();
        for entry in &self.wanted {
            // In the home what is outside it goes to its place.
            let at_home = folder == self.loaded.home.root();
            let target = if at_home { folder.join(&entry.path) } else { folder.join(inner(&entry.path)) };
            let parent = durable::parent(&target);
            let device = match devices.get(parent) {
                Some(device) => *device,
                None => {
                    let there = parent.ancestors().find_map(|up| fs::metadata(up).ok());
                    let device = there.map_or(staged.dev(), |meta| meta.dev());
                    devices.insert(parent.to_owned(), device);
                    device
                }
            };
            if device != staged.dev() {
                let (_, bytes) = needed.entry(device).or_insert_with(|| (parent.to_owned(), 0));
                *bytes = bytes.saturating_add(entry.size);
            }
        }
        for (folder, needed) in needed.into_values() {
            let there = folder.ancestors().find(|up| up.is_dir()).unwrap_or(&folder);
            let free = backup::free_space(there)?;
            if needed > free {
                return Err(no_room(there, needed, &format!("{} are free", Size(free))));
            }
        }
        Ok(())
    }

    /// Says of a failure before anything was touched what it means, and what to do.
    pub(super) fn untouched(&self, error: anyhow::Error, folder: &Path) -> anyhow::Error {
        self.condemn(&error);
        untouched(error, folder, self.bytes())
    }
}

/// Says of a failure to write to `folder`, where so many bytes are `needed`, what it means.
pub(super) fn untouched(error: anyhow::Error, folder: &Path, needed: u64) -> anyhow::Error {
    if backup::is_full(&error) {
        return no_room(folder, needed, &format!("it is full: {error:#}"));
    }
    error.context("nothing was changed")
}

/// The fault of a disk that is full, before anything was touched.
fn no_room(folder: &Path, needed: u64, why: &str) -> anyhow::Error {
    let folder = folder.display();
    Fault::critical(format!(
        "no room in {folder}: {} are needed and {why}; nothing was changed",
        Size(needed)
    ))
    .hint("free some space and run this again; or bring it back on another disk with --to DIR")
    .into()
}
