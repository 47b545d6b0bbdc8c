//! What an archive brings back, whoever made it.

use super::content::Content;
use super::damage::refuse;
use super::flaw::{Flaw, NotJudged};
use super::index;
use super::manifest::{self, Kind, Manifest};
use super::outside::is_plain;
use super::reader::Shape;
use crate::base::database::sidecars;
use crate::base::text::{count, one_line};
use crate::base::units::Size;
use crate::base::xattrs::Xattrs;
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

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

/// What is in an archive.
#[derive(Debug)]
pub struct Contents {
    /// Who made it.
    pub origin: Origin,
    /// Its manifest, if it is ours.
    pub manifest: Option<Manifest>,
    /// What a restore brings back, in the order of the archive.
    pub entries: Vec<Entry>,
    /// Raw files of damaged databases, in the order of the archive: each where it belongs.
    pub raw: Vec<Entry>,
    /// What is wrong with it.
    pub flaws: Vec<Flaw>,
    /// Databases in it that could not be judged.
    pub unjudged: Vec<NotJudged>,
    /// How many databases were opened and found sound; 0 before somebody looked.
    pub sound_databases: usize,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// One thing that a restore brings back.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name in the archive of the member that has its content.
    pub member: PathBuf,
    /// Where it belongs: relative to the home, or absolute outside it.
    pub path: PathBuf,
    /// What it is.
    pub shape: Shape,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of a file.
    pub sha256: String,
    /// Its permissions.
    pub mode: u32,
    /// Its extended attributes and access control lists.
    pub xattrs: Xattrs,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// When it was last written.
    pub mtime: DateTime<Utc>,
    /// Where its content begins in the tar stream, if an index says so.
    pub at: Option<u64>,
    /// Whether it is an SQLite database.
    pub database: bool,
    /// Whether it is a link that leads out of the home. Such a link is not restored.
    pub outward: bool,
}

/// Takes a file out of an archive while it is verified, or lets it pass. Gives where it lies then.
/// Nothing that was taken may be used before all of the verification is done.
pub type Take<'a> = dyn FnMut(&Entry, &mut Content<'_>) -> Result<Option<PathBuf>> + 'a;

impl Contents {
    /// What the index of an archive says: quick, and compared with nothing. None: the archive was
    /// not made by this program.
    ///
    /// # Errors
    /// A [`crate::base::Fault`] when it was, and is cut or damaged, or names a file outside of the
    /// home.
    pub fn peek(archive: &Path) -> Result<Option<Contents>> {
        index::peek(archive)?.map(|manifest| Contents::of(archive, manifest)).transpose()
    }

    /// What a manifest says.
    pub(super) fn of(archive: &Path, manifest: Manifest) -> Result<Contents> {
        let folder = PathBuf::from(&manifest.folder);
        let databases: HashSet<&Path> =
            manifest.databases.iter().map(|database| database.path.0.as_path()).collect();
        let outside = || refuse(archive, "its manifest names a file outside the home");
        let entry = |item: &manifest::Item| entry_of(item, &folder, &databases);
        let entries = manifest.files.iter().map(|item| entry(&item)).collect::<Option<Vec<_>>>();
        let entries = entries.ok_or_else(outside)?;
        let raw = manifest.damaged.iter().map(entry).collect::<Option<Vec<_>>>();
        let mut raw = raw.ok_or_else(outside)?;
        for entry in &mut raw {
            entry.member = folder.join(manifest::DAMAGED).join(&entry.path);
        }
        let (flaws, unjudged, notes) = (manifest.flaws(), manifest.not_judged(), manifest.problems.clone());
        let manifest = Some(manifest);
        Ok(Contents {
            origin: Origin::Ours,
            entries,
            raw,
            flaws,
            unjudged,
            sound_databases: 0,
            notes,
            manifest,
        })
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().fold(0, |bytes, entry| bytes.saturating_add(entry.size))
    }

    /// How many files and links there are.
    pub fn count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.shape != Shape::Folder).count()
    }

    /// The databases that were not known to be sound when they were saved, by their path in the home.
    pub fn not_sound(&self) -> HashSet<&Path> {
        let databases = self.manifest.iter().flat_map(|manifest| &manifest.databases);
        databases.filter(|database| !database.is_sound()).map(|database| database.path.0.as_path()).collect()
    }

    /// Of the raw files, those of databases of which there is nothing else.
    pub fn only_raw(&self) -> impl Iterator<Item = &Entry> {
        let databases: HashSet<&Path> = self
            .flaws
            .iter()
            .filter_map(|flaw| match flaw {
                Flaw::DamagedDatabase { path, raw: true, .. } => Some(path.0.as_path()),
                _ => None,
            })
            .collect();
        let beside: HashSet<PathBuf> = databases.iter().flat_map(|path| sidecars(path)).collect();
        let wanted = move |path: &Path| databases.contains(path) || beside.contains(path);
        self.raw.iter().filter(move |entry| wanted(&entry.path))
    }

    /// What a command of `[backup.dump]` wrote, by its name.
    pub fn dump(&self, name: &str) -> Option<Entry> {
        let manifest = self.manifest.as_ref()?;
        let dump = manifest.dumps.iter().find(|dump| dump.name == name)?;
        // Its own member: what the path in the index says of it does not count.
        let item = manifest::Item { path: manifest::Name("dump".into()), ..dump.file.clone() };
        let entry = entry_of(&item, Path::new(&manifest.folder), &HashSet::new())?;
        Some(Entry { member: Path::new(&manifest.folder).join(dump.member()), ..entry })
    }

    /// One line on what is in it.
    pub fn describe(&self) -> String {
        let (files, databases) = (count(self.count(), "file"), count(self.sound_databases, "database"));
        let dumps = match self.manifest.as_ref().map_or(0, |manifest| manifest.dumps.len()) {
            0 => String::new(),
            dumps => format!(", {}", count(dumps, "dump")),
        };
        one_line(&format!("{files}, {databases}{dumps}, {}", Size(self.bytes())), 200)
    }
}

fn entry_of(item: &manifest::Item, folder: &Path, databases: &HashSet<&Path>) -> Option<Entry> {
    let path = item.path.0.clone();
    let is_below = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    if path.as_os_str().is_empty() || !(is_below(&path) || is_plain(&path)) {
        return None;
    }
    let (shape, size, sha256) = match &item.kind {
        Kind::File { size, sha256 } => (Shape::File, *size, sha256.clone()),
        Kind::Folder => (Shape::Folder, 0, String::new()),
        Kind::Link { target } => (Shape::Link(target.0.clone()), 0, String::new()),
    };
    Some(Entry {
        member: folder.join(manifest::member(&path)),
        // Outside the home, links lead wherever the folder of an include is.
        outward: path.is_relative() && leads_out(&path, &shape),
        database: databases.contains(path.as_path()),
        path,
        shape,
        size,
        sha256,
        mode: item.mode,
        xattrs: item.xattrs.clone(),
        owner: (item.uid, item.gid),
        mtime: item.mtime,
        at: item.at,
    })
}

/// Whether a link, put at a path in the home, points out of it.
pub(super) fn leads_out(path: &Path, shape: &Shape) -> bool {
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
