//! systemd: where its units are, how their settings are written, and what it is asked.

use super::unit::Parts;
use super::{ANSWER, Definition};
use crate::base::systemctl::systemctl;
use crate::base::units::Span;
use crate::base::{Fault, process};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The name of a service's unit.
pub(super) fn unit(parts: &Parts<'_>) -> String {
    format!("agent-ops-{}-{}.service", parts.agent, parts.name)
}

/// Where units are that were made on this host.
pub(super) fn folder(system: bool) -> Result<PathBuf> {
    if system {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    Ok(config.context("HOME is not set: where your systemd units are cannot be told")?.join("systemd/user"))
}

/// A word of a command or of an environment, as units write it.
pub(super) fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@=".contains(c);
    let text = path(word);
    if !word.is_empty() && word.chars().all(harmless) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// A path that is all of a setting.
pub(super) fn path(path: &str) -> String {
    path.replace('%', "%%")
}

/// Whether it answers.
pub(super) fn check(system: bool) -> Result<()> {
    let Err(error) = systemctl(!system, ["show", "--property=Version"], ANSWER) else { return Ok(()) };
    let whose = if system { "the systemd of this system" } else { "a systemd of yours" };
    Err(Fault::unknown(format!("{whose} does not run here: {error:#}"))
        .hint("without one, cron can start the agent at boot (`@reboot ops up --quiet`), or `ops run` stay with it")
        .into())
}

/// Has it read its units again.
pub(super) fn reload(system: bool) -> Result<()> {
    systemctl(!system, ["daemon-reload"], ANSWER).map(drop)
}

/// From the next boot or login on.
pub(super) fn enable(unit: &Definition, enabled: bool) -> Result<()> {
    let word = if enabled { "enable" } else { "disable" };
    systemctl(!unit.system, ["--quiet", word, &unit.unit], ANSWER).map(drop)
}

pub(super) fn start(unit: &Definition) -> Result<()> {
    // One that crashed too often would not be started, by whomever. Fails when there is nothing to reset.
    let _ = systemctl(!unit.system, ["reset-failed", &unit.unit], ANSWER);
    enable(unit, true)?;
    systemctl(!unit.system, ["start", &unit.unit], ANSWER).map(drop)
}

pub(super) fn stop(unit: &Definition, grace: Span, for_good: bool) -> Result<()> {
    if for_good {
        enable(unit, false)?;
    }
    // It is done only when all of it is gone: TERM, the grace, KILL, and a moment for the kernel.
    systemctl(!unit.system, ["stop", &unit.unit], grace.0.saturating_add(ANSWER))?;
    let _ = systemctl(!unit.system, ["reset-failed", &unit.unit], ANSWER);
    Ok(())
}

pub(super) fn pid(unit: &Definition) -> Result<Option<u32>> {
    let shown = systemctl(!unit.system, ["show", "--property=MainPID", &unit.unit], ANSWER)?;
    Ok(shown.trim().strip_prefix("MainPID=").and_then(|pid| pid.parse().ok()).filter(|&pid| pid > 0))
}

pub(super) fn failure(unit: &Definition) -> Result<Option<String>> {
    let properties = "--property=ActiveState,SubState,Result,ExecMainStatus";
    Ok(failed(&systemctl(!unit.system, ["show", properties, &unit.unit], ANSWER)?))
}

/// Why a unit does not run, from what `systemctl show` printed.
fn failed(shown: &str) -> Option<String> {
    let of = |key: &str| {
        shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    let ended = || match (of("Result"), of("ExecMainStatus")) {
        ("exit-code", code) => format!("exit code {code}"),
        (result, _) => result.to_owned(),
    };
    match (of("ActiveState"), of("SubState")) {
        ("failed", _) => Some(format!("it failed: {}", ended())),
        ("activating", "auto-restart") => Some(format!("it ended ({}) and will be started again", ended())),
        ("inactive", _) => Some(format!("it ended ({})", ended())),
        _ => None,
    }
}

/// Whether the user's manager runs only while the user is logged in. None: it cannot be told.
pub(super) fn lingers() -> Option<bool> {
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
    }

    #[test]
    fn what_systemctl_shows() {
        let shown = |active: &str, sub: &str, result: &str| {
            failed(&format!("ActiveState={active}\nSubState={sub}\nResult={result}\nExecMainStatus=7\n"))
        };
        assert_eq!(shown("active", "running", "success"), None);
        assert_eq!(shown("activating", "start", "success"), None);
        assert_eq!(
            shown("activating", "auto-restart", "exit-code").as_deref(),
            Some("it ended (exit code 7) and will be started again")
        );
        assert_eq!(
            shown("failed", "failed", "start-limit-hit").as_deref(),
            Some("it failed: start-limit-hit")
        );
        assert_eq!(shown("inactive", "dead", "success").as_deref(), Some("it ended (success)"));
        assert_eq!(failed(""), None);
    }
}
