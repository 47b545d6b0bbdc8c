//! Reads a whole archive back: every byte inflated, every hash compared, every database opened.

use super::check::Checker;
use super::manifest::{self, CHECKSUMS, Kind, MANIFEST, Manifest};
use super::reader::{self, Member, Shape, peek, refuse};
use crate::base::database::{self, Verdict};
use crate::base::text::{hex, one_line};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The most that is wrong that is told at once.
const MOST_PROBLEMS: usize = 5;
/// How long the check of one database may take.
const CHECK: Duration = Duration::from_secs(3600);

/// Who made an archive, and so where its files belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This program: there is a manifest.
    Ours,
    /// The shell scripts before it: what is at the top belongs into `memory/`.
    Shell,
    /// Some `tar`: names are relative to the home.
    Plain,
}

/// A whole and harmless archive.
#[derive(Debug)]
pub struct Contents {
    /// Who made it.
    pub origin: Origin,
    /// Its manifest, if it is ours.
    pub manifest: Option<Manifest>,
    /// What a restore brings back, in the order of the archive.
    pub entries: Vec<Entry>,
    /// How many databases were opened and found sound.
    pub sound_databases: usize,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// One thing that a restore brings back.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the archive.
    pub member: PathBuf,
    /// Where it belongs, relative to the home.
    pub path: PathBuf,
    /// What it is.
    pub shape: Shape,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of a file.
    pub sha256: String,
    /// Its permissions.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// When it was last written.
    pub mtime: DateTime<Utc>,
    /// Whether it is an SQLite database.
    pub database: bool,
    /// Whether it is a link that leads out of the home. Such a link is not restored.
    pub outward: bool,
}

impl Contents {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// How many files and links there are.
    pub fn count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.shape != Shape::Folder).count()
    }
}

/// Verifies an archive. Databases are unpacked into a new folder in `scratch`, which is removed
/// again.
///
/// # Errors
/// A [`crate::base::Fault`] that names what is wrong, when anything is.
pub fn verify(archive: &Path, scratch: &Path) -> Result<Contents> {
    let manifest = peek(archive)?;
    let scratch = tempfile::Builder::new()
        .prefix(".part-verify-")
        .tempdir_in(scratch)
        .with_context(|| format!("cannot create a folder in {}", scratch.display()))?;
    // A held folder is not swept by a backup that begins meanwhile.
    let _held = File::open(scratch.path())
        .and_then(|folder| folder.try_lock().map_err(io::Error::from).map(|()| folder))
        .with_context(|| format!("cannot hold {}", scratch.path().display()))?;
    match manifest {
        Some(manifest) => verify_ours(archive, manifest, scratch.path(), &HashSet::new()),
        None => verify_foreign(archive, scratch.path()),
    }
}

/// Verifies an archive that was written just now. Databases whose content is, by its hash, what
/// was checked when they were saved are not checked a second time.
pub(super) fn verify_new(archive: &Path, scratch: &Path, written: &Manifest) -> Result<Contents> {
    let manifest = peek(archive)?.ok_or_else(|| refuse(archive, "it is not what was written"))?;
    let databases: HashSet<&Path> =
        written.databases.iter().map(|database| database.path.0.as_path()).collect();
    let checked = written.files.iter().filter(|item| databases.contains(item.path.0.as_path()));
    let checked = checked.filter_map(|item| match &item.kind {
        Kind::File { sha256, .. } => Some(sha256.as_str()),
        _ => None,
    });
    verify_ours(archive, manifest, scratch, &checked.collect())
}

