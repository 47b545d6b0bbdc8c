//! Archives that this program did not make: of the shell scripts before it, or by any `tar`. There
//! is no index, so all of one is read before anything is known of it.

use super::content::{Content, Hasher, hash};
use super::contents::{Contents, Entry, Origin, Take, leads_out};
use super::damage::{refuse, refuse_if_any, unreadable};
use super::flaw::NotJudged;
use super::limits;
use super::manifest::{self, CHECKSUMS, Name};
use super::reader::{self, Member, Shape};
use super::space::need_room_for;
use crate::base::database::{self, Verdict};
use crate::base::text::hex;
use crate::base::xattrs::Xattrs;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the check of one database may take.
const CHECK: Duration = Duration::from_secs(3600);

/// Lets `take` have the files of an archive that was verified a moment ago. Of files that are hard
/// links of each other it gets one. Hashes are compared once more: it may have changed since.
///
/// # Errors
/// As of [`verify`], and those of `take`.
pub(super) fn unpack(archive: &Path, contents: &Contents, take: &mut Take<'_>) -> Result<()> {
    let mut entries: HashMap<&Path, &Entry> = contents
        .entries
        .iter()
        .filter(|entry| entry.shape == Shape::File)
        .map(|entry| (entry.member.as_path(), entry))
        .collect();
    let hasher = Hasher::begin();
    reader::walk(archive, &mut |member, inner| {
        let Some(entry) = entries.remove(member.name.as_path()) else { return Ok(()) };
        let mut content = Content::new(archive, inner, entry.size, &hasher);
        take(entry, &mut content)?;
        content.end(&entry.member, &entry.sha256)
    })?;
    let missing = entries.into_values().next().map(|entry| entry.member.clone());
    match hasher.finish()?.into_iter().next().or(missing) {
        None => Ok(()),
        Some(member) => {
            bail!("{} is not what was verified a moment ago; did the archive change?", member.display())
        }
    }
}

/// Reads an archive of somebody else. With a `scratch` folder its databases are unpacked there and
/// checked; without one nothing is written.
///
/// # Errors
/// A [`crate::base::Fault`] that names what is wrong, when anything is.
pub(super) fn verify(archive: &Path, scratch: Option<&Path>) -> Result<Contents> {
    let mut members: Vec<(Member, String)> = Vec::new();
    let mut databases: Vec<(PathBuf, Option<PathBuf>)> = Vec::new();
    let mut listed: Option<(PathBuf, Vec<u8>)> = None;
    let most = limits::members(fs::metadata(archive).map_or(0, |meta| meta.len()));
    reader::walk(archive, &mut |member, content| {
        if members.len() as u64 >= most {
            return Err(refuse(archive, "it has more members than any archive of its length"));
        }
        if member.shape != Shape::File || member.same_as.is_some() {
            members.push((member.clone(), String::new()));
            return Ok(());
        }
        let mut head = Vec::new();
        let broken = |error: io::Error| unreadable(archive, error);
        content.take(16).read_to_end(&mut head).map_err(broken)?;
        let target = scratch.and_then(|scratch| database_file(scratch, &member.name, &head));
        if head == *b"SQLite format 3\0" {
            databases.push((member.name.clone(), target.clone()));
        }
        let mut whole = head.chain(content);
        let sha256 = if member.name.file_name().is_some_and(|name| name == CHECKSUMS)
            && member.size <= limits::MOST_CHECKSUMS
        {
            let mut text = Vec::new();
            let sha256 = hash(archive, &mut whole, &mut |piece| {
                text.extend_from_slice(piece);
                Ok(())
            })?;
            listed = Some((member.name.clone(), text));
            sha256
        } else if let Some(target) = target {
            need_room_for(member.size, &target)?;
            let unpacking = || format!("cannot unpack {} to check it", target.display());
            let mut file = File::create(&target).with_context(unpacking)?;
            hash(archive, &mut whole, &mut |piece| file.write_all(piece).with_context(unpacking))?
        } else {
            hash(archive, &mut whole, &mut |_| Ok(()))?
        };
        members.push((member.clone(), sha256));
        Ok(())
    })?;
    // A hard link has the content of the file it is one to.
    let originals: HashSet<PathBuf> =
        members.iter().filter_map(|(member, _)| member.same_as.clone()).collect();
    let hashes: HashMap<PathBuf, String> = members
        .iter()
        .filter(|(member, _)| originals.contains(&member.name))
        .map(|(member, sha256)| (member.name.clone(), sha256.clone()))
        .collect();
    for (member, sha256) in &mut members {
        if let Some(original) = &member.same_as {
            *sha256 = hashes.get(original).cloned().unwrap_or_default();
        }
    }

    let mut problems = Vec::new();
    let (mut sound_databases, mut unjudged) = (0, Vec::new());
    for (name, copy) in databases.iter().filter_map(|(name, copy)| Some((name, copy.as_ref()?))) {
        // A database with a WAL beside it is whole only together with it.
        let mut connection =
            rusqlite::Connection::open(copy).with_context(|| format!("cannot open {}", copy.display()))?;
        match database::check(&mut connection, "quick_check", CHECK)? {
            Verdict::Sound => sound_databases += 1,
            Verdict::Unjudged(reason, why) => {
                unjudged.push(NotJudged { path: Name(name.clone()), reason, why });
            }
            Verdict::Damaged(text) => problems.push(format!("the database {}: {text}", name.display())),
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
    refuse_if_any(archive, problems)?;
    let (origin, strip) = layout(members.iter().map(|(member, _)| member), listed.as_ref());
    drop((originals, hashes));
    let copies: HashSet<&Path> = databases.iter().map(|(name, _)| name.as_path()).collect();
    let entries = members
        .into_iter()
        .filter(|(member, _)| listed.as_ref().is_none_or(|(list, _)| *list != member.name))
        .filter_map(|(member, sha256)| {
            let inside = member.name.strip_prefix(&strip).ok().filter(|path| *path != Path::new(""))?;
            let path =
                if origin == Origin::Shell { Path::new("memory").join(inside) } else { inside.to_owned() };
            let original = member.same_as.unwrap_or(member.name);
            Some(Entry {
                outward: leads_out(&path, &member.shape),
                database: copies.contains(original.as_path()),
                member: original,
                path,
                shape: member.shape,
                size: member.size,
                sha256,
                mode: member.mode,
                xattrs: Xattrs::default(),
                owner: member.owner,
                mtime: member.mtime,
                at: None,
            })
        })
        .collect();
    let (raw, flaws, unjudged) = (Vec::new(), Vec::new(), unjudged);
    Ok(Contents { origin, manifest: None, entries, raw, flaws, unjudged, sound_databases, notes })
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
