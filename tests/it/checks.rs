//! What every check has: `for`, `every`, a deadline of its own.

use crate::sandbox::{Said, Sandbox, said};
use crate::service::finding;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::net::TcpListener;

/// A home with one service that nobody starts, and these checks.
pub fn with_checks(checks: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", format!("[service.bot]\ncommand = [\"bot\"]\n{checks}"));
    sandbox
}

/// Runs `health-check` as if it were this late.
pub fn look(sandbox: &Sandbox, now: DateTime<Utc>, args: &[&str]) -> Said {
    said(sandbox.program("health-check").env("OPS_NOW", now.to_rfc3339()).args(args).output().unwrap())
}

/// The finding of a check, as if it were this late.
pub fn look_at(sandbox: &Sandbox, now: DateTime<Utc>, check: &str, args: &[&str]) -> Value {
    let said = look(sandbox, now, &[&["--json"], args].concat());
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    finding(&report, check).clone()
}

/// A port that answers until it is dropped.
fn port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_state_counts_when_it_was_seen_often_enough() {
    let (listener, address) = port();
    drop(listener);
    let sandbox =
        with_checks(&format!("[check.port]\nkind = \"tcp\"\naddress = \"{address}\"\nfor = \"2 of 3\"\n"));
    let begin = Utc::now();
    let at = |minutes: i64| look_at(&sandbox, begin + TimeDelta::minutes(minutes), "port", &[]);

    // Looking at one check alone is no run of all: it counts for nothing later.
    assert_eq!(look_at(&sandbox, begin, "port", &["--only", "port"])["state"], "ok");
    let first = at(0);
    assert_eq!((&first["state"], &first["seen"]), (&"ok".into(), &"critical".into()), "{first}");
    assert!(first["summary"].as_str().unwrap().contains("not for long enough"), "{first}");
    assert_eq!(at(5)["state"], "critical");

    let listener = TcpListener::bind(&address).unwrap();
    let after = at(10);
    assert_eq!((&after["state"], &after["seen"]), (&"critical".into(), &"ok".into()), "{after}");
    assert_eq!(at(15)["state"], "ok");
    drop(listener);
}

#[test]
fn what_is_not_due_is_not_looked_at() {
    let (listener, address) = port();
    let sandbox = with_checks(&format!(
        "[check.port]\nkind = \"tcp\"\naddress = \"{address}\"\nevery = \"1h\"\nfor = \"1 of 1\"\n"
    ));
    let begin = Utc::now();
    let at =
        |minutes: i64, args: &[&str]| look_at(&sandbox, begin + TimeDelta::minutes(minutes), "port", args);
    assert!(at(0, &[]).get("looked_at").is_none());
    drop(listener);
    let later = at(50, &[]);
    assert_eq!(later["state"], "ok", "{later}");
    assert!(later["summary"].as_str().unwrap().ends_with(", seen 50m ago"), "{later}");
    assert!(later["looked_at"].is_string() && later["metrics"][0]["warn"].is_string(), "{later}");
    // By name it is looked at in any case, and the run after the hour does.
    assert_eq!(at(51, &["--only", "port"])["state"], "critical");
    assert_eq!(at(112, &[])["state"], "critical");
    // A clock that went back silences nothing.
    assert!(at(-600, &[]).get("looked_at").is_none());
}

#[test]
fn the_keys_are_checked_where_they_stand() {
    let sandbox = with_checks("[check.port]\nkind = \"tcp\"\naddress = \"localhost:1\"\nfor = \"4 of 3\"\n");
    let said = sandbox.expect(3, "health-check", &[]);
    assert!(said.stderr.contains("ops.toml:6:7") && said.stderr.contains("3 of 5"), "{}", said.stderr);
}

