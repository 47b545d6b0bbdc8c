//! launchd: where its property lists are, and what it is asked.

use super::unit::Parts;
use super::{ANSWER, Definition};
use crate::base::process::{self, Output};
use crate::base::units::Span;
use crate::base::{Fault, text};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The name of a service's job.
pub(super) fn label(parts: &Parts<'_>) -> String {
    format!("org.agent-ops.{}.{}", parts.agent, parts.name)
}

/// Where the property lists are of those who run at boot, or at login.
pub(super) fn folder(system: bool) -> Result<PathBuf> {
    if system {
        return Ok(PathBuf::from("/Library/LaunchDaemons"));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    Ok(home
        .context("HOME is not set: where your LaunchAgents are cannot be told")?
        .join("Library/LaunchAgents"))
}

/// Text in a property list.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The domain of a job: that of a user is there while the user is logged in at the screen.
fn domain(system: bool) -> String {
    if system { "system".to_owned() } else { format!("gui/{}", rustix::process::getuid().as_raw()) }
}

fn target(job: &Definition) -> String {
    format!("{}/{}", domain(job.system), job.unit)
}

fn launchctl(words: &[&str]) -> Result<Output> {
    let mut command = Command::new("launchctl");
    command.env("LC_ALL", "C").args(words);
    process::run(command, None, ANSWER)
}

fn told(words: &[&str]) -> Result<()> {
    let output = launchctl(words)?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    bail!("launchctl {} ended with {}: {}", words[0], output.status, text::one_line(&said, 300))
}

/// Whether it answers.
pub(super) fn check(system: bool) -> Result<()> {
    let domain = domain(system);
    let error = match launchctl(&["print", &domain]) {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => text::one_line(&String::from_utf8_lossy(&output.stderr), 200),
        Err(error) => format!("{error:#}"),
    };
    Err(Fault::unknown(format!("launchd has no {domain} here: {error}"))
        .hint("log in at the screen of this Mac, or install with sudo and --system")
        .into())
}

/// What `launchctl print` tells of a job; none: it is not loaded.
fn shown(job: &Definition) -> Result<Option<String>> {
    let output = launchctl(&["print", &target(job)])?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// At every login or boot from now on, or not.
pub(super) fn enable(job: &Definition, enabled: bool) -> Result<()> {
    told(&[if enabled { "enable" } else { "disable" }, &target(job)])
}

pub(super) fn start(job: &Definition) -> Result<()> {
    enable(job, true)?;
    match shown(job)? {
        // Loading starts it.
        None => told(&["bootstrap", &domain(job.system), &job.path.display().to_string()]),
        Some(shown) if pid_in(&shown).is_some() => Ok(()),
        Some(_) => told(&["kickstart", &target(job)]),
    }
}

/// Unloads it: launchd starts again what merely ended.
pub(super) fn stop(job: &Definition, grace: Span, for_good: bool) -> Result<()> {
    if for_good {
        enable(job, false)?;
    }
    if shown(job)?.is_none() {
        return Ok(());
    }
    // It may say that this is under way, and come back before it is done.
    let told = told(&["bootout", &target(job)]);
    let deadline = Instant::now() + grace.0.saturating_add(ANSWER);
    while shown(job)?.is_some() {
        if Instant::now() >= deadline {
            told?;
            bail!("{} is still loaded", job.unit);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

pub(super) fn pid(job: &Definition) -> Result<Option<u32>> {
    Ok(shown(job)?.as_deref().and_then(pid_in))
}

pub(super) fn failure(job: &Definition) -> Result<Option<String>> {
    Ok(match shown(job)? {
        None => Some("it is not loaded".to_owned()),
        Some(shown) => failed(&shown),
    })
}

/// The value of a key in the first level of what `launchctl print` printed: `\tkey = value`.
fn value<'a>(shown: &'a str, key: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| line.strip_prefix('\t')?.strip_prefix(key)?.strip_prefix(" = "))
}

fn pid_in(shown: &str) -> Option<u32> {
    value(shown, "pid")?.trim().parse().ok()
}

/// Why a job does not run.
fn failed(shown: &str) -> Option<String> {
    if pid_in(shown).is_some() {
        return None;
    }
    match value(shown, "last exit code").map(str::trim) {
        None | Some("(never exited)") => None,
        Some(code) => Some(format!("it ended (exit code {})", text::one_line(code, 60))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "gui/501/org.agent-ops.bot.daemon = {\n\tactive count = 1\n\tpath = /Users/me/x.plist\n\
        \ttype = LaunchAgent\n\tstate = running\n\n\tprogram = /opt/ops\n\tdefault environment = {\n\
        \t\tPATH => /usr/bin\n\t\tpid = 1\n\t}\n\n\tpid = 4242\n\timmediate reason = speculative\n\
        \tlast exit code = (never exited)\n}\n";

    #[test]
    fn what_launchctl_prints() {
        assert_eq!(pid_in(RUNNING), Some(4242));
        assert_eq!(value(RUNNING, "state"), Some("running"));
        assert_eq!(failed(RUNNING), None);
        let waiting = RUNNING.replace("\tpid = 4242\n", "").replace("state = running", "state = not running");
        assert_eq!(pid_in(&waiting), None, "that of another level is none");
        assert_eq!(failed(&waiting), None, "it was only just loaded");
        let ended = waiting.replace("(never exited)", "78: EX_CONFIG");
        assert_eq!(failed(&ended).as_deref(), Some("it ended (exit code 78: EX_CONFIG)"));
    }

    #[test]
    fn text_in_a_property_list() {
        assert_eq!(escaped("/a & b/<c>"), "/a &amp; b/&lt;c&gt;");
    }
}