fn verify_ours(
    archive: &Path,
    manifest: Manifest,
    scratch: &Path,
    checked: &HashSet<&str>,
) -> Result<Contents> {
    let folder = PathBuf::from(&manifest.folder);
    let mut expected: HashMap<PathBuf, &manifest::Item> =
        manifest.members().map(|(name, item)| (folder.join(name), item)).collect();
    if expected.len() != manifest.files.len() + manifest.damaged.len() {
        return Err(refuse(archive, "its manifest names a file twice"));
    }
    let databases: HashMap<PathBuf, &manifest::Database> = manifest
        .databases
        .iter()
        .map(|database| (folder.join(manifest::member(&database.path.0)), database))
        .collect();
    let (manifest_name, checksums_name) = (folder.join(MANIFEST), folder.join(CHECKSUMS));
    let (mut manifest_hash, mut checksums) = (None, None);
    let mut problems = Vec::new();
    let mut sound_databases = 0;
    let checker = Checker::begin(1, true);
    let mut under_check = Vec::new();

    reader::walk(archive, &mut |member, content| {
        if member.name == folder && member.shape == Shape::Folder {
            return Ok(());
        }
        if member.name == manifest_name {
            manifest_hash = Some(hash(archive, content, &mut io::sink())?);
            return Ok(());
        }
        if member.name == checksums_name {
            checksums = Some(hash(archive, content, &mut io::sink())?);
            return Ok(());
        }
        let Some(item) = expected.remove(&member.name) else {
            problems.push(format!("{} is not in its manifest", member.name.display()));
            return enough(archive, &problems);
        };
        let fits = match (&item.kind, &member.shape) {
            (Kind::Folder, Shape::Folder) => true,
            (Kind::Link { target }, Shape::Link(points_to)) => target.0 == *points_to,
            (Kind::File { size, sha256 }, Shape::File) => {
                let found = match databases.get(&member.name) {
                    Some(_) if !checked.contains(sha256.as_str()) => {
                        let copy = scratch.join(format!("{}.db", under_check.len()));
                        let found = unpack(archive, content, &copy)?;
                        checker.add(copy)?;
                        under_check.push(member.name.clone());
                        found
                    }
                    database => {
                        sound_databases += usize::from(database.is_some_and(|database| database.is_sound()));
                        hash(archive, content, &mut io::sink())?
                    }
                };
                *size == member.size && *sha256 == found
            }
            _ => false,
        };
        if !fits {
            problems.push(format!("{} is not what its manifest says", member.name.display()));
        }
        enough(archive, &problems)
    })?;

    for (name, verdict) in under_check.iter().zip(checker.finish()?) {
        let sound = databases.get(name).is_some_and(|database| database.is_sound());
        match verdict? {
            Verdict::Sound => sound_databases += 1,
            Verdict::Damaged(text) if sound => {
                problems.push(format!("the database {}: {text}", name.display()));
            }
            // Damaged when it was saved: the manifest says so.
            Verdict::Damaged(_) => {}
        }
    }
    let mut missing: Vec<_> = expected.keys().map(|name| format!("{} is missing", name.display())).collect();
    missing.sort();
    problems.extend(missing.into_iter().take(MOST_PROBLEMS));
    let listed = manifest_hash.map(|hash| hex(&Sha256::digest(manifest.checksums(&hash))));
    if listed.is_none() || checksums != listed {
        problems.push(format!("{CHECKSUMS} does not agree with {MANIFEST}"));
    }
    if !problems.is_empty() {
        return Err(refuse(archive, &problems.join("; ")));
    }
    let sound: HashSet<&Path> = manifest.databases.iter().map(|database| database.path.0.as_path()).collect();
    let entries =
        manifest.files.iter().map(|item| entry_of(item, &folder, &sound)).collect::<Option<Vec<_>>>();
    let entries = entries.ok_or_else(|| refuse(archive, "its manifest names a file outside the home"))?;
    let notes = manifest.problems.clone();
    Ok(Contents { origin: Origin::Ours, entries, sound_databases, notes, manifest: Some(manifest) })
}

fn entry_of(item: &manifest::Item, folder: &Path, databases: &HashSet<&Path>) -> Option<Entry> {
    let path = item.path.0.clone();
    // The walk has looked at the names in the archive; this one is only in the manifest.
    if path.as_os_str().is_empty() || path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return None;
    }
    let (shape, size, sha256) = match &item.kind {
        Kind::File { size, sha256 } => (Shape::File, *size, sha256.clone()),
        Kind::Folder => (Shape::Folder, 0, String::new()),
        Kind::Link { target } => (Shape::Link(target.0.clone()), 0, String::new()),
    };
    Some(Entry {
        member: folder.join(manifest::member(&path)),
        outward: leads_out(&path, &shape),
        database: databases.contains(path.as_path()),
        path,
        shape,
        size,
        sha256,
        mode: item.mode,
        owner: (item.uid, item.gid),
        mtime: item.mtime,
    })
}

