//! What goes into an archive: the home, walked once, by globs.

use super::dump::Dumped;
use super::excluded::{AlwaysExcluded, LeftOut, Reason, is_lock_file};
use super::globs::Globs;
use super::links;
use super::manifest::{Include, LinkOut, Name, NoDump};
use super::outside::Outside;
use super::places::Places;
use crate::base::beneath::{Dir, Entry, FileType, Refused};
use crate::base::{Fault, database, opaque};
use crate::config::{Config, Kind};
use anyhow::Result;
use rustix::fs::AtFlags;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was found: databases, and the rest by path.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// SQLite databases, by content.
    pub databases: Vec<Found>,
    /// All else.
    pub others: Vec<Found>,
    /// What each include found.
    pub includes: Vec<Include>,
    /// What an include names and that stays out all the same.
    pub left_out: Vec<LeftOut>,
    /// Links that lead to nothing in the archive.
    pub links_out: Vec<LinkOut>,
    /// What could not be looked at, and other things a person should know.
    pub problems: Vec<String>,
    /// The bytes of files that are no holes.
    #[serde(skip)]
    on_disk: u64,
    /// What commands of `[backup.dump]` wrote.
    #[serde(skip)]
    pub(super) dumps: Vec<Dumped>,
    /// Those that failed.
    #[serde(skip)]
    pub(super) no_dumps: Vec<NoDump>,
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
        self.on_disk + self.dumps.iter().map(|dump| dump.bytes).sum::<u64>()
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
    let globs = Globs::of(&config.backup)?;
    let reading =
        |error: io::Error| Fault::critical(format!("cannot read the home {}: {error}", home.display()));
    let dir = Dir::open(home).map_err(reading)?;
    dir.entries("").map_err(reading)?;
    let mut walk = Walk {
        found_by: vec![0; globs.count()],
        excluded: AlwaysExcluded::new(config),
        globs,
        home: dir,
        base: PathBuf::new(),
        plan: Plan::default(),
        wanted_folders: BTreeSet::new(),
    };
    walk.all();
    let Walk { globs, home: dir, mut plan, mut wanted_folders, mut found_by, .. } = walk;
    for outside in Outside::all(&config.backup) {
        let folder = match Dir::open(&outside.root) {
            Ok(folder) => folder,
            Err(error) => {
                plan.problems.extend(outside.unread(&config.backup, &error)?);
                continue;
            }
        };
        let mut walk = Walk {
            found_by: vec![0],
            excluded: AlwaysExcluded::outside(config),
            globs: Globs::new(std::slice::from_ref(&outside.glob), &config.backup.exclude)?,
            home: folder,
            base: outside.root,
            plan,
            wanted_folders,
        };
        walk.all();
        found_by[outside.number] = walk.found_by[0];
        (plan, wanted_folders) = (walk.plan, walk.wanted_folders);
    }
    plan.others.extend(wanted_folders.into_iter().map(|path| Found {
        path: Name(path),
        shape: Shape::Folder,
        size: 0,
    }));
    plan.others.sort_by(|a, b| a.path.cmp(&b.path));
    plan.databases.sort_by(|a, b| a.path.cmp(&b.path));
    // Two includes may name the same.
    plan.others.dedup_by(|a, b| a.path == b.path);
    plan.databases.dedup_by(|a, b| a.path == b.path);
    plan.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    plan.look_at_links(home, &Places::of(dir, &config.backup), &globs);
    plan.includes = globs.includes(&config.backup, &found_by)?;
    for include in plan.includes.iter().filter(|include| include.is_missing()) {
        plan.problems.push(format!(
            "{} is missing: include in [backup] names it; if it may be missing, name it in optional too",
            include.pattern
        ));
    }
    Ok(plan)
}

