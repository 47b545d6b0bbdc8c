//! launchd: what it is asked about a service.

use super::{Definition, Record};
use crate::base::launchd::{ORDER, domain, enable, launchctl, target, told};
use crate::base::process::Identity;
use crate::base::text;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// What `launchctl print` tells of a job; none: it is not loaded.
fn shown(job: &Definition) -> Result<Option<String>> {
    let output = launchctl(&["print", &target(job.system, &job.unit)])?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

pub(super) fn start(job: &Definition) -> Result<()> {
    enable(job.system, &job.unit, true)?;
    match shown(job)? {
        // Loading starts it.
        None => told(&["bootstrap", &domain(job.system), &job.path.display().to_string()]),
        Some(shown) if pid_in(&shown).is_some() => Ok(()),
        Some(_) => told(&["kickstart", &target(job.system, &job.unit)]),
    }
}

/// Unloads it: launchd starts again what merely ended.
pub(super) fn stop(job: &Definition, for_good: bool) -> Result<()> {
    if for_good {
        enable(job.system, &job.unit, false)?;
    }
    if shown(job)?.is_none() {
        return Ok(());
    }
    // It may say that this is under way, and come back before it is done.
    let told = told(&["bootout", &target(job.system, &job.unit)]);
    let deadline = Instant::now() + job.grace().saturating_add(ORDER);
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

/// Whether its operator unloaded a job, or keeps it from being loaded.
pub(super) fn stopped(job: &Definition, record: &Record) -> Result<bool> {
    // Where there is no such domain, nobody is logged in.
    if shown(job)?.is_some() || !launchctl(&["print", &domain(job.system)])?.status.success() {
        return Ok(false);
    }
    let in_this_boot = record.identity.as_ref().is_some_and(Identity::is_of_this_boot);
    let disabled = || -> Result<bool> {
        let listed = launchctl(&["print-disabled", &domain(job.system)])?;
        Ok(is_disabled(&String::from_utf8_lossy(&listed.stdout), &job.unit))
    };
    // What it loaded, it unloads only when told.
    Ok((record.managed && in_this_boot) || (!record.disabled && disabled()?))
}

/// `"label" => disabled`, which was `=> true` before macOS 13.
fn is_disabled(listed: &str, label: &str) -> bool {
    let of = |line: &str| -> Option<bool> {
        let (name, how) = line.trim().split_once(" => ")?;
        (name.trim_matches('"') == label).then_some(["disabled", "true"].contains(&how))
    };
    listed.lines().find_map(of).unwrap_or(false)
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
    fn what_is_disabled() {
        let listed = "\n\tdisabled services = {\n\t\t\"org.agent-ops.bot.a\" => disabled\n\
            \t\t\"org.agent-ops.bot.b\" => enabled\n\t\t\"org.agent-ops.bot.c\" => true\n\
            \t\t\"org.agent-ops.bot.d\" => false\n\t}\n";
        for (name, expected) in [("a", true), ("b", false), ("c", true), ("d", false), ("e", false)] {
            assert_eq!(is_disabled(listed, &format!("org.agent-ops.bot.{name}")), expected, "{name}");
        }
    }
}
