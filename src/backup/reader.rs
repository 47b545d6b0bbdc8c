//! Reads any `.tar.gz`, member by member, and trusts none of it.

use super::damage::{refuse, unreadable};
use super::hashes::{PathHash, PathHasher};
use super::limits;
use super::stream::{MOST_BETWEEN, Tail, content};
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// One member as the tar header tells it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name: relative, without `.` and `..`.
    pub name: PathBuf,
    /// What it is.
    pub shape: Shape,
    /// Bytes.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// When it was last written.
    pub mtime: DateTime<Utc>,
    /// The earlier file whose content is this one's too: it is a hard link to it, and has none of
    /// its own.
    pub same_as: Option<PathBuf>,
}

/// The shapes that are taken from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link to this.
    Link(PathBuf),
}

/// How a name was met in an archive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// As a folder that something lies in.
    Implied,
    /// As a folder.
    Folder,
    /// As a file of this length, or a hard link to one.
    File(u64),
    /// As a symbolic link.
    Link,
}

/// Shows every member to `visit`, in order, each name once. What `visit` does not read is passed
/// over, but inflated and checked all the same.
///
/// # Errors
/// A [`crate::base::Fault`] when the file is damaged or cut, or has a member that no honest archive has: an
/// absolute name or one with `..`, a second one of the same name, one below a file or link, a
/// device, a pipe, a hard link to anything but an earlier file.
pub fn walk(archive: &Path, visit: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>) -> Result<()> {
    let length = fs::metadata(archive).map_or(0, |meta| meta.len());
    let (mut content_left, mut names_left) = (limits::content(length), limits::names(length));
    let between = Cell::new(Some(MOST_BETWEEN));
    let mut tar = tar::Archive::new(Tail::new(content(archive)?, &between));
    let broken = |error: io::Error| unreadable(archive, error);
    let hasher = PathHasher::default();
    let mut seen: HashMap<PathHash, Seen> = HashMap::new();
    // The files that hard links are links to.
    let mut originals: HashMap<PathBuf, PathBuf> = HashMap::new();
    for entry in tar.entries().map_err(broken)? {
        between.set(None);
        let mut entry = entry.map_err(broken)?;
        let Some(mut member) = member(&mut entry).map_err(|why| refuse(archive, &why))? else {
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            between.set(Some(MOST_BETWEEN));
            continue;
        };
        let shown = member.name.display();
        let below = |up: &&Path| matches!(seen.get(&hasher.hash(up)), Some(Seen::File(_) | Seen::Link));
        if let Some(up) = member.name.ancestors().skip(1).find(below) {
            return Err(refuse(archive, &format!("{shown} lies below {}, which is no folder", up.display())));
        }
        if let Some(target) = member.same_as.take() {
            if member.size > 0 {
                return Err(refuse(archive, &format!("{shown} is a hard link with content of its own")));
            }
            let Some(Seen::File(size)) = seen.get(&hasher.hash(&target)) else {
                let why = format!("{shown} is a hard link to {}, no earlier file in it", target.display());
                return Err(refuse(archive, &why));
            };
            member.size = *size;
            member.same_as = Some(originals.get(&target).cloned().unwrap_or(target));
        }
        let holds = if member.same_as.is_some() { 0 } else { member.size };
        content_left = content_left.checked_sub(holds).ok_or_else(|| {
            refuse(archive, &format!("{shown} has {} bytes, more than fit into it", member.size))
        })?;
        let mut remember = |name: &Path| {
            let cost = name.as_os_str().len() as u64 + limits::NAME;
            names_left = names_left
                .checked_sub(cost)
                .ok_or_else(|| refuse(archive, "it has more names than any archive of its length"))?;
            anyhow::Ok(hasher.hash(name))
        };
        if let (Shape::Link(target), _) | (_, Some(target)) = (&member.shape, &member.same_as) {
            remember(target)?;
        }
        let folder = member.shape == Shape::Folder;
        let kind = match member.shape {
            Shape::Folder => Seen::Folder,
            Shape::File => Seen::File(member.size),
            Shape::Link(_) => Seen::Link,
        };
        if let Some(original) = &member.same_as {
            originals.insert(member.name.clone(), original.clone());
        }
        match seen.insert(remember(&member.name)?, kind) {
            None => {}
            Some(Seen::Implied) if folder => {}
            // Ordinary tar repeats folders; that does no harm.
            Some(Seen::Folder) if folder => {
                io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
                between.set(Some(MOST_BETWEEN));
                continue;
            }
            Some(_) => return Err(refuse(archive, &format!("{shown} is in it twice"))),
        }
        for up in member.name.ancestors().skip(1).filter(|up| *up != Path::new("")) {
            if seen.contains_key(&hasher.hash(up)) {
                break;
            }
            seen.insert(remember(up)?, Seen::Implied);
        }
        visit(&member, &mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
        between.set(Some(MOST_BETWEEN));
    }
    between.set(None);
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(broken)?;
    if rest.zeros < 1024 {
        return Err(refuse(archive, "it was cut: the mark at its end is missing"));
    }
    Ok(())
}

/// A member whose name and shape are harmless; none for the root itself and for global headers.
fn member<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Member>, String> {
    let name = harmless(&entry.path().map_err(|error| error.to_string())?)?;
    let shown = name.display();
    let has_acl = has_pax(entry, b"SCHILY.acl.access");
    if has_pax(entry, b"GNU.sparse.") {
        return Err(format!("{shown} is a sparse file in a form that cannot be read here; `tar` unpacks it"));
    }
    let header = entry.header();
    let target = || {
        let target = entry.link_name().map_err(|error| error.to_string())?;
        let target = target.ok_or_else(|| format!("{shown} is a link to nothing"))?;
        let fits = target.as_os_str().len() <= limits::MOST_NAME;
        fits.then(|| target.into_owned()).ok_or_else(|| format!("{shown} is a link to more than any path"))
    };
    let (shape, same_as) = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            (Shape::File, None)
        }
        tar::EntryType::Directory => (Shape::Folder, None),
        tar::EntryType::Symlink => (Shape::Link(target()?), None),
        tar::EntryType::Link => (Shape::File, Some(harmless(&target()?)?)),
        tar::EntryType::XGlobalHeader => return Ok(None),
        _ => return Err(format!("{shown} is a device, a pipe or something unknown")),
    };
    if name == Path::new("") {
        return if shape == Shape::Folder { Ok(None) } else { Err("a member has no name".to_owned()) };
    }
    let time =
        header.mtime().ok().and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    let id = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX);
    // What the group may is then what anybody in the list may, and the list is not read here.
    let beyond = if has_acl { 0o070 } else { 0 };
    Ok(Some(Member {
        name,
        shape,
        size: entry.size(),
        mode: header.mode().unwrap_or(0o600) & 0o7777 & !beyond,
        owner: (id(header.uid()), id(header.gid())),
        mtime: time.unwrap_or_default(),
        same_as,
    }))
}

