//! Databases on their way into an archive: held at one moment, then copied.
//!
//! What is locked is found before anything is held, and waited for once, for all of them together: nobody
//! else waits for us meanwhile. What stays locked is left out.

use super::blocks::Block;
use super::manifest::{Database, Item, Name, Unjudged};
use super::past::{Past, database_stamp};
use super::plan::{Found, is_gone};
use super::shelf::is_exhausted;
use super::snapshot::{self, Pinned, Shot};
use super::space::is_full;
use crate::base::beneath::Dir;
use crate::base::units::Span;
use crate::base::{descriptors, durable, integrity, opaque};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::ErrorCode;
use std::cell::Cell;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all databases that are locked are waited for, together.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one is waited for while others are held: their writers wait too.
const BRIEF: Duration = Duration::from_millis(500);
/// So often it is looked whether they are locked still.
const AGAIN: Duration = Duration::from_millis(10);
/// A database in WAL mode has so many files open.
const FILES: u64 = 3;

/// A database on its way in.
pub(super) struct Saved {
    /// Where it belongs.
    pub(super) found: Found,
    /// What its file looked like.
    pub(super) meta: Metadata,
    /// What changes whenever it does.
    pub(super) stamp: Option<String>,
    /// Its content.
    pub(super) source: Source,
}

/// Where the content of a database is taken from.
pub(super) enum Source {
    /// A copy made now.
    Copy(PathBuf, Shot),
    /// The archive before this one: it did not change.
    Past(Box<Item>, Database, Vec<Block>),
    /// Copies of its files as they are, `-wal` and `-journal` beside it: SQLite cannot open it. None: it is
    /// damaged.
    Files(PathBuf, Option<Unjudged>, String),
    /// The same of one that is encrypted, of which not even the header is plain, and whether the files stayed
    /// as they are while they were copied.
    Opaque(PathBuf, bool),
    /// It could not be read.
    LeftOut(Unjudged, String),
    /// It went away meanwhile.
    Vanished,
}

/// Where databases are, and where their copies go.
pub(super) struct Saving<'a> {
    /// The home.
    home: &'a Path,
    /// Where copies are made.
    work: &'a Path,
    /// What may be taken from, without looking.
    past: Option<&'a Past>,
    /// When the run began.
    now: DateTime<Utc>,
    /// How long those are still waited for, together, that turn out to be locked when it is their turn.
    patience: Cell<Duration>,
}

/// Databases that are all held at one moment, on their way to copies.
pub(super) struct Held<'a> {
    saving: Saving<'a>,
    stages: Vec<Stage>,
}

/// How far a database is.
enum Stage {
    Saved(Saved),
    /// Nobody writes to it, or there are too many to hold them all: it is opened when it is its turn.
    Waiting(Waiting),
    Pinned(Waiting, Result<Pinned>),
}

struct Waiting {
    number: usize,
    found: Found,
    meta: Metadata,
    stamp: Option<String>,
    /// Whether it is in WAL mode without a WAL: then it is read without a lock.
    at_rest: bool,
    /// It is encrypted as a whole: only its files can be copied.
    opaque: bool,
}

impl Waiting {
    fn saved(self, source: Source) -> Stage {
        let Waiting { found, meta, stamp, .. } = self;
        Stage::Saved(Saved { found, meta, stamp, source })
    }
}

