//! Which archive is meant: by a path, its name, or `latest`; and the link of that name.

use super::index::agent_of;
use super::names::{ENCRYPTED, PLAIN, WORK, time_of_name};
use super::records::{gone, row};
use super::shelf::{Archive, list};
use crate::base::{Fault, Journal, State, durable};
use crate::config::Loaded;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Finds an archive by a path, its name, its stem, or `latest`: the newest good one of this agent.
pub fn find(loaded: &Loaded, journal: Option<&Journal>, which: &str) -> Result<PathBuf> {
    if which != "latest" {
        let dir = &loaded.config.backup.dir;
        let places = [PathBuf::from(which), dir.join(which)];
        let stems = [PLAIN, ENCRYPTED].map(|suffix| dir.join(format!("{which}{suffix}")));
        return match places.into_iter().chain(stems).find(|place| place.is_file()) {
            Some(place) => Ok(std::path::absolute(place)?),
            None => Err(Fault::unknown(format!("there is no archive '{which}'"))
                .hint("`backup list` shows the archives there are")
                .into()),
        };
    }
    if let Some(last) = last_made(loaded, journal)? {
        return Ok(last);
    }
    let archives = list(loaded, journal)?;
    let good = archives.iter().filter(|archive| archive.verified && archive.ours);
    // By the order of making: a clock that was wrong once does not matter.
    match good
        .max_by_key(|archive| archive.sequence)
        .or_else(|| archives.iter().find(|archive| is_foreign(archive)))
    {
        Some(archive) => Ok(archive.path.clone()),
        None => Err(none_good(loaded, journal, archives.len())),
    }
}

/// The fault of a folder without a good archive. Where there should be some, a disk may be missing.
fn none_good(loaded: &Loaded, journal: Option<&Journal>, there: usize) -> anyhow::Error {
    let dir = loaded.config.backup.dir.display();
    let fault = Fault::unknown(format!("there is no good archive in {dir}"));
    match gone(loaded, journal) {
        Some(gone) if there == 0 => Fault::unknown(gone)
            .hint("is a disk not mounted? [backup] dir says where they are; `restore PATH` takes one from elsewhere")
            .into(),
        _ => fault.hint("`ops backup` makes one; `backup list` shows what is there").into(),
    }
}

/// What `latest` points to, if it is a good archive of this agent and has the newest name of all:
/// the last one that was made, then, and no other need be read to know it.
fn last_made(loaded: &Loaded, journal: Option<&Journal>) -> Result<Option<PathBuf>> {
    let dir = &loaded.config.backup.dir;
    let (Ok(target), Ok(entries)) = (fs::read_link(dir.join("latest")), fs::read_dir(dir)) else {
        return Ok(None);
    };
    // Where one second has several, `_10` comes after `_9`.
    let order = |name: &String| time_of_name(name).map(|time| (time, name.len(), name.clone()));
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.max_by_key(order).filter(|newest| target == Path::new(newest));
    let Some(newest) = newest else { return Ok(None) };
    let path = dir.join(&newest);
    let Ok(meta) = fs::symlink_metadata(&path) else { return Ok(None) };
    let known = journal.map(|journal| row(journal, &newest)).transpose()?.flatten();
    let sound = known.is_none_or(|row| {
        row.state < i64::from(State::Critical.code()) && row.bytes == meta.len().cast_signed()
    });
    // Whatever is wrong with it, the long way tells.
    let ours = agent_of(&path).ok().flatten().is_some_and(|agent| agent == loaded.config.agent.name);
    Ok(Some(path).filter(|_| meta.is_file() && sound && ours))
}

/// Whether it was made by another program, as far as can be told without reading it.
fn is_foreign(archive: &Archive) -> bool {
    archive.sequence == 0 && archive.problem.is_none()
}

/// Points `latest` at an archive: a relative link, replaced in one move.
pub(super) fn point_latest(dir: &Path, name: &str) -> Result<()> {
    let link = dir.join("latest");
    if fs::symlink_metadata(&link).is_ok_and(|meta| !meta.is_symlink()) {
        anyhow::bail!("{} is not a link of ours; move it away", link.display());
    }
    let temp = dir.join(format!("{WORK}latest-{}", std::process::id()));
    let _ = fs::remove_file(&temp);
    std::os::unix::fs::symlink(name, &temp)
        .with_context(|| format!("cannot create a link in {}", dir.display()))?;
    durable::rename(&temp, &link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_never_put_over_a_file_of_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        point_latest(dir.path(), "a").unwrap();
        point_latest(dir.path(), "b").unwrap();
        assert_eq!(fs::read_link(dir.path().join("latest")).unwrap(), Path::new("b"));
        fs::remove_file(dir.path().join("latest")).unwrap();
        fs::write(dir.path().join("latest"), "mine").unwrap();
        assert!(point_latest(dir.path(), "c").is_err());
        assert_eq!(fs::read_to_string(dir.path().join("latest")).unwrap(), "mine");
    }
}
