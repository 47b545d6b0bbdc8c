//! What goes into an archive: the home, walked once, by globs.

use super::manifest::{Include, Name};
use crate::base::{Fault, database};
use crate::config::{Backup, Config};
use anyhow::Result;
use glob::{MatchOptions, Pattern};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// A pid or lock file holds a number or a line about its holder. A larger `*.lock` is somebody's
/// data (`poetry.lock`).
const LOCK_FILE_BYTES: u64 = 128;

/// What was found: databases, and the rest by path.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// SQLite databases, by content.
    pub databases: Vec<Found>,
    /// All else.
    pub others: Vec<Found>,
    /// What each include found.
    pub includes: Vec<Include>,
    /// What could not be looked at, and other things a person should know.
    pub problems: Vec<String>,
}

/// One thing that goes in.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Where it is, relative to the home.
    pub path: Name,
    /// What it is.
    pub shape: Shape,
    /// Bytes, of a database with its WAL.
    pub size: u64,
    /// Those of them that are not holes.
    #[serde(skip)]
    pub on_disk: u64,
}

/// The shapes of things that go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// An SQLite database.
    Database,
    /// Any other file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, as such.
    Link,
}

impl Plan {
    /// The bytes of everything in it.
    pub fn bytes(&self) -> u64 {
        self.databases.iter().chain(&self.others).map(|found| found.size).sum()
    }

    /// The bytes of everything in it that are on disk: holes take no room in an archive either.
    pub fn bytes_on_disk(&self) -> u64 {
        self.databases.iter().chain(&self.others).map(|found| found.on_disk).sum()
    }

    /// The bytes of its databases.
    pub fn database_bytes(&self) -> u64 {
        self.databases.iter().map(|found| found.size).sum()
    }

    /// How many files and links it has.
    pub fn count(&self) -> usize {
        let folders = self.others.iter().filter(|found| found.shape == Shape::Folder).count();
        self.databases.len() + self.others.len() - folders
    }
}

/// Walks the home and picks what `[backup]` includes.
///
/// # Errors
/// A [`Fault`] when a glob is wrong or the home cannot be read at all. A part that cannot be
/// read is a problem in the plan.
pub fn plan(config: &Config) -> Result<Plan> {
    let home = config.agent.home.as_path();
    let globs = Globs::new(&config.backup.include, &config.backup.exclude)?;
    let mut found_by = vec![0; globs.include.len()];
    let never = Never::new(config);
    let mut plan = Plan::default();
    let mut folders: BTreeMap<PathBuf, Metadata> = BTreeMap::new();
    let mut wanted_folders = BTreeSet::new();
    let mut files: Vec<(PathBuf, Metadata)> = Vec::new();

    fs::read_dir(home)
        .map_err(|error| Fault::critical(format!("cannot read the home {}: {error}", home.display())))?;
    let mut walk = WalkDir::new(home).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.io_error().is_some_and(is_gone) => continue,
            Err(error) => {
                plan.problems.push(format!("cannot read {error}"));
                continue;
            }
        };
        let Ok(path) = entry.path().strip_prefix(home) else { continue };
        let is_folder = entry.file_type().is_dir();
        if globs.leaves_out(path) || never.takes_in(path) || (is_folder && !globs.reaches_into(path)) {
            if is_folder {
                walk.skip_current_dir();
            }
            continue;
        }
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            Err(error) if error.io_error().is_some_and(is_gone) => continue,
            Err(error) => {
                plan.problems.push(format!("cannot read {error}"));
                continue;
            }
        };
        let path = path.to_owned();
        if is_folder {
            if globs.takes(&path) {
                globs.count(&path, &mut found_by);
                wanted_folders.insert(path.clone());
            }
            folders.insert(path, meta);
        } else if globs.takes(&path) || (meta.is_symlink() && globs.reaches_into(&path)) {
            globs.count(&path, &mut found_by);
            files.push((path, meta));
        }
    }

    let databases = find_databases(home, &files, &mut plan.problems);
    for (path, meta) in files {
        let kind = meta.file_type();
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            continue;
        }
        if is_sidecar(&path, &databases) || is_lock_file(&path, &meta) {
            continue;
        }
        if kind.is_symlink() && globs.is_root(&path) {
            plan.problems.push(format!(
                "{} is a link: the link is saved, not what it points to; give the backup a home that holds it",
                path.display()
            ));
        }
        wanted_folders.extend(path.ancestors().skip(1).filter(|up| *up != Path::new("")).map(Path::to_owned));
        let on_disk = meta.blocks().saturating_mul(512);
        let found = |shape, size| Found { path: Name(path.clone()), shape, size, on_disk: on_disk.min(size) };
        if databases.contains(&path) {
            let wal = fs::metadata(&database::sidecars(&home.join(&path))[0]).map_or(0, |wal| wal.len());
            plan.databases.push(found(Shape::Database, meta.len() + wal));
        } else if kind.is_symlink() {
            plan.others.push(found(Shape::Link, 0));
        } else {
            plan.others.push(found(Shape::File, meta.len()));
        }
    }
    let folders = folders.into_keys().filter(|path| wanted_folders.contains(path));
    plan.others.extend(folders.map(|path| Found {
        path: Name(path),
        shape: Shape::Folder,
        size: 0,
        on_disk: 0,
    }));
    plan.others.sort_by(|a, b| a.path.cmp(&b.path));
    plan.includes = globs.includes(&config.backup, &found_by)?;
    for include in plan.includes.iter().filter(|include| include.is_missing()) {
        plan.problems.push(format!(
            "{} is missing: include in [backup] names it; if it may be missing, name it in optional too",
            include.pattern
        ));
    }
    Ok(plan)
}

