//! What is left of an upgrade that was cut short, or takes for ever: who hears of it, what is not started, what is not
//! backed up.

use crate::receiver::{Hook, at, log_lines, webhook};
use crate::sandbox::{Sandbox, said, wait_until};
use crate::service::{Bystander, kill};
use crate::upgrade::{as_before, document, expect, identity, runs, step, upgrade, with_daemon};
use agent_ops::base::process::{Process, Signal};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

/// An upgrade by a command that harms nothing, killed at a step.
fn cut_short(sandbox: &Sandbox, step: &str) {
    let mut command = upgrade(sandbox, &[], "cp old/daemon.sh daemon.sh");
    let output = command.env("OPS_ABORT_AT", step).output().unwrap();
    assert_eq!(output.status.code(), None, "{output:?}");
}

/// So many minutes from now.
fn minutes(minutes: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::minutes(minutes)).to_rfc3339()
}

/// The kind, the type and the severity of each message, and all of them as one text.
fn heard(hook: &Hook) -> (Vec<[String; 3]>, String) {
    let told = hook.take();
    let word = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    let kinds = told.iter().map(|one| ["kind", "type", "severity"].map(|key| word(one, key)));
    (kinds.collect(), format!("{told:?}"))
}

#[track_caller]
fn hears(hook: &Hook, expected: &[[&str; 3]]) -> String {
    let (kinds, text) = heard(hook);
    assert_eq!(kinds, expected, "{text}");
    text
}

const NEW: [&str; 3] = ["new", "upgrade_unfinished", "critical"];
const WORSE: [&str; 3] = ["worse", "upgrade_unfinished", "critical"];
const RECOVERED: [&str; 3] = ["recovered", "upgrade_unfinished", "ok"];

