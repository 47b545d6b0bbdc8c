//! From a plan to an archive: databases are held at one moment, then come the files, the databases
//! and the index.

use super::blocks::{BLOCK, Block, PAGES};
use super::body::{self, Body};
use super::check::Checker;
use super::databases::{Saved, Saving, Source};
use super::entry::{file_item, header, header_of, item};
use super::manifest::{self, CHECKSUMS, Database, Item, Kind, MANIFEST, Manifest, Name, member};
use super::pack::Packer;
use super::past::{self, Past, Reading};
use super::plan::{Found, Plan, Shape, is_gone};
use super::pool::give_way;
use super::snapshot;
use crate::base::database::{self, Verdict};
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::{hex, one_line};
use anyhow::{Context, Result};
use libdeflater::crc32;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// A file up to this size is read whole, again if it changed meanwhile, and shares members with
/// its neighbours. A larger one has members of its own.
const SMALL: u64 = 64 << 10;
/// Small files share a member until it has so much; about sixteen more follow.
const GROUP: usize = 128 << 10;
/// The most that the headers of one file take: two for its name, and the long name itself.
const HEADERS: u64 = 8 << 10;

/// Writes archives of one home.
pub(super) struct Writer<'a> {
    home: &'a Path,
    /// Where copies of databases are made. Everything in it is thrown away later.
    work: &'a Path,
    past: Option<&'a Past>,
    reading: Reading,
    folder: PathBuf,
    tar: tar::Builder<Packer>,
    manifest: Manifest,
    unread: usize,
}

/// What was written. It may not be on disk yet.
pub(super) struct Written {
    /// The file.
    pub(super) file: File,
    /// Its length.
    pub(super) bytes: u64,
    /// Bytes of it that were copied from the archive before it.
    pub(super) copied: u64,
    /// Files that were not read, because they did not change.
    pub(super) unread: usize,
    /// Its index. Every database in it was checked.
    pub(super) manifest: Manifest,
}

