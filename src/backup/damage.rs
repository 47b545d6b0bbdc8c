//! The errors of archives that are not whole, or not harmless.

use crate::base::Fault;
use crate::base::text::one_line;
use anyhow::Result;
use std::io;
use std::path::Path;

/// The most that is wrong that is told at once.
pub(super) const MOST_PROBLEMS: usize = 5;

/// The error of an archive that is not whole or not harmless.
pub fn refuse(archive: &Path, why: &str) -> anyhow::Error {
    Fault::critical(format!("{} is refused: {}", archive.display(), one_line(why, 1000)))
        .of_damage()
        .hint("nothing was changed; `backup list` shows the others, `backup verify NAME` tries one")
        .into()
}

/// The error of an archive that could not be read on. What the disk refuses to give is not known to
/// be damaged.
pub(super) fn unreadable(archive: &Path, error: io::Error) -> anyhow::Error {
    if error.raw_os_error().is_some() {
        return anyhow::Error::new(error).context(format!("cannot read {}", archive.display()));
    }
    refuse(archive, &format!("it is damaged: {error}"))
}

/// Refuses an archive with so much wrong that more need not be looked for.
pub(super) fn enough(archive: &Path, problems: &[String]) -> Result<()> {
    if problems.len() < MOST_PROBLEMS { Ok(()) } else { Err(refuse(archive, &problems.join("; "))) }
}

/// Refuses an archive with anything wrong.
pub(super) fn refuse_if_any(archive: &Path, mut problems: Vec<String>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    problems.truncate(MOST_PROBLEMS);
    Err(refuse(archive, &problems.join("; ")))
}
