//! What earlier restores set aside: listed, put back by the same safe exchange, deleted in time.

use super::swap::{ASIDE, FOUND, Move, RECORD, Swap};
use super::{Restored, Verified, exchange, swap};
use crate::backup::{self, manifest::Name};
use crate::base::units::{self, Span};
use crate::base::{Fault, Home, Journal, Run, State, database, durable, text};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
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
    pub path: PathBuf,
    /// When they were set aside.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// The archive that took their place; none if that is not known.
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
pub fn asides(home: &Home) -> Result<Vec<Aside>> {
    let entries = fs::read_dir(home.root())
        .with_context(|| format!("cannot read the home {}", home.root().display()))?;
    let mut asides = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(stamp) = name.to_str().and_then(|name| name.strip_prefix(ASIDE)) else { continue };
        // A folder that is not named as ours is somebody else's; so is a link.
        let Some(stamped) = time_of(stamp) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            asides.push(look(entry.path(), stamp, stamped));
        }
    }
    asides.sort_by(|a, b| (b.time, &b.name).cmp(&(a.time, &a.name)));
    for aside in asides.iter_mut().skip(1) {
        aside.until = aside.time.checked_add_signed(KEPT.delta());
    }
    Ok(asides)
}

fn look(path: PathBuf, stamp: &str, stamped: DateTime<Utc>) -> Aside {
    // Torn or gone, the record is missed, not needed.
    let record: Option<Swap> =
        fs::read(path.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let mut aside = Aside {
        name: format!("{PREFIX}{stamp}"),
        time: record.as_ref().map_or(stamped, |record| record.at),
        archive: record.as_ref().map(|record| record.archive.0.clone()),
        run: record.as_ref().map(|record| record.run.clone()),
        files: 0,
        bytes: 0,
        until: None,
        paths: Vec::new(),
        path,
        record,
    };
    for entry in walkdir::WalkDir::new(&aside.path).sort_by_file_name().into_iter().flatten() {
        let Ok(inside) = entry.path().strip_prefix(&aside.path) else { continue };
        if entry.file_type().is_dir() || inside == Path::new(RECORD) {
            continue;
        }
        aside.files += 1;
        aside.bytes += entry.metadata().map_or(0, |meta| meta.len());
        if !inside.starts_with(FOUND) {
            aside.paths.push(inside.to_owned());
        }
    }
    aside
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
pub fn find_aside(home: &Home, name: &str) -> Result<Option<Aside>> {
    let Some(which) = name.strip_prefix(PREFIX) else { return Ok(None) };
    let mut asides = asides(home)?.into_iter();
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
    if loaded.home.restore_journal().exists() {
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
    if let Some(folder) = files.iter().find(|path| is_folder(&home.join(path))) {
        return Err(Fault::unknown(format!("{} is a folder now; nothing was changed", folder.display()))
            .hint("move it away and run this again")
            .into());
    }
    let running = exchange::running(loaded, run)?;
    let mut swap = Swap::begin(&loaded.home, run, Name(aside.path.clone()), aside.path.clone(), running);
    let bytes = files.iter().filter_map(|path| fs::symlink_metadata(aside.path.join(path)).ok());
    let bytes = bytes.map(|meta| meta.len()).sum();
    exchange::exchange(loaded, run, &mut swap, &[], force, |swap| {
        swap.moves = moves(home, &aside, &files, &asked)?;
        let gone = aside.record.iter().flat_map(|record| &record.emptied);
        let gone: Vec<&Path> = gone.map(|folder| folder.0.as_path()).filter(|path| asked(path)).collect();
        swap.folders = swap::missing_folders(home, &files, &gone);
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
        aside: Some(swap.aside.0).filter(|aside| aside.is_dir()),
        restarted: swap.services,
        archive: aside.path,
        notes: Vec::new(),
    })
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// The old files come, and whatever the restore had put where there was nothing goes.
fn moves(home: &Path, aside: &Aside, files: &[&Path], asked: &impl Fn(&Path) -> bool) -> Result<Vec<Move>> {
    let mut databases = Vec::new();
    for path in files {
        let old = aside.path.join(path);
        if !fs::symlink_metadata(&old).is_ok_and(|meta| meta.is_symlink()) && database::is_sqlite(&old)? {
            databases.push(*path);
        }
    }
    let mut moves = swap::moves(home, files, &databases);
    let known: BTreeSet<PathBuf> = moves.iter().map(|one| one.path.0.clone()).collect();
    let brought = aside.record.iter().flat_map(|record| &record.moves).filter(|one| !one.had);
    for one in brought.filter(|one| asked(&one.path.0) && !known.contains(&one.path.0)) {
        let had = fs::symlink_metadata(home.join(&one.path.0)).is_ok_and(|meta| !meta.is_dir());
        moves.push(Move { had, place: false, ..one.clone() });
    }
    Ok(moves)
}

/// Deletes old files that were kept long enough. Gives the names of what went.
///
/// # Errors
/// When another run is at work, or a folder cannot be removed.
pub fn prune_asides(loaded: &Loaded, run: &Run) -> Result<Vec<String>> {
    let expired = |aside: &Aside| is_expired(aside.until, run.now);
    if !asides(&loaded.home)?.iter().any(expired) {
        return Ok(Vec::new());
    }
    let _lock = backup::lock(loaded, run)?;
    // One that is being put back is in the journal of that restore.
    if loaded.home.restore_journal().exists() {
        return Ok(Vec::new());
    }
    let mut gone = Vec::new();
    for aside in asides(&loaded.home)?.into_iter().filter(expired) {
        let name = aside.path.file_name().unwrap_or_default();
        let doomed = loaded.home.staging().join(name);
        durable::make_folder(&loaded.home.staging(), 0o700)?;
        let _ = fs::remove_dir_all(&doomed);
        // Out of sight in one move, so that half of it is never taken for all of it.
        durable::rename(&aside.path, &doomed)?;
        fs::remove_dir_all(&doomed).with_context(|| format!("cannot remove {}", doomed.display()))?;
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

    #[test]
    fn the_newest_stays_and_the_others_go_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
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
        let home = Home::new(dir.path().to_owned());
        assert!(find_aside(&home, "latest").unwrap().is_none());
        for name in ["pre-restore:latest", "pre-restore:", "pre-restore:../../etc"] {
            assert_eq!(Fault::of(&find_aside(&home, name).unwrap_err()).0, State::Unknown, "{name}");
        }
    }
}
