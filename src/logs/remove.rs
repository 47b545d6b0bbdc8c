//! What goes for good: logs, and what killed runs left.

use super::adopt::adopt;
use super::writers::Writers;
use crate::base::Home;
use crate::base::beneath::{Dir, FileType};
use crate::log_files::{Found, Location, Log, begins_with_day};
use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Deletes a log, if it is still the file that was judged.
pub(super) fn delete(log: &Log, writers: &mut Writers) -> anyhow::Result<()> {
    let adopted;
    let log = match log.shifts() {
        true => {
            adopted = adopt(log, writers)?;
            &adopted
        }
        false => log,
    };
    can_delete(log, writers)?;
    log.at.remove().with_context(|| format!("cannot delete {}", log.path.display()))
}

/// Whether a log is as it was when it was judged, and nobody writes to it.
pub(super) fn can_delete(log: &Log, writers: &mut Writers) -> anyhow::Result<()> {
    let meta = same_as_judged(log)?;
    let deleting = || format!("cannot delete {}", log.path.display());
    let busy = |why: String| Err(std::io::Error::new(ErrorKind::ResourceBusy, why)).with_context(deleting);
    if meta.modified().with_context(deleting)? != SystemTime::from(log.modified) {
        return busy("it was written meanwhile".to_owned());
    }
    match writers.of(&log.path, &meta) {
        Some(writer) => busy(format!("{} (pid {}) holds it open for writing", writer.name, writer.pid)),
        None => Ok(()),
    }
}

/// Looks at a log again: it may have become something else.
pub(super) fn same_as_judged(log: &Log) -> anyhow::Result<fs::Metadata> {
    let meta = log.at.metadata().with_context(|| format!("cannot look at {}", log.path.display()))?;
    if !meta.is_file() || meta.nlink() > 1 && log.links == 1 {
        anyhow::bail!("{} is no longer a regular file with one name", log.path.display());
    }
    Ok(meta)
}

/// So old a half-written file is at least. No other rotation is at work, and whoever replaces a file takes moments.
const ABANDONED: Duration = Duration::from_secs(600);

/// So many folders of the archive are looked through at most.
const MOST_FOLDERS: usize = 20_000;

/// Removes what runs that were killed left in the folders of the logs: half-written files.
pub(super) fn remove_rubbish(found: &Found, home: &Home) {
    let mut folders: BTreeMap<PathBuf, Location> = BTreeMap::new();
    for log in found.logs.iter().chain(&found.archived) {
        folders.entry(log.at.folder().path()).or_insert_with(|| log.at.folder());
    }
    if let Ok(root) = home.dir().map(Arc::new) {
        folders.extend(archive_folders(&root).into_iter().map(|folder| (folder.path(), folder)));
    }
    if let Ok((root, inside)) = home.place(&home.logs()) {
        folders.insert(home.logs(), Location::new(&Arc::new(root), inside));
    }
    folders.values().for_each(remove_from);
}

/// The folders below `archive/YYYYMMDD`, of which some may hold no log any more.
fn archive_folders(root: &Arc<Dir>) -> Vec<Location> {
    let archive = Path::new("archive");
    let mut folders = vec![archive.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let entries = root.entries(&folder).into_iter().flatten().flatten();
        let deeper =
            entries.filter(|entry| entry.kind == FileType::Directory).map(|entry| folder.join(entry.name));
        let of_a_day = |path: &PathBuf| path.strip_prefix(archive).is_ok_and(begins_with_day);
        folders.extend(deeper.filter(of_a_day).take(MOST_FOLDERS.saturating_sub(next)));
        if folders.len() > MOST_FOLDERS {
            break;
        }
    }
    folders.into_iter().skip(1).map(|folder| Location::new(root, folder)).collect()
}

fn remove_from(folder: &Location) {
    for entry in folder.root().entries(folder.inside()).into_iter().flatten().flatten() {
        // `.part-move-` and the like are another's, who may take long.
        let ours = entry.name.as_encoded_bytes().strip_prefix(b".part-");
        if !ours.is_some_and(|random| random.iter().all(u8::is_ascii_alphanumeric)) {
            continue;
        }
        let file = folder.join(entry.name.as_bytes());
        let old = |meta: &fs::Metadata| {
            let modified = meta.modified().ok();
            meta.is_file()
                && meta.nlink() == 1
                && modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED)
        };
        if file.metadata().is_ok_and(|meta| old(&meta)) {
            let _ = file.remove();
        }
    }
}
