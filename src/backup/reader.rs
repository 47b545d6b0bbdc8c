//! Reads any `.tar.gz`, member by member, and trusts none of it.

use super::blocks::{self, Block};
use super::manifest::{Item, Kind, MANIFEST, Manifest, SCHEMA};
use super::unpack::Unpacker;
use crate::base::text::{hex, one_line};
use crate::base::{Fault, State};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// A manifest larger than this is not ours (a million files take 300 MB).
const MOST_INDEX: u64 = 1 << 30;

/// What may be read between two members: their headers, and what belongs to a header, such as a long
/// name. A tar can claim a name of any length, and it is read into memory.
const MOST_BETWEEN: u64 = 4 << 20;

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
    /// As anything else.
    Other,
}

/// The error of an archive that is not whole or not harmless.
pub fn refuse(archive: &Path, why: &str) -> anyhow::Error {
    Fault::critical(format!("{} is refused: {}", archive.display(), one_line(why, 1000)))
        .hint("nothing was changed; `backup list` shows the others, `backup verify NAME` tries one")
        .into()
}

/// Whether an error says that an archive is damaged or dishonest, rather than that it could not be
/// told.
pub fn is_damage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Fault>().is_some() && Fault::of(error).0 == State::Critical
}

/// Reads the index alone: quick, and not checked against the content. None: the archive was not
/// made by this program.
///
/// # Errors
/// A [`Fault`] when it was, and is cut or damaged.
pub fn peek(archive: &Path) -> Result<Option<Manifest>> {
    let Some((file, mut blocks)) = members(archive)? else { return Ok(None) };
    blocks.retain(|block| block.index);
    let read = || -> Result<Manifest> {
        let between = Cell::new(Some(MOST_BETWEEN));
        let mut tar = tar::Archive::new(Tail::new(Unpacker::new(file, blocks), &between));
        let entry = tar.entries()?.next().context("there is no manifest")??;
        anyhow::ensure!(
            entry.path()?.file_name().is_some_and(|name| name == MANIFEST),
            "the manifest is not where it belongs"
        );
        between.set(None);
        let manifest: Manifest = serde_json::from_reader(BufReader::new(entry.take(MOST_INDEX)))?;
        Ok(manifest)
    };
    let manifest = read().map_err(|error| refuse(archive, &format!("its index: {error:#}")))?;
    if manifest.schema > SCHEMA {
        return Err(Fault::unknown(format!(
            "{} was made by agent-ops {}, which writes a newer format",
            archive.display(),
            one_line(&manifest.version, 40)
        ))
        .hint("use that version, or `tar xzf` by hand")
        .into());
    }
    Ok(Some(manifest))
}

/// Shows the files at these paths of the home, and below them, to `visit`, in the order of the
/// archive; reads only the members that hold them, and compares each file's hash. Gives how many
/// files there were.
///
/// What `visit` gets is as untrusted as the archive until it returns: the hash is known at the end.
///
/// # Errors
/// A [`Fault`] when the archive is damaged there, or is not one of ours that can be read in parts:
/// then [`walk`] reads all of it.
pub fn extract(
    archive: &Path,
    manifest: &Manifest,
    paths: &[PathBuf],
    visit: &mut dyn FnMut(&Item, &mut dyn Read) -> Result<()>,
) -> Result<usize> {
    let parts = || refuse(archive, "it cannot be read in parts");
    let (file, blocks) = members(archive)?.ok_or_else(parts)?;
    let mut count = 0;
    for item in &manifest.files {
        let wanted = paths.iter().any(|path| item.path.0.starts_with(path));
        let Kind::File { size, sha256 } = &item.kind else { continue };
        if !wanted {
            continue;
        }
        let at = item.at.ok_or_else(parts)?;
        let end = at.checked_add(*size).ok_or_else(parts)?;
        let holds = |block: &&Block| block.position < end && block.position + block.content > at;
        let some: Vec<Block> = blocks.iter().filter(holds).copied().collect();
        let skip = some.first().map_or(0, |block| at.saturating_sub(block.position));
        let file = file.try_clone().with_context(|| format!("cannot read {}", archive.display()))?;
        let mut stream = Unpacker::new(file, some);
        let broken = |error: io::Error| refuse(archive, &format!("it is damaged: {error}"));
        io::copy(&mut Read::by_ref(&mut stream).take(skip), &mut io::sink()).map_err(broken)?;
        let mut hashed = Hashed { inner: stream.take(*size), hash: Sha256::new(), failed: None };
        let visited = visit(item, &mut hashed);
        if let Some(error) = hashed.failed.take() {
            return Err(refuse(archive, &format!("it is damaged: {error}")));
        }
        visited?;
        io::copy(&mut hashed, &mut io::sink()).map_err(broken)?;
        if hex(&hashed.hash.finalize()) != *sha256 {
            return Err(refuse(archive, &format!("{} is not what its manifest says", item.path.0.display())));
        }
        count += 1;
    }
    Ok(count)
}

