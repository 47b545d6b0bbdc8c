//! What earlier restores set aside: listed, put back by the same safe exchange, deleted in time.

use super::beside::Beside;
use super::record::{self, STAGING};
use super::swap::{ASIDE, FOUND, Move, RECORD, Swap};
use super::{Restored, Verified, exchange, survey, swap};
use crate::backup::places::{Places, inner, look, open_home, outer};
use crate::backup::reader::Shape;
use crate::backup::{self, manifest::Name};
use crate::base::beneath::{Dir, FileType};
use crate::base::own_files::open_own;
use crate::base::units::{self, Span};
use crate::base::{Fault, Journal, Run, State, text};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// How long old files are kept; those of the newest restore are kept until there is another.
const KEPT: Span = Span::days(14);
/// How an old state is named on the command line.
const PREFIX: &str = "pre-restore:";

/// The old files of one restore.
#[derive(Clone, Debug, Serialize)]
pub struct Aside {
    /// What it is called: `pre-restore:20261120_093001`.
    pub name: String,
    /// The folder that holds them, under their names in the home.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub path: PathBuf,
    /// When they were set aside.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// The archive that took their place; none if that is not known.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub archive: Option<PathBuf>,
    /// The run that did it.
    pub run: Option<String>,
    /// Files and links.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// From when on they may be deleted; none for the newest.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub until: Option<DateTime<Utc>>,
    #[serde(skip)]
    paths: Vec<PathBuf>,
    #[serde(skip)]
    record: Option<Swap>,
}

/// All old files there are, newest first.
pub fn asides(loaded: &Loaded) -> Result<Vec<Aside>> {
    let places = Places::open(&loaded.home, &loaded.config.backup)?;
    let home = &places.home;
    let reading = || format!("cannot read the home {}", home.path().display());
    let mut asides = Vec::new();
    for entry in home.entries("").with_context(reading)?.flatten() {
        let Some(stamp) = entry.name.to_str().and_then(|name| name.strip_prefix(ASIDE)) else { continue };
        // A folder that is not named as ours is somebody else's; so is a link, and what others may write.
        let Some(stamped) = time_of(stamp) else { continue };
        if let Ok(dir) = open_own(home, Path::new(&entry.name)) {
            let record = Swap::of_aside(&dir, &loaded.home, &places);
            asides.push(one(&dir, record, stamp, stamped));
        }
    }
    asides.sort_by(|a, b| (b.time, &b.name).cmp(&(a.time, &a.name)));
    for aside in asides.iter_mut().skip(1) {
        aside.until = aside.time.checked_add_signed(KEPT.delta());
    }
    Ok(asides)
}

fn one(dir: &Dir, record: Option<Swap>, stamp: &str, stamped: DateTime<Utc>) -> Aside {
    let mut aside = Aside {
        name: format!("{PREFIX}{stamp}"),
        time: record.as_ref().map_or(stamped, |record| record.at),
        archive: record.as_ref().map(|record| record.archive.0.clone()),
        run: record.as_ref().map(|record| record.run.clone()),
        files: 0,
        bytes: 0,
        until: None,
        paths: Vec::new(),
        path: dir.path().to_owned(),
        record,
    };
    count(dir, Path::new(""), &mut aside);
    aside.paths.sort();
    aside
}

/// Counts what is in a folder of old files. Best effort: what cannot be read is not there.
fn count(dir: &Dir, folder: &Path, aside: &mut Aside) {
    let Ok(entries) = dir.entries(folder) else { return };
    for entry in entries.flatten() {
        let inside = folder.join(&entry.name);
        if entry.kind == FileType::Directory {
            count(dir, &inside, aside);
        } else if inside != Path::new(RECORD) {
            aside.files += 1;
            aside.bytes += dir.metadata(&inside).map_or(0, |meta| meta.len());
            if !inside.starts_with(FOUND) {
                aside.paths.push(outer(&inside));
            }
        }
    }
}

/// The time in `YYYYMMDD_HHMMSS` or `YYYYMMDD_HHMMSS_1`.
fn time_of(stamp: &str) -> Option<DateTime<Utc>> {
    let (time, rest) = stamp.split_at_checked(15)?;
    let number = rest.strip_prefix('_');
    let numbered = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
    if !rest.is_empty() && !numbered {
        return None;
    }
    units::parse_stamp(time)
}

