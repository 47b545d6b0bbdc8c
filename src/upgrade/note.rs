//! The note of an upgrade, and the pin of its archive: until the one is forgotten no rule lets the other go,
//! a way back for as long as one is needed.

use crate::backup;
use crate::base::durable;
use crate::base::step::step;
use crate::base::upgrade::Note;
use crate::config::Loaded;
use anyhow::Result;

/// Makes it last.
pub(super) fn save(note: &Note, loaded: &Loaded) -> Result<()> {
    backup::pin(loaded, &note.archive.0, true)?;
    note.write(&loaded.home)
}

/// Notes that files may have changed from now on. Where that cannot be noted, on a full disk, none has:
/// nothing but a start is needed to go back.
pub(super) fn command_begins(note: &mut Note, loaded: &Loaded) -> Result<()> {
    let mut changed = note.clone();
    changed.changed = true;
    step("command noted")?;
    save(&changed, loaded)?;
    *note = changed;
    Ok(())
}

/// Forgets it. Its archive is as any other from now on.
pub(super) fn remove(note: &Note, loaded: &Loaded) -> Result<()> {
    // Kept for too long it harms nobody.
    let _ = backup::pin(loaded, &note.archive.0, false);
    loaded.home.remove(&loaded.home.upgrade_note())?;
    durable::sync_folder(&loaded.home.ops())
}
