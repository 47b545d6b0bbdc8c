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
}

#[test]
fn all_logs_are_merged_in_the_order_of_time() {
    let sandbox = sandbox();
    sandbox.write(
        "logs/alerts.log",
        "[2025-11-20 09:30:01] [CRITICAL] Daemon - gone\n[2025-11-20 09:40:00] [OK] Daemon - back\n",
    );
    sandbox.write(
        "logs/daemon_20251120.log",
        "[2025-11-20 09:30:00] [DAEMON] ERROR in cycle\nTraceback\n[2025-11-20 09:35:00] [DAEMON] up\n",
    );
    sandbox.write(
        "logs/mama.log",
        "{\"timestamp\":\"2025-11-20T09:34:00.000Z\",\"level\":\"warn\",\"message\":\"\x1b[2Jslow\"}\n",
    );
    let all = sandbox.expect(0, "ops", &["logs", "all"]).stdout;
    assert_eq!(
        all,
        "daemon | [2025-11-20 09:30:00] [DAEMON] ERROR in cycle\n\
         daemon | Traceback\n\
         alerts | [2025-11-20 09:30:01] [CRITICAL] Daemon - gone\n\
         mama   | {\"timestamp\":\"2025-11-20T09:34:00.000Z\",\"level\":\"warn\",\"message\":\"\\u{1b}[2Jslow\"}\n\
         daemon | [2025-11-20 09:35:00] [DAEMON] up\n\
         alerts | [2025-11-20 09:40:00] [OK] Daemon - back\n"
    );
    let bad = sandbox.json(0, "ops", &["logs", "all", "--level", "ERROR"]);
    let texts: Vec<&str> =
        bad["lines"].as_array().unwrap().iter().map(|line| line["log"].as_str().unwrap()).collect();
    assert_eq!(texts, ["daemon", "daemon", "alerts"]);
    assert_eq!(bad["lines"][1]["text"], "Traceback");
    assert_eq!(bad["lines"][2]["at"], "2025-11-20T09:30:01.000Z");
    assert_eq!(bad["lines"][2]["level"], "critical");
    assert_eq!(bad["cut"], false);
    let since = ["logs", "all", "--since", "2025-11-20 09:32", "--grep", "^\\[.*(up|back)$", "-n", "1"];
    let said = sandbox.expect(0, "ops", &since);
    assert_eq!(said.stdout, "alerts | [2025-11-20 09:40:00] [OK] Daemon - back\n");
    assert!(said.stderr.contains("only the last 1 line: -n takes more"), "{}", said.stderr);
}

#[test]
fn what_was_compressed_is_read_when_the_time_reaches_back() {
    let sandbox = sandbox();
    let yesterday = sandbox.write("logs/daemon_20251119.log", "[2025-11-19 09:00:00] ERROR yesterday\n");
    assert!(std::process::Command::new("gzip").arg(yesterday).status().unwrap().success());
    sandbox.write("logs/daemon_20251120.log", "[2025-11-20 09:00:00] ERROR today\n");
    let since = |time| sandbox.expect(0, "ops", &["logs", "daemon", "--since", time]).stdout;
    assert_eq!(since("2025-11-20"), "[2025-11-20 09:00:00] ERROR today\n");
    assert_eq!(
        since("2025-11-19 08:00"),
        "[2025-11-19 09:00:00] ERROR yesterday\n[2025-11-20 09:00:00] ERROR today\n"
    );
    sandbox.write("logs/daemon_20251118.log.gz", "no gz");
    let said = sandbox.expect(1, "ops", &["logs", "daemon", "--since", "2025-11-01"]);
    assert!(said.stderr.contains("cannot read") && said.stderr.contains("daemon_20251118.log.gz"));
    assert!(said.stdout.contains("yesterday"), "one that is damaged does not hide the others");
}

#[test]
fn what_cannot_be_understood_is_refused_with_a_remedy() {
    let sandbox = sandbox();
    sandbox.write("logs/alerts.log", "x\n");
    for (args, remedy) in [
        (["--grep", "(("], "--grep '\\(\\('"),
        (["--since", "soon"], "write it like 30m, 2h"),
        (["--since", "2999-01-01"], "yet to come"),
        (["--level", "loud"], "possible values: debug, info, warning, error, critical"),
        (["-f", "--json"], "leave one of the two out"),
    ] {
        let said = sandbox.expect(3, "ops", &[&["logs", "alerts"], &args[..]].concat());
        assert!(said.stderr.contains(remedy), "{args:?}: {}", said.stderr);
    }
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
}

/// Guards against the predecessor's `tail -f` of all files of the past, which did not see the
/// new day's file.
#[test]
fn following_goes_on_through_rotation_and_a_new_day() {
    let sandbox = sandbox();
    sandbox.write("logs/daemon_20261119.log", "WARN before\n");
    let mut child = sandbox
        .program("ops")
        .args(["logs", "daemon", "-f", "-n", "1", "--grep", "E$", "--level", "warn"])
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
    wait_until("the tail is shown", || seen("WARN before"));
    append(&sandbox, "logs/daemon_20261119.log", "WARN one e\nERROR two\nINFO one e\n");
    wait_until("a new line is shown", || seen("WARN one e"));
    fs::rename(sandbox.path("logs/daemon_20261119.log"), sandbox.path("away")).unwrap();
    append(&sandbox, "logs/daemon_20261119.log", "2026-11-19 23:59:59 ERROR it\ntwo e\n");
    wait_until("a line after the rotation is shown", || seen("two e"));
    append(&sandbox, "logs/daemon_20261120.log", "[00:00:01] CRITICAL three e\n");
    wait_until("a line of the new day is shown", || seen("[00:00:01] CRITICAL three e"));
    child.kill().unwrap();
    child.wait().unwrap();
    thread.join().unwrap();
    assert_eq!(*lines.lock().unwrap(), ["WARN before", "WARN one e", "two e", "[00:00:01] CRITICAL three e"]);
}
