//! Which log files there are.

use super::location::Location;
use super::log::Log;
use super::names::{kin, rotated_forms};
use super::walk::walk;
use crate::base::Home;
use crate::base::beneath::{Dir, FileType, Refused};
use crate::base::mark::in_folder;
use crate::config::Logs;
use glob::{MatchOptions, Pattern};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

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
/// them, ours or the agent's own. No link is followed, save in the folder that an absolute pattern names.
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
    if let Some(named) = home.named_logs() {
        // Our own logs, which are nowhere in the home then.
        let own = format!("{}/*.log", Pattern::escape(&named.to_string_lossy()));
        globs.extend(rotated_forms(&own).into_iter().chain([own]).map(|form| (None, form)));
    }
    search(home, globs, logs, true)
}

/// What patterns name, and nothing that was made of it.
pub fn matching(home: &Home, patterns: &[String]) -> Found {
    let logs = Logs { include: patterns.to_vec(), ..Logs::default() };
    search(home, patterns.iter().map(|glob| (None, glob.clone())), &logs, false)
}

/// A file that a log was, which has another name by now: beside it, or in the archive of the last days.
pub fn moved(home: &Home, log: &Log, number: (u64, u64)) -> Option<File> {
    let beside = || in_folder(&log.at.root().open_dir(log.at.folder().inside()).ok()?, number);
    let archived = || {
        let (archive, inside) =
            (home.dir().ok()?.open_dir("archive").ok()?, home.relative(&log.path)?.parent()?);
        let mut days: Vec<_> =
            archive.entries("").ok()?.flatten().map(|entry| PathBuf::from(entry.name)).collect();
        days.retain(|day| begins_with_day(day));
        days.sort();
        days.iter().rev().take(3).find_map(|day| in_folder(&archive.open_dir(day.join(inside)).ok()?, number))
    };
    beside().or_else(archived)
}

/// Where in the archive what leaves such a log goes, on whatever day.
fn in_archive(home: &Home, glob: &str) -> String {
    let inside = glob.strip_prefix(&*home.root().to_string_lossy()).unwrap_or(glob).trim_start_matches('/');
    format!("archive/{}/{inside}", "[0-9]".repeat(8))
}

/// A folder that patterns begin in: the one to hold open, and the way from there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    root: PathBuf,
    inside: PathBuf,
}

impl Start {
    /// The home holds what a relative pattern names. Any other folder is one that the operator named on purpose.
    fn of(home: &Home, glob: &str) -> Start {
        let folder = literal_folder(glob);
        let plain = |folder: &Path| -> Option<PathBuf> {
            let parts = folder.components().filter(|part| *part != Component::CurDir);
            parts.map(|part| matches!(part, Component::Normal(_)).then_some(part)).collect()
        };
        let whole = home.path(&folder);
        let in_logs = || {
            let named = home.named_logs()?;
            Some(Start { root: named.to_owned(), inside: plain(whole.strip_prefix(named).ok()?)? })
        };
        let in_home = || Some(Start { root: home.root().to_owned(), inside: plain(&folder)? });
        in_logs().or_else(in_home).unwrap_or_else(|| Start { root: whole.clone(), inside: PathBuf::new() })
    }

    /// The pattern for whole paths.
    fn pattern(&self, glob: &str) -> Result<Pattern, glob::PatternError> {
        let rest: PathBuf =
            Path::new(glob).components().skip(literal_folder(glob).components().count()).collect();
        let folder = self.root.join(&self.inside);
        let folder = Pattern::escape(&folder.to_string_lossy());
        Pattern::new(&format!("{}/{}", folder.trim_end_matches('/'), rest.to_string_lossy()))
    }
}