fn verify_foreign(archive: &Path, scratch: &Path) -> Result<Contents> {
    let mut members: Vec<(Member, String)> = Vec::new();
    let mut databases = Vec::new();
    let mut listed: Option<(PathBuf, Vec<u8>)> = None;
    reader::walk(archive, &mut |member, content| {
        if member.shape != Shape::File {
            members.push((member.clone(), String::new()));
            return Ok(());
        }
        let mut head = Vec::new();
        let broken = |error: io::Error| refuse(archive, &format!("it is damaged: {error}"));
        content.take(16).read_to_end(&mut head).map_err(broken)?;
        let mut whole = head.chain(content);
        let sha256 =
            if member.name.file_name().is_some_and(|name| name == CHECKSUMS) && member.size < 16 << 20 {
                let mut text = Vec::new();
                let sha256 = hash(archive, &mut whole, &mut text)?;
                listed = Some((member.name.clone(), text));
                sha256
            } else if let Some(target) = database_file(scratch, &member.name, &head) {
                if head == *b"SQLite format 3\0" {
                    databases.push((member.name.clone(), target.clone()));
                }
                unpack(archive, &mut whole, &target)?
            } else {
                hash(archive, &mut whole, &mut io::sink())?
            };
        members.push((member.clone(), sha256));
        Ok(())
    })?;

    let mut problems = Vec::new();
    for (name, copy) in &databases {
        // A database with a WAL beside it is whole only together with it.
        let mut connection =
            rusqlite::Connection::open(copy).with_context(|| format!("cannot open {}", copy.display()))?;
        if let Verdict::Damaged(text) = database::check(&mut connection, "quick_check", CHECK)? {
            problems.push(format!("the database {}: {text}", name.display()));
        }
    }
    let mut notes = Vec::new();
    match &listed {
        Some((list, text)) => {
            // The old scripts wrote paths of their own; the name tells.
            let name = |path: &Path| path.file_name().map(|name| name.to_owned());
            let known: HashMap<_, _> =
                manifest::read_checksums(text).into_iter().map(|(hash, path)| (name(&path), hash)).collect();
            for (member, sha256) in &members {
                if member.name.parent() != list.parent() || member.name == *list || sha256.is_empty() {
                    continue;
                }
                if known.get(&name(&member.name)).is_some_and(|hash| hash != sha256) {
                    problems.push(format!("{} is not what {CHECKSUMS} says", member.name.display()));
                }
            }
            let there: HashSet<_> = members.iter().map(|(member, _)| name(&member.name)).collect();
            problems.extend(
                known
                    .keys()
                    .filter(|known| !there.contains(*known))
                    .map(|gone| format!("{} is missing", gone.clone().unwrap_or_default().display())),
            );
        }
        None => notes.push("it has no checksums: only its form and its databases were checked".to_owned()),
    }
    if !problems.is_empty() {
        problems.truncate(MOST_PROBLEMS);
        return Err(refuse(archive, &problems.join("; ")));
    }
    let (origin, strip) = layout(members.iter().map(|(member, _)| member), listed.as_ref());
    let copies: HashSet<&Path> = databases.iter().map(|(name, _)| name.as_path()).collect();
    let entries = members
        .iter()
        .filter(|(member, _)| listed.as_ref().is_none_or(|(list, _)| *list != member.name))
        .filter_map(|(member, sha256)| {
            let inside = member.name.strip_prefix(&strip).ok().filter(|path| *path != Path::new(""))?;
            let path =
                if origin == Origin::Shell { Path::new("memory").join(inside) } else { inside.to_owned() };
            Some(Entry {
                member: member.name.clone(),
                outward: leads_out(&path, &member.shape),
                database: copies.contains(member.name.as_path()),
                path,
                shape: member.shape.clone(),
                size: member.size,
                sha256: sha256.clone(),
                mode: member.mode,
                owner: member.owner,
                mtime: member.mtime,
            })
        })
        .collect();
    Ok(Contents { origin, manifest: None, entries, sound_databases: databases.len(), notes })
}