/// What an agent that is well has, and a backup takes: paths that `include` names, and databases that checks
/// name. Gives those that are not there yet.
///
/// # Errors
/// A [`Fault`] when a glob is wrong.
pub fn not_there_yet(config: &Config) -> Result<Vec<PathBuf>> {
    let home = &config.agent.home;
    let globs = Globs::of(&config.backup)?;
    let includes = globs.includes(&config.backup, &vec![0; globs.count()])?;
    let includes =
        includes.into_iter().filter(|include| include.required).map(|include| home.join(include.pattern));
    let mut missing: Vec<PathBuf> = includes.filter(|path| fs::symlink_metadata(path).is_err()).collect();
    let checks = config.check.values().filter(|check| check.common.enabled);
    let databases = checks.flat_map(|check| match &check.kind {
        Kind::Sqlite(options) => options.paths.as_slice(),
        _ => &[],
    });
    for path in databases.filter(|path| !path.contains(['*', '?', '['])).map(|path| home.join(path)) {
        let Ok(inside) = path.strip_prefix(home) else { continue };
        if globs.takes(inside) && !globs.leaves_out(inside) && !database::is_sqlite(&path).unwrap_or(false) {
            missing.push(path);
        }
    }
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// Which of these paths of the home `[backup]` would take, if they were there.
pub(super) fn wanted(config: &Config, paths: &[&Path]) -> Vec<bool> {
    let Ok(globs) = Globs::of(&config.backup) else { return Vec::new() };
    let excluded = AlwaysExcluded::new(config);
    let wanted =
        |path: &&Path| globs.takes(path) && !globs.leaves_out(path) && excluded.reason(path).is_none();
    paths.iter().map(wanted).collect()
}

/// Whether a file went away between being seen and being looked at.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A walk through the home, or the folder of an absolute include, beneath its descriptor: no link leads it
/// elsewhere.
struct Walk {
    home: Dir,
    /// What paths in it begin with: nothing in the home.
    base: PathBuf,
    globs: Globs,
    excluded: AlwaysExcluded,
    plan: Plan,
    wanted_folders: BTreeSet<PathBuf>,
    /// How many things each include found.
    found_by: Vec<usize>,
}

impl Walk {
    fn all(&mut self) {
        let mut folders = vec![self.base.clone()];
        while let Some(folder) = folders.pop() {
            match self.folder(&folder) {
                Ok(below) => folders.extend(below.into_iter().rev()),
                Err(error) => self.unread(&folder, &error),
            }
        }
    }

    /// Looks at what is in one folder. Gives those in it that are to be looked into.
    fn folder(&mut self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let dir = self.home.open_dir(folder.strip_prefix(&self.base).unwrap_or(folder))?;
        let mut entries = dir.entries("")?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let owners = entries.iter().filter_map(|entry| database::of_sidecar(Path::new(&entry.name)));
        let mut known = Known { owners: owners.map(PathBuf::into_os_string).collect(), ..Known::default() };
        let mut below = Vec::new();
        let mut has_any = false;
        for Entry { name, kind, .. } in entries {
            let path = folder.join(&name);
            let is_folder = kind == FileType::Directory;
            let wanted = self.globs.takes(&path);
            let reached = wanted || self.globs.reaches_into(&path);
            if !reached || self.globs.leaves_out(&path) {
                continue;
            }
            if let Some(reason) = self.excluded.reason(&path) {
                // What is on the way to an include, and no more than that, is nobody's loss.
                if wanted {
                    self.leave_out(path, reason);
                }
            } else if is_folder {
                if wanted {
                    self.globs.note(&path, &mut self.found_by);
                    self.wanted_folders.insert(path.clone());
                }
                below.push(path);
            } else if wanted || kind == FileType::Symlink {
                match self.file(&dir, &path, &name, &mut known) {
                    Ok(true) => {
                        self.globs.note(&path, &mut self.found_by);
                        has_any = true;
                    }
                    Ok(false) => {}
                    Err(error) => self.unread(&path, &error),
                }
            }
        }
        if has_any {
            let up = folder.ancestors().take_while(|up| up.starts_with(&self.base));
            self.wanted_folders.extend(up.filter(|up| up.file_name().is_some()).map(Path::to_owned));
        }
        Ok(below)
    }

    /// Looks at anything but a folder. Gives whether it goes in. A database comes before its sidecars,
    /// whose names are longer.
    fn file(&mut self, dir: &Dir, path: &Path, name: &OsStr, known: &mut Known) -> io::Result<bool> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let size = stat.st_size.unsigned_abs();
        let mut found = Found { path: Name(path.to_owned()), shape: Shape::File, size };
        let on_disk = (stat.st_blocks.unsigned_abs()).saturating_mul(512).min(size);
        let reason = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                (found.shape, found.size) = (Shape::Link, 0);
                self.plan.others.push(found);
                return Ok(true);
            }
            FileType::RegularFile if is_sidecar(name, &known.databases) => Reason::DatabaseSidecar,
            FileType::RegularFile if is_lock_file(path, size) => Reason::LockFile,
            FileType::RegularFile => {
                self.plan.on_disk += on_disk;
                // The smallest database is one page of 512 bytes.
                if size >= 512 && known.is_database(dir, name)? {
                    let wal = rustix::fs::statat(dir, sidecar(name), AtFlags::SYMLINK_NOFOLLOW);
                    found.size += wal.map_or(0, |wal| wal.st_size.unsigned_abs());
                    found.shape = Shape::Database;
                    known.databases.insert(name.to_owned());
                    self.plan.databases.push(found);
                } else {
                    self.plan.others.push(found);
                }
                return Ok(true);
            }
            // It became one just now.
            FileType::Directory => return Ok(false),
            FileType::Fifo => Reason::Fifo,
            FileType::Socket => Reason::Socket,
            _ => Reason::Device,
        };
        self.leave_out(path.to_owned(), reason);
        Ok(false)
    }

    fn leave_out(&mut self, path: PathBuf, reason: Reason) {
        self.plan.left_out.push(LeftOut { path: Name(path), reason });
    }

    fn unread(&mut self, path: &Path, error: &io::Error) {
        if !is_gone(error) {
            self.plan.problems.push(format!("cannot read {}: {error}", path.display()));
        }
    }
}