pub(super) fn search<'a>(
    home: &Home,
    globs: impl IntoIterator<Item = (Option<&'a str>, String)>,
    logs: &Logs,
    with_kin: bool,
) -> Found {
    let mut found = Found::default();
    let mut left_alone = Vec::new();
    for glob in &logs.exclude {
        match Start::of(home, glob).pattern(glob) {
            Ok(pattern) => left_alone.push(pattern),
            // What it was to protect cannot be told: nothing is found until it is put right.
            Err(error) => {
                found.failed.push((PathBuf::from(glob), format!("is no pattern: {error}")));
                return found;
            }
        }
    }
    // Patterns that begin in one folder share one walk.
    let mut walks: BTreeMap<Start, (usize, Vec<Wanted>)> = BTreeMap::new();
    for (name, glob) in globs {
        let rule = name.and_then(|name| logs.rule.get(name));
        let start = Start::of(home, &glob);
        match start.pattern(&glob) {
            Ok(pattern) => {
                let folder = literal_folder(&glob);
                let below = Path::new(&glob).components().count() - folder.components().count();
                let (depth, wanted) = walks.entry(start).or_default();
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
    let mut roots: BTreeMap<PathBuf, Arc<Dir>> = BTreeMap::new();
    let mut seen: BTreeMap<PathBuf, Log> = BTreeMap::new();
    let mut strange: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (start, (depth, wanted)) in walks {
        let root = match roots.get(&start.root) {
            Some(root) => root,
            None => match Dir::open(&start.root) {
                Ok(root) => roots.entry(start.root.clone()).or_insert(Arc::new(root)),
                Err(error) if gone(&error) => continue,
                Err(error) => {
                    found.failed.push((start.root, error.to_string()));
                    continue;
                }
            },
        };
        let mut look = Look {
            root,
            wanted: &wanted,
            left_alone: &left_alone,
            with_kin,
            seen: &mut seen,
            strange: &mut strange,
        };
        walk(root, &start.inside, depth, &mut |inside, kind| look.at(inside, kind), &mut |inside, error| {
            let path = root.path().join(inside);
            match Refused::of(&error) {
                _ if gone(&error) => {}
                Some(Refused::Link) if inside == start.inside => {
                    let why = "a symbolic link, which is not followed: name the folder that it leads to, as [logs] dir or by its whole path";
                    found.failed.push((path, why.to_owned()));
                }
                _ => found.failed.push((path, error.to_string())),
            }
        });
    }
    found.failed.sort();
    found.failed.dedup();
    found.strange = strange.into_iter().collect();
    for log in seen.into_values() {
        if is_archived(home, &log.path) { found.archived.push(log) } else { found.logs.push(log) }
    }
    found
}

/// One walk for logs.
struct Look<'a> {
    root: &'a Arc<Dir>,
    wanted: &'a [Wanted],
    left_alone: &'a [Pattern],
    with_kin: bool,
    seen: &'a mut BTreeMap<PathBuf, Log>,
    strange: &'a mut BTreeMap<PathBuf, String>,
}

impl Look<'_> {
    /// # Errors
    /// When there is one that cannot be looked at.
    fn at(&mut self, inside: &Path, kind: FileType) -> io::Result<()> {
        if kind == FileType::Directory {
            return Ok(());
        }
        let at = Location::new(self.root, inside);
        let path = at.path();
        // Patterns are text, names are bytes: what is no character fits `?` and `*`, and nothing else.
        let text = path.to_string_lossy();
        let of = kin(at.name().as_bytes()).filter(|_| self.with_kin).map(|kin| at.beside(kin.log).path());
        let of = of.as_ref().map(|path| path.to_string_lossy());
        let is = |pattern: &Pattern| {
            let is = |path: &str| pattern.matches_with(path, AS_A_SHELL);
            is(&text) || of.as_deref().is_some_and(is)
        };
        let mut fits = self.wanted.iter().filter(|wanted| is(&wanted.pattern)).peekable();
        if fits.peek().is_none() || self.left_alone.iter().any(is) {
            return Ok(());
        }
        if !self.seen.contains_key(&path) {
            match at.metadata() {
                Ok(meta) if meta.is_file() => drop(self.seen.insert(path.clone(), Log::new(at, &meta))),
                Ok(meta) => {
                    let why = if meta.is_symlink() { "a symbolic link" } else { "not a regular file" };
                    self.strange.insert(path.clone(), why.to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        let Some(log) = self.seen.get_mut(&path) else { return Ok(()) };
        for wanted in fits {
            log.falls_under(wanted.rule.as_deref(), wanted.whole, wanted.state);
        }
        Ok(())
    }
}

/// A log that was noted by its path: relative to the home, or absolute in a folder that a pattern names.
///
/// # Errors
/// [`Refused::Outside`], when it is neither.
pub(crate) fn locate(home: &Home, logs: &Logs, path: &Path) -> io::Result<Location> {
    if path.is_relative() {
        return Ok(Location::new(&Arc::new(home.dir()?), path));
    }
    let starts = logs.globs().map(|(_, glob)| Start::of(home, glob));
    let mut folders = starts.filter(|start| start.root != home.root()).map(|start| start.root);
    match folders.find_map(|root| Some((path.strip_prefix(&root).ok()?.to_owned(), root))) {
        Some((inside, root)) => Ok(Location::new(&Arc::new(Dir::open(root)?), inside)),
        None => Err(Refused::Outside.into()),
    }
}

/// Whether a path is below `archive/YYYYMMDD/`.
pub(crate) fn is_archived(home: &Home, path: &Path) -> bool {
    path.strip_prefix(home.archive()).is_ok_and(begins_with_day)
}

/// Whether the first part of a path is one as `20261120`.
pub(crate) fn begins_with_day(inside: &Path) -> bool {
    inside.components().next().is_some_and(|day| {
        let day = day.as_os_str().as_encoded_bytes();
        day.len() == 8 && day.iter().all(u8::is_ascii_digit)
    })
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
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

#[cfg(test)]
mod tests {
    use super::super::by_name::by_name;
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
