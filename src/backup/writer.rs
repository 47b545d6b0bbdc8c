//! From a plan to an archive: databases at one moment, then the files, then the index.

use super::blocks::Blocks;
use super::manifest::{self, CHECKSUMS, Database, Item, Kind, MANIFEST, Manifest, Name, member};
use super::plan::{Found, Plan, Shape, is_gone};
use super::snapshot::{self, Shot};
use crate::base::database::{self, Verdict};
use crate::base::step::step;
use crate::base::text::{hex, one_line};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file up to this size is read whole, again if it changed meanwhile. A larger one begins a
/// block of its own.
const SMALL: u64 = 64 << 10;

/// Writes archives of one home.
pub(super) struct Writer<'a> {
    home: &'a Path,
    /// Where copies of databases are made. Everything in it is thrown away later.
    work: &'a Path,
    folder: PathBuf,
    tar: tar::Builder<Blocks>,
    manifest: Manifest,
}

/// A database on its way in.
struct Saved {
    found: Found,
    meta: Metadata,
    /// The copy, unless there could be none.
    copy: Option<(PathBuf, Shot)>,
    /// Raw copies, of a database that is not sound: file and sidecars.
    raw: Vec<(Name, PathBuf)>,
}

impl<'a> Writer<'a> {
    /// An archive at `file`, whose manifest says who and when and has no files yet.
    pub(super) fn new(home: &'a Path, work: &'a Path, file: File, manifest: Manifest) -> Writer<'a> {
        let folder = PathBuf::from(&manifest.folder);
        Writer { home, work, folder, tar: tar::Builder::new(Blocks::new(file)), manifest }
    }

    /// Writes everything. Gives back the manifest and the archive's length; the archive is on
    /// disk then.
    pub(super) fn write(mut self, plan: Plan) -> Result<(Manifest, u64)> {
        self.manifest.problems = plan.problems;
        let saved = self.save_databases(plan.databases)?;
        step("databases")?;
        let mut top = header(tar::EntryType::Directory, 0o700, 0, self.manifest.time);
        self.tar.append_data(&mut top, &self.folder, io::empty()).context("cannot write the archive")?;
        for one in saved {
            self.put_database(one)?;
        }
        for found in plan.others {
            self.put(found)?;
        }
        self.put_index().context("cannot write the archive")?;
        let (file, bytes) =
            self.tar.into_inner().and_then(Blocks::finish).context("cannot write the archive")?;
        step("written")?;
        file.sync_all().context("cannot write the archive")?;
        Ok((self.manifest, bytes))
    }

    /// Holds all databases at one moment, then copies them: those first whose writers wait.
    fn save_databases(&mut self, databases: Vec<Found>) -> Result<Vec<Saved>> {
        let mut pinned = Vec::new();
        for (number, found) in databases.into_iter().enumerate() {
            let path = self.home.join(&found.path.0);
            let meta = match fs::metadata(&path) {
                Ok(meta) => meta,
                Err(error) if is_gone(&error) => {
                    self.manifest.vanished.push(found.path);
                    continue;
                }
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            };
            pinned.push((number, found, meta, snapshot::pin(&path)));
        }
        pinned.sort_by_key(|(number, _, _, pin)| {
            (!pin.as_ref().is_ok_and(snapshot::Pinned::holds_up_writers), *number)
        });
        let mut saved = Vec::new();
        for (number, found, meta, pin) in pinned {
            let path = self.home.join(&found.path.0);
            let target = self.work.join(format!("{number}.db"));
            let shot = pin.and_then(|pin| pin.copy(&target)).or_else(|error| {
                if snapshot::is_busy(&error) {
                    return Err(snapshot::busy(&found.path.0).into());
                }
                if snapshot::is_full(&error) {
                    return Err(error);
                }
                snapshot::copy_files(&path, &target)
            });
            let copy = match shot {
                Ok(shot) => Ok((target, shot)),
                Err(error) if snapshot::is_full(&error) || error.is::<crate::base::Fault>() => {
                    return Err(error);
                }
                Err(error) => Err(error),
            };
            let problem = match &copy {
                Ok((_, Shot { verdict: Verdict::Sound, .. })) => None,
                Ok((_, Shot { verdict: Verdict::Damaged(text), .. })) => Some(text.clone()),
                Err(error) => Some(format!("{error:#}")),
            };
            let mut raw = Vec::new();
            if let Some(problem) = problem {
                self.manifest.problems.push(format!(
                    "the database {} is damaged; its files are in the archive as they are: {}",
                    found.path.0.display(),
                    one_line(&problem, 300)
                ));
                raw = self.save_raw(number, &found)?;
            }
            saved.push((number, Saved { found, meta, copy: copy.ok(), raw }));
        }
        saved.sort_by_key(|(number, _)| *number);
        Ok(saved.into_iter().map(|(_, saved)| saved).collect())
    }

    /// Copies the files of a damaged database, as they are.
    fn save_raw(&self, number: usize, found: &Found) -> Result<Vec<(Name, PathBuf)>> {
        let target = self.work.join(format!("{number}.damaged"));
        let source = self.home.join(&found.path.0);
        snapshot::copy_set(&source, &target)?;
        let [wal, _, journal] = database::sidecars(&found.path.0);
        let [wal_target, _, journal_target] = database::sidecars(&target);
        let all = [(found.path.0.clone(), target), (wal, wal_target), (journal, journal_target)];
        Ok(all.into_iter().filter(|(_, copy)| copy.exists()).map(|(path, copy)| (Name(path), copy)).collect())
    }

    fn put_database(&mut self, saved: Saved) -> Result<()> {
        let Saved { found, meta, copy, raw } = saved;
        let name = found.path.clone();
        if let Some((copy, shot)) = &copy {
            let integrity = match &shot.verdict {
                Verdict::Sound => "ok".to_owned(),
                Verdict::Damaged(text) => one_line(text, 1000),
            };
            self.manifest.databases.push(Database {
                path: name.clone(),
                pages: shot.pages,
                page_size: shot.page_size,
                mode: if shot.wal { "wal" } else { "rollback" }.to_owned(),
                integrity,
                seconds: shot.held.as_secs_f64(),
            });
            let item = self.put_copy(&member(&name.0), name, copy, &meta)?;
            self.manifest.files.push(item);
            let _ = fs::remove_file(copy);
        }
        for (name, copy) in raw {
            let member = Path::new(manifest::DAMAGED).join(&name.0);
            let item = self.put_copy(&member, name, &copy, &meta)?;
            self.manifest.damaged.push(item);
            let _ = fs::remove_file(copy);
        }
        Ok(())
    }

    /// Puts in a file of ours under the name, mode and time of another.
    fn put_copy(&mut self, member: &Path, path: Name, copy: &Path, meta: &Metadata) -> Result<Item> {
        let reading = || format!("cannot read {}", copy.display());
        let mut file = File::open(copy).with_context(reading)?;
        let size = file.metadata().with_context(reading)?.len();
        let (sha256, _) = self.put_content(member, &mut file, size, meta)?;
        Ok(item(path, Kind::File { size, sha256 }, meta))
    }

    fn put(&mut self, found: Found) -> Result<()> {
        let path = self.home.join(&found.path.0);
        let item = match found.shape {
            Shape::Folder | Shape::Link => self.put_named(&found, &path),
            Shape::File | Shape::Database => self.put_file(&found, &path),
        };
        match item {
            Ok(Some(item)) => self.manifest.files.push(item),
            Ok(None) => self.manifest.vanished.push(found.path),
            Err(Unread::Source(error)) if is_gone(&error) => self.manifest.vanished.push(found.path),
            Err(Unread::Source(error)) => {
                self.manifest.problems.push(format!("cannot read {}: {error}", found.path.0.display()));
            }
            Err(Unread::Archive(error)) => return Err(error),
        }
        Ok(())
    }

    fn put_named(&mut self, found: &Found, path: &Path) -> Result<Option<Item>, Unread> {
        let meta = fs::symlink_metadata(path).map_err(Unread::Source)?;
        let name = self.folder.join(member(&found.path.0));
        if meta.is_dir() && found.shape == Shape::Folder {
            let mut header = header_of(tar::EntryType::Directory, &meta);
            self.tar.append_data(&mut header, name, io::empty()).map_err(full)?;
            return Ok(Some(item(found.path.clone(), Kind::Folder, &meta)));
        }
        if !meta.is_symlink() || found.shape != Shape::Link {
            return Ok(None);
        }
        let target = fs::read_link(path).map_err(Unread::Source)?;
        let mut header = header_of(tar::EntryType::Symlink, &meta);
        // A short target is written as it is; the other way drops a leading `./`.
        if target.as_os_str().len() <= 100
            && header.set_link_name_literal(target.as_os_str().as_bytes()).is_ok()
        {
            self.tar.append_data(&mut header, name, io::empty()).map_err(full)?;
        } else {
            self.tar.append_link(&mut header, name, &target).map_err(full)?;
        }
        Ok(Some(item(found.path.clone(), Kind::Link { target: Name(target) }, &meta)))
    }

    fn put_file(&mut self, found: &Found, path: &Path) -> Result<Option<Item>, Unread> {
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
                let now = file.metadata().map_err(Unread::Source)?;
                let settled = same(&meta, &now);
                meta = now;
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
                let (sha256, _) =
                    self.put_content(&name, &mut content.as_slice(), size, &meta).map_err(Unread::Archive)?;
                return Ok(Some(item(found.path.clone(), Kind::File { size, sha256 }, &meta)));
            }
        }

        let size = if lines { whole_lines(&mut file, meta.len()) } else { Ok(meta.len()) };
        let size = size.map_err(Unread::Source)?;
        file.rewind().map_err(Unread::Source)?;
        let (sha256, read) = self.put_content(&name, &mut file, size, &meta).map_err(Unread::Archive)?;
        let now = file.metadata().map_err(Unread::Source)?;
        // A file that only grew was appended to: what is saved is its beginning.
        let grew = now.len() > meta.len();
        if read < size {
            self.manifest.problems.push(format!(
                "{} became shorter or unreadable while it was read; its end is filled with zeros",
                found.path.0.display()
            ));
        } else if !lines && !grew && !same(&meta, &now) {
            self.manifest.problems.push(format!("{} changed while it was read", found.path.0.display()));
        }
        Ok(Some(item(found.path.clone(), Kind::File { size, sha256 }, &meta)))
    }

    /// Writes exactly `size` bytes; what the source does not have is zeros. Gives the hash of
    /// what was written, and how much the source had.
    fn put_content(
        &mut self,
        member: &Path,
        source: &mut dyn Read,
        size: u64,
        meta: &Metadata,
    ) -> Result<(String, u64)> {
        let mut write = || -> io::Result<(String, u64)> {
            let mut header = header_of(tar::EntryType::Regular, meta);
            header.set_size(size);
            self.tar.append_data(&mut header, self.folder.join(member), io::empty())?;
            let blocks = self.tar.get_mut();
            if size > SMALL {
                // So that a page or line that stays where it is stays where it is in a block.
                blocks.cut()?;
            }
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 128 << 10];
            let (mut left, mut read, mut short) = (size, 0, false);
            while left > 0 {
                let most = left.min(buffer.len() as u64) as usize;
                let taken = match if short { Ok(0) } else { source.read(&mut buffer[..most]) } {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // Shorter than it was, or unreadable from here on: the caller says so.
                    Ok(0) | Err(_) => {
                        short = true;
                        buffer[..most].fill(0);
                        most
                    }
                    Ok(taken) => {
                        read += taken as u64;
                        taken
                    }
                };
                hash.update(&buffer[..taken]);
                blocks.write_all(&buffer[..taken])?;
                left -= taken as u64;
            }
            let padding = (512 - size % 512) % 512;
            blocks.write_all(&[0; 512][..padding as usize])?;
            Ok((hex(&hash.finalize()), read))
        };
        write().context("cannot write the archive")
    }

    fn put_index(&mut self) -> io::Result<()> {
        self.tar.get_mut().begin_index()?;
        let text = serde_json::to_vec_pretty(&self.manifest)?;
        let checksums = self.manifest.checksums(&hex(&Sha256::digest(&text)));
        for (name, content) in [(MANIFEST, &text), (CHECKSUMS, &checksums)] {
            let size = content.len() as u64;
            let mut header = header(tar::EntryType::Regular, 0o600, size, self.manifest.time);
            self.tar.append_data(&mut header, self.folder.join(name), content.as_slice())?;
        }
        Ok(())
    }
}

/// Why something is not in the archive: its own fault, or the archive's.
enum Unread {
    Source(io::Error),
    Archive(anyhow::Error),
}

fn full(error: io::Error) -> Unread {
    Unread::Archive(anyhow::Error::new(error).context("cannot write the archive"))
}

fn item(path: Name, kind: Kind, meta: &Metadata) -> Item {
    let mtime = DateTime::from_timestamp(meta.mtime(), meta.mtime_nsec().clamp(0, 999_999_999) as u32);
    let mtime = mtime.unwrap_or_default();
    Item { path, kind, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), mtime }
}

fn header(kind: tar::EntryType, mode: u32, size: u64, time: DateTime<Utc>) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time.timestamp().max(0).unsigned_abs());
    header
}

fn header_of(kind: tar::EntryType, meta: &Metadata) -> tar::Header {
    let time = DateTime::from_timestamp(meta.mtime(), 0).unwrap_or_default();
    let mut header = header(kind, meta.mode() & 0o7777, 0, time);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header
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