/// Shows every member to `visit`, in order, each name once. What `visit` does not read is passed
/// over, but inflated and checked all the same.
///
/// # Errors
/// A [`Fault`] when the file is damaged or cut, or has a member that no honest archive has: an
/// absolute name or one with `..`, a second one of the same name, one below a file or link, a
/// device, a pipe, a hard link.
pub fn walk(archive: &Path, visit: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>) -> Result<()> {
    let between = Cell::new(Some(MOST_BETWEEN));
    let mut tar = tar::Archive::new(Tail::new(content(archive)?, &between));
    let broken = |error: io::Error| refuse(archive, &format!("it is damaged: {error}"));
    let mut seen: HashMap<PathBuf, Seen> = HashMap::new();
    for entry in tar.entries().map_err(broken)? {
        between.set(None);
        let mut entry = entry.map_err(broken)?;
        let Some(member) = member(&entry).map_err(|why| refuse(archive, &why))? else {
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            between.set(Some(MOST_BETWEEN));
            continue;
        };
        let shown = member.name.display();
        let below = |up: &&Path| seen.get(*up) == Some(&Seen::Other);
        if let Some(up) = member.name.ancestors().skip(1).find(below) {
            return Err(refuse(archive, &format!("{shown} lies below {}, which is no folder", up.display())));
        }
        let folder = member.shape == Shape::Folder;
        match seen.insert(member.name.clone(), if folder { Seen::Folder } else { Seen::Other }) {
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
            if seen.contains_key(up) {
                break;
            }
            seen.insert(up.to_owned(), Seen::Implied);
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

/// The tar stream of an archive: inflated on all processors, if it is made of our blocks.
fn content(archive: &Path) -> Result<Box<dyn Read>> {
    Ok(match members(archive)? {
        Some((file, blocks)) => Box::new(Unpacker::new(file, blocks)),
        None => Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 << 10, open(archive)?))),
    })
}

/// The blocks of an archive. None: it is not made of ours.
fn members(archive: &Path) -> Result<Option<(File, Vec<Block>)>> {
    let file = open(archive)?;
    match blocks::table(&file) {
        Ok(blocks) => Ok(blocks.map(|blocks| (file, blocks))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(refuse(archive, &error.to_string())),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", archive.display())),
    }
}

fn open(archive: &Path) -> Result<File> {
    File::open(archive).map_err(|error| {
        Fault::unknown(format!("cannot open the archive {}: {error}", archive.display()))
            .hint("`backup list` shows the archives there are")
            .into()
    })
}

/// A member whose name and shape are harmless; none for the root itself and for global headers.
fn member<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Option<Member>, String> {
    let raw = entry.path().map_err(|error| error.to_string())?;
    let shown = raw.display().to_string();
    let mut name = PathBuf::new();
    for part in raw.components() {
        match part {
            Component::Normal(part) => name.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(format!("{shown} is an absolute name")),
            Component::ParentDir => return Err(format!("{shown} leads out of the folder it is put in")),
        }
    }
    let header = entry.header();
    let kind = header.entry_type();
    let shape = match kind {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => Shape::File,
        tar::EntryType::Directory => Shape::Folder,
        tar::EntryType::Symlink => {
            let target = entry.link_name().map_err(|error| error.to_string())?;
            Shape::Link(target.ok_or_else(|| format!("{shown} is a link to nothing"))?.into_owned())
        }
        tar::EntryType::XGlobalHeader => return Ok(None),
        tar::EntryType::Link => return Err(format!("{shown} is a hard link")),
        _ => return Err(format!("{shown} is a device, a pipe or something unknown")),
    };
    if name == Path::new("") {
        return if shape == Shape::Folder { Ok(None) } else { Err("a member has no name".to_owned()) };
    }
    let time =
        header.mtime().ok().and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    let id = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX);
    Ok(Some(Member {
        name,
        shape,
        size: entry.size(),
        mode: header.mode().unwrap_or(0o600) & 0o7777,
        owner: (id(header.uid()), id(header.gid())),
        mtime: time.unwrap_or_default(),
    }))
}

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    /// Why it could not be read, if whoever reads it did not say so.
    failed: Option<String>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).inspect_err(|error| self.failed = Some(error.to_string()))?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// Counts the zero bytes at the end of a stream: a tar ends with 1024 of them. And bounds what is
