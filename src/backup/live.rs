//! One thing of the home on its way into an archive, while others may be writing it.

use super::blocks::BLOCK;
use super::body;
use super::entry::{file_item, item};
use super::manifest::{Item, Kind, Name, member};
use super::pack::Packer;
use super::past;
use super::plan::{Found, Shape};
use super::tape::{SMALL, Tape};
use crate::base::step::step;
use chrono::{DateTime, Utc};
use rustix::fs::OFlags;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What was put into an archive.
pub(super) struct Put {
    /// What the manifest says of it.
    pub(super) item: Item,
    /// What a person should know.
    pub(super) problem: Option<String>,
}

/// Why something is not in the archive: its own fault, or the archive's.
pub(super) enum Unread {
    Source(io::Error),
    Archive(anyhow::Error),
}

/// Puts in what was found at a path of the home. None: it is no longer what was found.
pub(super) fn put(
    tape: &mut Tape,
    found: &Found,
    path: &Path,
    now: DateTime<Utc>,
) -> Result<Option<Put>, Unread> {
    match found.shape {
        Shape::Folder | Shape::Link => {
            Ok(put_named(tape, found, path)?.map(|item| Put { item, problem: None }))
        }
        Shape::File | Shape::Database => put_file(tape, found, path, now),
    }
}

fn put_named(tape: &mut Tape, found: &Found, path: &Path) -> Result<Option<Item>, Unread> {
    let meta = fs::symlink_metadata(path).map_err(Unread::Source)?;
    let name = member(&found.path.0);
    if meta.is_dir() && found.shape == Shape::Folder {
        tape.put_folder(&name, &meta).map_err(Unread::Archive)?;
        return Ok(Some(item(found.path.clone(), Kind::Folder, &meta)));
    }
    if !meta.is_symlink() || found.shape != Shape::Link {
        return Ok(None);
    }
    let target = fs::read_link(path).map_err(Unread::Source)?;
    tape.put_link(&name, &meta, &target).map_err(Unread::Archive)?;
    Ok(Some(item(found.path.clone(), Kind::Link { target: Name(target) }, &meta)))
}

fn put_file(tape: &mut Tape, found: &Found, path: &Path, now: DateTime<Utc>) -> Result<Option<Put>, Unread> {
    let mut file = OpenOptions::new()
        .read(true)
        // Neither a link put in its place, nor a pipe without a writer.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(Unread::Source)?;
    let mut meta = file.metadata().map_err(Unread::Source)?;
    if !meta.is_file() {
        return Ok(None);
    }
    let lines = path.extension().is_some_and(|extension| extension == "jsonl");
    let name = member(&found.path.0);
    step("file").map_err(Unread::Source)?;

    if meta.len() <= SMALL {
        let mut content = Vec::new();
        for _ in 0..5 {
            content.clear();
            file.rewind().map_err(Unread::Source)?;
            Read::by_ref(&mut file).take(SMALL * 2).read_to_end(&mut content).map_err(Unread::Source)?;
            let later = file.metadata().map_err(Unread::Source)?;
            let settled = same(&meta, &later);
            meta = later;
            if settled || lines {
                break;
            }
        }
        if (content.len() as u64) < SMALL * 2 {
            if lines {
                let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                content.truncate(whole);
            }
            let size = content.len() as u64;
            let put = |blocks: &mut Packer| body::put(blocks, &mut content.as_slice(), size);
            let (at, body) = tape.put_body(&name, &meta, size, BLOCK, put).map_err(Unread::Archive)?;
            return Ok(Some(Put { item: file_item(found.path.clone(), &meta, at, &body), problem: None }));
        }
    }

    let size = if lines { whole_lines(&mut file, meta.len()) } else { Ok(meta.len()) };
    let size = size.map_err(Unread::Source)?;
    file.rewind().map_err(Unread::Source)?;
    let put = |blocks: &mut Packer| body::put_file(blocks, &file, &meta, size);
    let (at, body) = tape.put_body(&name, &meta, size, BLOCK, put).map_err(Unread::Archive)?;
    let after = file.metadata().map_err(Unread::Source)?;
    let unchanged = same(&meta, &after);
    // A file that only grew was appended to: what is saved is its beginning.
    let grew = after.len() > meta.len();
    let shown = found.path.0.display();
    let problem = if let Some(error) = &body.failed {
        Some(format!(
            "cannot read {shown} beyond its first {} bytes: {error}; the rest of it in the archive is zeros",
            body.read
        ))
    } else if body.read < size {
        Some(format!("{shown} became shorter while it was read; its end is filled with zeros"))
    } else if !lines && !grew && !unchanged {
        Some(format!("{shown} changed while it was read"))
    } else {
        None
    };
    let stamp = past::stamp(&meta, now).filter(|_| unchanged && body.read == size && size > SMALL);
    let item = Item { stamp, ..file_item(found.path.clone(), &meta, at, &body) };
    Ok(Some(Put { item, problem }))
}

/// Whether a file was not written between two looks.
fn same(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len() && (a.mtime(), a.mtime_nsec()) == (b.mtime(), b.mtime_nsec())
}

/// The length of a file up to its last line break before `size`.
fn whole_lines(file: &mut File, size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut buffer = vec![0; 64 << 10];
    while end > 0 {
        let begin = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..(end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        match file.read_exact(part) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            Err(error) => return Err(error),
        }
        if let Some(at) = part.iter().rposition(|&byte| byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_end_at_the_last_break() {
        let mut file = tempfile::tempfile().unwrap();
        for (content, expected) in [
            (b"one\ntwo\nhal".to_vec(), 8),
            (b"no break".to_vec(), 0),
            (b"".to_vec(), 0),
            ([b"first\n".to_vec(), vec![b'x'; 200_000]].concat(), 6),
        ] {
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(&content).unwrap();
            assert_eq!(whole_lines(&mut file, content.len() as u64).unwrap(), expected);
        }
    }
}
