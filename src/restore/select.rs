//! Which archive is meant (`latest`, a name, a path, or a time), and what of it is wanted.

use super::{Prepared, Target};
use crate::backup::Globs;
use crate::backup::reader::Shape;
use crate::backup::refuse;
use crate::backup::{self, Contents, Entry, Flaw, Origin, catalog};
use crate::base::units::{self, parse_time};
use crate::base::{Fault, Journal, database, text};
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, Days, Local, NaiveDate, NaiveTime, Utc};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// `latest`, a name, a path or a time; none: `latest`.
    pub which: Option<&'a str>,
    /// Paths of the home; empty for all.
    pub only: &'a [PathBuf],
    /// Whether damaged databases are restored as they are.
    pub damaged: bool,
}

/// Finds the archive, and tells what a person should know of newer ones. A time means the newest good
/// archive made before it.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is none such.
pub(super) fn choose(
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(PathBuf, Vec<String>)> {
    let which = which.unwrap_or("latest");
    let not_found = match backup::find(loaded, journal, which) {
        Ok(path) if which == "latest" => return Ok((path, catalog::status(loaded, journal)?.newer_flaws())),
        Ok(path) => return Ok((path, Vec::new())),
        Err(error) => error,
    };
    let Some(before) = moment(which, now.with_timezone(&Local)) else { return Err(not_found) };
    let then = catalog::status(loaded, journal)?.before(before);
    match then.latest().or_else(|| then.archives.iter().find(|archive| archive.problem.is_none())) {
        Some(archive) => Ok((archive.path.clone(), then.newer_flaws())),
        None => Err(Fault::unknown(format!("there is no good archive from before {}", units::local(before)))
            .hint("`backup list` shows the archives there are")
            .into()),
    }
}

/// Refuses to restore damaged databases, unless that is asked for. Gives what a person should know of the
/// rest, and whether anything of it is a flaw.
///
/// # Errors
/// A [`Fault`] that names the first of them, and the newest archive where it is not damaged.
pub(super) fn judge(
    loaded: &Loaded,
    journal: Option<&Journal>,
    archive: &Path,
    contents: &Contents,
    asked: &Selection<'_>,
) -> Result<Vec<String>> {
    let only = relative(loaded, asked.only);
    let asked_for = |path: &Path| only.is_empty() || only.iter().any(|only| path.starts_with(only));
    let mut notes = Vec::new();
    let mut damaged = None;
    for flaw in &contents.flaws {
        match flaw {
            Flaw::DamagedDatabase { path, .. } if asked_for(&path.0) => {
                damaged = damaged.or(Some((flaw, path)));
                notes.push(flaw.to_string());
            }
            Flaw::LeftOut { path, .. } | Flaw::LackingDatabase { path, .. } if asked_for(&path.0) => {
                notes.push(flaw.to_string());
            }
            Flaw::MissingInclude { .. } | Flaw::FailedDump { .. } if only.is_empty() => {
                notes.push(flaw.to_string())
            }
            _ => {}
        }
    }
    let Some((flaw, path)) = damaged.filter(|_| !asked.damaged) else { return Ok(notes) };
    let shown = path.0.display();
    let catalog = catalog::status(loaded, journal)?;
    let hint = match catalog.newest_with(&path.0) {
        Some(good) => format!(
            "{} has it undamaged: `restore {0} --only {shown}`; --damaged restores it as it is",
            good.name
        ),
        None => {
            "no other archive has it undamaged; --damaged restores it as it is, --only restores other files"
                .to_owned()
        }
    };
    Err(Fault::critical(format!("nothing was restored from {}: {flaw}", archive.display()))
        .of_damage()
        .hint(hint)
        .into())
}

/// These paths, relative to the home.
fn relative<'a>(loaded: &Loaded, only: &'a [PathBuf]) -> Vec<&'a Path> {
    let home = loaded.home.root();
    only.iter().map(|path| path.strip_prefix(home).unwrap_or(path)).collect()
}

/// The time that people mean: the end of a day, or the moment itself.
fn moment(text: &str, now: DateTime<Local>) -> Option<DateTime<Utc>> {
    let day = match text {
        "today" => Some(now.date_naive()),
        "yesterday" => now.date_naive().checked_sub_days(Days::new(1)),
        text => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok(),
    };
    if let Some(day) = day {
        let midnight = day.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN);
        // Where a clock change skips midnight, the first moment after it.
        let end = (0..4).find_map(|hours| {
            (midnight + chrono::TimeDelta::hours(hours)).and_local_timezone(Local).earliest()
        })?;
        return Some(end.with_timezone(&Utc) - chrono::TimeDelta::milliseconds(1));
    }
    parse_time(text).or_else(|| parse_time(&format!("{text}:00")))
}

