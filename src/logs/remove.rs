//! What goes for good: logs, and what killed runs left.

use super::adopt::adopt;
use super::writers::Writers;
use crate::base::Home;
use crate::log_files::{Found, Log, is_archived};
use anyhow::Context;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use walkdir::WalkDir;

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
    fs::remove_file(&log.path).with_context(|| format!("cannot delete {}", log.path.display()))
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
    let meta =
        fs::symlink_metadata(&log.path).with_context(|| format!("cannot look at {}", log.path.display()))?;
    if !meta.is_file() || meta.nlink() > 1 && log.links == 1 {
        anyhow::bail!("{} is no longer a regular file with one name", log.path.display());
    }
    Ok(meta)
}

/// So old a half-written file is at least. No other rotation is at work, and whoever replaces a file takes moments.
const ABANDONED: Duration = Duration::from_secs(600);

/// Removes what runs that were killed left in the folders of the logs: half-written files.
pub(super) fn remove_rubbish(found: &Found, home: &Home) {
    let archive =
        WalkDir::new(home.archive()).into_iter().flatten().filter(|entry| entry.file_type().is_dir());
    let folders: BTreeSet<PathBuf> = found
        .logs
        .iter()
        .filter_map(|log| Some(log.path.parent()?.to_owned()))
        .chain([home.logs()])
        .chain(archive.map(walkdir::DirEntry::into_path).filter(|folder| is_archived(home, folder)))
        .collect();
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        // `.part-move-` and the like are another's, who may take long.
        let name = entry.file_name();
        let ours = name.to_str().and_then(|name| name.strip_prefix(".part-"));
        if !ours.is_some_and(|random| random.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            continue;
        }
        let old = |meta: &fs::Metadata| {
            let modified = meta.modified().ok();
            meta.is_file()
                && meta.nlink() == 1
                && modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED)
        };
        if entry.metadata().is_ok_and(|meta| old(&meta)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
