//! Reads single files of an archive of this program, without the rest: its index says where they are.

use super::blocks::Block;
use super::contents::Entry;
use super::damage::{refuse, unreadable};
use super::stream::members;
use super::unpack::Unpacker;
use anyhow::Result;
use std::io::{self, Read};
use std::path::Path;

/// Shows the content of these files to `visit`, in the order of the archive, and reads only the
/// members that hold it. Each must say where it begins.
///
/// What `visit` gets is as untrusted as the archive: it may be something else, or end early.
///
/// # Errors
/// A [`crate::base::Fault`] when the archive is damaged there, or its index does not say where they are.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::contents::Contents;
    use crate::backup::manifest::{Item, Kind, Manifest, Name, SCHEMA};
    use crate::backup::pack::Packer;
    use crate::backup::verify;
    use crate::base::Fault;
    use crate::base::text::hex;
    use chrono::DateTime;
    use sha2::{Digest, Sha256};
    use std::collections::HashSet;
    use std::fs::File;
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
            items.push(Item {
                path,
                kind,
                mode: 0o600,
                uid: 0,
                gid: 0,
                mtime,
                at,
                stamp: None,
                cut: None,
                xattrs: Default::default(),
            });
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
            files: items.into_iter().collect(),
            databases: Vec::new(),
            damaged: Vec::new(),
            vanished: Vec::new(),
            problems: Vec::new(),
            includes: Vec::new(),
            lacking: Vec::new(),
            links_out: Vec::new(),
            unkept: Vec::new(),
            dumps: Vec::new(),
            no_dumps: Vec::new(),
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
