//! `ops logs`: tails, names, following.

use crate::sandbox::{Sandbox, wait_until};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\npreset = \"builtin\"\n");
    sandbox
}

fn append(sandbox: &Sandbox, log: &str, text: &str) {
    let path = sandbox.path(log);
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_name_is_the_newest_file_of_that_name() {
    let sandbox = sandbox();
    sandbox.write("logs/daemon_20261119.log", "old\n");
    sandbox.write("logs/daemon_20261120.log", "one\ntwo\nthree ERROR\nlast without end");
    sandbox.write("logs/daemon_stderr.log", "noise\n");
    sandbox.write("logs/email/inbox.log", "mail\x1b[31m\n");
    sandbox.write("logs/alerts.log", "[2026-11-20 09:30:01] [CRITICAL] Daemon - gone\n");
    let newer = fs::metadata(sandbox.path("logs/daemon_20261120.log")).unwrap().modified().unwrap();
    let older = newer - std::time::Duration::from_secs(86_400);
    let file = OpenOptions::new().write(true).open(sandbox.path("logs/daemon_20261119.log")).unwrap();
    file.set_modified(older).unwrap();

    assert_eq!(
        sandbox.expect(0, "ops", &["logs", "daemon", "-n", "2"]).stdout,
        "three ERROR\nlast without end\n"
    );
    let default = sandbox.expect(0, "ops", &["logs"]).stdout;
    assert!(default.starts_with("one\n"), "without a name it is the first service's: {default}");
    assert_eq!(sandbox.expect(0, "ops", &["logs", "daemon", "--grep", "error"]).stdout, "three ERROR\n");
    assert_eq!(sandbox.expect(0, "ops", &["logs", "email"]).stdout, "mail\\u{1b}[31m\n");
    let all = sandbox.expect(0, "ops", &["logs", "all", "-n", "1"]).stdout;
    for part in ["==> logs/alerts.log <==", "==> logs/daemon_20261120.log <==", "noise"] {
        assert!(all.contains(part), "{all}");
    }
    assert!(!all.contains("old"));
    let json = sandbox.json(0, "ops", &["logs", "alerts"]);
    assert_eq!(json["logs"][0]["file"], "logs/alerts.log");
    assert_eq!(json["logs"][0]["lines"][0], "[2026-11-20 09:30:01] [CRITICAL] Daemon - gone");
}

#[test]
fn an_unknown_name_is_refused_with_those_that_there_are() {
    let sandbox = sandbox();
    let said = sandbox.expect(3, "ops", &["logs", "daemon"]);
    assert!(said.stderr.contains("there are no logs yet"), "{}", said.stderr);
    sandbox.write("logs/alerts.log", "x\n");
    let said = sandbox.expect(3, "ops", &["logs", "alert"]);
    assert!(said.stderr.contains("did you mean 'alerts'?"), "{}", said.stderr);
    let said = sandbox.expect(3, "ops", &["logs", "../../etc/passwd"]);
    assert!(said.stderr.contains("there are: all, alerts"), "{}", said.stderr);
    sandbox.expect(3, "ops", &["logs", "alerts", "--follow", "--json"]);
}

/// Guards against the predecessor's `tail -f` of all files of the past, which did not see the
/// new day's file.
#[test]
fn following_goes_on_through_rotation_and_a_new_day() {
    let sandbox = sandbox();
    sandbox.write("logs/daemon_20261119.log", "before\n");
    let mut child = sandbox
        .program("ops")
        .args(["logs", "daemon", "-f", "-n", "1", "--grep", "E"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let reader = BufReader::new(child.stdout.take().unwrap());
    let thread = {
        let lines = Arc::clone(&lines);
        std::thread::spawn(move || {
            reader.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line))
        })
    };
    let seen = |wanted: &str| lines.lock().unwrap().iter().any(|line| line == wanted);
    wait_until("the tail is shown", || seen("before"));
    append(&sandbox, "logs/daemon_20261119.log", "one e\nnothing\n");
    wait_until("a new line is shown", || seen("one e"));
    fs::rename(sandbox.path("logs/daemon_20261119.log"), sandbox.path("away")).unwrap();
    append(&sandbox, "logs/daemon_20261119.log", "two e\n");
    wait_until("a line after the rotation is shown", || seen("two e"));
    append(&sandbox, "logs/daemon_20261120.log", "three e\n");
    wait_until("a line of the new day is shown", || seen("three e"));
    child.kill().unwrap();
    child.wait().unwrap();
    thread.join().unwrap();
    assert_eq!(*lines.lock().unwrap(), ["before", "one e", "two e", "three e"]);
}
