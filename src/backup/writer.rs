//! From a plan to an archive: databases are held at one moment, then come the files, the databases
//! and the index.

use super::blocks::{Block, PAGES};
use super::body;
use super::check::Checker;
use super::databases::{Saved, Saving, Source};
use super::dump::Dumped;
use super::entry::file_item;
use super::excluded::{LeftOut, Reason};
use super::live::{self, Unread};
use super::manifest::{
    self, Database, Dump, Item, Loss, Manifest, Name, Soundness, Unjudged, Unkept, member,
};
use super::pack::Packer;
use super::past::{self, Past, Reading};
use super::places::Places;
use super::plan::{Found, Plan, Shape, is_gone};
use super::pool::give_way;
use super::snapshot;
use super::space::is_full;
use super::tape::{SMALL, Tape};
use crate::base::database::{self, Verdict};
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::one_line;
use crate::base::xattrs::Xattrs;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// Writes archives of one home.
pub(super) struct Writer<'a> {
    home: &'a Places,
    /// Where copies of databases are made. Everything in it is thrown away later.
    work: &'a Path,
    past: Option<&'a Past>,
    reading: Reading,
    tape: Tape,
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
        home: &'a Places,
        work: &'a Path,
        file: File,
        manifest: Manifest,
        past: Option<&'a Past>,
        reading: Reading,
        progress: Progress,
    ) -> io::Result<Writer<'a>> {
        let packer = Packer::new(file, past.map(|past| past.stock.clone()))?.watched(progress);
        let tape = Tape::new(packer, &manifest.folder);
        Ok(Writer { home, work, past, reading, tape, manifest, unread: 0 })
    }

    /// Writes everything.
    pub(super) fn write(mut self, plan: &Plan) -> Result<Written> {
        self.manifest.problems.clone_from(&plan.problems);
        self.manifest.no_dumps.clone_from(&plan.no_dumps);
        self.manifest.links_out.clone_from(&plan.links_out);
        self.manifest.unkept = plan.left_out.iter().filter_map(special).collect();
        let saving = Saving::new(self.home.home.path(), self.work, self.past(), self.manifest.time);
        let checker = Checker::begin(plan.databases.len(), false);
        step("planned")?;
        let held = saving.hold(plan.databases.clone(), &mut self.manifest.vanished)?;
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
            self.put_others(&plan.others)?;
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
        self.note_lacking();
        for dumped in plan.dumps.clone() {
            self.put_dump(dumped)?;
        }
        let (file, bytes, copied) = self.tape.finish(&self.manifest)?;
        step("written")?;
        Ok(Written { file, bytes, copied, unread: self.unread, manifest: self.manifest })
    }

    /// What may be taken unread from the archive before this one.
    fn past(&self) -> Option<&'a Past> {
        self.past.filter(|_| self.reading == Reading::Changed)
    }

    fn put_others(&mut self, others: &[Found]) -> Result<()> {
        self.tape.put_top(self.manifest.time)?;
        others.iter().try_for_each(|found| self.put(found))
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
                    soundness: Soundness::Sound,
                    seconds: shot.held.as_secs_f64(),
                });
                let xattrs = self.attributes(name, &saved.meta);
                let mut item = self.put_copy(&member(&name.0), name.clone(), copy, (&saved.meta, &xattrs))?;
                item.stamp = saved.stamp.clone().filter(|_| item.size() > SMALL);
                self.manifest.files.push(&item);
            }
            Source::Past(item, database, members) => {
                self.manifest.databases.push(Database { seconds: 0.0, ..database.clone() });
                let xattrs = self.attributes(&saved.found.path, &saved.meta);
                self.put_unread(item, members, (&saved.meta, xattrs))?;
            }
            Source::Files(set, reason, why) => {
                self.put_files(saved, set, *reason, why)?;
            }
            Source::Opaque(set, settled) => {
                let mut why = "it is encrypted, or looks so".to_owned();
                if !settled {
                    why.push_str("; it changed while it was read and may not open");
                    self.manifest.problems.push(format!(
                        "the database {} is encrypted, or looks so, and changed while it was read: the copy of it in \
                         the archive may not open; back it up while its owner is stopped, or by [backup.dump]",
                        name.0.display()
                    ));
                }
                self.put_files(saved, set, Some(Unjudged::Encrypted), &why)?;
            }
            Source::LeftOut(reason, why) => {
                self.note_database(name, Soundness::Unjudged(*reason), why);
                let problem = format!(
                    "the database {} is not in the archive: {}",
                    name.0.display(),
                    one_line(why, 300)
                );
                self.manifest.problems.push(problem);
            }
            Source::Vanished => self.manifest.vanished.push(name.clone()),
        }
        Ok(())
    }

    /// Notes a database of which nothing is known but this.
    fn note_database(&mut self, path: &Name, soundness: Soundness, why: &str) {
        self.manifest.databases.push(Database {
            path: path.clone(),
            pages: 0,
            page_size: 0,
            mode: String::new(),
            integrity: one_line(why, 1000),
            soundness,
            seconds: 0.0,
        });
    }

    /// Puts in the files of a database that SQLite cannot open. Those of one that is damaged go where a
    /// restore does not take them from.
    fn put_files(&mut self, saved: &Saved, set: &Path, reason: Option<Unjudged>, why: &str) -> Result<()> {
        let name = &saved.found.path;
        let Some(reason) = reason else {
            self.note_database(name, Soundness::Damaged, why);
            self.note_damage(name, why);
            return self.put_raw(set, name, &saved.meta);
        };
        self.note_database(name, Soundness::Unjudged(reason), why);
        let xattrs = self.attributes(name, &saved.meta);
        for (path, copy) in set_of(&name.0, set) {
            let item = self.put_copy(&member(&path), Name(path), &copy, (&saved.meta, &xattrs))?;
            self.manifest.files.push(&item);
            let _ = fs::remove_file(copy);
        }
        Ok(())
    }

    /// Notes what the checks said. The files of a database that is damaged go in as they are.
    fn judge_databases(&mut self, saved: Vec<Saved>, verdicts: Vec<Result<Verdict>>) -> Result<()> {
        let copies = saved.into_iter().filter_map(|saved| match saved.source {
            Source::Copy(copy, _) => Some((saved.found.path, saved.meta, copy)),
            _ => None,
        });
        for ((path, meta, copy), verdict) in copies.zip(verdicts) {
            let verdict =
                verdict.with_context(|| format!("cannot check the database {}", path.0.display()))?;
            let _ = fs::remove_file(&copy);
            let (soundness, why) = match verdict {
                Verdict::Sound => (Soundness::Sound, "ok".to_owned()),
                Verdict::Damaged(why) => (Soundness::Damaged, why),
                Verdict::Unjudged(reason, why) => (Soundness::Unjudged(reason), why),
            };
            let mut databases = self.manifest.databases.iter_mut();
            if let Some(database) = databases.find(|database| database.path == path) {
                (database.soundness, database.integrity) = (soundness, one_line(&why, 1000));
            }
            if soundness != Soundness::Damaged {
                continue;
            }
            self.note_damage(&path, &why);
            let raw = copy.with_extension("raw");
            match snapshot::copy_set(&self.home.home.path().join(&path.0), &raw) {
                Ok(()) => self.put_raw(&raw, &path, &meta)?,
                Err(error) if is_full(&error) => return Err(error),
                // What could be copied of it is in the archive.
                Err(error) => {
                    self.manifest.problems.push(format!("no raw copy of it is in the archive: {error:#}"))
                }
            }
        }
        Ok(())
    }

    fn note_damage(&mut self, path: &Name, why: &str) {
        self.manifest.problems.push(format!(
            "the database {} is damaged; its files are in the archive as they are: {}",
            path.0.display(),
            one_line(why, 300)
        ));
    }

    /// Puts in copies of the files of a damaged database, as they are.
    fn put_raw(&mut self, set: &Path, name: &Name, meta: &Metadata) -> Result<()> {
        let xattrs = self.attributes(name, meta);
        for (path, copy) in set_of(&name.0, set) {
            let member = manifest::damaged_member(&path);
            let item = self.put_copy(&member, Name(path), &copy, (meta, &xattrs))?;
            self.manifest.damaged.push(item);
            let _ = fs::remove_file(copy);
        }
        Ok(())
    }

    /// Of the databases that are expected, notes those that are not there.
    fn note_lacking(&mut self) {
        let there: HashSet<&Path> =
            self.manifest.databases.iter().map(|database| database.path.0.as_path()).collect();
        let mut lacking = std::mem::take(&mut self.manifest.lacking);
        lacking.retain(|lacking| !there.contains(lacking.path.0.as_path()));
        for lacking in &lacking {
            let (path, archive) = (lacking.path.0.display(), &lacking.archive);
            let problem = if self.manifest.has_file(&lacking.path.0) {
                format!(
                    "{path} is no database any more; {archive} has it as one. If that is meant, name it in optional in [backup]"
                )
            } else {
                format!(
                    "the database {path} is missing; {archive} has it. If it was removed for good, name it in exclude or optional in [backup]"
                )
            };
            self.manifest.problems.push(problem);
        }
        self.manifest.lacking = lacking;
    }

    /// Puts in what a command wrote.
    fn put_dump(&mut self, dumped: Dumped) -> Result<()> {
        let member = Path::new(manifest::DUMPS).join(&dumped.name);
        let meta = fs::metadata(&dumped.file).context("cannot read a dump")?;
        let file = self.put_copy(&member, Name(member.clone()), &dumped.file, (&meta, &Xattrs::default()))?;
        let seconds = dumped.took.as_secs();
        let Dumped { name, command, .. } = dumped;
        self.manifest.dumps.push(Dump { name, command, seconds, file });
        step("dump put")?;
        Ok(())
    }

    /// Puts in a file that is as it was when the archive before this one was made, if it is.
    fn put_if_unchanged(&mut self, found: &Found) -> Result<bool> {
        let Some(past) = self.past() else { return Ok(false) };
        let file = self.home.at(&found.path.0).and_then(|(dir, rest)| dir.open_file(rest));
        let Ok(file) = file else { return Ok(false) };
        let Ok(meta) = file.metadata() else { return Ok(false) };
        let stamp = past::stamp(&meta, self.manifest.time).filter(|_| meta.is_file());
        let known = stamp.and_then(|stamp| past.file(&found.path.0, &stamp));
        // Earlier versions left out an unfinished last line also of a file at rest.
        let Some((item, members)) = known.filter(|(item, _)| item.size() == meta.len()) else {
            return Ok(false);
        };
        let (xattrs, unkept) = live::attributes(&file, &meta);
        self.note_unkept(&found.path, unkept);
        self.put_unread(item, members, (&meta, xattrs))?;
        Ok(true)
    }

    /// Puts in a file that did not change, by copying its members.
    fn put_unread(
        &mut self,
        past: &Item,
        members: &[Block],
        (meta, xattrs): (&Metadata, Xattrs),
    ) -> Result<()> {
        let at = self.tape.put_members(&member(&past.path.0), (meta, &xattrs), past.size(), members)?;
        self.manifest.files.push(&Item { at: Some(at), xattrs, ..past.clone() });
        self.unread += 1;
        Ok(())
    }

    /// Puts in a file of ours under the name, mode and time of another.
    fn put_copy(
        &mut self,
        member: &Path,
        path: Name,
        copy: &Path,
        (meta, xattrs): (&Metadata, &Xattrs),
    ) -> Result<Item> {
        let reading = || format!("cannot read {}", copy.display());
        let mut file = File::open(copy).with_context(reading)?;
        let size = file.metadata().with_context(reading)?.len();
        let put = |blocks: &mut Packer| body::put(blocks, &mut file, size);
        let (at, body) = self.tape.put_body(member, (meta, xattrs), size, PAGES, put)?;
        anyhow::ensure!(body.read == size, "{} became shorter or unreadable", copy.display());
        Ok(Item { xattrs: xattrs.clone(), ..file_item(path, meta, at, &body) })
    }

    /// The attributes of a database. Its lock is not held any more: closing its file would let go of it.
    fn attributes(&mut self, path: &Name, meta: &Metadata) -> Xattrs {
        // One that went away since it was copied has none.
        let file = self.home.at(&path.0).and_then(|(dir, rest)| dir.open_file(rest));
        let Ok(file) = file else { return Xattrs::default() };
        let (xattrs, unkept) = live::attributes(&file, meta);
        self.note_unkept(path, unkept);
        xattrs
    }

    fn note_unkept(&mut self, path: &Name, unkept: Vec<Loss>) {
        for what in unkept {
            if what.matters() {
                self.manifest.problems.push(format!("{}: {}", path.0.display(), what.words()));
            }
            self.manifest.unkept.push(Unkept { path: path.clone(), what });
        }
    }

    fn put(&mut self, found: &Found) -> Result<()> {
        if found.shape == Shape::File && found.size > SMALL && self.put_if_unchanged(found)? {
            return Ok(());
        }
        match live::put(&mut self.tape, found, self.home, self.manifest.time) {
            Ok(Some(put)) => {
                self.note_unkept(&found.path, put.unkept);
                self.manifest.files.push(&put.item);
                self.manifest.problems.extend(put.problem);
            }
            Ok(None) => self.note_unkept(&found.path, vec![Loss::ChangedKind]),
            Err(Unread::Source(error)) if is_gone(&error) => self.manifest.vanished.push(found.path.clone()),
            Err(Unread::Source(error)) => {
                self.manifest.problems.push(format!("cannot read {}: {error}", found.path.0.display()));
            }
            Err(Unread::Archive(error)) => return Err(error),
        }
        Ok(())
    }
}

/// What is neither a file nor a folder nor a link cannot be kept.
fn special(left_out: &LeftOut) -> Option<Unkept> {
    let what = match left_out.reason {
        Reason::Socket => Loss::Socket,
        Reason::Fifo => Loss::Fifo,
        Reason::Device => Loss::Device,
        _ => return None,
    };
    Some(Unkept { path: left_out.path.clone(), what })
}

/// The files of a database that were copied to `set`, each with where it belongs.
fn set_of(path: &Path, set: &Path) -> Vec<(PathBuf, PathBuf)> {
    let [wal, _, journal] = database::sidecars(path);
    let [wal_copy, _, journal_copy] = database::sidecars(set);
    let all = [(path.to_owned(), set.to_owned()), (wal, wal_copy), (journal, journal_copy)];
    all.into_iter().filter(|(_, copy)| copy.exists()).collect()
}
