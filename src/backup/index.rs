//! Reads archives of this program by their index: what is in one, and single files of it, without
//! the rest.

use super::blocks::{self, Block};
use super::contents::Entry;
use super::manifest::{MANIFEST, Manifest, SCHEMA};
use super::reader::{MOST_BETWEEN, Tail, refuse, unreadable};
use super::unpack::Unpacker;
use crate::base::Fault;
use crate::base::text::one_line;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// A manifest larger than this is not ours (a million files take 300 MB).
const MOST_INDEX: u64 = 1 << 30;
/// One of up to this length is read at once, which is quicker.
const SMALL_INDEX: u64 = 16 << 20;

/// Reads the index alone: quick, and not checked against the content. None: the archive was not
/// made by this program.
///
/// # Errors
/// A [`Fault`] when it was, and is cut or damaged.
pub fn peek(archive: &Path) -> Result<Option<Manifest>> {
    let Some(manifest) = parse::<Manifest>(archive)? else { return Ok(None) };
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

/// The agent that an archive is of, as its index says: [`peek`] for those who need no more.
pub(super) fn agent_of(archive: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Head {
        agent: String,
    }
    Ok(parse::<Head>(archive)?.map(|head| head.agent))
}

/// Reads of an index what is wanted of it.
fn parse<T: DeserializeOwned>(archive: &Path) -> Result<Option<T>> {
    let Some((file, mut blocks)) = members(archive)? else { return Ok(None) };
    blocks.retain(|block| block.index);
    let read = || -> Result<T> {
        let between = Cell::new(Some(MOST_BETWEEN));
        let mut tar = tar::Archive::new(Tail::new(Unpacker::new(file, blocks), &between));
        let entry = tar.entries()?.next().context("there is no manifest")??;
        anyhow::ensure!(
            entry.path()?.file_name().is_some_and(|name| name == MANIFEST),
            "the manifest is not where it belongs"
        );
        between.set(None);
        if entry.size() > SMALL_INDEX {
            return Ok(serde_json::from_reader(BufReader::new(entry.take(MOST_INDEX)))?);
        }
        let mut text = Vec::new();
        entry.take(SMALL_INDEX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    read().map(Some).map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => unreadable(archive, error),
        Err(error) => refuse(archive, &format!("its index: {error:#}")),
    })
}

/// Shows the content of these files to `visit`, in the order of the archive, and reads only the
/// members that hold it. Each must say where it begins.
///
/// What `visit` gets is as untrusted as the archive: it may be something else, or end early.
///
/// # Errors
/// A [`Fault`] when the archive is damaged there, or its index does not say where they are.
pub(super) fn read(
    archive: &Path,
    mut files: Vec<&Entry>,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let parts = || refuse(archive, "it cannot be read in parts");
    let (file, mut blocks) = members(archive)?.ok_or_else(parts)?;
    let range = |entry: &Entry| {
        let at = entry.at?;
        Some((at, at.checked_add(entry.size)?))
    };
    let ranges = files.iter().map(|entry| range(entry)).collect::<Option<Vec<_>>>().ok_or_else(parts)?;
    files.sort_by_key(|entry| entry.at);
    let mut wanted: Vec<_> = ranges.into_iter().filter(|(at, end)| at < end).collect();
    wanted.sort_unstable();
    // Both are in the order of the stream.
    let mut wanted = wanted.into_iter().peekable();
    blocks.retain(|block| {
        let end = block.position + block.content;
        while wanted.next_if(|(_, until)| *until <= block.position).is_some() {}
        wanted.peek().is_some_and(|(at, _)| *at < end)
    });
    let mut stream = Parts::new(Unpacker::new(file, blocks.clone()), &blocks);
    for entry in files {
        if entry.size == 0 {
            visit(entry, &mut io::empty())?;
            continue;
        }
        if !stream.skip_to(entry.at.unwrap_or(0)).map_err(|error| unreadable(archive, error))? {
            return Err(parts());
        }
        let mut content = Read::by_ref(&mut stream).take(entry.size);
        visit(entry, &mut content)?;
        io::copy(&mut content, &mut io::sink()).map_err(|error| unreadable(archive, error))?;
    }
    Ok(())
}

/// The content of some members, read forward.
struct Parts<'a> {
    inner: Unpacker,
    /// The members that were not passed yet.
    blocks: &'a [Block],
    /// The content of those that were.
    passed: u64,
    /// How much of the content of all of them was read.
    read: u64,
}

