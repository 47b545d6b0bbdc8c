//! `alert`: who is told, how often, and what is restarted.

use crate::receiver::{Hook, at, crit, good, log_lines, warn, webhook, with_checks};
use crate::sandbox::{Sandbox, said, wait_until};
use agent_ops::base::process::{Identity, Process, Signal};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

/// The built-in agent, and where its alerts go. No checks but those of its process and heart.
fn with_agent(hook: &Hook) -> Sandbox {
    let sandbox = Sandbox::new();
    let off: String = ["disk", "log_size", "log_errors", "backup", "memory"]
        .map(|check| format!("[check.{check}]\nenabled = false\n"))
        .concat();
    let url = &hook.url;
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mama\"\npreset = \"builtin\"\n[alerts.desktop]\nenabled = false\n\
             [alerts.webhook]\nurl = \"{url}\"\n[builtin_agent]\nheartbeat = \"1s\"\n{off}"
        ),
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox
}

fn agent(sandbox: &Sandbox) -> Process {
    let record: Value = serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap();
    let identity: Identity = serde_json::from_value(record["identity"].clone()).unwrap();
    identity.find().unwrap().expect("the service runs")
}

fn kill_agent(sandbox: &Sandbox) {
    let identity = agent(sandbox).identity;
    assert!(identity.signal(Signal::KILL).unwrap());
    wait_until("the service is dead", || identity.find().unwrap().is_none());
}

#[test]
fn a_killed_agent_is_told_once_restarted_and_its_recovery_told_once() {
    let hook = Hook::new();
    let sandbox = with_agent(&hook);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);
    kill_agent(&sandbox);

    sandbox.expect(0, "alert", &[]);
    let told = hook.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["schema"], 1);
    assert_eq!(told[0]["kind"], "new");
    assert_eq!(told[0]["severity"], "critical");
    assert_eq!(told[0]["type"], "daemon_critical");
    assert_eq!(told[0]["title"], "Daemon Critical");
    assert_eq!(told[0]["agent"], "mama");
    assert_eq!(told[0]["runbook"], "runbooks/daemon_critical.md");
    let restarted = format!("restarted as pid {}", agent(&sandbox).identity.pid);
    assert!(told[0]["message"].as_str().unwrap().contains(&restarted), "{told:?}");

    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0, "the first good look after our restart proves nothing");
    sandbox.expect(0, "alert", &[]);
    let told = hook.take();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["kind"], &told[0]["severity"]), (&"recovered".into(), &"ok".into()));
    assert_eq!(told[0]["title"], "Recovered: Daemon Critical");
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);

    let lines = log_lines(&sandbox);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("] [CRITICAL] Daemon Critical - "));
    assert!(lines[1].contains("] [OK] Recovered: Daemon Critical - "));
}

#[test]
fn ten_alerts_at_once_tell_once_and_start_once() {
    let hook = Hook::new();
    let sandbox = with_agent(&hook);
    kill_agent(&sandbox);
    let children: Vec<_> = (0..10)
        .map(|_| sandbox.program("alert").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in children {
        let said = said(child.wait_with_output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
    }
    assert_eq!(hook.kinds(), ["new"]);
    assert_eq!(log_lines(&sandbox).len(), 1);
    let started = sandbox.read("logs/restart.log").matches("Started - daemon").count();
    assert_eq!(started, 2, "by the operator, and by one of the ten");
}

#[test]
fn an_operator_s_stop_is_no_alert_and_is_not_undone() {
    let hook = Hook::new();
    let sandbox = with_agent(&hook);
    let identity = agent(&sandbox).identity;
    sandbox.expect(0, "ops", &["stop"]);
    for _ in 0..3 {
        sandbox.expect(0, "alert", &[]);
    }
    assert!(identity.find().unwrap().is_none());
    assert_eq!(hook.take().len(), 0);

    // Stopped while it was a problem: the problem is closed, and nobody hears of it.
    sandbox.expect(0, "ops", &["start"]);
    kill_agent(&sandbox);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.kinds(), ["new"]);
    sandbox.expect(0, "ops", &["stop"]);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);
    assert_eq!(sandbox.json(0, "alert", &["list"])["open"], Value::Array(Vec::new()));
    let why = sandbox.expect(0, "alert", &["why", "process"]);
    assert!(why.stdout.contains("stopped by its operator"), "{}", why.stdout);
}

#[test]
fn a_crash_loop_is_given_up_and_said_once() {
    let hook = Hook::new();
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[service.daemon]\ncommand = [\"sleep\", \"1000\"]\n\
             [alerts]\nmax_per_hour = 0\n[alerts.desktop]\nenabled = false\n{}",
            webhook(&hook)
        ),
    );
    sandbox.expect(0, "ops", &["start"]);
    let mut said = Vec::new();
    for time in ["12:00", "12:10", "12:20"] {
        kill_agent(&sandbox);
        at(0, &sandbox, time);
        agent(&sandbox);
        said.extend(hook.take());
    }
    assert_eq!(said.len(), 1, "the first CRITICAL passes any cap: {said:?}");
    kill_agent(&sandbox);
    at(0, &sandbox, "12:30");
    let told = hook.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["type"], &told[0]["severity"]), (&"restart_loop".into(), &"critical".into()));
    // Not even when the hour is over; and not said again.
    for time in ["12:35", "13:50", "14:50"] {
        let run = at(0, &sandbox, time);
        assert!(!run.stdout.contains("restarted"), "{}", run.stdout);
    }
    assert_eq!(hook.take().len(), 0);
    // The operator starts it: it is over, and told so once.
    sandbox.expect(0, "ops", &["start"]);
    at(0, &sandbox, "15:00");
    at(0, &sandbox, "15:05");
    assert_eq!(hook.kinds(), ["recovered"]);
}