impl<'a> Saving<'a> {
    pub(super) fn new(
        home: &'a Path,
        work: &'a Path,
        past: Option<&'a Past>,
        now: DateTime<Utc>,
    ) -> Saving<'a> {
        Saving { home, work, past, now, patience: Cell::new(patience()) }
    }

    /// Holds all databases at one moment, then copies those whose writers wait, and those that cannot
    /// be held. One that did not change since the archive before this one is at that moment as it was
    /// then.
    pub(super) fn hold(self, databases: Vec<Found>, vanished: &mut Vec<Name>) -> Result<Held<'a>> {
        let mut stages = Vec::new();
        for (number, found) in databases.into_iter().enumerate() {
            match self.examine(number, found)? {
                Ok(stage) => stages.push(stage),
                Err(gone) => vanished.push(gone),
            }
        }
        let stages = self.leave_out_locked(stages);
        let mut room = descriptors::room() / FILES;
        let until = Instant::now() + BRIEF;
        let mut pinned = Vec::new();
        for stage in stages {
            pinned.push(match stage {
                Stage::Waiting(waiting) if !waiting.at_rest && !waiting.opaque && room > 0 => {
                    let left = until.saturating_duration_since(Instant::now());
                    match snapshot::pin(&self.home.join(&waiting.found.path.0), false, left) {
                        // Somebody was quicker: it is tried again when nothing else is held up by it.
                        Err(error) if snapshot::is_busy(&error) => Stage::Waiting(waiting),
                        pin => {
                            room -= u64::from(pin.is_ok());
                            Stage::Pinned(waiting, pin)
                        }
                    }
                }
                stage => stage,
            });
        }
        // Those first whose writers wait, then those that may be a reason to give up.
        let waits = |pin: &Result<Pinned>| pin.as_ref().is_ok_and(Pinned::holds_up_writers);
        for now in [waits, |pin: &Result<Pinned>| pin.is_err()] {
            let copied = pinned.into_iter().map(|stage| match stage {
                Stage::Pinned(waiting, pin) if now(&pin) => {
                    self.copy(Stage::Pinned(waiting, pin)).map(Stage::Saved)
                }
                stage => Ok(stage),
            });
            pinned = copied.collect::<Result<_>>()?;
        }
        Ok(Held { saving: self, stages: pinned })
    }

    /// Looks at a database without taking a lock. Err: it is gone.
    fn examine(&self, number: usize, found: Found) -> Result<Result<Stage, Name>> {
        let path = self.home.join(&found.path.0);
        let reading = || format!("cannot read {}", path.display());
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => meta,
            // What took its place is no database, and a link there leads elsewhere.
            Ok(_) => return Ok(Err(found.path)),
            Err(error) if is_gone(&error) => return Ok(Err(found.path)),
            Err(error) => return Err(error).with_context(reading),
        };
        let stamp = database_stamp(&path, self.now);
        if let Some((item, database, members)) =
            stamp.as_deref().and_then(|stamp| self.past?.database(&found.path.0, stamp))
        {
            let source = Source::Past(Box::new(item.clone()), database.clone(), members.to_vec());
            return Ok(Ok(Stage::Saved(Saved { found, meta, stamp, source })));
        }
        let at_rest = snapshot::is_at_rest(&path).unwrap_or(false);
        let opaque = is_opaque(&path).unwrap_or(false);
        Ok(Ok(Stage::Waiting(Waiting { number, found, meta, stamp, at_rest, opaque })))
    }

    /// Waits for those that are locked, holding none. Those that still are then are left out.
    fn leave_out_locked(&self, mut stages: Vec<Stage>) -> Vec<Stage> {
        let is_locked = |stage: &Stage| match stage {
            Stage::Waiting(waiting) => {
                !waiting.at_rest
                    && !waiting.opaque
                    && snapshot::is_locked(&self.home.join(&waiting.found.path.0))
            }
            _ => false,
        };
        let mut locked: Vec<usize> = (0..stages.len()).filter(|&at| is_locked(&stages[at])).collect();
        let until = Instant::now() + patience();
        while !locked.is_empty() && Instant::now() < until {
            std::thread::sleep(AGAIN);
            locked.retain(|&at| is_locked(&stages[at]));
        }
        for at in locked.into_iter().rev() {
            if let Stage::Waiting(waiting) = stages.remove(at) {
                stages.insert(at, waiting.saved(left_out_locked()));
            }
        }
        stages
    }

    fn copy(&self, stage: Stage) -> Result<Saved> {
        let (waiting, pin) = match stage {
            Stage::Saved(saved) => return Ok(saved),
            Stage::Pinned(waiting, pin) => (waiting, pin),
            Stage::Waiting(Waiting { number, found, meta, opaque: true, .. }) => {
                let source = self.opaque(&self.home.join(&found.path.0), number)?;
                return Ok(Saved { found, meta, stamp: None, source });
            }
            Stage::Waiting(waiting) => {
                let begun = Instant::now();
                let path = self.home.join(&waiting.found.path.0);
                // A moment in any case: its writer may only just be at it.
                let pin = snapshot::pin(&path, waiting.at_rest, self.patience.get().max(BRIEF));
                self.patience.set(self.patience.get().saturating_sub(begun.elapsed()));
                (waiting, pin)
            }
        };
        let Waiting { number, found, meta, stamp, .. } = waiting;
        let path = self.home.join(&found.path.0);
        let source = self.source(&path, number, pin)?;
        // What was written meanwhile may not be in the copy, or may be.
        let stamp = stamp.filter(|stamp| database_stamp(&path, self.now).as_ref() == Some(stamp));
        Ok(Saved { found, meta, stamp, source })
    }

    /// Copies of the files of a database that is encrypted as a whole.
    fn opaque(&self, path: &Path, number: usize) -> Result<Source> {
        let set = self.work.join(format!("{number}.raw"));
        match snapshot::copy_opaque(path, &set) {
            Ok(settled) => Ok(Source::Opaque(set, settled)),
            Err(error) if is_full(&error) || is_exhausted(&error) => Err(error),
            Err(_) if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) => Ok(Source::Vanished),
            Err(error) => Ok(Source::LeftOut(Unjudged::Unreadable, format!("{:#}", error.root_cause()))),
        }
    }

    /// A copy of what is held; or of its files, where SQLite cannot open it.
    ///
    /// # Errors
    /// When the disk is full, or there are no more files or memory: that is not the fault of a database.
    fn source(&self, path: &Path, number: usize, pin: Result<Pinned>) -> Result<Source> {
        let target = self.work.join(format!("{number}.db"));
        let error = match pin.and_then(|pin| pin.copy(&target)) {
            Ok(shot) => return Ok(Source::Copy(target, shot)),
            Err(error) => error,
        };
        if is_full(&error) || is_out_of_memory(&error) {
            return Err(error);
        }
        if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
            return Ok(Source::Vanished);
        }
        if snapshot::is_busy(&error) {
            return Ok(left_out_locked());
        }
        let set = self.work.join(format!("{number}.raw"));
        let error = match snapshot::copy_files(path, &set, &target) {
            Ok(shot) => return Ok(Source::Copy(target, shot)),
            Err(error) => error,
        };
        if is_full(&error) || is_exhausted(&error) || is_out_of_memory(&error) {
            return Err(error);
        }
        if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
            return Ok(Source::Vanished);
        }
        let why = format!("{:#}", error.root_cause());
        Ok(match snapshot::code(&error) {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                let reason = match integrity::looks_encrypted(&set)? {
                    true => Some(Unjudged::Encrypted),
                    false if snapshot::code(&error) == Some(ErrorCode::Unknown) => Some(Unjudged::Other),
                    false => None,
                };
                Source::Files(set, reason, why)
            }
            _ => Source::LeftOut(Unjudged::Unreadable, why),
        })
    }
}