/// What of an archive is wanted and may be restored.
pub(super) struct Wanted {
    pub(super) entries: Vec<Entry>,
    /// What a person should know of the rest.
    pub(super) notes: Vec<String>,
    /// Links that are not restored and that the home has: only elsewhere they will be missing.
    pub(super) links_at_home: Vec<String>,
}

/// Chooses what of an archive is wanted and may be restored.
///
/// # Errors
/// A [`Fault`] when nothing is, or when the archive has names that no honest one has: twice the
/// same, or one below a file or link.
pub(super) fn entries(
    loaded: &Loaded,
    archive: &Path,
    contents: &Contents,
    asked: &Selection<'_>,
) -> Result<Wanted> {
    let home = loaded.home.root();
    let only = relative(loaded, asked.only);
    // What there is only raw comes back when damage is asked for.
    let raw: Vec<&Entry> = contents.only_raw().filter(|_| asked.damaged).collect();
    let there = || contents.entries.iter().chain(raw.iter().copied());
    for path in &only {
        if !there().any(|entry| entry.path.starts_with(path)) {
            return Err(Fault::unknown(format!("the archive has no {}", path.display()))
                .hint("`restore --list` shows what is in it")
                .into());
        }
    }
    let databases = there().filter(|entry| entry.database);
    let shm: BTreeSet<PathBuf> = databases
        .map(|database| {
            let [_, shm, _] = database::sidecars(&database.path);
            shm
        })
        .collect();
    // The files of a database that nobody could open belong together.
    let named = there().filter(|entry| entry.shape == Shape::File && only.contains(&entry.path.as_path()));
    let sets: HashSet<PathBuf> = named.flat_map(|entry| database::sidecars(&entry.path)).collect();
    let (mut notes, mut links_at_home) = (Vec::new(), Vec::new());
    let mut left_out = BTreeSet::new();
    let backups = loaded.config.backup.dir.strip_prefix(home).ok().filter(|dir| *dir != Path::new(""));
    let wanted = there().filter(|entry| {
        let asked = only.is_empty()
            || only.iter().any(|path| entry.path.starts_with(path))
            || sets.contains(&entry.path);
        // Our own state and the archives are not the agent's, whatever a foreign archive says.
        let ours = entry.path.starts_with(".ops")
            || backups.is_some_and(|dir| entry.path.starts_with(dir))
            || entry.path.iter().next().is_some_and(|top| top.to_string_lossy().starts_with(".pre-restore."));
        if asked && ours {
            left_out.insert(entry.path.iter().next().unwrap_or_default().to_owned());
        }
        let live = home.join(&entry.path);
        let shared_memory = shm.contains(&entry.path);
        if asked && entry.outward {
            let target = if let Shape::Link(target) = &entry.shape { target.clone() } else { PathBuf::new() };
            let note = format!(
                "the link {} leads out of the home, to {}, and is not restored",
                entry.path.display(),
                target.display()
            );
            let at_home = fs::read_link(&live).is_ok_and(|live| live == target);
            if at_home { &mut links_at_home } else { &mut notes }.push(note);
        }
        asked && !ours && !entry.outward && !shared_memory
    });
    let wanted: Vec<Entry> = wanted.cloned().collect();
    notes.extend(
        left_out
            .iter()
            .map(|top| format!("{} of the archive is ours, not the agent's: left out", top.display())),
    );
    if contents.origin != Origin::Ours {
        notes.extend(contents.notes.iter().cloned());
    }
    if wanted.iter().all(|entry| entry.shape == Shape::Folder) {
        return Err(Fault::unknown("there is nothing in the archive to restore".to_owned()).into());
    }
    tree_of(&wanted).map_err(|why| refuse(archive, &why))?;
    Ok(Wanted { entries: wanted, notes, links_at_home })
}

/// The folders of the archive above what is wanted and not among it: made where they are missing, with their modes.
pub(super) fn folders_above(contents: &Contents, wanted: &[Entry]) -> Vec<Entry> {
    let known: HashSet<&Path> = wanted.iter().map(|entry| entry.path.as_path()).collect();
    let above: HashSet<&Path> = wanted.iter().flat_map(|entry| entry.path.ancestors().skip(1)).collect();
    let folders = contents.entries.iter().filter(|entry| entry.shape == Shape::Folder);
    let missing = folders.filter(|entry| {
        let path = entry.path.as_path();
        path.file_name().is_some() && above.contains(path) && !known.contains(path)
    });
    missing.cloned().collect()
}

