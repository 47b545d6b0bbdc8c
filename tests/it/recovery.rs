//! What `alert` restarts, and what it leaves alone: hung services, and whatever our own verbs are at.

use crate::receiver::{Hook, at, good, warn, webhook, with_checks};
use crate::sandbox::{Sandbox, wait_until};
use agent_ops::base::process::{Identity, Process, Signal};
use serde_json::Value;
use std::process::Stdio;

fn agent(sandbox: &Sandbox) -> Process {
    let record: Value = serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap();
    let identity: Identity = serde_json::from_value(record["identity"].clone()).unwrap();
    identity.find().unwrap().expect("the service runs")
}

/// An agent that beats once, and then does what `then` says.
fn with_daemon(hook: &Hook, settings: &str, then: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    // A time in whole seconds is to be after the start.
    let beat = "sleep 1.1; printf '{\"status\": \"running\", \"timestamp\": \"%s\", \"pid\": %s, \"heartbeat_interval\": 60}' \
                \"$(date -u +%Y-%m-%dT%H:%M:%S+00:00)\" $$ > status.json";
    sandbox.write("daemon.sh", format!("{beat}\n{then}\n"));
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mama\"\npreset = \"none\"\n[service.daemon]\ncommand = [\"sh\", \"daemon.sh\"]\n\
             status_file = \"status.json\"\n{settings}\n\
             [check.process]\nkind = \"process\"\nservice = \"daemon\"\n\
             [check.heartbeat]\nkind = \"heartbeat\"\nservice = \"daemon\"\n\
             [alerts.desktop]\nenabled = false\n{}",
            webhook(hook)
        ),
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox
}

/// So many minutes from now: the process began by the real clock.
fn minutes(minutes: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::minutes(minutes)).to_rfc3339()
}

#[test]
fn a_service_that_hangs_is_restarted_when_all_evidence_agrees() {
    let hook = Hook::new();
    let sandbox = with_daemon(&hook, "recover_hung = true", "while :; do sleep 1000; done");
    let before = agent(&sandbox).identity;
    at(0, &sandbox, &minutes(0));
    at(0, &sandbox, &minutes(10));
    assert_eq!(agent(&sandbox).identity, before, "one look is no proof");
    assert_eq!(hook.kinds(), ["new"]);
    at(0, &sandbox, &minutes(12));
    assert_eq!(agent(&sandbox).identity, before, "nor are two that are so near");
    let run = at(0, &sandbox, &minutes(15));
    let after = agent(&sandbox).identity;
    assert_ne!(after, before, "{}", run.stdout);
    assert!(run.stdout.contains(&format!("restarted as pid {}", after.pid)), "{}", run.stdout);
    let why = sandbox.expect(0, "alert", &["why", "heartbeat"]).stdout;
    assert!(why.contains("restarted as pid"), "{why}");
    assert!(before.find().unwrap().is_none());
}

#[test]
fn a_service_that_is_busy_or_was_not_offered_is_left_alone() {
    let busy = "while :; do :; done";
    let talks = "while :; do echo still here; sleep 0.05; done";
    let hangs = "while :; do sleep 1000; done";
    for (settings, then) in [("recover_hung = true", busy), ("recover_hung = true", talks), ("", hangs)] {
        let hook = Hook::new();
        let sandbox = with_daemon(&hook, settings, then);
        let before = agent(&sandbox).identity;
        at(0, &sandbox, &minutes(10));
        let cpu = agent(&sandbox).cpu;
        if then == busy {
            // Enough of it for five minutes that a timer would need.
            wait_until("it was busy", || (agent(&sandbox).cpu - cpu).as_millis() > 100);
        } else {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        at(0, &sandbox, &minutes(15));
        assert_eq!(agent(&sandbox).identity, before, "{then}");
        assert_eq!(hook.kinds(), ["new"]);
    }
}

#[test]
fn while_our_own_verbs_are_at_it_nobody_is_told_and_nothing_is_restarted() {
    let hook = Hook::new();
    // It takes its time to stop, and to be ready: `ops restart` is at it all the while.
    let sandbox = with_checks(1, &webhook(&hook));
    let text = sandbox.read("ops.toml");
    sandbox.write(
        "ops.toml",
        format!(
            "{text}[service.daemon]\ncommand = [\"sh\", \"daemon.sh\"]\nstop_grace = \"60s\"\n\
             [check.process]\nkind = \"process\"\nservice = \"daemon\"\n"
        ),
    );
    sandbox.write(
        "daemon.sh",
        "trap 'touch stopping; while [ ! -e go ]; do sleep 0.05; done; exit 0' TERM\n\
                                while :; do sleep 0.05; done\n",
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "alert", &[]);
    let restart = |sandbox: &Sandbox| {
        let mut command = sandbox.program("ops");
        command.arg("restart").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut child = restart(&sandbox);
    wait_until("it is being stopped", || sandbox.path("stopping").exists());
    warn(&sandbox);
    let run = sandbox.expect(0, "alert", &[]);
    assert!(run.stderr.contains("ops restart has been at it since"), "{}", run.stderr);
    assert_eq!(hook.take().len(), 0);
    let why = sandbox.expect(0, "alert", &["why", "size0"]).stdout;
    assert!(why.contains("held back as long as ops restart is at it: new"), "{why}");
    sandbox.write("go", "");
    assert!(child.wait().unwrap().success());
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.kinds(), ["new"], "what is still so afterwards is told");
    good(&sandbox);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.kinds(), ["recovered"]);

    // One that is killed is at nothing any more.
    std::fs::remove_file(sandbox.path("go")).unwrap();
    std::fs::remove_file(sandbox.path("stopping")).unwrap();
    let mut child = restart(&sandbox);
    wait_until("it is being stopped", || sandbox.path("stopping").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let left = std::fs::read_dir(sandbox.path(".ops/maintenance")).unwrap().count();
    assert_eq!(left, 1, "its note lies about");
    sandbox.write("go", "");
    wait_until("the service has stopped", || {
        let record: Value = serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap();
        let identity: Identity = serde_json::from_value(record["identity"].clone()).unwrap();
        identity.find().unwrap().is_none()
    });
    let run = sandbox.expect(0, "alert", &[]);
    assert!(run.stdout.contains("restarted as pid"), "{}{}", run.stdout, run.stderr);
    assert_eq!(hook.kinds(), ["new"]);
    let identity = agent(&sandbox).identity;
    assert!(identity.signal(Signal::KILL).unwrap());
}
