//! systemd: what it is asked about a service.

use super::{Definition, Record};
use crate::base::process::Identity;
use crate::base::systemd::{ANSWER, ORDER, enable, systemctl};
use anyhow::Result;

pub(super) fn start(unit: &Definition) -> Result<()> {
    // One that crashed too often would not be started, by whomever. Fails when there is nothing to reset.
    let _ = systemctl(!unit.system, ["reset-failed", &unit.unit], ORDER);
    enable(unit.system, &unit.unit, true)?;
    systemctl(!unit.system, ["start", &unit.unit], ORDER).map(drop)
}

pub(super) fn stop(unit: &Definition, for_good: bool) -> Result<()> {
    if for_good {
        enable(unit.system, &unit.unit, false)?;
    }
    // It is done only when all of it is gone: TERM, the grace, KILL, and a moment for the kernel.
    systemctl(!unit.system, ["stop", &unit.unit], unit.grace().saturating_add(ORDER))?;
    let _ = systemctl(!unit.system, ["reset-failed", &unit.unit], ORDER);
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

/// Whether its operator stopped a unit that does not run. `asked`: the run that was asked to stop.
pub(super) fn stopped(unit: &Definition, asked: Option<&str>, record: &Record) -> Result<bool> {
    let properties = "--property=ActiveState,Result,InvocationID,UnitFileState,\
                      StateChangeTimestampMonotonic,InactiveEnterTimestampMonotonic";
    let shown = systemctl(!unit.system, ["show", properties, &unit.unit], ANSWER)?;
    Ok(was_stopped(&shown, asked, record))
}

fn was_stopped(shown: &str, asked: Option<&str>, record: &Record) -> bool {
    let (result, run, state) = (of(shown, "Result"), of(shown, "InvocationID"), of(shown, "UnitFileState"));
    let disabled = state == "disabled" || state.starts_with("masked");
    let in_this_boot = || record.identity.as_ref().is_some_and(Identity::is_of_this_boot);
    // Its last run, or the last that can have been: systemd forgets what is down and disabled.
    let asked = asked.is_some_and(|asked| asked == run || (run.is_empty() && disabled && in_this_boot()));
    // Not where that was the first half of a restart, and the second was refused.
    let failed_then =
        || of(shown, "StateChangeTimestampMonotonic") == of(shown, "InactiveEnterTimestampMonotonic");
    match of(shown, "ActiveState") {
        "inactive" if record.managed && asked => true,
        "failed" => record.managed && asked && failed_then(),
        // By itself it would be started again, or have failed: somebody stopped it between two starts.
        "inactive" if record.managed && !["", "success"].contains(&result) => true,
        "inactive" => disabled && !record.disabled,
        _ => false,
    }
}

/// The value of a property in what `systemctl show` printed.
fn of<'a>(shown: &'a str, key: &str) -> &'a str {
    shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
}

/// Why a unit does not run, from what `systemctl show` printed.
fn failed(shown: &str) -> Option<String> {
    let ended = || match (of(shown, "Result"), of(shown, "ExecMainStatus")) {
        ("exit-code", code) => format!("exit code {code}"),
        (result, _) => result.to_owned(),
    };
    match (of(shown, "ActiveState"), of(shown, "SubState")) {
        ("failed", _) => Some(format!("it failed: {}", ended())),
        ("activating", "auto-restart") => Some(format!("it ended ({}) and will be started again", ended())),
        ("inactive", _) => Some(format!("it ended ({})", ended())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_is_an_operator_s_stop() {
        let ours = Record { managed: true, ..Record::default() };
        let stopped = |active: &str, result: &str, file: &str, asked: Option<&str>, record: &Record| {
            let shown = format!(
                "Result={result}\nActiveState={active}\nUnitFileState={file}\nInvocationID=run7\n\
                 StateChangeTimestampMonotonic=5\nInactiveEnterTimestampMonotonic=5\n"
            );
            was_stopped(&shown, asked, record)
        };
        for (active, result, file, asked, expected) in [
            ("inactive", "success", "enabled", Some("run7"), true),
            ("inactive", "success", "enabled", Some("run6"), false),
            ("inactive", "success", "enabled", None, false),
            ("failed", "exit-code", "enabled", Some("run7"), true),
            ("failed", "exit-code", "enabled", None, false),
            ("failed", "exit-code", "disabled", None, false),
            ("inactive", "signal", "enabled", None, true),
            ("inactive", "success", "disabled", None, true),
            ("inactive", "success", "masked-runtime", None, true),
            ("inactive", "", "", None, false),
            ("activating", "exit-code", "disabled", Some("run7"), false),
        ] {
            assert_eq!(stopped(active, result, file, asked, &ours), expected, "{active} {result} {file}");
        }
        // What we told it, or what it has not run yet, is nobody's word.
        for (active, result) in [("inactive", "success"), ("inactive", "signal"), ("failed", "exit-code")] {
            assert!(!stopped(active, result, "enabled", Some("run7"), &Record::default()));
        }
        let disabled = Record { disabled: true, ..Record::default() };
        assert!(!stopped("inactive", "success", "disabled", None, &disabled), "by us, and started since");
        assert!(!was_stopped("", None, &ours));
    }
}
