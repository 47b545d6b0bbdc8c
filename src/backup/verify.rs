//! Reads archives back: every byte inflated, every hash compared, every database opened; all of
//! one, or what is wanted of it. Files can be taken out on the way.

use super::check::Checker;
use super::content::{self, Content, Hasher};
use super::contents::{Contents, Entry, Take};
use super::damage::{MOST_PROBLEMS, enough, refuse, refuse_if_any};
use super::expected::Expected;
use super::foreign;
use super::manifest::{self, CHECKSUMS, Kind, MANIFEST, Manifest};
use super::parts;
use super::reader::{self, Shape};
use super::scratch::Scratch;
use super::space::need_room_for;
use crate::base::database::Verdict;
use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

const NO_MANIFEST: &str = "there is no manifest to compare with";
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
            let reading =
                Reading { archive, scratch: scratch.path(), checked: &HashSet::new(), manifest_hash: None };
            let manifest = contents.manifest.as_ref().context(NO_MANIFEST)?;
            let sound_databases = reading.all(manifest, None, None)?;
            Ok(Contents { sound_databases, ..contents })
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
    let reading = Reading { archive, scratch: scratch.path(), checked: &HashSet::new(), manifest_hash: None };
    let manifest = contents.manifest.as_ref().context(NO_MANIFEST)?;
    reading.all(manifest, Some(contents), Some(take))
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
    let (mut under_check, mut problems) = (Vec::new(), Vec::new());
    let files = wanted.iter().filter(|entry| entry.shape == Shape::File).collect();
    parts::read(archive, files, &mut |entry, inner| {
        let mut content = Content::new(archive, inner, entry.size, &hasher);
        let taken = take(entry, &mut content)?;
        content.end(&entry.path, &entry.sha256)?;
        if let Some(copy) = taken.filter(|_| entry.database) {
            checker.add(copy)?;
            under_check.push(entry.path.clone());
        }
        Ok(())
    })?;
    let sound = judge(&under_check, checker, &mut problems, |path| !not_sound.contains(path))?;
    compare(hasher, &mut problems)?;
    refuse_if_any(archive, problems)?;
    Ok(sound)
}

/// Verifies an archive that was written just now. Databases whose content is, by its hash, what
/// was checked when they were saved are not checked a second time.
pub(super) fn verify_new(archive: &Path, scratch: &Path, written: &Manifest) -> Result<()> {
    let databases: HashSet<&Path> =
        written.databases.iter().map(|database| database.path.0.as_path()).collect();
    let checked = written.files.iter().filter(|item| databases.contains(item.path.0.as_path()));
    let checked = checked.filter_map(|item| match item.kind {
        Kind::File { sha256, .. } => Some(sha256),
        _ => None,
    });
    let checked = checked.collect();
    let scratch = Scratch::new(scratch, VERIFYING)?;
    let manifest_hash = Some(written.hash()?);
    let reading = Reading { archive, scratch: scratch.path(), checked: &checked, manifest_hash };
    reading.all(written, None, None).map(drop)
}

/// One reading of all of an archive of ours.
struct Reading<'a> {
    archive: &'a Path,
    /// Where databases are unpacked that nobody takes.
    scratch: &'a Path,
    /// The hashes of databases that need no check.
    checked: &'a HashSet<String>,
    /// The hash that the manifest has to have, if that is known.
    manifest_hash: Option<String>,
}

impl Reading<'_> {
    /// Compares everything with what the index says. Gives how many databases are sound.
    fn all(
        &self,
        manifest: &Manifest,
        contents: Option<&Contents>,
        mut take: Option<&mut Take<'_>>,
    ) -> Result<usize> {
        let archive = self.archive;
        let folder = PathBuf::from(&manifest.folder);
        let entry = |number: usize| {
            let contents = contents?;
            contents.entries.get(number).or_else(|| contents.raw.get(number - contents.entries.len()))
        };
        let mut expected = Expected::new(manifest);
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
        let mut under_check = Vec::new();

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
            let Some((item, number)) = expected.take(&member.name) else {
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
                    let taken = match (entry(number), &mut take) {
                        (Some(entry), Some(take)) => take(entry, &mut content)?,
                        _ => None,
                    };
                    if let Some(database) = databases.get(&member.name) {
                        if self.checked.contains(sha256) {
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
                    content.end(&member.name, sha256)?;
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
        compare(hasher, &mut problems)?;
        let missing = expected.missing().ok_or_else(|| refuse(archive, "its manifest names a file twice"))?;
        let missing = missing.iter().map(|name| format!("{} is missing", name.display()));
        problems.extend(missing.take(MOST_PROBLEMS));
        if self.manifest_hash.is_some() && self.manifest_hash != manifest_hash {
            problems.push(format!("{MANIFEST} is not what was written"));
        }
        let listed = manifest_hash.map(|hash| manifest.hash_of_checksums(&hash)).transpose()?;
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

/// Notes the files that have other hashes than they should.
fn compare(hasher: Hasher, problems: &mut Vec<String>) -> Result<()> {
    let wrong = hasher.finish()?;
    problems.extend(wrong.iter().map(|name| format!("{} is not what its manifest says", name.display())));
    Ok(())
}