/// read of it while `between` has a number.
struct Tail<'a, R> {
    inner: R,
    zeros: u64,
    between: &'a Cell<Option<u64>>,
}

impl<'a, R> Tail<'a, R> {
    fn new(inner: R, between: &'a Cell<Option<u64>>) -> Tail<'a, R> {
        Tail { inner, zeros: 0, between }
    }
}

impl<R: Read> Read for Tail<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(left) = self.between.get() {
            let left = left.checked_sub(read as u64);
            self.between.set(Some(left.ok_or_else(|| io::Error::other("a name in it has no end"))?));
        }
        match buffer[..read].iter().rposition(|&byte| byte != 0) {
            Some(at) => self.zeros = (read - at - 1) as u64,
            None => self.zeros += read as u64,
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

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
            (vec![("a", Link, "b")], "hard link"),
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
        for (kind, fits) in [(b'L', 5_000), (b'K', 5_000), (b'x', 5_000), (b'g', 5_000_000)] {
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
    fn a_file_is_read_without_the_rest() {
        use crate::backup::manifest::Name;
        use crate::backup::pack::Packer;
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        let mut packer = Packer::new(File::create(&path).unwrap(), None).unwrap();
        let contents = [b"first".to_vec(), vec![b'x'; 3 << 20], b"third".to_vec(), Vec::new()];
        let mut items = Vec::new();
        for (content, name) in contents.iter().zip(["a", "sub/b", "sub/c", "sub/empty"]) {
            packer.write_all(b"a header").unwrap();
            let kind = Kind::File { size: content.len() as u64, sha256: hex(&Sha256::digest(content)) };
            let at = Some(packer.position());
            let (path, mtime) = (Name(name.into()), DateTime::default());
            items.push(Item { path, kind, mode: 0o600, uid: 0, gid: 0, mtime, at, stamp: None });
            packer.write_all(content).unwrap();
            if name == "a" {
                packer.cut().unwrap();
            }
        }
        packer.begin_index().unwrap();
        packer.write_all(b"index").unwrap();
        packer.finish().unwrap();
        let mut manifest = Manifest {
            schema: SCHEMA,
            folder: "x".to_owned(),
            agent: String::new(),
            host: String::new(),
            run: String::new(),
            time: DateTime::default(),
            sequence: 1,
            version: String::new(),
            files: items,
            databases: Vec::new(),
            damaged: Vec::new(),
            vanished: Vec::new(),
            problems: Vec::new(),
        };
        let read = |manifest: &Manifest, paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            let mut found = Vec::new();
            extract(&path, manifest, &paths, &mut |_, content| {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                found.push(bytes);
                Ok(())
            })
            .map(|count| (count, found))
        };
        assert_eq!(read(&manifest, &["sub/c"]).unwrap(), (1, vec![contents[2].clone()]));
        assert_eq!(read(&manifest, &["sub"]).unwrap(), (3, contents[1..].to_vec()));
        assert_eq!(read(&manifest, &["nothing"]).unwrap(), (0, vec![]));

        // A flipped bit in the first block harms the file in it, and no other.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(is_damage(&read(&manifest, &["a"]).unwrap_err()));
        assert_eq!(read(&manifest, &["sub/c"]).unwrap().0, 1);
        // A manifest that lies of a place or a length.
        for (at, size) in [(0, 5), (u64::MAX, 5), (u64::MAX - 2, 5), (1 << 40, 5), (13, u64::MAX - 13)] {
            manifest.files[2].at = Some(at);
            manifest.files[2].kind = Kind::File { size, sha256: hex(&Sha256::digest(b"third")) };
            assert!(is_damage(&read(&manifest, &["sub/c"]).unwrap_err()), "{at} {size}");
        }
        manifest.files[2].at = None;
        assert!(is_damage(&read(&manifest, &["sub/c"]).unwrap_err()));
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
