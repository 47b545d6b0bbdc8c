//! Which log files there are, what day their name speaks of, and which one a name means.

use super::names::{Kin, day_in, family, is_number, kin, numbered, rotated_forms, split};
use crate::base::{Home, text};
use crate::config::Logs;
use chrono::{DateTime, NaiveDate, Utc};
use glob::{MatchOptions, Pattern};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// One log file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
    /// What it takes of the disk, at most its length: a hole takes nothing.
    pub bytes: u64,
    /// Which file it is, whatever it is called: device and inode.
    pub file: (u64, u64),
    /// Whether it is our user's, or we are root: then we see who has it open.
    pub ours: bool,
    /// When it was last written.
    pub modified: DateTime<Utc>,
    /// The day in its name.
    pub day: Option<NaiveDate>,
    /// Whether it is compressed (`.gz`).
    pub compressed: bool,
    /// How many names it has: more than one, and it is not only ours to change.
    pub links: u64,
    /// The rule of the config that it falls under.
    pub rule: Option<String>,
    /// Whether it may only be dealt with as a whole.
    pub whole: bool,
    /// Whether nothing of it may be lost.
    pub state: bool,
    /// Whether another program made it of a log and writes it no more, as its name and what is beside it tell.
    pub closed: bool,
    /// Whether that program renames it again and again, as from `.1` to `.2`.
    pub shifts: bool,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The logs, by path.
    pub logs: Vec<Log>,
    /// What went to the archive, by path.
    pub archived: Vec<Log>,
    /// What is called like a log but is none (a link, a FIFO): left alone, and why.
    pub strange: Vec<(PathBuf, String)>,
    /// What could not be looked at, and why.
    pub failed: Vec<(PathBuf, String)>,
}

const AS_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A glob, and what the rule that it belongs to says of all its logs.
struct Wanted {
    pattern: Pattern,
    rule: Option<String>,
    whole: bool,
    state: bool,
}

/// The logs of an agent, by `[logs] include`, `exclude` and its rules, with what rotation made of
/// them, ours or the agent's own. No link is followed, save that the folder a pattern begins in may be one.
pub fn find(home: &Home, logs: &Logs) -> Found {
    let mut globs = Vec::new();
    for (rule, glob) in logs.globs() {
        globs.push((rule, glob.to_owned()));
        globs.extend(rotated_forms(glob).into_iter().map(|form| (rule, form)));
        if rule.and_then(|name| logs.rule.get(name)).is_some_and(|rule| rule.archive) {
            let form = in_archive(home, glob);
            globs.extend(rotated_forms(&form).into_iter().map(|form| (rule, form)));
        }
    }
    search(home, globs, logs)
}

/// Where in the archive what leaves such a log goes, on whatever day.
fn in_archive(home: &Home, glob: &str) -> String {
    let inside = glob.strip_prefix(&*home.root().to_string_lossy()).unwrap_or(glob).trim_start_matches('/');
    format!("archive/{}/{inside}", "[0-9]".repeat(8))
}