/// Whether a file went away between being seen and being looked at.
pub(super) fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn find_databases(
    home: &Path,
    files: &[(PathBuf, Metadata)],
    problems: &mut Vec<String>,
) -> BTreeSet<PathBuf> {
    let mut databases = BTreeSet::new();
    for (path, meta) in files.iter().filter(|(_, meta)| meta.is_file()) {
        // The smallest database is one page of 512 bytes.
        match (meta.len() >= 512).then(|| database::is_sqlite(&home.join(path))) {
            Some(Ok(true)) => {
                databases.insert(path.clone());
            }
            Some(Err(error)) if !is_gone(&error) => {
                problems.push(format!("cannot read {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    databases
}

fn is_sidecar(path: &Path, databases: &BTreeSet<PathBuf>) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    ["-wal", "-shm", "-journal"].iter().any(|suffix| {
        name.strip_suffix(suffix).is_some_and(|base| databases.contains(&path.with_file_name(base)))
    })
}

fn is_lock_file(path: &Path, meta: &Metadata) -> bool {
    meta.is_file()
        && meta.len() <= LOCK_FILE_BYTES
        && path.extension().is_some_and(|extension| extension == "pid" || extension == "lock")
}

/// The globs of `[backup]`.
struct Globs {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl Globs {
    fn new(include: &[String], exclude: &[String]) -> Result<Globs> {
        let compile = |globs: &[String]| {
            let compiled = globs.iter().map(|glob| {
                let glob = glob.trim_start_matches("./").trim_end_matches('/');
                Pattern::new(glob).map_err(|error| {
                    Fault::unknown(format!("the glob '{glob}' in [backup] is wrong: {error}")).into()
                })
            });
            compiled.collect::<Result<Vec<_>>>()
        };
        Ok(Globs { include: compile(include)?, exclude: compile(exclude)? })
    }

    /// Whether a path is included.
    fn takes(&self, path: &Path) -> bool {
        self.include.iter().any(|glob| includes(glob, path))
    }

    /// Counts for each include whether it takes this path.
    fn count(&self, path: &Path, found: &mut [usize]) {
        for (glob, found) in self.include.iter().zip(found) {
            *found += usize::from(includes(glob, path));
        }
    }

    /// What each include found. One that names a path has to find something, unless it is optional.
    fn includes(&self, backup: &Backup, found: &[usize]) -> Result<Vec<Include>> {
        let optional = Globs::new(&backup.optional, &[])?;
        let include = |((pattern, glob), &found): ((&String, &Pattern), &usize)| {
            let path = literal(glob);
            let literal = path.as_os_str() == glob.as_str();
            Include { pattern: pattern.clone(), found, required: literal && !optional.takes(&path) }
        };
        Ok(backup.include.iter().zip(&self.include).zip(found).map(include).collect())
    }

    /// Whether a path, or a folder it is in, is excluded.
    fn leaves_out(&self, path: &Path) -> bool {
        self.exclude.iter().any(|glob| path.ancestors().any(|part| matches(glob, part)))
    }

    /// Whether anything in a folder could be included.
    fn reaches_into(&self, folder: &Path) -> bool {
        self.include.iter().any(|glob| {
            let literal = literal(glob);
            literal.starts_with(folder) || folder.starts_with(&literal)
        })
    }

    /// Whether a path is where a glob begins: `memory` of `memory/**`.
    fn is_root(&self, path: &Path) -> bool {
        self.include.iter().any(|glob| literal(glob).starts_with(path))
    }
}

/// Whether a glob takes in a path: it matches, or the path is below a folder that it names without
/// wildcards.
pub(super) fn includes(glob: &Pattern, path: &Path) -> bool {
    matches(glob, path) || (literal(glob).as_os_str() == glob.as_str() && path.starts_with(glob.as_str()))
}

/// A name that is no text is matched by what it looks like.
fn matches(glob: &Pattern, path: &Path) -> bool {
    glob.matches_with(&path.to_string_lossy(), OPTIONS)
}

/// The part of a glob before the first wildcard.
pub(super) fn literal(glob: &Pattern) -> PathBuf {
    let parts = Path::new(glob.as_str()).iter();
    parts.take_while(|part| !part.to_string_lossy().contains(['*', '?', '['])).collect()
}

/// What never goes in, whatever the globs say.
struct Never {
    /// Files and folders, relative to the home.
    paths: Vec<PathBuf>,
}

impl Never {
    fn new(config: &Config) -> Never {
        let home = &config.agent.home;
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let inside = |path: &Path| {
            let plain = path.strip_prefix(home).map(Path::to_owned);
            plain.or_else(|_| real(path).strip_prefix(real(home)).map(Path::to_owned)).ok()
        };
        let mut paths = vec![PathBuf::from(".ops")];
        paths.extend(inside(&config.backup.dir));
        paths.extend(config.service.values().filter_map(|service| inside(service.pid_file.as_deref()?)));
        // A home that is its own backup folder would leave out everything.
        paths.retain(|path| path != Path::new(""));
        Never { paths }
    }

    fn takes_in(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What restores set aside; the old scripts called it `memory.pre-restore.STAMP`.
        let aside = path.components().count() == 1 && name.contains(".pre-restore.");
        aside || name.starts_with(".part-") || self.paths.iter().any(|never| path.starts_with(never))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(include: &[&str], exclude: &[&str]) -> Globs {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        Globs::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn globs_read_as_people_mean_them() {
        let g =
            globs(&["memory/**", "config", "*.json", "data/*/keep.txt"], &["**/__pycache__/**", "**/*.tmp"]);
        for inside in
            ["memory/a", "memory/a/b.db", "memory/.hidden/x", "config/x/y", "a.json", "data/x/keep.txt"]
        {
            assert!(g.takes(Path::new(inside)) && !g.leaves_out(Path::new(inside)), "{inside}");
        }
        for outside in ["memoryx/a", "other", "sub/a.json", "data/x/y/keep.txt"] {
            assert!(!g.takes(Path::new(outside)), "{outside}");
        }
        for out in ["memory/__pycache__/x", "memory/a/__pycache__/b/c", "memory/x.tmp"] {
            assert!(g.leaves_out(Path::new(out)), "{out}");
        }
        assert!(g.reaches_into(Path::new("data")) && g.reaches_into(Path::new("data/x")));
        assert!(globs(&["**"], &[]).takes(Path::new("any/where")));
        assert!(!globs(&["memory/**"], &[]).reaches_into(Path::new("node_modules")));
    }

    #[test]
    fn a_wrong_glob_is_named() {
        let error = Globs::new(&["a***b".to_owned()], &[]).err().unwrap();
        assert!(error.to_string().contains("'a***b'"), "{error}");
    }
}
