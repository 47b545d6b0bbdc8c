//! The user's crontab: read, replaced, and read again.

use crate::base::{Fault, Home, process, text};
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How long `crontab` may take.
const LIMIT: Duration = Duration::from_secs(20);

/// More than [`process::run`] hands over of a program's output.
const MOST: usize = 1 << 20;

/// What became of a crontab.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whether anything is different.
    pub changed: bool,
    /// The old one, if it was replaced.
    pub before: Option<PathBuf>,
}

/// The user's crontab; empty if there is none.
///
/// # Errors
/// A [`Fault`] of state Unknown if it could not be read. Only "no crontab for" counts as none:
/// taking any failure for an empty crontab is how other tools have wiped them.
pub fn read() -> Result<Vec<u8>> {
    let mut command = Command::new("crontab");
    command.arg("-l").env("LC_ALL", "C");
    let output = process::run(command, None, LIMIT).map_err(|error| {
        Fault::unknown(format!("cannot read the crontab: {error:#}"))
            .hint("is cron installed? `ops cron-install --print` shows the lines for another scheduler")
    })?;
    if output.stdout.len() >= MOST {
        return Err(Fault::unknown("the crontab is larger than 1 MiB; nothing was changed").into());
    }
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(1) && said.contains("no crontab for") && output.stdout.is_empty() {
        return Ok(Vec::new());
    }
    Err(Fault::unknown(format!(
        "cannot read the crontab: crontab -l ended with {} and said: {}",
        output.status,
        text::one_line(&said, 300)
    ))
    .hint("nothing was changed")
    .into())
}

/// Replaces the crontab `old` by `new`, keeps the old one in `.ops/crontab.before`, and reads it
/// again to see that it is so.
pub fn change(home: &Home, old: &[u8], new: &[u8]) -> Result<Change> {
    if old == new {
        return Ok(Change { changed: false, before: None });
    }
    let before = home.ops().join("crontab.before");
    // That of root is not for the owner of the home to read.
    home.make_folder(&home.ops())?
        .replace("crontab.before", old, 0o600)
        .context("cannot keep the old crontab")?;
    let mut command = Command::new("crontab");
    // Where nothing is left there was none before us: an empty one would stay.
    let (word, input) = if new.is_empty() { ("-r", None) } else { ("-", Some(new)) };
    command.arg(word).env("LC_ALL", "C");
    let output = process::run(command, input, LIMIT).context("cannot write the crontab")?;
    let there = read()?;
    if output.status.success() && is(&there, new) {
        return Ok(Change { changed: true, before: Some(before) });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message =
        format!("crontab {word} ended with {} and said: {}", output.status, text::one_line(&said, 300));
    let hint = if is(&there, old) {
        "the crontab is as it was".to_owned()
    } else {
        format!("look at `crontab -l`; as it was before it is in {}", before.display())
    };
    Err(Fault::critical(format!("the crontab is not what was written: {message}")).hint(hint).into())
}

/// Writes down which block is in the crontab now; an empty one: none is meant to be.
pub fn note_installed(home: &Home, block: &str) -> Result<()> {
    let path = installed_path(home);
    if block.is_empty() {
        return home.remove(&path);
    }
    // Its owner is whose crontab it is.
    let name = path.file_name().unwrap_or_default();
    home.make_folder(&home.ops())?
        .replace(name, block.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The block that is meant to be in a crontab.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its lines.
    pub block: Vec<u8>,
    /// Since when.
    pub since: SystemTime,
    /// Whether it is in the crontab that [`read`] reads, and not in that of another user.
    pub ours: bool,
}

/// The block that is meant to be in the crontab; none: we put none there.
pub fn installed(home: &Home) -> Result<Option<Installed>> {
    let path = installed_path(home);
    let read = || {
        let meta = home.metadata(&path)?;
        let ours = meta.uid() == rustix::process::geteuid().as_raw();
        Ok(Installed { block: home.read(&path)?, since: meta.modified()?, ours })
    };
    match read() {
        Ok(installed) => Ok(Some(installed)),
        Err(error) if std::io::Error::kind(&error) == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn installed_path(home: &Home) -> PathBuf {
    home.ops().join("crontab.installed")
}

/// Some versions of cron put a header of comments before what they are given.
fn is(there: &[u8], wanted: &[u8]) -> bool {
    there.strip_suffix(wanted).is_some_and(|header| {
        header
            .split_inclusive(|&byte| byte == b'\n')
            .all(|line| line.starts_with(b"#") && line.ends_with(b"\n"))
    })
}
