//! The tar stream of an archive, and where its members begin: small neighbours share one, the content
//! of a larger file has its own.

use super::blocks::{BLOCK, Block};
use super::body::Body;
use super::entry::{header, header_of};
use super::hashed::Hashed;
use super::manifest::{CHECKSUMS, MANIFEST, Manifest};
use super::pack::Packer;
use crate::base::xattrs::Xattrs;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use libdeflater::crc32;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file up to this size is read whole, again if it changed meanwhile, and shares members with
/// its neighbours. A larger one has members of its own.
pub(super) const SMALL: u64 = 64 << 10;
/// Small files share a member until it has so much; about sixteen more follow.
const GROUP: usize = 128 << 10;
/// The most that the headers of one file take: two for its name, and the long name itself.
const HEADERS: u64 = 8 << 10;

/// What was being done when the archive cannot be written.
const WRITING: &str = "cannot write the archive";

/// Writes what goes into the folder at the top of an archive.
pub(super) struct Tape {
    tar: tar::Builder<Packer>,
    folder: PathBuf,
}

impl Tape {
    pub(super) fn new(packer: Packer, folder: &str) -> Tape {
        Tape { tar: tar::Builder::new(packer), folder: PathBuf::from(folder) }
    }

    /// Puts in the folder at the top.
    pub(super) fn put_top(&mut self, time: DateTime<Utc>) -> Result<()> {
        let mut top = header(tar::EntryType::Directory, 0o700, 0, time);
        self.tar.append_data(&mut top, &self.folder, io::empty()).context(WRITING)
    }

    /// Puts in a folder.
    pub(super) fn put_folder(&mut self, member: &Path, meta: &Metadata, xattrs: &Xattrs) -> Result<()> {
        self.put_xattrs(xattrs).context(WRITING)?;
        let mut header = header_of(tar::EntryType::Directory, meta, xattrs);
        self.tar.append_data(&mut header, self.folder.join(member), io::empty()).context(WRITING)
    }

    /// Puts in a symbolic link.
    pub(super) fn put_link(&mut self, member: &Path, meta: &Metadata, target: &Path) -> Result<()> {
        let name = self.folder.join(member);
        let mut header = header_of(tar::EntryType::Symlink, meta, &Xattrs::default());
        // A short target is written as it is; the other way drops a leading `./`.
        if target.as_os_str().len() <= 100
            && header.set_link_name_literal(target.as_os_str().as_bytes()).is_ok()
        {
            self.tar.append_data(&mut header, name, io::empty())
        } else {
            self.tar.append_link(&mut header, name, target)
        }
        .context(WRITING)
    }

    /// Puts in a file of `size` bytes whose content is in these members of the archive before this one.
    /// Gives where the content begins.
    pub(super) fn put_members(
        &mut self,
        member: &Path,
        (meta, xattrs): (&Metadata, &Xattrs),
        size: u64,
        members: &[Block],
    ) -> Result<u64> {
        let mut put = || -> io::Result<u64> {
            let at = self.put_header(member, size, meta, xattrs)?;
            self.tar.get_mut().copy(members)?;
            Ok(at)
        };
        put().context(WRITING)
    }

    /// Puts in one file: its header, and `size` bytes of content, in blocks of `most`. Gives where the
    /// content begins, and what came of it.
    pub(super) fn put_body(
        &mut self,
        member: &Path,
        (meta, xattrs): (&Metadata, &Xattrs),
        size: u64,
        most: usize,
        put: impl FnOnce(&mut Packer) -> io::Result<Body>,
    ) -> Result<(u64, Body)> {
        let write = || -> io::Result<(u64, Body)> {
            let at = self.put_header(member, size, meta, xattrs)?;
            let blocks = self.tar.get_mut();
            if size > SMALL {
                // So that a page or line that stays where it is stays where it is in a block.
                blocks.cut_for(most)?;
            }
            let body = put(blocks)?;
            let padding = (512 - size % 512) % 512;
            blocks.write_all(&[0; 512][..padding as usize])?;
            if size > SMALL {
                blocks.cut_for(BLOCK)?;
            }
            Ok((at, body))
        };
        write().context(WRITING)
    }

    /// Writes a file's header; its content has members of its own, if it is large. Gives where
    /// the content begins.
    fn put_header(&mut self, member: &Path, size: u64, meta: &Metadata, xattrs: &Xattrs) -> io::Result<u64> {
        let blocks = self.tar.get_mut();
        // Neighbours are grouped by their names alone, so that a file that comes, goes or grows
        // leaves most groups of small files as they were.
        let group_ends = blocks.filled() >= GROUP && ends_group(member);
        if size <= SMALL && (group_ends || (blocks.room() as u64) < size + HEADERS) {
            blocks.cut()?;
        }
        self.put_xattrs(xattrs)?;
        let mut header = header_of(tar::EntryType::Regular, meta, xattrs);
        header.set_size(size);
        self.tar.append_data(&mut header, self.folder.join(member), io::empty())?;
        Ok(self.tar.get_mut().position())
    }

    /// Puts in what goes with the next header.
    fn put_xattrs(&mut self, xattrs: &Xattrs) -> io::Result<()> {
        if xattrs.is_empty() {
            return Ok(());
        }
        let records = xattrs.pax();
        self.tar.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }

    /// Ends the archive with its index. Gives the file, its length, and how many bytes of it were copied
    /// from the archive before it.
    pub(super) fn finish(mut self, manifest: &Manifest) -> Result<(File, u64, u64)> {
        self.put_index(manifest).context(WRITING)?;
        self.tar.into_inner().and_then(Packer::finish).context(WRITING)
    }

    fn put_index(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.tar.get_mut().begin_index()?;
        // Twice each, for the length comes first: they are too long to be held.
        let mut text = Hashed::new(io::sink(), None);
        manifest.write_json(BufWriter::new(&mut text))?;
        let size = text.bytes;
        let hash = text.finish();
        self.put_text(manifest, MANIFEST, size, |out| manifest.write_json(out))?;
        let mut text = Hashed::new(io::sink(), None);
        manifest.write_checksums(&hash, BufWriter::new(&mut text))?;
        self.put_text(manifest, CHECKSUMS, text.bytes, |out| manifest.write_checksums(&hash, out))
    }

    /// Puts in a file of the index.
    fn put_text(
        &mut self,
        manifest: &Manifest,
        name: &str,
        size: u64,
        write: impl FnOnce(&mut BufWriter<&mut Packer>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o600, size, manifest.time);
        self.tar.append_data(&mut header, self.folder.join(name), io::empty())?;
        let mut out = BufWriter::with_capacity(64 << 10, self.tar.get_mut());
        write(&mut out)?;
        out.write_all(&[0; 512][..((512 - size % 512) % 512) as usize])?;
        out.flush()
    }
}

/// Whether the group of small files before this one ends: true of one name in sixteen.
fn ends_group(member: &Path) -> bool {
    // Names that are much alike differ in few bits of their sums; the product spreads them.
    crc32(member.as_os_str().as_bytes()).wrapping_mul(0x9e37_79b9) >> 28 == 0
}
