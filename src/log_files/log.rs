//! One log file, and what its name and metadata say of it.

use super::location::Location;
use super::names::{Kin, day_in, is_packed, kin, numbered, split, unpacked};
use chrono::{DateTime, NaiveDate, Utc};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// One log file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its path.
    pub path: PathBuf,
    /// By which it is reached.
    pub at: Location,
    /// What it takes of the disk, at most its length: a hole takes nothing.
    pub bytes: u64,
    /// Which file it is, whatever it is called: device and inode.
    pub file: (u64, u64),
    /// Whether it is our user's, or we are root: then we see who has it open.
    pub ours: bool,
    /// When it was last written.
    pub modified: DateTime<Utc>,
    /// The day in its name.
    pub day: Option<NaiveDate>,
    /// Whether it is compressed (`.gz`).
    pub compressed: bool,
    /// How many names it has: more than one, and it is not only ours to change.
    pub links: u64,
    /// The rule of the config that it falls under.
    pub rule: Option<String>,
    /// Whether it may only be dealt with as a whole.
    pub whole: bool,
    /// Whether nothing of it may be lost.
    pub state: bool,
    /// Whether another program made it of a log and writes it no more, as its name and what is beside it tell.
    pub closed: bool,
    /// Whether that program renames it again and again, as from `.1` to `.2`.
    pub shifts: bool,
}

impl Log {
    /// A log as its metadata tells it.
    pub(crate) fn new(at: Location, meta: &Metadata) -> Log {
        let name = at.name().as_bytes();
        let kin = kin(name);
        let beside = kin.is_some_and(|kin| at.beside(kin.log).is_file());
        // `app.log.1`, but `worker.1` may be in use.
        let is_log = |kin: Kin| kin.shifts && !split(kin.log).1.is_empty();
        Log {
            closed: kin.is_some_and(|kin| beside || kin.timed || is_log(kin)),
            shifts: kin.is_some_and(|kin| kin.shifts && (beside || is_log(kin) && has_next(&at, kin))),
            day: day_in(name),
            compressed: is_packed(name),
            path: at.path(),
            file: (meta.dev(), meta.ino()),
            ours: rustix::process::geteuid().is_root() || rustix::process::geteuid().as_raw() == meta.uid(),
            bytes: meta.len().min(meta.blocks().saturating_mul(512)),
            modified: meta.modified().map(DateTime::from).unwrap_or_default(),
            links: meta.nlink(),
            rule: None,
            whole: false,
            state: false,
            at,
        }
    }

    /// The same by another name.
    pub(crate) fn renamed(self, at: Location) -> Log {
        let name = at.name().as_bytes();
        let kin = kin(name);
        Log {
            day: day_in(name),
            compressed: is_packed(name),
            closed: self.closed && kin.is_some(),
            shifts: self.shifts && kin.is_some_and(|kin| kin.shifts),
            path: at.path(),
            at,
            ..self
        }
    }

    /// Of several rules the first by name holds, but what one of them protects is protected.
    pub(super) fn falls_under(&mut self, rule: Option<&str>, whole: bool, state: bool) {
        if let Some(rule) = rule
            && self.rule.as_deref().is_none_or(|known| rule < known)
        {
            self.rule = Some(rule.to_owned());
        }
        self.whole |= whole;
        self.state |= state;
    }

    /// Its file name.
    pub(crate) fn name(&self) -> &[u8] {
        self.at.name().as_bytes()
    }

    /// Its number among those that were rotated on its day, if it is one of them.
    pub(crate) fn number(&self) -> Option<u32> {
        numbered(self.name())
    }

    /// Whether it has to be ours before anything is done to it, as its program renames it again and again. What is to
    /// stay whole, or is state, is never renamed.
    pub(crate) fn shifts(&self) -> bool {
        self.shifts && !self.whole && !self.state
    }

    /// Whether another program made it of a log and counts its old ones.
    pub(crate) fn is_counted(&self) -> bool {
        kin(self.name()).is_some_and(|kin| kin.shifts)
    }

    /// Whether its name is one that another program gives.
    pub(crate) fn is_kin(&self) -> bool {
        kin(self.name()).is_some()
    }

    /// Whether its name says that it was rotated, by us or by another program.
    pub(crate) fn is_rotated(&self) -> bool {
        self.number().is_some() || self.closed
    }

    /// Whether something may still be written to it: it is neither compressed nor rotated.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.compressed && !self.is_rotated()
    }
}

/// Whether the one before or after one that is counted lies beside it.
fn has_next(at: &Location, kin: Kin) -> bool {
    let counted = unpacked(at.name().as_bytes());
    let number =
        counted.rsplit(|byte| *byte == b'.').next().and_then(|number| std::str::from_utf8(number).ok());
    let number: Option<u32> = number.and_then(|number| number.parse().ok());
    let next = |number: u32| {
        let name = |gz: &str| [kin.log, format!(".{number}{gz}").as_bytes()].concat();
        ["", ".gz"].iter().any(|gz| at.beside(name(gz)).is_file())
    };
    number.is_some_and(|number| next(number + 1) || number.checked_sub(1).is_some_and(next))
}