#[test]
fn half_new_code_is_not_started_and_people_hear_why_once() {
    for settled in ["--back", "--keep"] {
        let hook = Hook::new();
        let sandbox = with_daemon(&webhook(&hook));
        at(0, &sandbox, &minutes(0));
        let findings = |code| sandbox.json(code, "ops", &["health"])["findings"].as_array().unwrap().len();
        let before = findings(0);
        cut_short(&sandbox, "command done");
        at(0, &sandbox, &minutes(5));
        let told = hears(&hook, &[NEW]);
        for words in
            ["was cut short", "ops upgrade --back", "daemon is down", "runbooks/upgrade_unfinished.md"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
        for later in [10, 15] {
            at(0, &sandbox, &minutes(later));
        }
        hears(&hook, &[]);
        assert!(!runs(&sandbox), "nothing is started on what may be half new");
        let headline = sandbox.expect(2, "health-check", &["-q"]).stdout;
        assert!(headline.contains("CRITICAL - ops:upgrade: the upgrade of"), "{headline}");
        assert_eq!(findings(2), before + 1);
        let why = sandbox.expect(0, "alert", &["why", "upgrade_unfinished"]).stdout;
        assert!(why.contains("# Upgrade Unfinished"), "{why}");

        sandbox.expect(0, "ops", &["upgrade", settled, "--yes"]);
        at(0, &sandbox, &minutes(20));
        let told = heard(&hook);
        assert!(told.0.contains(&RECOVERED.map(str::to_owned)), "{told:?}");
        assert!(runs(&sandbox), "{settled}: put back, or started by recovery as always");
        assert_eq!(findings(0), before);
    }
}

#[test]
fn an_agent_that_dies_on_half_new_code_is_told_and_left() {
    let hook = Hook::new();
    let sandbox = with_daemon(&webhook(&hook));
    cut_short(&sandbox, "started");
    at(0, &sandbox, &minutes(5));
    hears(&hook, &[NEW]);
    assert!(runs(&sandbox));
    kill(identity(&sandbox).pid);
    at(0, &sandbox, &minutes(10));
    let told = hears(&hook, &[WORSE]);
    assert!(told.contains("daemon is down"), "{told}");
    at(0, &sandbox, &minutes(15));
    hears(&hook, &[]);
    assert!(!runs(&sandbox));
    // Its operator may do as he likes.
    sandbox.expect(0, "ops", &["start"]);
    assert!(runs(&sandbox));
}

#[test]
fn where_nothing_was_changed_recovery_goes_on() {
    let hook = Hook::new();
    let sandbox = with_daemon(&webhook(&hook));
    cut_short(&sandbox, "stopped");
    at(0, &sandbox, &minutes(5));
    let told =
        hears(&hook, &[["new", "daemon_critical", "critical"], ["new", "upgrade_unfinished", "warning"]]);
    assert!(told.contains("restarted as pid") && told.contains("nothing was changed"), "{told}");
    assert!(runs(&sandbox));
    sandbox.expect(0, "ops", &["upgrade", "--keep"]);
    at(0, &sandbox, &minutes(10));
    let (kinds, text) = heard(&hook);
    assert!(kinds.contains(&RECOVERED.map(str::to_owned)), "{text}");
}

#[test]
fn a_note_that_cannot_be_read_is_no_leave_to_start() {
    let hook = Hook::new();
    let sandbox = with_daemon(&webhook(&hook));
    cut_short(&sandbox, "command done");
    sandbox.write(".ops/upgrade.json", "{\u{1b}[31m");
    at(0, &sandbox, &minutes(5));
    let told = hears(&hook, &[NEW]);
    assert!(told.contains("is no note of an upgrade") && told.contains("Remove the file"), "{told}");
    assert!(!runs(&sandbox));
    fs::remove_file(sandbox.path(".ops/upgrade.json")).unwrap();
    at(0, &sandbox, &minutes(10));
    assert!(runs(&sandbox));
}

#[test]
fn a_supervisor_starts_nothing_half_new() {
    for settled in ["--keep", "--back"] {
        let sandbox = with_daemon("");
        cut_short(&sandbox, "command done");
        let mut supervisor = sandbox.program("ops");
        let supervisor = supervisor.arg("run").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut supervisor = Bystander(supervisor);
        let waits = |times| {
            let log = || sandbox.read("logs/restart.log");
            wait_until("it waits", || log().matches("Waiting - daemon, until").count() == times);
        };
        waits(1);
        assert!(!runs(&sandbox));
        // Its operator may; a crash is one, and not made good.
        sandbox.expect(0, "ops", &["start"]);
        kill(identity(&sandbox).pid);
        waits(2);
        assert!(!runs(&sandbox) && sandbox.read("logs/restart.log").contains("Crashed - daemon"));
        sandbox.expect(0, "ops", &["upgrade", settled, "--yes"]);
        wait_until("it starts", || runs(&sandbox));
        let us = Process::find(supervisor.0.id()).unwrap().unwrap().identity;
        assert!(us.signal(Signal::TERM).unwrap());
        assert!(supervisor.0.wait().unwrap().success());
    }
}

/// An upgrade whose command waits until there is a file `go`.
fn waiting(sandbox: &Sandbox, then: &str) -> std::process::Child {
    let script = format!("touch begun; while [ ! -e go ]; do sleep 0.02; done; {then}");
    let child = upgrade(sandbox, &[], &script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the command runs", || sandbox.path("begun").exists());
    child
}

#[test]
fn nothing_is_started_under_an_upgrade_however_long_it_takes() {
    let hook = Hook::new();
    let sandbox = with_daemon(&webhook(&hook));
    let child = waiting(&sandbox, "true");
    at(0, &sandbox, &minutes(5));
    hears(&hook, &[]);
    let pid = child.id();
    for later in [5 * 60, 5 * 60 + 5] {
        let alerted = at(0, &sandbox, &minutes(later));
        assert!(!alerted.stdout.contains("restarted as"), "{alerted:?}");
    }
    let told = hears(&hook, &[NEW]);
    assert!(told.contains("should have been done by") && told.contains(&format!("kill {pid}")), "{told}");
    assert!(!runs(&sandbox));
    sandbox.write("go", "");
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    at(0, &sandbox, &minutes(5 * 60 + 10));
    hears(&hook, &[RECOVERED]);
    assert!(runs(&sandbox));
    assert_eq!(log_lines(&sandbox).len(), 2);
}

#[test]
fn the_way_back_that_takes_too_long_is_told_as_well_and_is_no_good_news_meanwhile() {
    let hook = Hook::new();
    let sandbox = with_daemon(&webhook(&hook));
    let text = sandbox.read("ops.toml");
    let slow = "rollback = [\"sh\", \"-c\", \"touch begun; while [ ! -e go ]; do sleep 0.02; done\"]";
    sandbox.write(
        "ops.toml",
        text.replace("rollback = [\"sh\", \"-c\", \"echo rolled; cp old/daemon.sh daemon.sh\"]", slow),
    );
    cut_short(&sandbox, "command done");
    at(0, &sandbox, &minutes(5));
    hears(&hook, &[NEW]);
    let mut back = sandbox.program("ops");
    let back = back.args(["upgrade", "--back", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let back = back.spawn().unwrap();
    wait_until("it goes back", || sandbox.path("begun").exists());
    at(0, &sandbox, &minutes(10));
    sandbox.expect(1, "backup", &[]);
    hears(&hook, &[]);
    let why = sandbox.expect(0, "alert", &["why", "ops:upgrade"]).stdout;
    assert!(why.contains("silent: it follows from an upgrade that is under way"), "{why}");
    at(0, &sandbox, &minutes(5 * 60));
    let told = heard(&hook).1;
    assert!(told.contains("should have been done by") && told.contains("rollback command waits"), "{told}");
    assert!(!runs(&sandbox));
    sandbox.write("go", "");
    assert_eq!(said(back.wait_with_output().unwrap()).code, 0);
    at(0, &sandbox, &minutes(5 * 60 + 5));
    hears(&hook, &[RECOVERED]);
}

#[test]
fn a_backup_of_something_half_new_is_not_made() {
    let sandbox = with_daemon("");
    let child = waiting(&sandbox, "exit 3");
    let archives = || sandbox.json(0, "backup", &["list"])["archives"].as_array().unwrap().len();
    assert_eq!(archives(), 1, "its own");
    let refused = sandbox.expect(1, "backup", &["-q"]);
    assert!(refused.stderr.contains("no backup was made: the upgrade of"), "{refused:?}");
    assert!(refused.stderr.contains("backups/") && refused.stdout.is_empty(), "{refused:?}");
    assert!(sandbox.read("logs/backup.log").contains("[WARNING] Backup skipped - "));
    assert_eq!(archives(), 1);
    sandbox.expect(1, "ops", &["restart", "--backup"]);
    assert!(!runs(&sandbox), "and what begins with one is not done");
    sandbox.write("go", "");
    let said = said(child.wait_with_output().unwrap());
    assert!(said.stdout.contains("everything was put back"), "{said:?}");
    as_before(&sandbox);
    sandbox.expect(0, "backup", &[]);
    assert_eq!(archives(), 2);
}

#[test]
fn what_a_cut_short_upgrade_needs_outlives_every_backup() {
    let sandbox = with_daemon("");
    let text = sandbox.read("ops.toml").replace(
        "include = [\"memory/**\"]",
        "include = [\"memory/**\"]\nkeep = { all = \"0s\", weekly = \"0s\", monthly = \"0s\" }",
    );
    sandbox.write("ops.toml", text);
    let mut command = upgrade(&sandbox, &[], "echo gone > memory/journal.jsonl");
    assert_eq!(command.env("OPS_ABORT_AT", "command done").output().unwrap().status.code(), None);
    let archives = || sandbox.json(0, "backup", &["list"])["archives"].as_array().unwrap().clone();
    let kept = |archive: &Value| archive["pinned"] == true;
    let before = archives().into_iter().find(kept).unwrap()["name"].clone();
    for _ in 0..3 {
        sandbox.expect(0, "backup", &[]);
        sandbox.expect(0, "backup", &["prune", "--yes"]);
    }
    let after = archives();
    assert_eq!(after.iter().filter(|archive| kept(archive)).count(), 1, "{after:?}");
    assert_eq!(after.iter().find(|archive| kept(archive)).unwrap()["name"], before);
    assert_ne!(after[0]["name"], before, "memory goes on changing, and is backed up");
    sandbox.expect(0, "ops", &["upgrade", "--back", "--yes"]);
    as_before(&sandbox);
    assert!(!archives().iter().any(kept), "afterwards the rule holds again");
}

#[test]
fn what_came_since_the_backup_stays_and_is_named() {
    let sandbox = with_daemon("");
    let script = "mkdir -p memory/new other; for n in 1 2 3 4 5 6 7; do echo $n > memory/new/$n; done; echo x > other/x; exit 3";
    let (done, stderr) = document(2, &sandbox, &[], script);
    let words = "not in the backup, and left as is: 7 files: memory/new/1, memory/new/2, memory/new/3, memory/new/4, memory/new/5 and 2 more";
    assert!(step(&done, "restore")["text"].as_str().unwrap().contains(words), "{done}");
    assert!(done["text"].as_str().unwrap().contains(words), "{done}");
    assert!(stderr.contains(words), "{stderr}");
    assert_eq!(sandbox.read("memory/new/7"), "7\n");
    as_before(&sandbox);
    // None came.
    let said = expect(2, upgrade(&sandbox, &[], "echo gone > memory/journal.jsonl; exit 3"));
    assert!(!said.stdout.contains("not in the backup"), "{}", said.stdout);
}
