//! Goes through the folders below one that is held open.

use crate::base::beneath::{Dir, FileType};
use std::io::{self, Error};
use std::path::{Path, PathBuf};

/// No logs lie deeper; whoever nests folders without end does not stop us.
const DEEPEST: usize = 64;

/// Visits all that lies in a folder, so many levels deep; what is hidden is passed over. No link is followed.
/// Vanished folders are an error of kind `NotFound`, as whatever else cannot be looked at.
pub(super) fn walk(
    root: &Dir,
    start: &Path,
    depth: usize,
    visit: &mut dyn FnMut(&Path, FileType) -> io::Result<()>,
    failed: &mut dyn FnMut(&Path, Error),
) {
    let mut folders: Vec<(PathBuf, usize)> = vec![(start.to_owned(), 1)];
    while let Some((folder, level)) = folders.pop() {
        let entries = match root.entries(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                failed(&folder, error);
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    failed(&folder, error);
                    break;
                }
            };
            if entry.name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let inside = folder.join(&entry.name);
            if let Err(error) = visit(&inside, entry.kind) {
                failed(&inside, error);
            }
            match entry.kind {
                FileType::Directory if level >= DEEPEST && depth > level => {
                    failed(&inside, Error::other("nested too deep"));
                }
                FileType::Directory if level < depth => folders.push((inside, level + 1)),
                _ => {}
            }
        }
    }
}
