//! Elsewhere: what the standard library can do between fork and exec. Nothing of root can be kept.

use crate::base::owner::Owner;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn open_place(path: &Path) -> io::Result<File> {
    crate::base::beneath::Dir::open(path)
        .and_then(|folder| folder.to_file())
        .or_else(|_| crate::base::beneath::open_named(path))
}

pub(super) fn take(owner: &Owner, keep: bool) -> io::Result<()> {
    match keep {
        true => Err(io::Error::other(format!(
            "`ops install -n --system` as {} prints what to give to launchd",
            owner.name
        ))),
        // Done by `run_again`.
        false => Ok(()),
    }
}

pub(super) fn keeps_root() -> bool {
    false
}

pub(super) struct Raised;

impl Raised {
    pub(super) fn begin(_: &Owner) -> Raised {
        Raised
    }
}

/// Becomes the user while the program is run again. The standard library leaves no other groups than the main one.
pub(super) fn run_again(owner: &Owner, environment: &[(OsString, OsString)]) -> Result<ExitCode> {
    let error = super::again(environment)?.uid(owner.uid).gid(owner.gid).exec();
    Err(error).with_context(|| format!("cannot become {}", owner.name))
}
