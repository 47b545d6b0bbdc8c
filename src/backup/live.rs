//! One thing of the home on its way into an archive, while others may be writing it.

use super::blocks::BLOCK;
use super::body;
use super::entry::{file_item, item};
use super::jsonl::{self, same};
use super::manifest::{Item, Kind, Loss, Name, member};
use super::pack::Packer;
use super::past;
use super::places::Places;
use super::plan::{Found, Shape};
use super::tape::{SMALL, Tape};
use crate::base::beneath::Refused;
use crate::base::step::step;
use crate::base::xattrs::{self, Xattrs};
use chrono::{DateTime, Utc};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek};
use std::os::unix::fs::MetadataExt;

/// What was put into an archive.
pub(super) struct Put {
    /// What the manifest says of it.
    pub(super) item: Item,
    /// What a person should know.
    pub(super) problem: Option<String>,
    /// What is not kept of it.
    pub(super) unkept: Vec<Loss>,
}

/// Why something is not in the archive: its own fault, or the archive's.
pub(super) enum Unread {
    Source(io::Error),
    Archive(anyhow::Error),
}

/// Puts in what was found at a path of the home. None: it is something else now.
pub(super) fn put(
    tape: &mut Tape,
    found: &Found,
    home: &Places,
    now: DateTime<Utc>,
) -> Result<Option<Put>, Unread> {
    let put = match found.shape {
        Shape::Folder | Shape::Link => put_named(tape, found, home),
        Shape::File | Shape::Database => put_file(tape, found, home, now),
    };
    match put {
        // A link, FIFO, device or folder is in its place, or a link in that of a folder above it.
        Err(Unread::Source(error)) if Refused::of(&error).is_some() => Ok(None),
        put => put,
    }
}

fn put_named(tape: &mut Tape, found: &Found, home: &Places) -> Result<Option<Put>, Unread> {
    let path = &found.path.0;
    let (dir, rest) = home.at(path).map_err(Unread::Source)?;
    let meta = dir.metadata(rest).map_err(Unread::Source)?;
    let name = member(path);
    if meta.is_dir() && found.shape == Shape::Folder {
        let (xattrs, unkept) = match dir.open_dir(rest).and_then(|dir| dir.to_file()) {
            Ok(folder) => attributes(&folder, &meta),
            Err(_) => (Xattrs::default(), vec![Loss::Attributes]),
        };
        tape.put_folder(&name, &meta, &xattrs).map_err(Unread::Archive)?;
        let item = Item { xattrs, ..item(found.path.clone(), Kind::Folder, &meta) };
        return Ok(Some(Put { item, problem: None, unkept }));
    }
    if !meta.is_symlink() || found.shape != Shape::Link {
        return Ok(None);
    }
    let target = dir.read_link(rest).map_err(Unread::Source)?;
    tape.put_link(&name, &meta, &target).map_err(Unread::Archive)?;
    let item = item(found.path.clone(), Kind::Link { target: Name(target) }, &meta);
    Ok(Some(Put { item, problem: None, unkept: Vec::new() }))
}

/// The attributes of an open file or folder, and what is not kept of it.
pub(super) fn attributes(file: &File, meta: &Metadata) -> (Xattrs, Vec<Loss>) {
    let mut unkept = Vec::new();
    if meta.is_file() && meta.mode() & 0o6000 != 0 {
        unkept.push(Loss::SetId);
    }
    match xattrs::read(file) {
        Ok(read) => {
            let name = |name: OsString| Loss::Attribute { name: Name(name.into()) };
            unkept.extend(read.unkept.into_iter().map(name));
            (read.kept, unkept)
        }
        Err(_) => {
            unkept.push(Loss::Attributes);
            (Xattrs::default(), unkept)
        }
    }
}