/// What a foreign archive is, and the folder at its top that is only a wrapping.
fn layout<'a>(
    members: impl Iterator<Item = &'a Member>,
    listed: Option<&(PathBuf, Vec<u8>)>,
) -> (Origin, PathBuf) {
    let mut tops: Vec<&Path> = Vec::new();
    for member in members {
        let top = member.name.iter().next().map(Path::new).unwrap_or(&member.name);
        if !tops.contains(&top) && tops.len() < 2 {
            tops.push(top);
        }
    }
    // Backups are wrapped in a folder named by their time: 20261120_093001.
    let stamp = |top: &Path| {
        let name = top.as_os_str().as_bytes();
        name.len() >= 15 && name[8] == b'_' && name[..8].iter().chain(&name[9..15]).all(u8::is_ascii_digit)
    };
    let strip = match tops[..] {
        [top] if stamp(top) => top.to_owned(),
        _ => PathBuf::new(),
    };
    let shell = listed.is_some_and(|(list, _)| list.parent() == Some(&strip));
    (if shell { Origin::Shell } else { Origin::Plain }, strip)
}

/// Where a database or a file that belongs to one is unpacked to be checked; none for other files.
/// The name is short whatever the archive says, and keeps the three together.
fn database_file(scratch: &Path, name: &Path, head: &[u8]) -> Option<PathBuf> {
    let text = name.as_os_str().as_bytes();
    let sidecar = ["-wal", "-journal"].into_iter().find(|suffix| text.ends_with(suffix.as_bytes()));
    if head != b"SQLite format 3\0" && sidecar.is_none() {
        return None;
    }
    let suffix = sidecar.unwrap_or_default();
    let base = hex(&Sha256::digest(&text[..text.len() - suffix.len()]));
    Some(scratch.join(format!("{}{suffix}", &base[..32])))
}

/// Whether a link, put at a path in the home, points out of it.
fn leads_out(path: &Path, shape: &Shape) -> bool {
    let Shape::Link(target) = shape else { return false };
    let mut depth = path.components().count() as i64 - 1;
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return true,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

fn enough(archive: &Path, problems: &[String]) -> Result<()> {
    if problems.len() < MOST_PROBLEMS { Ok(()) } else { Err(refuse(archive, &problems.join("; "))) }
}

/// The hash of a member, which is copied to `target` meanwhile.
fn hash(archive: &Path, content: &mut dyn Read, target: &mut dyn Write) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => {
                hash.update(&buffer[..read]);
                target.write_all(&buffer[..read]).context("cannot unpack to check it")?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(refuse(archive, &format!("it is damaged: {error}"))),
        }
    }
}

fn unpack(archive: &Path, content: &mut dyn Read, target: &Path) -> Result<String> {
    let mut file = File::create(target).with_context(|| format!("cannot create {}", target.display()))?;
    hash(archive, content, &mut file)
}

/// One line on what was verified.
pub fn describe(contents: &Contents) -> String {
    let files = crate::base::text::count(contents.count(), "file");
    let databases = crate::base::text::count(contents.sound_databases, "database");
    one_line(&format!("{files}, {databases}, {}", crate::base::units::Size(contents.bytes())), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_seen() {
        for (path, target, out) in [
            ("a", "b", false),
            ("a/b", "../c", false),
            ("a/b", "../../c", true),
            ("a", "..", true),
            ("a", "/etc/passwd", true),
            ("a/b/c", "./../../x/../..", true),
            ("a/b/c", "d/../../../x", false),
        ] {
            assert_eq!(leads_out(Path::new(path), &Shape::Link(target.into())), out, "{path} -> {target}");
        }
    }
}