impl Plan {
    /// Whether a path, relative to the home or absolute, goes in.
    fn has(&self, path: &Path) -> bool {
        let by_path = |found: &Found| found.path.0.as_path().cmp(path);
        self.others.binary_search_by(by_path).is_ok() || self.databases.binary_search_by(by_path).is_ok()
    }

    /// Finds the links that lead to nothing in the archive.
    fn look_at_links(&mut self, home: &Path, places: &Places, globs: &Globs) {
        let mut links_out = Vec::new();
        for link in self.others.iter().filter(|found| found.shape == Shape::Link) {
            let path = &link.path.0;
            // One that went away will be missed when it is written.
            let target = places.at(path).and_then(|(dir, rest)| dir.read_link(rest));
            let Ok(target) = target else { continue };
            let exists = |path: &Path| places.home.metadata(path).is_ok();
            links_out.extend(links::judge(home, path, &target, |path| self.has(path), exists));
            if globs.is_root(path) {
                self.problems.push(format!(
                    "{} is a link: the link is saved, not what it points to; give the backup a home that holds it",
                    path.display()
                ));
            }
        }
        self.links_out = links_out;
    }
}

/// What is known of the files in a folder.
#[derive(Default)]
struct Known {
    /// Those that are databases.
    databases: BTreeSet<OsString>,
    /// Those that have a file beside them that is named like one of a database.
    owners: BTreeSet<OsString>,
}

impl Known {
    /// Whether a file is a database, be it an encrypted one.
    fn is_database(&self, dir: &Dir, name: &OsStr) -> io::Result<bool> {
        match dir.open_file(name) {
            Ok(file) if database::is_sqlite_file(&file)? => Ok(true),
            Ok(_) if self.owners.contains(name) || opaque::is_named(name) => {
                opaque::is_encrypted(dir, Path::new(name))
            }
            Ok(_) => Ok(false),
            // What it is now is told when it is written.
            Err(error) if Refused::of(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn sidecar(database: &OsStr) -> PathBuf {
    let [wal, ..] = database::sidecars(Path::new(database));
    wal
}

fn is_sidecar(name: &OsStr, databases: &BTreeSet<OsString>) -> bool {
    ["-wal", "-shm", "-journal"].iter().any(|suffix| {
        let database = name.as_bytes().strip_suffix(suffix.as_bytes());
        database.is_some_and(|database| databases.contains(OsStr::from_bytes(database)))
    })
}