#[test]
fn error_lines_are_counted_by_time_and_once() {
    let sandbox = with_checks(
        "[check.errors]\nkind = \"log_errors\"\npaths = [\"logs/bot*.log\"]\nper = \"1h\"\nwarn = 3\ncrit = 20\n\
         ignore = [\"0 errors\"]\n",
    );
    let log = sandbox.write("logs/bot.log", "ERROR before anybody looked\n".repeat(50));
    let append = |text: &str| {
        use std::io::Write;
        std::fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let begin = Utc::now();
    let at = |minutes: i64| look_at(&sandbox, begin + TimeDelta::minutes(minutes), "errors", &[]);
    assert_eq!(at(0)["summary"], "0 errors within 1h");
    append("ERROR timeout after 12 ms\nall fine, 0 errors\nERROR timeout after 7 ms\n");
    assert_eq!(at(5)["state"], "ok");
    // Rotated in between, the last line not seen before; the new file has two more.
    append("FATAL out of memory\n");
    std::fs::rename(&log, sandbox.path("logs/bot.log.1")).unwrap();
    sandbox.write("logs/bot.log", "Traceback (most recent call last)\nERROR timeout after 900 ms\nERR");
    let found = at(10);
    assert_eq!((&found["state"], &found["metrics"][0]["value"]), (&"warning".into(), &5.0.into()), "{found}");
    let summary = found["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("5 errors within 1h: ") && summary.contains("FATAL out of memory"),
        "{summary}"
    );
    assert_eq!(found["metrics"][1]["value"], 3.0);
    // The hour goes by.
    assert_eq!(at(66)["metrics"][0]["value"], 3.0);
    assert_eq!(at(71)["summary"], "0 errors within 1h");
}

#[test]
fn a_check_explains_itself() {
    let sandbox = crate::service::with_agent(&[]);
    let config = std::fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    sandbox.write("ops.toml", format!("{config}\n[check.disk]\nwarn = \"1B\"\ncrit = \"1B\"\n"));
    let line = config.lines().count() + 3;
    let said = sandbox.expect(0, "health-check", &["--list"]);
    assert!(
        said.stdout
            .lines()
            .any(|line| line.starts_with("disk") && line.ends_with("Is there room on the disk?")),
        "{said:?}"
    );

    let explained = sandbox.expect(0, "ops", &["health", "--explain", "disk"]).stdout;
    let has = |key: &str, set: &str| {
        explained.lines().any(|line| line.trim().starts_with(key) && line.ends_with(set))
    };
    assert!(has("warn", &format!("ops.toml:{line}")), "{explained}");
    assert!(has("inodes_warn", "default") && explained.contains("not looked at yet"), "{explained}");
    assert!(sandbox.expect(0, "ops", &["health", "--explain", "log_size"]).stdout.contains("preset builtin"));

    for minutes in 0..12 {
        look(&sandbox, Utc::now() + TimeDelta::minutes(minutes), &[]);
    }
    let explained = sandbox.json(0, "health-check", &["--explain", "process"]);
    assert_eq!(explained["results"].as_array().unwrap().len(), 10);
    assert_eq!(explained["results"][0]["state"], "critical");
    assert!(explained["results"][0]["summary"].as_str().unwrap().contains("not running"));
    assert_eq!(explained["keys"]["critical"]["set"]["preset"], "builtin", "{explained}");
    let said = sandbox.expect(3, "health-check", &["--explain", "dsik"]);
    assert!(said.stderr.contains("did you mean 'disk'?"), "{}", said.stderr);
}

#[test]
fn after_a_deployment_it_waits_until_all_is_well() {
    let (listener, address) = port();
    let checks = format!("[check.port]\nkind = \"tcp\"\naddress = \"{address}\"\n");
    let sandbox = with_checks(&checks);
    sandbox.expect(0, "ops", &["health", "--wait", "60s"]);
    drop(listener);
    let later = std::thread::spawn({
        let address = address.clone();
        move || {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            TcpListener::bind(&address).unwrap()
        }
    });
    let said = sandbox.expect(0, "ops", &["health", "--wait", "60s", "-v"]);
    assert!(said.stderr.contains("CRITICAL"), "{said:?}");
    drop(later.join().unwrap());
    sandbox.expect(2, "health-check", &["--wait", "1s"]);

    // What is looked at once an hour is looked at each time now.
    sandbox.write("ops.toml", format!("[service.bot]\ncommand = [\"bot\"]\n{checks}every = \"1h\"\n"));
    sandbox.expect(2, "health-check", &[]);
    let listener = TcpListener::bind(&address).unwrap();
    sandbox.expect(2, "health-check", &[]);
    sandbox.expect(0, "health-check", &["--wait", "10s"]);

    // What was bad often enough to count for a while yet is well as soon as it is.
    let often = format!("[service.bot]\ncommand = [\"bot\"]\n{checks}for = \"2 of 5\"\n");
    sandbox.write("ops.toml", often);
    drop(listener);
    sandbox.run("health-check", &[]);
    sandbox.expect(2, "health-check", &[]);
    let listener = TcpListener::bind(&address).unwrap();
    sandbox.expect(2, "health-check", &[]);
    sandbox.expect(0, "health-check", &["--wait", "10s"]);
    drop(listener);
}

#[test]
fn metrics_are_written_for_the_textfile_collector() {
    let (listener, address) = port();
    let sandbox = with_checks(&format!("[check.port]\nkind = \"tcp\"\naddress = \"{address}\"\n"));
    let file = sandbox.outside("collector").join("agent.prom");
    let name = file.to_str().unwrap();
    let said = sandbox.expect(0, "health-check", &["--prom", name, "-q"]);
    assert_eq!(said.stdout.lines().count(), 1);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("agent_ops_check_state{agent=\"agent\",check=\"port\",kind=\"tcp\"} 0"), "{text}");
    drop(listener);
    sandbox.expect(2, "health-check", &["--prom", name]);
    assert!(std::fs::read_to_string(&file).unwrap().contains("kind=\"tcp\"} 2"));
    let said = sandbox.expect(3, "health-check", &["--prom", "/tmp/agent.txt"]);
    assert!(said.stderr.contains(".prom"), "{}", said.stderr);
    assert!(!std::path::Path::new("/tmp/agent.txt").exists());
}
