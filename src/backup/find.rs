//! Which archive is meant: by a path, its name, or `latest`; and the link of that name.

use super::catalog::{self, Catalog};
use super::flaw::Standing;
use super::folder;
use super::names::{ENCRYPTED, PLAIN, WORK};
use super::records::gone;
use super::shelf::Archive;
use crate::base::beneath::Dir;
use crate::base::{Fault, Journal};
use crate::config::Loaded;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Finds an archive by a path, its name, its stem, or `latest`: the newest good one of this agent.
pub fn find(loaded: &Loaded, journal: Option<&Journal>, which: &str) -> Result<PathBuf> {
    if which != "latest" {
        let folder = folder::open(loaded)?;
        let names = ["", PLAIN, ENCRYPTED].map(|suffix| format!("{which}{suffix}"));
        let there = |name: &&String| {
            folder.as_ref().is_some_and(|dir| dir.metadata(name).is_ok_and(|meta| meta.is_file()))
        };
        let by_name = || Some(loaded.config.backup.dir.join(names.iter().find(there)?));
        let path = PathBuf::from(which);
        return match path.is_file().then_some(path).or_else(by_name) {
            Some(place) => Ok(std::path::absolute(place)?),
            None => Err(Fault::unknown(format!("there is no archive '{which}'"))
                .hint("`backup list` shows the archives there are")
                .into()),
        };
    }
    let catalog = catalog::status(loaded, journal)?;
    match catalog.latest().or_else(|| catalog.archives.iter().find(|archive| is_foreign(archive))) {
        Some(archive) => Ok(archive.path.clone()),
        None => Err(none_good(loaded, journal, &catalog)),
    }
}

/// The fault of a folder without an archive that can be read. Where there should be some, a disk may be
/// missing.
fn none_good(loaded: &Loaded, journal: Option<&Journal>, catalog: &Catalog) -> anyhow::Error {
    let dir = loaded.config.backup.dir.display();
    match gone(loaded, journal) {
        Some(gone) if catalog.archives.is_empty() => {
            return Fault::unknown(gone)
                .hint("is a disk not mounted? [backup] dir says where they are; `restore PATH` takes one from elsewhere")
                .into();
        }
        _ => {}
    }
    let newest = catalog.newer().next().and_then(|archive| Some((archive, archive.flaws.first()?)));
    let why = newest.map_or(String::new(), |(archive, flaw)| format!(": {}: {flaw}", archive.name));
    Fault::unknown(format!("there is no good archive in {dir}{why}"))
        .hint("`ops backup` makes one; `backup list` shows what is there")
        .into()
}

/// Whether it was made by another program, as far as can be told without reading it.
fn is_foreign(archive: &Archive) -> bool {
    archive.sequence == 0 && !archive.ours && archive.problem.is_none()
}

/// Points `latest` at the archive that a restore takes, if nothing in it is damaged.
pub(super) fn refresh_latest(loaded: &Loaded, journal: Option<&Journal>) -> Result<()> {
    let catalog = catalog::status(loaded, journal)?;
    match catalog.latest().filter(|latest| latest.standing < Some(Standing::Damaged)) {
        Some(latest) => point_latest(&folder::make(loaded)?, &latest.name),
        None => Ok(()),
    }
}

/// Points `latest` at an archive: a relative link, replaced in one move.
pub(super) fn point_latest(dir: &Dir, name: &str) -> Result<()> {
    if dir.metadata("latest").is_ok_and(|meta| !meta.is_symlink()) {
        anyhow::bail!("{} is not a link of ours; move it away", dir.path().join("latest").display());
    }
    let temp = format!("{WORK}latest-{}", std::process::id());
    let _ = dir.remove_file(&temp);
    dir.symlink(name, &temp)
        .and_then(|()| dir.rename(&temp, dir, "latest"))
        .and_then(|()| dir.sync())
        .with_context(|| format!("cannot create a link in {}", dir.path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn latest_is_never_put_over_a_file_of_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        let held = Dir::open(dir.path()).unwrap();
        point_latest(&held, "a").unwrap();
        point_latest(&held, "b").unwrap();
        assert_eq!(fs::read_link(dir.path().join("latest")).unwrap(), Path::new("b"));
        fs::remove_file(dir.path().join("latest")).unwrap();
        fs::write(dir.path().join("latest"), "mine").unwrap();
        assert!(point_latest(&held, "c").is_err());
        assert_eq!(fs::read_to_string(dir.path().join("latest")).unwrap(), "mine");
    }
}