fn search<'a>(home: &Home, globs: impl IntoIterator<Item = (Option<&'a str>, String)>, logs: &Logs) -> Found {
    let absolute = |glob: &str| {
        let root = Pattern::escape(&home.root().to_string_lossy());
        if glob.starts_with('/') { glob.to_owned() } else { format!("{}/{glob}", root.trim_end_matches('/')) }
    };
    let mut found = Found::default();
    let mut left_alone = Vec::new();
    for glob in &logs.exclude {
        match Pattern::new(&absolute(glob)) {
            Ok(pattern) => left_alone.push(pattern),
            // What it was to protect cannot be told: nothing is found until it is put right.
            Err(error) => {
                found.failed.push((PathBuf::from(glob), format!("is no pattern: {error}")));
                return found;
            }
        }
    }
    // Patterns that begin in one folder share one walk.
    let mut walks: BTreeMap<PathBuf, (usize, Vec<Wanted>)> = BTreeMap::new();
    for (name, glob) in globs {
        let rule = name.and_then(|name| logs.rule.get(name));
        match Pattern::new(&absolute(&glob)) {
            Ok(pattern) => {
                let folder = literal_folder(&glob);
                let below = Path::new(&glob).components().count() - folder.components().count();
                let (depth, wanted) = walks.entry(home.path(folder)).or_default();
                *depth = if glob.contains("**") { usize::MAX } else { below.max(*depth) };
                wanted.push(Wanted {
                    pattern,
                    rule: name.map(str::to_owned),
                    whole: rule.is_some_and(|rule| rule.whole),
                    state: rule.is_some_and(|rule| rule.archive),
                });
            }
            Err(error) => {
                // The forms of one that is wrong are wrong as well: it is said once.
                if logs.globs().any(|written| written == (name, &*glob)) {
                    found.failed.push((PathBuf::from(glob), format!("is no pattern: {error}")));
                }
            }
        }
    }
    let mut seen: BTreeMap<PathBuf, Log> = BTreeMap::new();
    let mut strange: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (folder, (depth, wanted)) in walks {
        if !folder.exists() {
            continue;
        }
        let hidden = |entry: &walkdir::DirEntry| {
            entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
        };
        for entry in WalkDir::new(&folder).max_depth(depth).into_iter().filter_entry(|entry| !hidden(entry)) {
            let entry = match entry {
                Ok(entry) => entry,
                // It went away while we looked.
                Err(error) if gone(error.io_error()) => continue,
                Err(error) => {
                    let path = error.path().unwrap_or(&folder).to_owned();
                    let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    found.failed.push((path, why));
                    continue;
                }
            };
            let path = entry.path();
            let name = entry.file_name().to_str();
            let of = name.and_then(kin).map(|kin| path.with_file_name(kin.log));
            let is = |pattern: &Pattern| {
                let is = |path: &Path| pattern.matches_path_with(path, AS_A_SHELL);
                is(path) || of.as_deref().is_some_and(is)
            };
            let mut fits = wanted.iter().filter(|wanted| is(&wanted.pattern)).peekable();
            if entry.file_type().is_dir() || fits.peek().is_none() || left_alone.iter().any(is) {
                continue;
            }
            if !seen.contains_key(path) {
                match entry.metadata() {
                    Ok(meta) if meta.is_file() => {
                        seen.insert(path.to_owned(), Log::new(path, &meta));
                    }
                    Ok(meta) => {
                        let why = if meta.is_symlink() { "a symbolic link" } else { "not a regular file" };
                        strange.insert(path.to_owned(), why.to_owned());
                    }
                    Err(error) if gone(error.io_error()) => {}
                    Err(error) => found.failed.push((path.to_owned(), error.to_string())),
                }
            }
            let Some(log) = seen.get_mut(path) else { continue };
            for wanted in fits {
                log.falls_under(wanted);
            }
        }
    }
    found.strange = strange.into_iter().collect();
    for log in seen.into_values() {
        if is_archived(home, &log.path) { found.archived.push(log) } else { found.logs.push(log) }
    }
    found
}

/// Whether a path is below `archive/YYYYMMDD/`.
pub(crate) fn is_archived(home: &Home, path: &Path) -> bool {
    let day = path.strip_prefix(home.archive()).ok().and_then(|inside| inside.components().next());
    day.is_some_and(|day| {
        let day = day.as_os_str().as_encoded_bytes();
        day.len() == 8 && day.iter().all(u8::is_ascii_digit)
    })
}

