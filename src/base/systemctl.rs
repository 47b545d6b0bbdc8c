//! `systemctl`, asked with a deadline, of the user's own manager or of the system's.

use super::process::{self, Output};
use super::text;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Runs `systemctl` with these words; what it printed.
///
/// # Errors
/// When it cannot be run, is not done within `limit`, or fails; then with its own last word.
pub fn systemctl(
    user: bool,
    words: impl IntoIterator<Item = impl AsRef<str>>,
    limit: Duration,
) -> Result<String> {
    let mut command = Command::new("systemctl");
    command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env_remove("SYSTEMD_PAGER").arg("--no-pager");
    if user {
        // Cron does not say where the user's manager listens.
        command.arg("--user").env("XDG_RUNTIME_DIR", runtime_folder());
    }
    for word in words {
        command.arg(word.as_ref());
    }
    let Output { status, stdout, stderr } = process::run(command, None, limit)?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("systemctl does not answer: {}", text::one_line(&said, 300));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Where the user's manager has its socket.
fn runtime_folder() -> PathBuf {
    let known = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    known.unwrap_or_else(|| format!("/run/user/{}", rustix::process::getuid().as_raw()).into())
}