impl<'a> Writer<'a> {
    /// An archive at `file`, whose manifest says who and when and has no files yet.
    pub(super) fn new(
        home: &'a Path,
        work: &'a Path,
        file: File,
        manifest: Manifest,
        past: Option<&'a Past>,
        reading: Reading,
        progress: Progress,
    ) -> io::Result<Writer<'a>> {
        let folder = PathBuf::from(&manifest.folder);
        let packer = Packer::new(file, past.map(|past| past.stock.clone()))?.watched(progress);
        let tar = tar::Builder::new(packer);
        Ok(Writer { home, work, past, reading, folder, tar, manifest, unread: 0 })
    }

    /// Writes everything.
    pub(super) fn write(mut self, plan: Plan) -> Result<Written> {
        self.manifest.problems = plan.problems;
        let (home, work, now) = (self.home, self.work, self.manifest.time);
        let saving = Saving { home, work, past: self.past(), now };
        let checker = Checker::begin(plan.databases.len(), false);
        let held = saving.hold(plan.databases, &mut self.manifest.vanished)?;
        step("databases")?;
        let saved = std::thread::scope(|scope| {
            let (copied, copies) = mpsc::channel();
            scope.spawn(|| {
                let copied = copied;
                held.copy(|saved| {
                    let checked = match &saved {
                        Ok(Saved { source: Source::Copy(copy, _), .. }) => checker.add(copy.clone()),
                        _ => Ok(()),
                    };
                    copied.send(checked.and(saved)).is_ok()
                });
            });
            // They are at their moment: what else there is can be written while they are copied. The
            // sooner they are let go of, the less their writers have to clear up.
            give_way();
            self.put_others(plan.others)?;
            copies
                .into_iter()
                .map(|saved| {
                    let saved = saved?;
                    self.put_database(&saved)?;
                    Ok(saved)
                })
                .collect::<Result<Vec<_>>>()
        })?;
        self.judge_databases(saved, checker.finish()?)?;
        self.put_index().context("cannot write the archive")?;
        let (file, bytes, copied) =
            self.tar.into_inner().and_then(Packer::finish).context("cannot write the archive")?;
        step("written")?;
        Ok(Written { file, bytes, copied, unread: self.unread, manifest: self.manifest })
    }

    /// What may be taken unread from the archive before this one.
    fn past(&self) -> Option<&'a Past> {
        self.past.filter(|_| self.reading == Reading::Changed)
    }

    fn put_others(&mut self, others: Vec<Found>) -> Result<()> {
        let mut top = header(tar::EntryType::Directory, 0o700, 0, self.manifest.time);
        self.tar.append_data(&mut top, &self.folder, io::empty()).context("cannot write the archive")?;
        others.into_iter().try_for_each(|found| self.put(found))
    }

    fn put_database(&mut self, saved: &Saved) -> Result<()> {
        let name = &saved.found.path;
        match &saved.source {
            Source::Copy(copy, shot) => {
                self.manifest.databases.push(Database {
                    path: name.clone(),
                    pages: shot.pages,
                    page_size: shot.page_size,
                    mode: if shot.wal { "wal" } else { "rollback" }.to_owned(),
                    // Said when it was checked.
                    integrity: String::new(),
                    seconds: shot.held.as_secs_f64(),
                });
                let mut item = self.put_copy(&member(&name.0), name.clone(), copy, &saved.meta)?;
                item.stamp = saved.stamp.clone().filter(|_| item.size() > SMALL);
                self.manifest.files.push(item);
            }
            Source::Past(item, database, members) => {
                self.manifest.databases.push(Database { seconds: 0.0, ..database.clone() });
                self.put_unread(item, members, &saved.meta)?;
            }
            Source::None(_) => {}
        }
        Ok(())
    }

    /// Notes what the checks said. The files of a database that is not sound go in as they are.
    fn judge_databases(&mut self, saved: Vec<Saved>, verdicts: Vec<Result<Verdict>>) -> Result<()> {
        let mut verdicts = verdicts.into_iter();
        for (number, saved) in saved.into_iter().enumerate() {
            let problem = match saved.source {
                Source::Past(..) => continue,
                Source::None(problem) => problem,
                Source::Copy(copy, _) => {
                    let problem = match verdicts.next() {
                        Some(Ok(Verdict::Sound)) => None,
                        Some(Ok(Verdict::Damaged(text))) => Some(text),
                        Some(Err(error)) => Some(format!("{error:#}")),
                        None => Some("it was not checked".to_owned()),
                    };
                    let integrity = problem.as_ref().map_or("ok".to_owned(), |text| one_line(text, 1000));
                    let mut databases = self.manifest.databases.iter_mut();
                    if let Some(database) = databases.find(|database| database.path == saved.found.path) {
                        database.integrity = integrity;
                    }
                    let _ = fs::remove_file(copy);
                    let Some(problem) = problem else { continue };
                    problem
                }
            };
            self.manifest.problems.push(format!(
                "the database {} is damaged; its files are in the archive as they are: {}",
                saved.found.path.0.display(),
                one_line(&problem, 300)
            ));
            self.put_raw(number, &saved.found, &saved.meta)?;
        }
        Ok(())
    }

    /// Puts in the files of a damaged database, as they are.
    fn put_raw(&mut self, number: usize, found: &Found, meta: &Metadata) -> Result<()> {
        let target = self.work.join(format!("{number}.damaged"));
        snapshot::copy_set(&self.home.join(&found.path.0), &target)?;
        let [wal, _, journal] = database::sidecars(&found.path.0);
        let [wal_target, _, journal_target] = database::sidecars(&target);
        let all = [(found.path.0.clone(), target), (wal, wal_target), (journal, journal_target)];
        for (path, copy) in all.into_iter().filter(|(_, copy)| copy.exists()) {
            let member = Path::new(manifest::DAMAGED).join(&path);
            let item = self.put_copy(&member, Name(path), &copy, meta)?;
            self.manifest.damaged.push(item);
            let _ = fs::remove_file(copy);
        }
        Ok(())
    }

    /// Puts in a file that is as it was when the archive before this one was made, if it is.
    fn put_if_unchanged(&mut self, found: &Found, path: &Path) -> Result<bool> {
        let Some(past) = self.past() else { return Ok(false) };
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(false) };
        let stamp = past::stamp(&meta, self.manifest.time).filter(|_| meta.is_file());
        let Some((item, members)) = stamp.and_then(|stamp| past.file(&found.path.0, &stamp)) else {
            return Ok(false);
        };
        self.put_unread(item, members, &meta)?;
        Ok(true)
    }

    /// Puts in a file that did not change, by copying its members.
    fn put_unread(&mut self, past: &Item, members: &[Block], meta: &Metadata) -> Result<()> {
        let mut put = || -> io::Result<u64> {
            let at = self.put_header(&member(&past.path.0), past.size(), meta)?;
            self.tar.get_mut().copy(members)?;
            Ok(at)
        };
        let at = put().context("cannot write the archive")?;
        self.manifest.files.push(Item { at: Some(at), ..past.clone() });
        self.unread += 1;
        Ok(())
    }

    /// Puts in a file of ours under the name, mode and time of another.
    fn put_copy(&mut self, member: &Path, path: Name, copy: &Path, meta: &Metadata) -> Result<Item> {
        let reading = || format!("cannot read {}", copy.display());
        let mut file = File::open(copy).with_context(reading)?;
        let size = file.metadata().with_context(reading)?.len();
        let put = |blocks: &mut Packer| body::put(blocks, &mut file, size);
        let (at, body) = self.put_body(member, meta, size, PAGES, put)?;
        anyhow::ensure!(body.read == size, "{} became shorter or unreadable", copy.display());
        Ok(file_item(path, meta, at, &body))
    }

    fn put(&mut self, found: Found) -> Result<()> {
        let path = self.home.join(&found.path.0);
        if found.shape == Shape::File && found.size > SMALL && self.put_if_unchanged(&found, &path)? {
            return Ok(());
        }
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
                let put = |blocks: &mut Packer| body::put(blocks, &mut content.as_slice(), size);
                let (at, body) = self.put_body(&name, &meta, size, BLOCK, put).map_err(Unread::Archive)?;
                return Ok(Some(file_item(found.path.clone(), &meta, at, &body)));
            }
        }

        let size = if lines { whole_lines(&mut file, meta.len()) } else { Ok(meta.len()) };
        let size = size.map_err(Unread::Source)?;
        file.rewind().map_err(Unread::Source)?;
        let put = |blocks: &mut Packer| body::put_file(blocks, &file, &meta, size);
        let (at, body) = self.put_body(&name, &meta, size, BLOCK, put).map_err(Unread::Archive)?;
        let now = file.metadata().map_err(Unread::Source)?;
        let unchanged = same(&meta, &now);
        // A file that only grew was appended to: what is saved is its beginning.
        let grew = now.len() > meta.len();
        if let Some(error) = &body.failed {
            self.manifest.problems.push(format!(
                "cannot read {} beyond its first {} bytes: {error}; the rest of it in the archive is zeros",
                found.path.0.display(),
                body.read
            ));
        } else if body.read < size {
            self.manifest.problems.push(format!(
                "{} became shorter while it was read; its end is filled with zeros",
                found.path.0.display()
            ));
        } else if !lines && !grew && !unchanged {
            self.manifest.problems.push(format!("{} changed while it was read", found.path.0.display()));
        }
        let stamp = past::stamp(&meta, self.manifest.time);
        let stamp = stamp.filter(|_| unchanged && body.read == size && size > SMALL);
        Ok(Some(Item { stamp, ..file_item(found.path.clone(), &meta, at, &body) }))
    }

    /// Writes a file's header; its content has members of its own, if it is large. Gives where
    /// the content begins.
    fn put_header(&mut self, member: &Path, size: u64, meta: &Metadata) -> io::Result<u64> {
        let blocks = self.tar.get_mut();
        // Neighbours are grouped by their names alone, so that a file that comes, goes or grows
        // leaves most groups of small files as they were.
        let group_ends = blocks.filled() >= GROUP && ends_group(member);
        if size <= SMALL && (group_ends || (blocks.room() as u64) < size + HEADERS) {
            blocks.cut()?;
        }
        let mut header = header_of(tar::EntryType::Regular, meta);
        header.set_size(size);
        self.tar.append_data(&mut header, self.folder.join(member), io::empty())?;
        Ok(self.tar.get_mut().position())
    }

    /// Puts in one file: its header, and `size` bytes of content.
    fn put_body(
        &mut self,
        member: &Path,
        meta: &Metadata,
        size: u64,
        most: usize,
        put: impl FnOnce(&mut Packer) -> io::Result<Body>,
    ) -> Result<(u64, Body)> {
        let write = || -> io::Result<(u64, Body)> {
            let at = self.put_header(member, size, meta)?;
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
        write().context("cannot write the archive")
    }

    fn put_index(&mut self) -> io::Result<()> {
        self.tar.get_mut().begin_index()?;
        let text = self.manifest.json()?;
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

/// Whether the group of small files before this one ends: true of one name in sixteen.
fn ends_group(member: &Path) -> bool {
    // Names that are much alike differ in few bits of their sums; the product spreads them.
    crc32(member.as_os_str().as_bytes()).wrapping_mul(0x9e37_79b9) >> 28 == 0
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
