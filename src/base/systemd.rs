//! systemd: where its units are, how their settings are written, and `systemctl`, asked with a deadline, of
//! the user's own manager or of the system's.

use super::privilege::as_manager;
use super::process::{self, Output};
use super::{Fault, text};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long an order may take: a start, a stop.
pub const ORDER: Duration = Duration::from_secs(30);

/// How long it may take to answer a question: one that does not at once hangs.
pub const ANSWER: Duration = Duration::from_secs(5);

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
    let Output { status, stdout, stderr } = as_manager(!user, || process::run(command, None, limit))?;
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

/// Whether it answers.
///
/// # Errors
/// A [`Fault`] of state Unknown when it does not.
pub fn check(system: bool) -> Result<()> {
    let Err(error) = systemctl(!system, ["show", "--property=Version"], ANSWER) else { return Ok(()) };
    let whose = if system { "the systemd of this system" } else { "a systemd of yours" };
    Err(Fault::unknown(format!("{whose} does not run here: {error:#}"))
        .hint("without one, cron can start the agent at boot (`@reboot ops up --quiet`), or `ops run` stay with it")
        .into())
}

/// Has it read its units again.
pub fn reload(system: bool) -> Result<()> {
    systemctl(!system, ["daemon-reload"], ORDER).map(drop)
}

/// Has a unit started from the next boot or login on, or not.
pub fn enable(system: bool, unit: &str, enabled: bool) -> Result<()> {
    let word = if enabled { "enable" } else { "disable" };
    systemctl(!system, ["--quiet", word, unit], ORDER).map(drop)
}

/// Where units are that were made on this host.
pub fn folder(system: bool) -> Result<PathBuf> {
    if system {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    Ok(config.context("HOME is not set: where your systemd units are cannot be told")?.join("systemd/user"))
}

/// A word of a command or of an environment, as units write it.
pub fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@=".contains(c);
    let text = path(word);
    if !word.is_empty() && word.chars().all(harmless) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// A command, as units write it.
pub fn command_line(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A path that is all of a setting.
fn path(path: &str) -> String {
    path.replace('%', "%%")
}

/// A folder that is all of a setting. Its end would not be what it is: a backslash goes on with the next
/// line, and a blank is left out.
pub fn folder_path(folder: &str) -> String {
    let end = if folder.ends_with(|c: char| c == '\\' || c.is_whitespace()) { "/" } else { "" };
    format!("{}{end}", path(folder))
}

/// The command of a unit, and the settings (if any) by which its output goes to the ends of two files. For the
/// system's manager they are opened by the command, as whom it runs: systemd itself would open them as root,
/// wherever a link leads to that the owner of their folder laid.
pub fn appending(system: bool, words: &[&str], [stdout, stderr]: [&str; 2]) -> (String, String) {
    if system {
        let script = "out=$1 err=$2; shift 2; exec \"$@\" >>\"$out\" 2>>\"$err\"";
        let words = [&["/bin/sh", "-c", script, "sh", stdout, stderr], words].concat();
        return (command_line(&words), String::new());
    }
    let output = format!("StandardOutput=append:{}\nStandardError=append:{}", path(stdout), path(stderr));
    (command_line(words), output)
}

/// Whether the user's manager runs only while the user is logged in. None: it cannot be told.
pub fn lingers() -> Option<bool> {
    let user = rustix::process::getuid().as_raw().to_string();
    let mut command = Command::new("loginctl");
    command.env("LC_ALL", "C").args(["show-user", &user, "--property=Linger"]);
    let output = process::run(command, None, Duration::from_secs(5)).ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "Linger=yes" => Some(true),
        "Linger=no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_units_write_them() {
        assert_eq!(quoted("/opt/ops"), "/opt/ops");
        assert_eq!(quoted("/my agents/100%"), "\"/my agents/100%%\"");
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(path("/my agents/100%"), "/my agents/100%%");
        assert_eq!(folder_path("/my agents/100%"), "/my agents/100%%");
        assert_eq!(folder_path("/back\\"), "/back\\/");
        assert_eq!(folder_path("/blank "), "/blank /");
    }
}
