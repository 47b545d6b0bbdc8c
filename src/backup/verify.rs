//! Reads archives back: every byte inflated, every hash compared, every database opened; all of
//! one, or what is wanted of it. Files can be taken out on the way.

use super::check::Checker;
use super::content::{self, Content, Hasher};
use super::contents::{Contents, Entry, Take};
use super::damage::{MOST_PROBLEMS, enough, refuse, refuse_if_any};
use super::foreign;
use super::manifest::{self, CHECKSUMS, Kind, MANIFEST, Manifest};
use super::parts;
use super::reader::{self, Shape};
use super::scratch::Scratch;
use super::space::need_room_for;
use crate::base::database::Verdict;
use crate::base::text::hex;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The beginning of the name of a work folder.
const VERIFYING: &str = ".part-verify-";

/// Verifies an archive. Databases are unpacked into a new folder in `scratch`, which is removed
/// again.
///
/// # Errors
/// A [`crate::base::Fault`] that names what is wrong, when anything is.
pub fn verify(archive: &Path, scratch: &Path) -> Result<Contents> {
    let contents = Contents::peek(archive)?;
    let scratch = Scratch::new(scratch, VERIFYING)?;
    match contents {
        Some(contents) => {
            let reading = Reading { archive, scratch: scratch.path(), checked: &HashSet::new() };
            Ok(Contents { sound_databases: reading.all(&contents, None)?, ..contents })
        }
        None => foreign::verify(archive, Some(scratch.path())),
    }
}

/// What is in an archive: by its index, or by reading all of one that has none. Databases are not
/// opened, and nothing is written.
///
/// # Errors
/// As of [`Contents::peek`]; and when one without index is damaged or not harmless.
pub fn read_contents(archive: &Path) -> Result<Contents> {
    match Contents::peek(archive)? {
        Some(contents) => Ok(contents),
        None => foreign::verify(archive, None),
    }
}

/// Verifies all of an archive and lets `take` have its files meanwhile. What [`Contents::peek`]
/// said of it is compared now; one that has no index was verified to know its contents, so that of
/// it only the hashes are compared again. Gives how many databases are sound.
///
/// # Errors
/// As of [`verify`], and those of `take`.
pub fn unpack(archive: &Path, contents: &Contents, scratch: &Path, take: &mut Take<'_>) -> Result<usize> {
    if contents.manifest.is_none() {
        foreign::unpack(archive, contents, take)?;
        return Ok(contents.sound_databases);
    }
    let scratch = Scratch::new(scratch, VERIFYING)?;
    Reading { archive, scratch: scratch.path(), checked: &HashSet::new() }.all(contents, Some(take))
}

/// Lets `take` have these files of an archive of ours, and reads no others: their hashes are
/// compared, and the databases that it took are checked, but for those that were `not_sound` when
/// they were saved. Gives how many are sound.
///
/// # Errors
/// As of [`unpack`].
pub fn unpack_part(
    archive: &Path,
    not_sound: &HashSet<&Path>,
    wanted: &[Entry],
    take: &mut Take<'_>,
) -> Result<usize> {
    let hasher = Hasher::begin();
    let databases: Vec<_> = wanted.iter().filter(|entry| entry.database).collect();
    let checker = Checker::begin(databases.len(), false);
    let (mut hashed, mut under_check, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let files = wanted.iter().filter(|entry| entry.shape == Shape::File).collect();
    parts::read(archive, files, &mut |entry, inner| {
        let mut content = Content::new(archive, inner, entry.size, &hasher);
        let taken = take(entry, &mut content)?;
        content.end()?;
        hashed.push((entry.path.clone(), entry.sha256.clone()));
        if let Some(copy) = taken.filter(|_| entry.database) {
            checker.add(copy)?;
            under_check.push(entry.path.clone());
        }
        Ok(())
    })?;
    let sound = judge(&under_check, checker, &mut problems, |path| !not_sound.contains(path))?;
    compare(hashed, hasher, &mut problems)?;
    refuse_if_any(archive, problems)?;
    Ok(sound)
}

/// Verifies an archive that was written just now. Databases whose content is, by its hash, what
/// was checked when they were saved are not checked a second time.
pub(super) fn verify_new(archive: &Path, scratch: &Path, written: &Manifest) -> Result<()> {
    let contents = Contents::peek(archive)?.ok_or_else(|| refuse(archive, "it is not what was written"))?;
    let databases: HashSet<&Path> =
        written.databases.iter().map(|database| database.path.0.as_path()).collect();
    let checked = written.files.iter().filter(|item| databases.contains(item.path.0.as_path()));
    let checked = checked.filter_map(|item| match &item.kind {
        Kind::File { sha256, .. } => Some(sha256.as_str()),
        _ => None,
    });
    let checked = checked.collect();
    let scratch = Scratch::new(scratch, VERIFYING)?;
    Reading { archive, scratch: scratch.path(), checked: &checked }.all(&contents, None).map(drop)
}

/// One reading of all of an archive of ours.
struct Reading<'a> {
    archive: &'a Path,
    /// Where databases are unpacked that nobody takes.
    scratch: &'a Path,
    /// The hashes of databases that need no check.
    checked: &'a HashSet<&'a str>,
}

