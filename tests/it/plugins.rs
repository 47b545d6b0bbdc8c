//! Checks that ask other programs: Nagios plugins and systemd.

use crate::checks::{look, with_checks};
use crate::probes::{expect, only};
use crate::sandbox::{Sandbox, said, wait_until};
use chrono::Utc;
use serde_json::Value;

fn plugin(script: &str, keys: &str) -> Sandbox {
    let sandbox = with_checks(&format!(
        "[check.it]\nkind = \"command\"\ncommand = [\"bin/check\", \"a b\", \"$HOME;x\"]\n{keys}"
    ));
    use std::os::unix::fs::PermissionsExt;
    let path = sandbox.write("bin/check", format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

#[test]
fn any_plugin_can_be_asked() {
    for (script, state, part) in [
        ("echo 'OK - fine | a=1'", "ok", "OK - fine"),
        ("echo slow; exit 1", "warning", "slow"),
        ("echo broken; exit 2", "critical", "broken"),
        ("echo what; exit 3", "unknown", "what"),
        ("echo odd; exit 77", "unknown", "odd (exit code 77)"),
        ("echo gone; kill -9 $$", "unknown", "gone (ended by signal 9)"),
        ("echo complaint >&2; exit 2", "critical", "complaint"),
        ("exit 2", "critical", "it said nothing"),
        ("echo \"$1|x=1\"; [ \"$2\" = '$HOME;x' ]", "ok", "a b"),
        ("printf '\\033[2J\\000bad\\377\\n'", "ok", "\\u{1b}[2J"),
        ("pwd -P | sed 's/.*home$/in the home/'", "ok", "in the home"),
        ("env | grep -c -e ^OPS_ -e ^LANG | sed 's/^/ours: /'", "ok", "ours: 0"),
        ("yes | head -c 3000000", "ok", "y"),
        ("sleep 60 & echo left one", "ok", "left one"),
    ] {
        expect(&only(&plugin(script, "")), state, part);
    }
    let sandbox = plugin("echo \"token is $TOKEN\"", "env = { TOKEN = \"s3cr3tt0k3n\" }");
    expect(&only(&sandbox), "ok", "token is [redacted]");
    expect(
        &only(&with_checks("[check.it]\nkind = \"command\"\ncommand = [\"no-such-plugin\"]\n")),
        "unknown",
        "cannot run no-such-plugin",
    );
}

#[test]
fn the_numbers_of_a_plugin_are_taken_over() {
    let sandbox = plugin("printf 'OK | time=250ms;500;1000;0\\nmore | size=4KB\\n'", "");
    let said = said(sandbox.program("health-check").output().unwrap());
    let first = said.stdout.lines().next().unwrap();
    assert!(first.ends_with("| 'it_time'=0.25s;0.5;1;0 'it_size'=4000B"), "{said:?}");
}

/// Whether a process with this argument runs.
pub fn runs(argument: &str) -> bool {
    agent_ops::base::process::all()
        .unwrap()
        .iter()
        .any(|process| process.arguments().iter().any(|word| word == argument) && process.alive())
}

#[test]
fn one_that_hangs_costs_itself_only_and_leaves_nothing_running() {
    let sandbox = with_checks(
        "[check.stuck]\nkind = \"command\"\ncommand = [\"sleep\", \"5.1234\"]\ntimeout = \"300ms\"\n\
         [check.stubborn]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"trap '' TERM HUP; sleep 5.4321 & sleep 5.4321\"]\ntimeout = \"300ms\"\n\
         [check.fine]\nkind = \"command\"\ncommand = [\"echo\", \"fine\"]\n",
    );
    let said = look(&sandbox, Utc::now(), &["--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let states: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|f| (&f["check"], &f["state"])).collect();
    assert_eq!(said.code, 3);
    let expected = [("fine", "ok"), ("stubborn", "unknown"), ("stuck", "unknown")];
    assert_eq!(
        states,
        expected
            .map(|(check, state)| (check.into(), state.into()))
            .iter()
            .map(|(a, b): &(Value, Value)| (a, b))
            .collect::<Vec<_>>(),
        "{report}"
    );
    assert!(said.stdout.contains("sleep was not done within"), "{}", said.stdout);
    wait_until("nothing is left running", || !runs("5.1234") && !runs("5.4321"));
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_is_asked_for_its_units() {
    let ask = |script: &str, keys: &str| {
        let sandbox = with_checks(&format!("[check.it]\nkind = \"systemd_units\"\n{keys}"));
        sandbox.fake("systemctl", script);
        only(&sandbox)
    };
    let block = |active: &str, sub: &str| {
        format!(
            "echo \"$@\" >&2\nprintf 'Id=bot.service\\nLoadState=loaded\\nActiveState={active}\\nSubState={sub}\\nNRestarts=3\\nResult=exit-code\\n'"
        )
    };
    let units = "units = [\"bot\"]";
    let good = ask(&block("active", "running"), units);
    expect(&good, "ok", "1 unit active");
    assert_eq!(
        (&good["metrics"][0]["label"], &good["metrics"][0]["value"]),
        (&"restarts".into(), &3.0.into())
    );
    expect(
        &ask(&block("activating", "auto-restart"), units),
        "warning",
        "bot: activating (auto-restart, exit-code)",
    );
    expect(&ask(&block("failed", "failed"), units), "critical", "bot: failed");
    expect(
        &ask("echo 'System has not been booted with systemd' >&2; exit 1", units),
        "unknown",
        "has not been booted",
    );
    expect(&ask("printf '\\033[2J\\n\\n\\n='", units), "unknown", "told of");
    expect(&ask("sleep 60", &format!("{units}\ntimeout = \"300ms\"")), "unknown", "not done within");
    expect(
        &ask("[ \"$2\" = --user ] && [ -n \"$XDG_RUNTIME_DIR\" ] || exit 9\n", "failed = true\nuser = true"),
        "ok",
        "no unit failed",
    );
    expect(
        &ask("echo 'web.service loaded failed failed Web'", "failed = true"),
        "critical",
        "1 other unit failed: web.service",
    );
    let none = with_checks(&format!("[check.it]\nkind = \"systemd_units\"\n{units}"));
    let found = said(none.program("health-check").env("PATH", "/nowhere").arg("--json").output().unwrap());
    assert!(
        found.stdout.contains("cannot run systemctl") && found.stdout.contains("run by systemd?"),
        "{found:?}"
    );
}
