//! Who may write archives, or files of the home: one run at a time, and only where there is a home.

use crate::base::{Fault, Run, durable};
use crate::config::{Config, Loaded};
use anyhow::Result;
use std::fs;

/// Takes the lock of everything that writes archives or files of the home. Waits a little for
/// another run, then says who it is.
pub fn lock(loaded: &Loaded, run: &Run) -> Result<durable::Lock> {
    need_home(&loaded.config)?;
    durable::Lock::take(&loaded.home, "backup", run, durable::PATIENCE)
}

/// Refuses to work on a home that is not there: making one would hide a slip, or a missing mount.
pub fn need_home(config: &Config) -> Result<()> {
    let home = &config.agent.home;
    if !fs::metadata(home).is_ok_and(|meta| meta.is_dir()) {
        return Err(Fault::unknown(format!("the home {} does not exist", home.display()))
            .hint("is a disk not mounted? `[agent] home` or --home says where it is")
            .into());
    }
    Ok(())
}