/// The old files that are meant, if a name means any: `pre-restore:STAMP`, `pre-restore:latest`.
///
/// # Errors
/// A [`Fault`] of state Unknown when it does, and there are none such.
pub fn find_aside(loaded: &Loaded, name: &str) -> Result<Option<Aside>> {
    let Some(which) = name.strip_prefix(PREFIX) else { return Ok(None) };
    let mut asides = asides(loaded)?.into_iter();
    let found = match which {
        "latest" => asides.next(),
        _ => asides.find(|aside| aside.name == name),
    };
    match found {
        Some(aside) => Ok(Some(aside)),
        None => Err(Fault::unknown(format!("nothing was set aside as '{}'", text::one_line(name, 100)))
            .hint("`restore --aside` lists what was")
            .into()),
    }
}

/// Puts old files back. What they replace is set aside in its turn, files that the restore had
/// brought go there too. `only` are paths of the home, empty for all.
///
/// # Errors
/// When it could not be done; then everything is as it was.
pub fn put_back(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    aside: Aside,
    only: &[PathBuf],
    force: bool,
) -> Result<Restored> {
    let _lock = backup::lock(loaded, run)?;
    let home = loaded.home.root();
    if record::is_cut_short(&loaded.home)? {
        return Err(Fault::unknown("an earlier restore was cut short; nothing was changed")
            .hint("run this again: that one is finished or undone first")
            .into());
    }
    let only: Vec<&Path> = only.iter().map(|path| path.strip_prefix(home).unwrap_or(path)).collect();
    let asked = |path: &Path| only.is_empty() || only.iter().any(|only| path.starts_with(only));
    let files: Vec<&Path> = aside.paths.iter().map(PathBuf::as_path).filter(|path| asked(path)).collect();
    if files.is_empty() {
        return Err(Fault::unknown(format!("{} has no such file", aside.path.display()))
            .hint(format!("look into it; what lies in its {FOUND} was found in the way of an undo"))
            .into());
    }
    let places = Places::open(&loaded.home, &loaded.config.backup)?;
    if let Some(path) = files.iter().find(|path| !places.allow(path)) {
        return Err(Fault::unknown(format!(
            "{} is outside the home, and no include in [backup] names it; nothing was changed",
            path.display()
        ))
        .hint(format!("what is in it lies open in {}", aside.path.display()))
        .into());
    }
    let mut survey = survey::Survey::default();
    for path in &files {
        let looked = survey.look_at(&places, path, Some(&Shape::File));
        looked.with_context(|| format!("cannot look at {}", path.display()))?;
    }
    survey.need_clear_way()?;
    let old = aside.path.strip_prefix(home).unwrap_or(&aside.path);
    let dir = open_own(&places.home, old).with_context(|| format!("cannot open {}", aside.path.display()))?;
    let running = exchange::running(loaded, run)?;
    let archive = Name(aside.path.clone());
    let mut swap = Swap::begin(&places.home, run, archive, old.to_owned(), running)?;
    let bytes = files.iter().filter_map(|path| dir.metadata(inner(path)).ok());
    let bytes = bytes.map(|meta| meta.len()).sum();
    exchange::exchange(loaded, run, &places, &mut swap, &[], force, |swap| {
        swap.moves = moves(&places, &dir, &aside, &files, &asked)?;
        let gone = aside.record.iter().flat_map(|record| &record.emptied);
        let gone: Vec<&Path> = gone.map(|folder| folder.0.as_path()).filter(|path| asked(path)).collect();
        swap.folders = swap::missing_folders(&places, &files, &gone);
        // What came with the restore goes with it.
        let came = aside.record.iter().flat_map(|record| record.folders.iter().rev());
        swap.emptied = came.filter(|folder| asked(&folder.0)).cloned().collect();
        Ok(())
    })?;
    if let Some(journal) = journal {
        journal.note(
            run,
            &format!("put back {} of {}", text::count(files.len(), "file"), aside.name),
            State::Ok,
        )?;
    }
    Ok(Restored {
        state: State::Ok,
        files: files.len(),
        bytes,
        verified: Verified::Nothing,
        replaced: swap.moves.iter().filter(|one| one.had && one.place).count(),
        aside: swap.old_files(&loaded.home),
        restarted: swap.services,
        archive: aside.path,
        unjudged: Vec::new(),
        notes: Vec::new(),
    })
}