impl Prepared<'_> {
    /// Takes out of what is wanted what does not belong into the home: our config, and work that waited,
    /// unless they are asked for; and what no include of today names outside the home.
    pub(super) fn leave_out(&mut self, queues: bool) -> Result<Target> {
        let home = self.loaded.home.root();
        let config =
            self.loaded.config.file.strip_prefix(home).unwrap_or(&self.loaded.config.file).to_owned();
        let only: Vec<&Path> = self.only.iter().map(|path| path.strip_prefix(home).unwrap_or(path)).collect();
        let named = |path: &Path| only.iter().any(|only| path.starts_with(only));
        let waiting = Globs::new(&self.loaded.config.backup.queues, &[])?;
        let (mut queued, mut outside, mut own) = (0, Vec::new(), false);
        let places = &self.places;
        self.wanted.retain(|entry| {
            let path = entry.path.as_path();
            let is_file = entry.shape != Shape::Folder;
            if path.is_absolute() && !places.allow(path) {
                outside.extend(is_file.then(|| path.display().to_string()));
                false
            } else if path == config && !only.contains(&path) {
                own = true;
                false
            } else if is_file && !queues && !named(path) && waiting.takes(path) {
                queued += 1;
                false
            } else {
                true
            }
        });
        let mut held_back = Vec::new();
        if own {
            let name = config.display();
            held_back
                .push(format!("{name} stays as it is: it has commands in it; --only {name} restores it"));
        }
        if queued > 0 {
            held_back.push(format!(
                "{} of work that waited then stay out, to be done once and not twice: --queues restores them",
                text::count(queued, "file")
            ));
        }
        let mut notes = Vec::new();
        if let [first, ..] = &outside[..] {
            notes.push(format!(
                "{} outside the home stay out, such as {first}: no include in [backup] names them; --to takes them",
                text::count(outside.len(), "file")
            ));
        }
        Ok(Target { held_back, notes })
    }
}

/// Whether these make a tree: an index may say anything, and a link above a file leads it
/// elsewhere.
fn tree_of(entries: &[Entry]) -> Result<(), String> {
    let mut leaves = HashSet::new();
    for entry in entries.iter().filter(|entry| entry.shape != Shape::Folder) {
        if !leaves.insert(entry.path.as_path()) {
            return Err(format!("{} is in it twice", entry.path.display()));
        }
    }
    let above = |entry: &Entry| entry.path.ancestors().skip(1).any(|up| leaves.contains(up));
    match entries.iter().find(|entry| above(entry)) {
        Some(entry) => Err(format!("{} lies below something that is no folder", entry.path.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_leads_through_its_own_links_is_refused() {
        let entry = |path: &str, shape: Shape| Entry {
            member: path.into(),
            path: path.into(),
            shape,
            size: 0,
            sha256: String::new(),
            mode: 0o600,
            owner: (0, 0),
            mtime: DateTime::default(),
            at: None,
            xattrs: Default::default(),
            database: false,
            outward: false,
        };
        let link = || Shape::Link("elsewhere".into());
        let tree =
            |entries: &[Entry]| tree_of(entries).map_err(|why| why.split(' ').nth(1).map(str::to_owned));
        assert_eq!(tree(&[entry("a", Shape::Folder), entry("a/b", Shape::File), entry("c", link())]), Ok(()));
        for (entries, why) in [
            ([entry("a", link()), entry("a/b", Shape::File)], "lies"),
            ([entry("a/b/c", Shape::Folder), entry("a", link())], "lies"),
            ([entry("a", Shape::File), entry("a/b/c", Shape::File)], "lies"),
            ([entry("a", Shape::File), entry("a", link())], "is"),
        ] {
            assert_eq!(tree(&entries), Err(Some(why.to_owned())));
        }
    }

    #[test]
    fn times_are_read_as_people_say_them() {
        let now = parse_time("2026-11-20 09:30:00").unwrap().with_timezone(&Local);
        let at = |text: &str| moment(text, now).map(units::local);
        assert_eq!(at("2026-11-19 02:00").as_deref(), Some("2026-11-19 02:00:00"));
        assert_eq!(at("2026-11-19T02:00:05").as_deref(), Some("2026-11-19 02:00:05"));
        assert_eq!(at("yesterday").as_deref(), Some("2026-11-19 23:59:59"));
        assert_eq!(at("2026-11-01").as_deref(), Some("2026-11-01 23:59:59"));
        assert_eq!(at("someday"), None);
        assert_eq!(at("9999999-01-01"), None);
    }
}