impl<'a> Parts<'a> {
    fn new(inner: Unpacker, blocks: &'a [Block]) -> Parts<'a> {
        Parts { inner, blocks, passed: 0, read: 0 }
    }

    /// Goes to a place of the tar stream. False: it lies behind, or in none of the members.
    fn skip_to(&mut self, at: u64) -> io::Result<bool> {
        while let [block, rest @ ..] = self.blocks
            && block.position + block.content <= at
        {
            self.passed += block.content;
            self.blocks = rest;
        }
        let inside = self.blocks.first().and_then(|block| at.checked_sub(block.position));
        let Some(skip) = inside.and_then(|inside| (self.passed + inside).checked_sub(self.read)) else {
            return Ok(false);
        };
        io::copy(&mut Read::by_ref(self).take(skip), &mut io::sink())?;
        Ok(true)
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// The blocks of an archive. None: it is not made of ours.
pub(super) fn members(archive: &Path) -> Result<Option<(File, Vec<Block>)>> {
    let file = open(archive)?;
    match blocks::table(&file) {
        Ok(blocks) => Ok(blocks.map(|blocks| (file, blocks))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(refuse(archive, &error.to_string())),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", archive.display())),
    }
}

pub(super) fn open(archive: &Path) -> Result<File> {
    File::open(archive).map_err(|error| {
        Fault::unknown(format!("cannot open the archive {}: {error}", archive.display()))
            .hint("`backup list` shows the archives there are")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::contents::Contents;
    use crate::backup::manifest::{Item, Kind, Name};
    use crate::backup::pack::Packer;
    use crate::backup::verify;
    use crate::base::text::hex;
    use chrono::DateTime;
    use sha2::{Digest, Sha256};
    use std::collections::HashSet;
    use std::io::Write;

    #[test]
    fn a_file_is_read_without_the_rest() {
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
        let manifest = Manifest {
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
        let mut entries = Contents::of(&path, manifest).unwrap().entries;
        let read = |entries: &[Entry], below: &str| {
            let wanted: Vec<Entry> =
                entries.iter().filter(|entry| entry.path.starts_with(below)).cloned().collect();
            let mut found = Vec::new();
            verify::unpack_part(&path, &HashSet::new(), &wanted, &mut |_, content| {
                let mut bytes = Vec::new();
                while let Some(piece) = content.piece()? {
                    bytes.extend_from_slice(&piece);
                }
                found.push(bytes);
                Ok(None)
            })
            .map(|_| found)
        };
        assert_eq!(read(&entries, "sub/c").unwrap(), [contents[2].clone()]);
        // In the order of the archive; what is empty is nowhere in it.
        assert_eq!(read(&entries, "sub").unwrap(), contents[1..]);
        assert_eq!(read(&entries, "nothing").unwrap(), [[0; 0]; 0]);

        // A flipped bit in the first block harms the file in it, and no other.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Fault::is_of_damage(&read(&entries, "a").unwrap_err()));
        assert_eq!(read(&entries, "sub/c").unwrap().len(), 1);
        // A manifest that lies of a place or a length.
        for (at, size) in [(0, 5), (u64::MAX, 5), (u64::MAX - 2, 5), (1 << 40, 5), (13, u64::MAX - 13)] {
            (entries[2].at, entries[2].size) = (Some(at), size);
            assert!(Fault::is_of_damage(&read(&entries, "sub/c").unwrap_err()), "{at} {size}");
        }
        entries[2].at = None;
        assert!(Fault::is_of_damage(&read(&entries, "sub/c").unwrap_err()));
    }
}
