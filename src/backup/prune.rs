//! What leaves the shelf: the rule applied to the archives there are.

use super::find::find;
use super::folder;
use super::lock::lock;
use super::open::look_beside;
use super::records::record_look;
use super::retention::{self, Verdict};
use super::shelf::{self, Archive};
use crate::base::step::step;
use crate::base::{Fault, Journal, Run};
use crate::config::Loaded;
use anyhow::{Context, Result};
use serde::Serialize;

/// What the rule says of every archive of this agent.
#[derive(Debug, Serialize)]
pub struct Pruning {
    /// The verdicts, newest first.
    pub verdicts: Vec<Verdict>,
    /// Bytes that deleting would free.
    pub freed: u64,
    /// Whether it would delete more than looks meant.
    pub drastic: bool,
    #[serde(skip)]
    archives: Vec<Archive>,
}

impl Pruning {
    /// The archives that would go.
    pub fn leaving(&self) -> impl Iterator<Item = &Archive> {
        self.archives
            .iter()
            .zip(&self.verdicts)
            .filter(|(_, verdict)| !verdict.keep)
            .map(|(archive, _)| archive)
    }
}

/// Judges every archive of this agent. Changes nothing.
pub fn judge(loaded: &Loaded, journal: Option<&Journal>, run: &Run) -> Result<Pruning> {
    let mut archives = shelf::list(loaded, journal)?;
    archives.retain(|archive| archive.ours);
    let candidates: Vec<_> = archives.iter().map(Archive::candidate).collect();
    let verdicts = retention::verdicts(&candidates, &loaded.config.backup.keep, run.now);
    let drastic = retention::is_drastic(&verdicts);
    let mut pruning = Pruning { verdicts, freed: 0, drastic, archives };
    pruning.freed = pruning.leaving().map(|archive| archive.bytes).sum();
    Ok(pruning)
}

/// Deletes what the rule lets go, after the archive that everything relies on was read back.
/// Gives the names of what was deleted.
///
/// # Errors
/// When the newest archive turns out to be damaged: then nothing is deleted.
pub fn prune(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Vec<String>> {
    let _lock = lock(loaded, run)?;
    let pruning = judge(loaded, journal, run)?;
    if pruning.leaving().next().is_none() {
        return Ok(Vec::new());
    }
    let newest = find(loaded, journal, "latest")?;
    let checked = look_beside(loaded, &newest);
    if let (Err(error), Some(journal)) = (&checked, journal)
        && Fault::is_of_damage(error)
    {
        record_look(loaded, journal, run, &newest, None, false, false)?;
    }
    checked.context("nothing was deleted, because the newest good archive is not whole")?;
    delete(loaded, &pruning, journal)
}

pub(super) fn delete(loaded: &Loaded, pruning: &Pruning, journal: Option<&Journal>) -> Result<Vec<String>> {
    let mut deleted = Vec::new();
    let Some(folder) = folder::open(loaded)? else { return Ok(deleted) };
    for archive in pruning.leaving() {
        step("prune")?;
        shelf::delete(&folder, archive, journal)?;
        deleted.push(archive.name.clone());
    }
    Ok(deleted)
}