#[test]
fn a_restart_that_fails_is_part_of_what_is_told() {
    let hook = Hook::new();
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[service.daemon]\ncommand = [\"false\"]\n\
             [alerts.desktop]\nenabled = false\n{}",
            webhook(&hook)
        ),
    );
    at(1, &sandbox, "12:00");
    let told = hook.take();
    assert!(told[0]["message"].as_str().unwrap().contains("could not be restarted"), "{told:?}");
    let again = at(0, &sandbox, "12:00");
    assert!(!again.stdout.contains("could not be"), "the pause is not over: {}", again.stdout);
}

#[test]
fn the_same_is_silent_until_the_cooldown_is_over() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    warn(&sandbox);
    let mut said = Vec::new();
    for time in ["12:00", "12:05", "12:29", "12:30", "12:35", "13:29", "13:30"] {
        at(0, &sandbox, time);
        said.extend(hook.take().into_iter().map(|message| (time, message["kind"].clone())));
    }
    assert_eq!(said, [("12:00", "new".into()), ("12:30", "reminder".into()), ("13:30", "reminder".into())]);
    crit(&sandbox);
    at(0, &sandbox, "13:35");
    assert_eq!(hook.kinds(), ["worse"], "worse is told at once");
    // The clock goes back by hours: nothing waits for a time that is not to come again.
    at(0, &sandbox, "03:00");
    assert_eq!(hook.kinds(), ["reminder"]);
    at(0, &sandbox, "03:05");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn the_hourly_cap_holds_warnings_but_no_first_critical() {
    let hook = Hook::new();
    let sandbox = with_checks(8, &webhook(&hook));
    warn(&sandbox);
    at(0, &sandbox, "12:00");
    let told = hook.take();
    assert_eq!(told.len(), 5, "max_per_hour");
    let digest = told.iter().map(|message| message["also"].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(digest, 3, "the others are summed up");
    at(0, &sandbox, "12:31");
    assert_eq!(hook.take().len(), 0, "reminders wait for room");
    crit(&sandbox);
    at(0, &sandbox, "12:36");
    assert_eq!(hook.kinds(), ["worse"; 8], "all are critical for the first time");
    good(&sandbox);
    at(0, &sandbox, "12:41");
    assert_eq!(hook.kinds(), ["recovered"; 8]);
}

#[test]
fn a_dry_run_says_what_would_be_sent_and_changes_nothing() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    let before = files(&sandbox);
    let run = sandbox.expect(0, "alert", &["--dry-run"]);
    assert!(run.stdout.contains("would be sent: [CRITICAL] Disk Critical"), "{}", run.stdout);
    assert_eq!(files(&sandbox), before);
    assert_eq!(hook.take().len(), 0);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.kinds(), ["new"]);
}

fn files(sandbox: &Sandbox) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&sandbox.home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn silence_ack_list_why_and_test() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    let tell = |args: &[&str], time: &str| {
        let now = format!("2026-11-20T{time}:00Z");
        said(sandbox.program("alert").env("OPS_NOW", now).args(args).output().unwrap())
    };
    assert_eq!(tell(&["silence", "2h", "--reason", "new disk"], "12:00").code, 0);
    crit(&sandbox);
    let run = at(0, &sandbox, "12:05");
    assert!(run.stderr.contains("silenced until 2026-11-20 14:00:00: new disk"), "{}", run.stderr);
    assert_eq!(hook.take().len(), 0);
    at(0, &sandbox, "14:00");
    assert_eq!(hook.kinds(), ["new"], "it is told when the silence is over");

    assert_eq!(tell(&["ack", "nothing"], "14:01").code, 3);
    assert_eq!(tell(&["ack", "size0"], "14:01").code, 0);
    at(0, &sandbox, "19:00");
    assert_eq!(hook.take().len(), 0, "acknowledged");

    let list = sandbox.json(0, "alert", &["list"]);
    assert_eq!(list["open"][0]["check"], "size0");
    assert_eq!(list["messages"][0]["channels"][0]["outcome"], "delivered");
    let why = tell(&["why", "disk_critical"], "19:05").stdout;
    for part in ["told: new", "held back as long as alerts are silenced", "acknowledged", "# Disk Critical"] {
        assert!(why.contains(part), "{part}\n{why}");
    }
    assert_eq!(sandbox.json(0, "alert", &["why", "size0"])["incidents"][0]["check"], "size0");
    assert_eq!(tell(&["why", "no_such_thing"], "19:05").code, 3);

    assert_eq!(tell(&["test"], "19:05").code, 0);
    assert_eq!(hook.kinds(), ["test"]);
    assert_eq!(tell(&["test", "--channel", "email"], "19:05").code, 3, "it is not set up");
    hook.answer(500);
    assert_eq!(tell(&["test"], "19:05").code, 2);
    for wrong in [&["silence", "soon"][..], &["frobnicate"], &["--dry-run", "list"]] {
        assert_eq!(tell(wrong, "19:05").code, 3, "{wrong:?}");
    }
}