fn gone(error: Option<&std::io::Error>) -> bool {
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The folder in which a glob begins: all before its first part with a wildcard.
fn literal_folder(glob: &str) -> PathBuf {
    let path = Path::new(glob);
    let literal: PathBuf = path
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect();
    if literal == path { literal.parent().map(Path::to_owned).unwrap_or_default() } else { literal }
}

impl Log {
    /// A log as its metadata tells it.
    pub(crate) fn new(path: &Path, meta: &std::fs::Metadata) -> Log {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kin = kin(&name);
        let beside = kin.is_some_and(|kin| has_beside(path, kin));
        // `app.log.1`, but `worker.1` may be in use.
        let is_log = |kin: Kin| kin.shifts && !split(kin.log).1.is_empty();
        Log {
            closed: kin.is_some_and(|kin| beside || kin.timed || is_log(kin)),
            shifts: kin.is_some_and(|kin| kin.shifts && (beside || is_log(kin) && has_next(path, kin))),
            path: path.to_owned(),
            file: (meta.dev(), meta.ino()),
            ours: rustix::process::geteuid().is_root() || rustix::process::geteuid().as_raw() == meta.uid(),
            bytes: meta.len().min(meta.blocks().saturating_mul(512)),
            modified: meta.modified().map(DateTime::from).unwrap_or_default(),
            day: day_in(&name),
            compressed: name.ends_with(".gz"),
            links: meta.nlink(),
            rule: None,
            whole: false,
            state: false,
        }
    }

    /// The same by another name.
    pub(crate) fn renamed(self, path: PathBuf) -> Log {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kin = kin(&name);
        Log {
            day: day_in(&name),
            compressed: name.ends_with(".gz"),
            closed: self.closed && kin.is_some(),
            shifts: self.shifts && kin.is_some_and(|kin| kin.shifts),
            path,
            ..self
        }
    }

    /// Of several rules the first by name holds, but what one of them protects is protected.
    fn falls_under(&mut self, wanted: &Wanted) {
        if let Some(rule) = &wanted.rule
            && self.rule.as_ref().is_none_or(|known| rule < known)
        {
            self.rule = Some(rule.clone());
        }
        self.whole |= wanted.whole;
        self.state |= wanted.state;
    }

    /// Its file name.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its number among those that were rotated on its day, if it is one of them.
    pub(crate) fn number(&self) -> Option<u32> {
        numbered(&self.name())
    }

    /// Whether it has to be ours before anything is done to it, as its program renames it again and again. What is to
    /// stay whole, or is state, is never renamed.
    pub(crate) fn shifts(&self) -> bool {
        self.shifts && !self.whole && !self.state
    }

    /// Whether another program made it of a log and counts its old ones.
    pub(crate) fn is_counted(&self) -> bool {
        kin(&self.name()).is_some_and(|kin| kin.shifts)
    }

    /// Whether its name is one that another program gives.
    pub(crate) fn is_kin(&self) -> bool {
        kin(&self.name()).is_some()
    }

    /// Whether its name says that it was rotated, by us or by another program.
    pub(crate) fn is_rotated(&self) -> bool {
        self.number().is_some() || self.closed
    }

    /// Whether something may still be written to it: it is neither compressed nor rotated.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.compressed && !self.is_rotated()
    }
}

/// Whether the log that one is kin of lies beside it.
fn has_beside(path: &Path, kin: Kin) -> bool {
    path.with_file_name(kin.log).is_file()
}

/// Whether the one before or after one that is counted lies beside it.
fn has_next(path: &Path, kin: Kin) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let counted = name.strip_suffix(".gz").unwrap_or(&name);
    let number = counted.rsplit_once('.').and_then(|(_, number)| number.parse::<u32>().ok());
    let next = |number: u32| {
        ["", ".gz"].iter().any(|gz| path.with_file_name(format!("{}.{number}{gz}", kin.log)).is_file())
    };
    number.is_some_and(|number| next(number + 1) || number.checked_sub(1).is_some_and(next))
}

