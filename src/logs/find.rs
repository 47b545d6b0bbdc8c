//! Which log files there are, what day their name speaks of, and which one a name means.

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
    /// When it was last written.
    pub modified: DateTime<Utc>,
    /// The day in its name.
    pub day: Option<NaiveDate>,
    /// Whether it is compressed (`.gz`).
    pub compressed: bool,
    /// How many names it has: more than one, and it is not only ours to change.
    pub links: u64,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The logs, by path.
    pub logs: Vec<Log>,
    /// What is called like a log but is none (a link, a FIFO): left alone, and why.
    pub strange: Vec<(PathBuf, String)>,
    /// What could not be looked at, and why.
    pub failed: Vec<(PathBuf, String)>,
}

const AS_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The logs of an agent, by `[logs] include` and `exclude`. No link is followed, save that the
/// folder a pattern begins in may be one.
pub fn find(home: &Home, rules: &Logs) -> Found {
    search(home, rules.include.iter().map(String::as_str), &rules.exclude)
}

fn search<'a>(home: &Home, include: impl Iterator<Item = &'a str>, exclude: &[String]) -> Found {
    let absolute = |glob: &str| {
        let root = Pattern::escape(&home.root().to_string_lossy());
        if glob.starts_with('/') { glob.to_owned() } else { format!("{}/{glob}", root.trim_end_matches('/')) }
    };
    let mut found = Found::default();
    let mut left_alone = Vec::new();
    for glob in exclude {
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
    let mut walks: BTreeMap<PathBuf, Vec<Pattern>> = BTreeMap::new();
    for glob in include {
        match Pattern::new(&absolute(glob)) {
            Ok(pattern) => walks.entry(home.path(literal_folder(glob))).or_default().push(pattern),
            Err(error) => found.failed.push((PathBuf::from(glob), format!("is no pattern: {error}"))),
        }
    }
    let mut seen = BTreeSet::new();
    for (folder, patterns) in walks {
        if !folder.exists() {
            continue;
        }
        let hidden = |entry: &walkdir::DirEntry| {
            entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
        };
        for entry in WalkDir::new(&folder).into_iter().filter_entry(|entry| !hidden(entry)) {
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
            let is = |pattern: &Pattern| pattern.matches_path_with(path, AS_A_SHELL);
            if entry.file_type().is_dir() || !patterns.iter().any(is) || left_alone.iter().any(is) {
                continue;
            }
            if !seen.insert(path.to_owned()) {
                continue;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_file() => found.logs.push(Log::new(path, &meta)),
                Ok(meta) if meta.is_symlink() => {
                    found.strange.push((path.to_owned(), "a symbolic link".to_owned()));
                }
                Ok(_) => found.strange.push((path.to_owned(), "not a regular file".to_owned())),
                Err(error) if gone(error.io_error()) => {}
                Err(error) => found.failed.push((path.to_owned(), error.to_string())),
            }
        }
    }
    found.logs.sort_by(|a, b| a.path.cmp(&b.path));
    found
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
    pub(super) fn new(path: &Path, meta: &std::fs::Metadata) -> Log {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Log {
            path: path.to_owned(),
            bytes: meta.len().min(meta.blocks().saturating_mul(512)),
            modified: meta.modified().map(DateTime::from).unwrap_or_default(),
            day: day_in(&name),
            compressed: name.ends_with(".gz"),
            links: meta.nlink(),
        }
    }

    /// Whether something may still be written to it: it is neither compressed nor numbered.
    pub(super) fn is_in_use(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        !self.compressed && !name.rsplit_once('.').is_some_and(|(_, number)| is_number(number))
    }
}

fn is_number(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The day that a file name speaks of: `20261119`, `2026-11-19` or `2026_11_19`, with no digit
/// beside it. Only this century: other numbers of eight digits are not meant as days.
pub(super) fn day_in(name: &str) -> Option<NaiveDate> {
    let bytes = name.as_bytes();
    (0..bytes.len()).find_map(|start| {
        let before = start.checked_sub(1).and_then(|index| bytes.get(index));
        if before.is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let day = |format: &str, length: usize| {
            let end = start + length;
            if bytes.get(end).is_some_and(u8::is_ascii_digit) {
                return None;
            }
            NaiveDate::parse_from_str(name.get(start..end)?, format).ok()
        };
        let plain = || name.get(start..start + 8)?.bytes().all(|byte| byte.is_ascii_digit()).then_some(());
        let found = plain()
            .and_then(|()| day("%Y%m%d", 8))
            .or_else(|| day("%Y-%m-%d", 10))
            .or_else(|| day("%Y_%m_%d", 10))?;
        (2000..2100).contains(&chrono::Datelike::year(&found)).then_some(found)
    })
}

/// The name by which a log is asked for: its file name without ending and day, or, for one in
/// a folder below the others, the folder's.
fn name_of(home: &Home, log: &Log) -> String {
    let folder = log.path.parent().unwrap_or(Path::new(""));
    if folder != home.logs() && folder.parent() == Some(&home.logs()) {
        return folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    let file = log.path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split_once(".log").map_or(&*file, |(stem, _)| stem);
    // `daemon.1.log.gz`: its place was taken when it was compressed.
    let numbered = stem.rsplit_once('.').filter(|(_, number)| log.compressed && is_number(number));
    let stem = numbered.map_or(stem, |(stem, _)| stem);
    let Some(day) = log.day else { return stem.to_owned() };
    let spellings = ["%Y%m%d", "%Y-%m-%d", "%Y_%m_%d"].map(|format| day.format(format).to_string());
    let bare = spellings.iter().find_map(|day| stem.split_once(day.as_str())).map_or(stem, |(bare, _)| bare);
    let bare = bare.trim_end_matches(['_', '-', '.']);
    if bare.is_empty() { stem.to_owned() } else { bare.to_owned() }
}

/// The logs of each name, also those of the past that were compressed or numbered; the one
/// that the name means now comes last: of those in use the one written last.
pub fn by_name(home: &Home, rules: &Logs) -> BTreeMap<String, Vec<Log>> {
    let usual = ["logs/**/*.log", "logs/**/*.log.gz", "logs/**/*.log.[0-9]*"];
    let include = rules.include.iter().map(String::as_str).chain(usual);
    let mut names: BTreeMap<String, Vec<Log>> = BTreeMap::new();
    for log in search(home, include, &[]).logs {
        names.entry(text::sanitize(&name_of(home, &log))).or_default().push(log);
    }
    for logs in names.values_mut() {
        logs.sort_by(|a, b| (a.is_in_use(), a.modified, &a.path).cmp(&(b.is_in_use(), b.modified, &b.path)));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn days_are_recognised_in_names() {
        for (name, day) in [
            ("daemon_20261119.log", Some("2026-11-19")),
            ("2026-11-19.log", Some("2026-11-19")),
            ("app.log.2026_11_19", Some("2026-11-19")),
            ("daemon_20261119_120000.log.gz", Some("2026-11-19")),
            ("daemon.log", None),
            ("id_120261119.log", None),
            ("id_202611190.log", None),
            ("n_20261350.log", None),
            ("n_19700101.log", None),
            ("ünïcödé_20261119é.log", Some("2026-11-19")),
            ("2026-11-9", None),
        ] {
            assert_eq!(day_in(name).map(|day| day.to_string()).as_deref(), day, "{name}");
        }
    }

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
        for name in ["daemon_20261118.log.gz", "daemon_20261117.1.log.gz", "daemon.log.1", "a.log.2.gz"] {
            fs::write(home.logs().join(name), "later\n").unwrap();
        }
        let names = by_name(&home, &Logs::default());
        assert_eq!(names.keys().collect::<Vec<_>>(), ["a", "daemon", "daemon_stdout", "email"]);
        assert!(names["daemon"].last().unwrap().path.ends_with("daemon_20261120.log"));
        assert_eq!((names["daemon"].len(), names["a"].len()), (5, 2));
    }
}
