//! Databases on their way into an archive: held at one moment, then copied.

use super::blocks::Block;
use super::manifest::{Database, Item, Name};
use super::past::{Past, database_stamp};
use super::plan::{Found, is_gone};
use super::snapshot::{self, Pinned, Shot};
use super::space::is_full;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

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
    Past(Item, Database, Vec<Block>),
    /// There could be no copy.
    None(String),
}

/// Where databases are, and where their copies go.
pub(super) struct Saving<'a> {
    /// The home.
    pub(super) home: &'a Path,
    /// Where copies are made.
    pub(super) work: &'a Path,
    /// What may be taken from, without looking.
    pub(super) past: Option<&'a Past>,
    /// When the run began.
    pub(super) now: DateTime<Utc>,
}

/// Databases that are all held at one moment, on their way to copies.
pub(super) struct Held<'a> {
    saving: Saving<'a>,
    stages: Vec<Stage>,
}

/// How far a database is.
enum Stage {
    Saved(Saved),
    Pinned { number: usize, found: Found, meta: Metadata, stamp: Option<String>, pin: Result<Pinned> },
}

impl<'a> Saving<'a> {
    /// Holds all databases at one moment, then copies those whose writers wait, and those that cannot
    /// be held. One that did not change since the archive before this one is at that moment as it was
    /// then.
    pub(super) fn hold(self, databases: Vec<Found>, vanished: &mut Vec<Name>) -> Result<Held<'a>> {
        let mut stages = Vec::new();
        for (number, found) in databases.into_iter().enumerate() {
            let path = self.home.join(&found.path.0);
            let stamp = database_stamp(&path, self.now);
            let meta = match fs::metadata(&path) {
                Ok(meta) => meta,
                Err(error) if is_gone(&error) => {
                    vanished.push(found.path);
                    continue;
                }
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            };
            let known = stamp.as_deref().and_then(|stamp| self.past?.database(&found.path.0, stamp));
            stages.push(if let Some((item, database, members)) = known {
                let source = Source::Past(item.clone(), database.clone(), members.to_vec());
                Stage::Saved(Saved { found, meta, stamp, source })
            } else {
                Stage::Pinned { number, found, meta, stamp, pin: snapshot::pin(&path) }
            });
        }
        // Those first whose writers wait, then those that may be a reason to give up.
        let waits = |pin: &Result<Pinned>| pin.as_ref().is_ok_and(Pinned::holds_up_writers);
        for now in [waits, |pin: &Result<Pinned>| pin.is_err()] {
            let copied = stages.into_iter().map(|stage| match &stage {
                Stage::Pinned { pin, .. } if now(pin) => self.copy(stage).map(Stage::Saved),
                _ => Ok(stage),
            });
            stages = copied.collect::<Result<_>>()?;
        }
        Ok(Held { saving: self, stages })
    }

    fn copy(&self, stage: Stage) -> Result<Saved> {
        let (number, found, meta, stamp, pin) = match stage {
            Stage::Saved(saved) => return Ok(saved),
            Stage::Pinned { number, found, meta, stamp, pin } => (number, found, meta, stamp, pin),
        };
        let path = self.home.join(&found.path.0);
        let target = self.work.join(format!("{number}.db"));
        let shot = pin.and_then(|pin| pin.copy(&target)).or_else(|error| {
            if snapshot::is_busy(&error) {
                return Err(snapshot::busy(&found.path.0).into());
            }
            if is_full(&error) {
                return Err(error);
            }
            snapshot::copy_files(&path, &target)
        });
        let source = match shot {
            Ok(shot) => Source::Copy(target, shot),
            Err(error) if is_full(&error) || error.is::<crate::base::Fault>() => {
                return Err(error);
            }
            Err(error) => Source::None(format!("{error:#}")),
        };
        // What was written meanwhile may not be in the copy, or may be.
        let stamp = stamp.filter(|stamp| database_stamp(&path, self.now).as_ref() == Some(stamp));
        Ok(Saved { found, meta, stamp, source })
    }
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
