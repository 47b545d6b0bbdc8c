//! The note of an upgrade, `.ops/upgrade.json`: what it is at, and what is left of one that was cut short.
//! `upgrade` writes it; whoever starts services, makes backups or tells people reads it.

use super::name::Name;
use super::own_files::is_missing;
use super::process::{Identity, Process};
use super::units::{self, Span};
use super::{Fault, Home, Run};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What to do about an upgrade that was cut short.
pub const REMEDY: &str = "`ops upgrade --back` puts everything back as it was before it, `ops upgrade --keep` leaves things as they are";

/// An upgrade, as far as it got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Note {
    /// The run that began it.
    pub run: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The verified backup of before.
    pub archive: Name,
    /// The services that ran before and are to run afterwards.
    pub services: Vec<String>,
    /// The command has begun: files may have changed.
    pub changed: bool,
    /// It is being put back, which no signal ends.
    #[serde(default)]
    pub back: bool,
    /// When it should be done.
    #[serde(default)]
    pub expected: DateTime<Utc>,
    /// Who is at it.
    process: Identity,
}

impl Note {
    /// Of this process, which should need no longer than `limit`.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn begin(run: &Run, archive: Name, services: Vec<String>, limit: Span) -> Result<Note> {
        let (id, process, expected) = (run.id.clone(), us()?, end(run, limit));
        Ok(Note { run: id, at: run.now, archive, services, changed: false, back: false, expected, process })
    }

    /// This process goes on with it, and should need no longer than `limit`.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn take_over(&mut self, run: &Run, limit: Span) -> Result<()> {
        (self.process, self.expected) = (us()?, end(run, limit));
        Ok(())
    }

    /// Writes it, so that it lasts.
    ///
    /// # Errors
    /// When that cannot be done; then the one before is still there.
    pub fn write(&self, home: &Home) -> Result<()> {
        home.replace(&home.upgrade_note(), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// The note of this home, if there is one.
    ///
    /// # Errors
    /// When it cannot be read: a [`Fault`] of state Unknown when it is none.
    pub fn read(home: &Home) -> Result<Option<Note>> {
        let path = home.upgrade_note();
        let bytes = match home.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let note = serde_json::from_slice(&bytes).map_err(|error| {
            Fault::unknown(format!("{} is no note of an upgrade: {error}", path.display()))
                .hint("an upgrade was cut short; `ops backup list` shows the backup of before. Remove the file when all is well")
        })?;
        Ok(Some(note))
    }

    /// Whether its process is there. One that cannot be looked at may be.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.process.find(), Ok(None))
    }

    /// Who is at it, or was.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// That somebody is at it, as a clause.
    pub fn told(&self) -> String {
        format!("an upgrade is under way since {} (pid {})", units::local(self.at), self.pid())
    }

    /// What became of it, as a sentence.
    pub fn describe(&self, home: &Home) -> String {
        let far = match self.changed {
            true => "after its command had begun: program and state may be half new",
            false => "before its command had begun: nothing was changed, but the agent may be stopped",
        };
        format!(
            "the upgrade of {} (run {}) was cut short {far}; the backup of before is {}",
            units::local(self.at),
            self.run,
            home.show(&self.archive.0)
        )
    }
}

fn end(run: &Run, limit: Span) -> DateTime<Utc> {
    run.now.checked_add_signed(limit.delta()).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn us() -> Result<Identity> {
    Ok(Process::find(std::process::id())?.context("this process cannot be found")?.identity)
}

/// The upgrade of this home that is under way, by its process.
///
/// # Errors
/// When its note cannot be read.
pub fn under_way(home: &Home) -> Result<Option<Note>> {
    Ok(Note::read(home)?.filter(Note::is_under_way))
}

/// [`under_way`] by another process than this one.
pub fn of_another(home: &Home) -> Option<Note> {
    under_way(home).ok().flatten().filter(|note| note.pid() != std::process::id())
}

/// The upgrade of this home that was cut short, or could not all be put back. None as well while one
/// is under way.
///
/// # Errors
/// When its note cannot be read.
pub fn cut_short(home: &Home) -> Result<Option<Note>> {
    Ok(Note::read(home)?.filter(|note| !note.is_under_way()))
}

/// Whether nothing may be started by itself: an upgrade is under way, or was cut short and may have left
/// code that is half new, with the only memory there is to try it on.
pub fn holds(home: &Home) -> bool {
    match Note::read(home) {
        Ok(note) => note.is_some_and(|note| note.changed || note.is_under_way()),
        // Of a note that cannot be read the worst is assumed; not so where nobody can tell of one.
        Err(_) => home.has(&home.upgrade_note()),
    }
}
