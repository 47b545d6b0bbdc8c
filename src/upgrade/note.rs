//! The note of an upgrade, and the pin of its archive: until the one is forgotten no rule lets the other go,
//! a way back for as long as one is needed.

use crate::backup;
use crate::base::step::step;
use crate::base::upgrade::Note;
use crate::base::{Home, durable};
use anyhow::Result;

/// Makes it last.
pub(super) fn save(note: &Note, home: &Home) -> Result<()> {
    backup::pin(&note.archive.0, true)?;
    note.write(home)
}

/// Notes that files may have changed from now on. Where that cannot be noted, on a full disk, none has:
/// nothing but a start is needed to go back.
pub(super) fn command_begins(note: &mut Note, home: &Home) -> Result<()> {
    let mut changed = note.clone();
    changed.changed = true;
    step("command noted")?;
    save(&changed, home)?;
    *note = changed;
    Ok(())
}

/// Forgets it. Its archive is as any other from now on.
pub(super) fn remove(note: &Note, home: &Home) -> Result<()> {
    // Kept for too long it harms nobody.
    let _ = backup::pin(&note.archive.0, false);
    home.remove(&home.upgrade_note())?;
    durable::sync_folder(&home.ops())
}