fn is_opaque(path: &Path) -> Result<bool> {
    let folder = Dir::open(durable::parent(path))?;
    Ok(opaque::is_encrypted(&folder, Path::new(path.file_name().unwrap_or_default()))?)
}

fn left_out_locked() -> Source {
    Source::LeftOut(Unjudged::Locked, format!("it was locked for {} by its writer", Span(patience())))
}

/// [`PATIENCE`]; in builds with debug assertions `OPS_PATIENCE` (milliseconds) replaces it, so that tests of
/// locks need not wait.
fn patience() -> Duration {
    let told = || std::env::var("OPS_PATIENCE").ok()?.parse().ok().map(Duration::from_millis);
    cfg!(debug_assertions).then(told).flatten().unwrap_or(PATIENCE)
}

fn is_out_of_memory(error: &anyhow::Error) -> bool {
    snapshot::code(error) == Some(ErrorCode::OutOfMemory)
}

impl Held<'_> {
    /// Copies them one after another and hands each to `take`, until that says no, or one fails.
    pub(super) fn copy(self, mut take: impl FnMut(Result<Saved>) -> bool) {
        for stage in self.stages {
            let saved = self.saving.copy(stage);
            let failed = saved.is_err();
            if !take(saved) || failed {
                return;
            }
        }
    }
}
