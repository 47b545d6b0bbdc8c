//! What an upgrade is at, in `.ops/upgrade.json`: should it be cut short, the next command knows.

use crate::backup::{self, manifest::Name};
use crate::base::process::{Identity, Process};
use crate::base::step::step;
use crate::base::{Fault, Home, Run, durable, units};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;

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
    /// Who is at it.
    process: Identity,
}

impl Note {
    pub(super) fn begin(run: &Run, archive: Name, services: Vec<String>) -> Result<Note> {
        let me = Process::find(std::process::id())?.context("this process cannot be found")?;
        Ok(Note { run: run.id.clone(), at: run.now, archive, services, changed: false, process: me.identity })
    }

    /// Makes it last. Until it is forgotten no rule lets its archive go: a way back for as long as one is
    /// needed.
    pub(super) fn save(&self, home: &Home) -> Result<()> {
        backup::pin(&self.archive.0, true)?;
        durable::make_folder(&home.ops(), 0o700)?;
        durable::replace(&home.upgrade_note(), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// Notes that files may have changed from now on. Where that cannot be noted, on a full disk, none has:
    /// nothing but a start is needed to go back.
    pub(super) fn command_begins(&mut self, home: &Home) -> Result<()> {
        let changed = Note { changed: true, ..self.clone() };
        step("command noted")?;
        changed.save(home)?;
        *self = changed;
        Ok(())
    }

    /// Forgets it. Its archive is as any other from now on.
    pub(super) fn remove(&self, home: &Home) -> Result<()> {
        // Kept for too long it harms nobody.
        let _ = backup::pin(&self.archive.0, false);
        let path = home.upgrade_note();
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
            Ok(()) => durable::sync_folder(durable::parent(&path)),
        }
    }

    fn read(home: &Home) -> Result<Option<Note>> {
        let path = home.upgrade_note();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let note = serde_json::from_slice(&bytes).map_err(|error| {
            Fault::unknown(format!("{} is no note of an upgrade: {error}", path.display()))
                .hint("an upgrade was cut short; `ops backup list` shows the backup of before. Remove the file when all is well")
        })?;
        Ok(Some(note))
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

/// What to do about an upgrade that was cut short.
pub const REMEDY: &str = "`ops upgrade --back` puts everything back as it was before it, `ops upgrade --keep` leaves things as they are";

/// The upgrade of this home that was cut short, or could not all be put back. None as well while one
/// is under way.
///
/// # Errors
/// When its note cannot be read.
pub fn cut_short(home: &Home) -> Result<Option<Note>> {
    let note = Note::read(home)?;
    // One that cannot be looked at may be there.
    Ok(note.filter(|note| matches!(note.process.find(), Ok(None))))
}
