//! Databases as they are now, in a folder of ours: even a reader leaves its marks beside one in WAL mode.

use crate::base::beneath::{Dir, Options, open_named};
use crate::base::{database, durable};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{self, Read};
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
        copy(path, &to).with_context(reading)?;
        match copy(wal, &database::sidecars(&to)[0]) {
            Ok(()) => {}
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

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = open_named(from)?;
    let name = to.file_name().unwrap_or_default();
    let mut to =
        Dir::open(durable::parent(to))?.open_with(name, &Options::new().write().create(0o600).truncate())?;
    // It may grow while it is copied.
    io::copy(&mut from.take(2 * MOST_BYTES), &mut to).map(drop)
}
