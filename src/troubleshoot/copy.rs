//! Databases as they are now, in a folder of ours: even a reader leaves its marks beside one in WAL mode.

use crate::base::database;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// What is larger is not copied.
pub(super) const MOST_BYTES: u64 = 256 << 20;

/// Copies a database and its WAL into a folder, under the same name. A writer that is at it in that
/// moment is waited for; what SQLite then reads is one state of it.
pub(super) fn database(path: &Path, into: &Path) -> Result<PathBuf> {
    let to = into.join(path.file_name().context("it has no name")?);
    let reading = || format!("cannot copy {}", path.display());
    for _ in 0..5 {
        let before = database::fingerprint(path).with_context(reading)?;
        let wal = &database::sidecars(path)[0];
        let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        if size(path) + size(wal) > MOST_BYTES {
            bail!("it has more than {}", crate::base::units::Size(MOST_BYTES));
        }
        fs::copy(path, &to).with_context(reading)?;
        match fs::copy(wal, &database::sidecars(&to)[0]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(reading),
        }
        if database::fingerprint(path).is_ok_and(|after| after == before) {
            return Ok(to);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    bail!("it is written all the time")
}