/// The name by which a log is asked for: its file name without ending and day, or, for one in
/// a folder below the others, the folder's.
fn name_of(home: &Home, log: &Log) -> String {
    let folder = log.path.parent().unwrap_or(Path::new(""));
    if folder != home.logs() && folder.parent() == Some(&home.logs()) {
        return folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    let file = family(&log.name());
    let stem = file.split_once(".log").map_or(&*file, |(stem, _)| stem);
    // `daemon.1.log.gz`: its place was taken when it was compressed.
    let numbered = stem.rsplit_once('.').filter(|(_, number)| log.compressed && is_number(number));
    numbered.map_or(stem, |(stem, _)| stem).to_owned()
}

/// The logs of each name, also those of the past that were compressed or numbered; the one
/// that the name means now comes last: of those in use the one written last.
pub fn by_name(home: &Home, rules: &Logs) -> BTreeMap<String, Vec<Log>> {
    let usual = ["logs/**/*.log", "logs/**/*.log.gz"];
    let include = rules.include.iter().flat_map(|glob| [vec![glob.clone()], rotated_forms(glob)].concat());
    let globs = include.chain(usual.map(str::to_owned)).map(|glob| (None, glob));
    let all = Logs { exclude: Vec::new(), ..rules.clone() };
    let mut names: BTreeMap<String, Vec<Log>> = BTreeMap::new();
    for log in search(home, globs, &all).logs {
        names.entry(text::sanitize(&name_of(home, &log))).or_default().push(log);
    }
    names.values_mut().for_each(|logs| in_order(logs));
    names
}

/// The logs that only rules of the config name, by their file names, as [`by_name`] gives the others. What went to the
/// archive is among them.
pub fn by_rule(home: &Home, rules: &Logs) -> BTreeMap<String, Vec<Log>> {
    let others: BTreeSet<PathBuf> =
        by_name(home, rules).into_values().flatten().map(|log| log.path).collect();
    let found = find(home, &Logs { exclude: Vec::new(), ..rules.clone() });
    let only = found
        .logs
        .into_iter()
        .chain(found.archived)
        .filter(|log| log.rule.is_some() && !others.contains(&log.path));
    let mut names: BTreeMap<String, Vec<Log>> = BTreeMap::new();
    for log in only {
        names.entry(text::sanitize(&family(&log.name()))).or_default().push(log);
    }
    names.values_mut().for_each(|logs| in_order(logs));
    names
}

fn in_order(logs: &mut [Log]) {
    logs.sort_by(|a, b| (a.is_in_use(), a.modified, &a.path).cmp(&(b.is_in_use(), b.modified, &b.path)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_are_not_followed_and_folders_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("[home]"));
        assert!(find(&home, &Logs::default()).logs.is_empty());
        fs::create_dir_all(home.logs().join("email")).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret.log"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, home.logs().join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret.log"), home.log("link")).unwrap();
        for name in ["a", "daemon_20261119", "daemon_20261120", "daemon_stdout", "email/x"] {
            fs::write(home.log(name), "line\n").unwrap();
        }
        let found = find(&home, &Logs { exclude: vec!["logs/a.log".to_owned()], ..Logs::default() });
        assert_eq!(found.logs.len(), 4, "{found:?}");
        assert_eq!(found.strange.len(), 1);
        assert!(found.failed.is_empty());
        let torn = find(&home, &Logs { exclude: vec!["logs/[".to_owned()], ..Logs::default() });
        assert!(torn.logs.is_empty() && torn.failed.len() == 1, "what was to be protected is not touched");
        for name in [
            "daemon_20261118.log.gz",
            "daemon_20261117.1.log.gz",
            "daemon.log.1",
            "a.log.2.gz",
            "a.log-20261101",
        ] {
            fs::write(home.logs().join(name), "later\n").unwrap();
        }
        let names = by_name(&home, &Logs::default());
        assert_eq!(names.keys().collect::<Vec<_>>(), ["a", "daemon", "daemon_stdout", "email"]);
        assert!(names["daemon"].last().unwrap().path.ends_with("daemon_20261120.log"));
        assert_eq!((names["daemon"].len(), names["a"].len()), (5, 3));
    }
}
