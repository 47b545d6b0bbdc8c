//! What the tar headers and the manifest say of one thing in an archive.

use super::body::Body;
use super::manifest::{Item, Kind, Name};
use crate::base::xattrs::Xattrs;
use chrono::{DateTime, Utc};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A file in the manifest, whose content begins at a place in the tar stream.
pub(super) fn file_item(path: Name, meta: &Metadata, at: u64, body: &Body) -> Item {
    let kind = Kind::File { size: body.size, sha256: body.sha256.clone() };
    Item { at: Some(at), ..item(path, kind, meta) }
}

/// Anything in the manifest.
pub(super) fn item(path: Name, kind: Kind, meta: &Metadata) -> Item {
    let mtime = DateTime::from_timestamp(meta.mtime(), meta.mtime_nsec().clamp(0, 999_999_999) as u32);
    let mtime = mtime.unwrap_or_default();
    let (mode, uid, gid) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
    Item { path, kind, mode, uid, gid, mtime, at: None, stamp: None, cut: None, xattrs: Xattrs::default() }
}

/// A tar header without a name.
pub(super) fn header(kind: tar::EntryType, mode: u32, size: u64, time: DateTime<Utc>) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time.timestamp().max(0).unsigned_abs());
    header
}

/// The tar header of something of the home, without name and size.
pub(super) fn header_of(kind: tar::EntryType, meta: &Metadata, xattrs: &Xattrs) -> tar::Header {
    let time = DateTime::from_timestamp(meta.mtime(), 0).unwrap_or_default();
    // A `tar` that is not asked for access control lists gives nobody more than they did.
    let mut header = header(kind, xattrs.mode_without_acl(meta.mode() & 0o7777), 0, time);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header
}