/// The old files come, and whatever the restore had put where there was nothing goes.
fn moves(
    places: &Places,
    dir: &Dir,
    aside: &Aside,
    files: &[&Path],
    asked: &impl Fn(&Path) -> bool,
) -> Result<Vec<Move>> {
    let mut regular = Vec::new();
    for path in files {
        if look(dir, &inner(path))?.is_some_and(|meta| meta.is_file()) {
            regular.push(*path);
        }
    }
    let mut moves = swap::moves(places, files, &regular)?;
    let mut known: HashSet<PathBuf> = moves.iter().map(|one| one.path.0.clone()).collect();
    let brought = aside.record.iter().flat_map(|record| &record.moves).filter(|one| !one.had);
    let mut beside = Beside::new(places);
    for one in brought.filter(|one| asked(&one.path.0)) {
        let there = places.at(&one.path.0).and_then(|(dir, rest)| look(dir, rest)).ok().flatten();
        let path = (&one.path.0, one.belongs_to.clone());
        let belongs_to = Some(one.path.clone());
        let sidecars = match &there {
            Some(meta) if one.place && meta.is_file() => beside.of(&one.path.0)?,
            _ => Vec::new(),
        };
        let sidecars = sidecars.iter().map(|sidecar| (sidecar, belongs_to.clone()));
        for (path, belongs_to) in std::iter::once(path).chain(sidecars) {
            if known.insert(path.clone()) {
                let now = swap::plan(places, path, false, belongs_to)?;
                let is_folder = path == &one.path.0 && there.as_ref().is_some_and(Metadata::is_dir);
                moves.push(Move { had: now.had && !is_folder, ..now });
            }
        }
    }
    Ok(moves)
}

/// Deletes old files that were kept long enough. Gives the names of what went.
///
/// # Errors
/// When another run is at work, or a folder cannot be removed.
pub fn prune_asides(loaded: &Loaded, run: &Run) -> Result<Vec<String>> {
    let expired = |aside: &Aside| is_expired(aside.until, run.now);
    if !asides(loaded)?.iter().any(expired) {
        return Ok(Vec::new());
    }
    let _lock = backup::lock(loaded, run)?;
    // One that is being put back is in the journal of that restore.
    if record::is_cut_short(&loaded.home)? {
        return Ok(Vec::new());
    }
    let home = open_home(&loaded.home)?;
    let mut gone = Vec::new();
    for aside in asides(loaded)?.into_iter().filter(expired) {
        let name = aside.path.file_name().unwrap_or_default();
        let doomed = Path::new(STAGING).join(name);
        let removing = || format!("cannot remove {}", aside.path.display());
        let staging = home.make_dir(STAGING, 0o700).with_context(removing)?;
        let _ = home.remove_tree(&doomed);
        // Out of sight in one move, so that half of it is never taken for all of it.
        home.rename(Path::new(name), &staging, Path::new(name)).with_context(removing)?;
        home.sync().with_context(removing)?;
        home.remove_tree(&doomed).with_context(removing)?;
        gone.push(aside.name);
    }
    Ok(gone)
}

fn is_expired(until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    until.is_some_and(|until| until < now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn loaded(home: &Path) -> Loaded {
        crate::config::parse(&home.join("ops.toml"), "[agent]\npreset = \"none\"\n", None).unwrap()
    }

    #[test]
    fn the_newest_stays_and_the_others_go_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = loaded(dir.path());
        for name in ["20260101_000000", "20260102_000000_1", "20260301_000000", "mine", "20260101_000000_x"] {
            fs::create_dir_all(dir.path().join(format!("{ASIDE}{name}/memory"))).unwrap();
            fs::write(dir.path().join(format!("{ASIDE}{name}/memory/a")), "old").unwrap();
        }
        fs::write(dir.path().join(format!("{ASIDE}20260301_000000/{RECORD}")), "torn {").unwrap();
        let all = asides(&home).unwrap();
        let names: Vec<_> = all.iter().map(|aside| aside.name.as_str()).collect();
        assert_eq!(
            names,
            ["pre-restore:20260301_000000", "pre-restore:20260102_000000_1", "pre-restore:20260101_000000"]
        );
        assert!(all.iter().all(|aside| (aside.files, aside.bytes) == (1, 3)), "{all:?}");
        let gone = |now: &str| {
            let now: DateTime<Utc> = now.parse().unwrap();
            all.iter().filter(|aside| is_expired(aside.until, now)).count()
        };
        assert_eq!(gone("2026-01-15T00:00:00Z"), 0);
        assert_eq!(gone("2026-01-15T00:00:01Z"), 1);
        assert_eq!(gone("2036-01-01T00:00:00Z"), 2);
        assert_eq!(gone("1990-01-01T00:00:00Z"), 0, "a clock that went back deletes nothing");
    }

    #[test]
    fn names_mean_old_files_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = loaded(dir.path());
        assert!(find_aside(&home, "latest").unwrap().is_none());
        for name in ["pre-restore:latest", "pre-restore:", "pre-restore:../../etc"] {
            assert_eq!(Fault::of(&find_aside(&home, name).unwrap_err()).0, State::Unknown, "{name}");
        }
    }
}