/// Whether an extension of a member begins so: `GNU.sparse.` of a sparse file as GNU tar writes it with
/// `--format=pax`, whose content is preceded by a map, or lies elsewhere than it seems.
fn has_pax<R: Read>(entry: &mut tar::Entry<'_, R>, key: &[u8]) -> bool {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return false };
    extensions.flatten().any(|extension| extension.key_bytes().starts_with(key))
}

/// A name of a member, relative and without `.`, that stays in the folder it is put in.
fn harmless(raw: &Path) -> Result<PathBuf, String> {
    if raw.as_os_str().len() > limits::MOST_NAME {
        return Err("a name in it is longer than any path".to_owned());
    }
    let shown = raw.display();
    let mut name = PathBuf::new();
    for part in raw.components() {
        match part {
            Component::Normal(part) => name.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(format!("{shown} is an absolute name")),
            Component::ParentDir => return Err(format!("{shown} leads out of the folder it is put in")),
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
    use std::fs::File;

    /// A tar with one entry after another, each with its raw name and type.
    fn archive(dir: &Path, members: &[(&str, tar::EntryType, &str)]) -> PathBuf {
        let path = dir.join("x.tar.gz");
        let mut tar = tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
        for (name, kind, target) in members {
            let mut header = tar::Header::new_gnu();
            // By hand: the builder would refuse what a liar would write.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_link_name_literal(target).unwrap();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn a_hard_link_is_the_first_file_of_that_content() {
        use tar::EntryType::{Link, Regular};
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), &[("a", Regular, ""), ("b", Link, "./a"), ("c", Link, "b")]);
        let mut same = Vec::new();
        walk(&path, &mut |member, _| {
            same.push(member.same_as.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(same, [None, Some(PathBuf::from("a")), Some(PathBuf::from("a"))]);
    }

    fn names(path: &Path) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        walk(path, &mut |member, _| {
            names.push(member.name.clone());
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn dishonest_members_are_refused_by_name() {
        use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
        let dir = tempfile::tempdir().unwrap();
        for (members, why) in [
            (vec![("/etc/passwd", Regular, "")], "absolute"),
            (vec![("a/../../b", Regular, "")], "leads out"),
            (vec![("a", Regular, ""), ("a", Regular, "")], "twice"),
            (vec![("a", Regular, ""), ("./a", Regular, "")], "twice"),
            (vec![("a", Directory, ""), ("a", Symlink, "b")], "twice"),
            (vec![("a/b", Regular, ""), ("a", Symlink, "/tmp")], "twice"),
            (vec![("a", Symlink, "/tmp"), ("a/b", Regular, "")], "below a"),
            (vec![("a", Regular, ""), ("a/b/c", Regular, "")], "below a"),
            (vec![("a", Char, "")], "device"),
            (vec![("a", Block, "")], "device"),
            (vec![("a", Fifo, "")], "pipe"),
            (vec![("a", Link, "b")], "hard link to b, no earlier file"),
            (vec![("a", Link, "b"), ("b", Regular, "")], "no earlier file"),
            (vec![("a", Link, "a")], "no earlier file"),
            (vec![("b", Symlink, "/etc/passwd"), ("a", Link, "b")], "no earlier file"),
            (vec![("b", Directory, ""), ("a", Link, "b")], "no earlier file"),
            (vec![("b", Regular, ""), ("a", Link, "../b")], "leads out"),
            (vec![("b", Regular, ""), ("a", Link, "/b")], "absolute"),
            (vec![("b", Regular, ""), ("a", Link, "b"), ("a/c", Regular, "")], "below a"),
            (vec![("b", Regular, ""), ("a", Link, "b"), ("a", Regular, "")], "twice"),
        ] {
            let error = names(&archive(dir.path(), &members)).unwrap_err().to_string();
            assert!(error.contains(why), "{members:?}: {error}");
        }
        let good =
            archive(dir.path(), &[("./", Directory, ""), ("./a", Directory, ""), ("./a/b", Regular, "")]);
        assert_eq!(names(&good).unwrap(), [PathBuf::from("a"), PathBuf::from("a/b")]);
    }

    #[test]
    fn a_name_without_end_is_not_read_into_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        for (kind, fits) in [(b'L', 4_000), (b'K', 4_000), (b'x', 5_000), (b'g', 5_000_000)] {
            for size in [fits, 64 << 20] {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::new(kind));
                header.set_size(size);
                header.set_cksum();
                let mut tar =
                    tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
                tar.append(&header, io::repeat(b'n').take(size)).unwrap();
                let mut next = tar::Header::new_gnu();
                next.set_path("short").unwrap();
                next.set_size(0);
                next.set_cksum();
                tar.append(&next, io::empty()).unwrap();
                tar.into_inner().unwrap().finish().unwrap();
                let said = names(&path).map_err(|error| error.to_string());
                match kind {
                    b'g' => assert!(said.is_ok(), "it is passed over: {said:?}"),
                    _ if size == fits => assert!(said.is_ok(), "{said:?}"),
                    _ => assert!(said.unwrap_err().contains("has no end")),
                }
            }
        }
    }

    #[test]
    fn an_archive_cut_between_two_members_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let whole =
            archive(dir.path(), &[("a", tar::EntryType::Regular, ""), ("b", tar::EntryType::Regular, "")]);
        let mut content = Vec::new();
        MultiGzDecoder::new(File::open(&whole).unwrap()).read_to_end(&mut content).unwrap();
        let cut = dir.path().join("cut.tar.gz");
        let mut gzip = GzEncoder::new(File::create(&cut).unwrap(), Compression::fast());
        io::Write::write_all(&mut gzip, &content[..512]).unwrap();
        gzip.finish().unwrap();
        assert!(names(&cut).unwrap_err().to_string().contains("was cut"));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for content in [&b""[..], b"hello", &[0; 4096], &[0x1f, 0x8b, 8, 0]] {
            std::fs::write(&path, content).unwrap();
            assert!(names(&path).is_err(), "{content:?}");
        }
    }
}