impl Reading<'_> {
    /// Compares everything with what the index says. Gives how many databases are sound.
    fn all(&self, contents: &Contents, mut take: Option<&mut Take<'_>>) -> Result<usize> {
        let archive = self.archive;
        let manifest = contents.manifest.as_ref().context("there is no manifest to compare with")?;
        let folder = PathBuf::from(&manifest.folder);
        let entries = contents.entries.iter().chain(&contents.raw).map(Some).chain(std::iter::repeat(None));
        let members = manifest.members().map(|(name, item)| (folder.join(name), item));
        let mut expected: HashMap<PathBuf, (&manifest::Item, Option<&Entry>)> =
            members.zip(entries).map(|((name, item), entry)| (name, (item, entry))).collect();
        if expected.len() != manifest.files.len() + manifest.damaged.len() + manifest.dumps.len() {
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
        let hasher = Hasher::begin();
        // What was taken stays; copies of ours go one by one, to need little space.
        let checker = match take {
            Some(_) => Checker::begin(databases.len(), false),
            None => Checker::begin(1, true),
        };
        let (mut under_check, mut hashed) = (Vec::new(), Vec::new());

        reader::walk(archive, &mut |member, inner| {
            if member.name == folder && member.shape == Shape::Folder {
                return Ok(());
            }
            if member.name == manifest_name {
                manifest_hash = Some(content::hash(archive, inner, &mut |_| Ok(()))?);
                return Ok(());
            }
            if member.name == checksums_name {
                checksums = Some(content::hash(archive, inner, &mut |_| Ok(()))?);
                return Ok(());
            }
            let Some((item, entry)) = expected.remove(&member.name) else {
                problems.push(format!("{} is not in its manifest", member.name.display()));
                return enough(archive, &problems);
            };
            let fits = match (&item.kind, &member.shape) {
                (Kind::Folder, Shape::Folder) => true,
                (Kind::Link { target }, Shape::Link(points_to)) => target.0 == *points_to,
                // Before any of it is taken: a length is where a lie costs most.
                (Kind::File { size, .. }, Shape::File)
                    if *size != member.size || member.same_as.is_some() =>
                {
                    false
                }
                (Kind::File { sha256, .. }, Shape::File) => {
                    let mut content = Content::new(archive, inner, member.size, &hasher);
                    let taken = match (entry, &mut take) {
                        (Some(entry), Some(take)) => take(entry, &mut content)?,
                        _ => None,
                    };
                    if let Some(database) = databases.get(&member.name) {
                        if self.checked.contains(sha256.as_str()) {
                            sound_databases += usize::from(database.is_sound());
                        } else {
                            let copy = match taken {
                                Some(taken) => taken,
                                None => {
                                    let copy = self.scratch.join(format!("{}.db", under_check.len()));
                                    need_room_for(member.size, &copy)?;
                                    content.unpack_to(&copy)?;
                                    copy
                                }
                            };
                            checker.add(copy)?;
                            under_check.push(member.name.clone());
                        }
                    }
                    content.end()?;
                    hashed.push((member.name.clone(), sha256.clone()));
                    true
                }
                _ => false,
            };
            if !fits {
                problems.push(format!("{} is not what its manifest says", member.name.display()));
            }
            enough(archive, &problems)
        })?;

        let sound = |name: &Path| databases.get(name).is_some_and(|database| database.is_sound());
        sound_databases += judge(&under_check, checker, &mut problems, sound)?;
        compare(hashed, hasher, &mut problems)?;
        let mut missing: Vec<_> =
            expected.keys().map(|name| format!("{} is missing", name.display())).collect();
        missing.sort();
        problems.extend(missing.into_iter().take(MOST_PROBLEMS));
        let listed = manifest_hash.map(|hash| hex(&Sha256::digest(manifest.checksums(&hash))));
        if listed.is_none() || checksums != listed {
            problems.push(format!("{CHECKSUMS} does not agree with {MANIFEST}"));
        }
        refuse_if_any(archive, problems)?;
        Ok(sound_databases)
    }
}

/// Waits for the checks of databases. Those that were sound when they were saved must be so still:
/// gives how many are.
fn judge(
    names: &[PathBuf],
    checker: Checker,
    problems: &mut Vec<String>,
    was_sound: impl Fn(&Path) -> bool,
) -> Result<usize> {
    let mut sound = 0;
    for (name, verdict) in names.iter().zip(checker.finish()?) {
        match verdict? {
            Verdict::Sound => sound += 1,
            Verdict::Damaged(text) if was_sound(name) => {
                problems.push(format!("the database {}: {text}", name.display()));
            }
            // Damaged when it was saved: the manifest says so. What cannot be judged is as good as its hash.
            Verdict::Damaged(_) | Verdict::Unjudged(..) => {}
        }
    }
    Ok(sound)
}

/// Compares the hashes that files should have with those that were found.
fn compare(expected: Vec<(PathBuf, String)>, hasher: Hasher, problems: &mut Vec<String>) -> Result<()> {
    for ((name, sha256), found) in expected.into_iter().zip(hasher.finish()?) {
        if found != sha256 {
            problems.push(format!("{} is not what its manifest says", name.display()));
        }
    }
    Ok(())
}