fn put_file(
    tape: &mut Tape,
    found: &Found,
    home: &Places,
    now: DateTime<Utc>,
) -> Result<Option<Put>, Unread> {
    let path = &found.path.0;
    let (dir, rest) = home.at(path).map_err(Unread::Source)?;
    let mut file = dir.open_file(rest).map_err(Unread::Source)?;
    let mut meta = file.metadata().map_err(Unread::Source)?;
    let (xattrs, unkept) = attributes(&file, &meta);
    let lines = jsonl::is_jsonl(path);
    let name = member(path);
    step("file").map_err(Unread::Source)?;

    if meta.len() <= SMALL {
        let (mut content, mut cut) = (Vec::new(), 0);
        for _ in 0..jsonl::ATTEMPTS {
            content.clear();
            file.rewind().map_err(Unread::Source)?;
            Read::by_ref(&mut file).take(SMALL * 2).read_to_end(&mut content).map_err(Unread::Source)?;
            let length = content.len() as u64;
            cut = if lines { jsonl::unfinished(&mut Cursor::new(&content), length) } else { Ok(0) }
                .map_err(Unread::Source)?;
            let later = jsonl::after_pause(&file, &meta, cut).map_err(Unread::Source)?;
            let settled = same(&meta, &later);
            meta = later;
            if settled {
                cut = 0;
                break;
            }
        }
        if (content.len() as u64) < SMALL * 2 {
            content.truncate(content.len() - cut as usize);
            let size = content.len() as u64;
            let put = |blocks: &mut Packer| body::put(blocks, &mut content.as_slice(), size);
            let (at, body) =
                tape.put_body(&name, (&meta, &xattrs), size, BLOCK, put).map_err(Unread::Archive)?;
            let item = Item { cut: some(cut), xattrs, ..file_item(found.path.clone(), &meta, at, &body) };
            return Ok(Some(Put { item, problem: None, unkept }));
        }
    }

    let mut cut = 0;
    if lines {
        (meta, cut) = jsonl::settle(&mut file, meta).map_err(Unread::Source)?;
    }
    let size = meta.len() - cut;
    file.rewind().map_err(Unread::Source)?;
    let put = |blocks: &mut Packer| body::put_file(blocks, &file, &meta, size);
    let (at, body) = tape.put_body(&name, (&meta, &xattrs), size, BLOCK, put).map_err(Unread::Archive)?;
    let after = file.metadata().map_err(Unread::Source)?;
    let unchanged = same(&meta, &after);
    // A file that only grew was appended to: what is saved is its beginning.
    let grew = after.len() > meta.len();
    let shown = path.display();
    let problem = if let Some(error) = &body.failed {
        Some(format!(
            "cannot read {shown} beyond its first {} bytes: {error}; the rest of it in the archive is zeros",
            body.read
        ))
    } else if body.read < size {
        Some(format!("{shown} became shorter while it was read; its end is filled with zeros"))
    } else if cut == 0 && !grew && !unchanged {
        Some(format!("{shown} changed while it was read"))
    } else {
        None
    };
    let at_rest = unchanged && cut == 0 && body.read == size;
    let stamp = past::stamp(&meta, now).filter(|_| at_rest && size > SMALL);
    let item = Item { stamp, cut: some(cut), xattrs, ..file_item(found.path.clone(), &meta, at, &body) };
    Ok(Some(Put { item, problem, unkept }))
}

fn some(bytes: u64) -> Option<u64> {
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::beneath::Dir;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn what_is_something_else_by_now_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (root, secret) = (dir.path().join("home"), dir.path().join("secret"));
        fs::create_dir_all(root.join("folder")).unwrap();
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("file"), "of somebody else").unwrap();
        fs::write(root.join("file"), "a file").unwrap();
        fs::write(root.join("folder/file"), "a file").unwrap();
        symlink("file", root.join("link")).unwrap();
        symlink(secret.join("file"), root.join("swapped")).unwrap();
        symlink(&secret, root.join("parent")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let home = Places::only(Dir::open(&root).unwrap());
        let packer = Packer::new(tempfile::tempfile().unwrap(), None).unwrap();
        let mut tape = Tape::new(packer, "top");
        let mut put = |path: &str, shape| {
            let found = Found { path: Name(path.into()), shape, size: 1 };
            match super::put(&mut tape, &found, &home, Utc::now()) {
                Ok(Some(_)) => "put",
                Ok(None) => "something else",
                Err(Unread::Source(error)) if super::super::plan::is_gone(&error) => "gone",
                Err(_) => "an error",
            }
        };
        for (path, shape, said) in [
            ("file", Shape::File, "put"),
            ("folder", Shape::Folder, "put"),
            ("link", Shape::Link, "put"),
            ("fifo", Shape::File, "something else"),
            ("socket", Shape::File, "something else"),
            ("swapped", Shape::File, "something else"),
            ("folder", Shape::File, "something else"),
            ("parent/file", Shape::File, "something else"),
            ("parent/file", Shape::Link, "something else"),
            ("parent", Shape::Folder, "something else"),
            ("file", Shape::Folder, "something else"),
            ("file", Shape::Link, "something else"),
            ("folder", Shape::Link, "something else"),
            ("missing", Shape::File, "gone"),
            ("missing/file", Shape::File, "gone"),
            ("missing", Shape::Link, "gone"),
            ("file/below", Shape::File, "gone"),
        ] {
            assert_eq!(put(path, shape), said, "{path} as {shape:?}");
        }
        assert!(Path::new(&secret).join("file").exists());
    }
}
