//! `health-check`: the right state for whatever the agent left lying about, never a panic.

use crate::sandbox::Sandbox;
use crate::service::{agent_pid, finding, kill, with_agent};
use agent_ops::base::process::{Process, Signal};
use serde_json::{Value, json};
use std::fs;

fn offset(seconds: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339()
}

fn naive(seconds: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)).format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

fn state_of(sandbox: &Sandbox, check: &str) -> (String, String) {
    let said = sandbox.run("health-check", &["--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    let found = finding(&report, check);
    (found["state"].as_str().unwrap().to_owned(), found["summary"].as_str().unwrap().to_owned())
}

#[test]
fn the_plugin_contract() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(1, "health-check", &[]);
    fs::create_dir(sandbox.path("backups")).unwrap();
    let name = format!("{}.tar.gz", chrono::Utc::now().format("%Y%m%d_%H%M%S"));
    sandbox.write(&format!("backups/{name}"), "x");
    std::os::unix::fs::symlink(&name, sandbox.path("backups/latest")).unwrap();

    let said = sandbox.expect(0, "health-check", &[]);
    let mut lines = said.stdout.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("AGENT OK - all is well (0 critical, 0 warning, 10 ok) | "), "{first}");
    assert_eq!(said.stdout.matches('|').count(), 1);
    assert_eq!(lines.count(), 10, "one line a finding");
    let perfdata = first.split_once(" | ").unwrap().1;
    for item in perfdata.split(' ') {
        let (label, rest) = item.split_once('=').unwrap();
        assert!(label.starts_with('\'') && label.ends_with('\''), "{item}");
        let value = rest.split(';').next().unwrap();
        let number = value.trim_end_matches(|c: char| !c.is_ascii_digit());
        assert!(number.parse::<f64>().is_ok(), "{item}");
        assert!(["", "s", "B", "%", "c"].contains(&&value[number.len()..]), "{item}");
    }
}

#[test]
fn kill_minus_nine_is_told_in_one_line() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    kill(pid);
    let said = sandbox.expect(2, "health-check", &[]);
    let first = said.stdout.lines().next().unwrap();
    // Gone, or a zombie until the machine's first process waits for it.
    let expected = format!("AGENT CRITICAL - process: daemon is not running: process {pid} ");
    assert!(first.starts_with(&expected), "{first}");
}

#[test]
fn status_files_of_every_shape() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    let process = Process::find(pid).unwrap().unwrap();
    // It must not write while we do.
    process.identity.signal(Signal::STOP).unwrap();

    let status = |timestamp: String, pid: Value, details: Value| {
        json!({"status": "running", "timestamp": timestamp, "pid": pid, "heartbeat_interval": 60, "details": details})
            .to_string()
    };
    let own = json!(pid.to_string());
    for (content, expected, words) in [
        (String::new(), "unknown", "empty"),
        ("   \n".to_owned(), "unknown", "empty"),
        ("{\"status\": \"runn".to_owned(), "unknown", "not JSON"),
        ("[1, 2]".to_owned(), "unknown", "no object"),
        ("\u{0}\u{0}\u{0}".to_owned(), "unknown", "empty"),
        ("<html>\u{1b}[31m".to_owned(), "unknown", "not JSON"),
        (format!("{{\"status\": \"running\", \"pid\": {}}}", "9".repeat(400)), "unknown", ""),
        ("null".to_owned(), "unknown", "no object"),
        ("\"running\"".to_owned(), "unknown", "no object"),
        ("{}".to_owned(), "unknown", "no object"),
        ("{\"status\": 7}".to_owned(), "unknown", "no object"),
        ("{\"status\": \"running\"}{\"status\": \"running\"}".to_owned(), "unknown", "not JSON"),
        ("[".repeat(100_000), "unknown", "not JSON"),
        (format!("{{\"status\": \"running\", \"x\": \"{}\"}}", "x".repeat(2 << 20)), "unknown", "1.0 MB"),
        (format!("\u{feff}{}", status(offset(0), own.clone(), json!({}))), "ok", "old"),
        (format!("{}\n\n", status(offset(0), own.clone(), json!({}))), "ok", "old"),
        (format!("{}\0\0\0", status(offset(0), own.clone(), json!({}))), "ok", "old"),
        (status(offset(0), own.clone(), json!(null)), "ok", "old"),
        (status(offset(0), own.clone(), json!([])), "ok", "old"),
        (status(offset(0), own.clone(), json!({"checks_passed": "x", "total_checks": -1})), "ok", "old"),
        (status(offset(0), own.clone(), json!({"checks_passed": 3, "total_checks": 4})), "warning", "3 of 4"),
        (status(offset(0), json!("not a pid"), json!({})), "ok", "old"),
        (status(offset(0), json!({"pid": 1}), json!({})), "ok", "old"),
        (status(offset(0), json!(-1), json!({})), "ok", "old"),
        (status("9999-99-99T99:99:99".to_owned(), own.clone(), json!({})), "unknown", "not when"),
        (status("0".to_owned(), own.clone(), json!({})), "unknown", "not when"),
        (
            json!({"status": "stopping", "timestamp": offset(0), "pid": pid}).to_string(),
            "warning",
            "stopping",
        ),
        (
            json!({"status": "\u{1b}[31mfine", "timestamp": offset(0), "pid": pid}).to_string(),
            "warning",
            "says",
        ),
        (status(offset(0), own.clone(), json!({})), "ok", "old"),
        (status(naive(0), own.clone(), json!({})), "ok", "old"),
        (status(naive(0), json!(null), json!({})), "ok", "old"),
        (status(naive(0), json!(pid), json!({"last_heartbeat": naive(0)})), "ok", "old"),
        (status(offset(30), own.clone(), json!({})), "ok", "old"),
        (status(offset(7200), own.clone(), json!({})), "unknown", "in the future"),
        (status(offset(157_766_360), own.clone(), json!({})), "unknown", "in the future"),
        (status("soon".to_owned(), own.clone(), json!({})), "unknown", "not when"),
        // A dead predecessor's: the living one has just begun and is given its time.
        (status(offset(-86_400), json!("1"), json!({})), "ok", "predecessor"),
        (status(offset(-86_400), own.clone(), json!({})), "ok", "predecessor"),
        (json!({"status": "error", "timestamp": offset(0), "pid": pid}).to_string(), "critical", "error"),
    ] {
        fs::write(sandbox.path("logs/daemon_status.json"), &content).unwrap();
        let (state, summary) = state_of(&sandbox, "heartbeat");
        assert_eq!(state, expected, "{content}: {summary}");
        assert!(summary.contains(words) && !summary.contains('\x1b'), "{content}: {summary}");
    }
    fs::remove_file(sandbox.path("logs/daemon_status.json")).unwrap();
    let (state, summary) = state_of(&sandbox, "heartbeat");
    assert_eq!(state, "ok", "{summary}");
    assert!(summary.contains("no status file"), "{summary}");
    let (state, summary) = state_of(&sandbox, "process");
    assert_eq!(state, "critical");
    assert!(summary.contains("stopped by a signal"), "{summary}");
}

#[test]
fn a_hung_agent_is_seen_by_its_heartbeat() {
    let sandbox = with_agent(&["--heartbeat", "100ms", "--hang-after", "0.3"]);
    sandbox.expect(0, "ops", &["start"]);
    crate::sandbox::wait_until("the heartbeat is critical", || {
        state_of(&sandbox, "heartbeat").0 == "critical"
    });
    assert_eq!(state_of(&sandbox, "process").0, "ok", "it lives");
}

#[test]
fn databases_are_judged_by_the_text_of_the_check() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["stop"]);
    assert_eq!(state_of(&sandbox, "memory").0, "ok");

    let path = sandbox.path("memory/agent.db");
    let sound = fs::read(&path).unwrap();
    // A page that reads as nonsense: sqlite3 prints it and exits 0.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t(a); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500)
             INSERT INTO t SELECT hex(randomblob(40)) FROM n; PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    drop(connection);
    let mut damaged = fs::read(&path).unwrap();
    let last_page = damaged.len() - 4096;
    damaged[last_page..last_page + 64].fill(0xA5);
    fs::write(&path, damaged).unwrap();
    let (state, summary) = state_of(&sandbox, "memory");
    assert_eq!(state, "critical", "{summary}");
    assert!(summary.contains("damaged"), "{summary}");

    fs::write(&path, &sound[..sound.len() / 2 + 100]).unwrap();
    assert_eq!(state_of(&sandbox, "memory").0, "critical");
    for (content, words) in [(&b""[..], "empty"), (b"no database at all", "not an SQLite database")] {
        fs::write(&path, content).unwrap();
        let (state, summary) = state_of(&sandbox, "memory");
        assert_eq!(state, "critical");
        assert!(summary.contains(words), "{summary}");
    }
    fs::remove_file(&path).unwrap();
    let (state, summary) = state_of(&sandbox, "memory");
    assert!(state == "critical" && summary.contains("agent.db is missing"), "{summary}");

    fs::write(&path, sound).unwrap();
    assert_eq!(state_of(&sandbox, "memory").0, "ok");
    assert!(!sandbox.path("memory/agent.db-shm").exists(), "a look leaves nothing behind");
}

/// What is in a folder: names, lengths, times.
fn listing(folder: &std::path::Path) -> Vec<(std::ffi::OsString, u64, std::time::SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut listing: Vec<_> = entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            (entry.file_name(), meta.len(), meta.modified().unwrap())
        })
        .collect();
    listing.sort();
    listing
}

#[test]
fn nothing_is_written_beside_a_database() {
    let sandbox = crate::checks::with_checks("[check.x]\nkind = \"sqlite\"\npaths = [\"memory/a.db\"]\n");
    fs::create_dir(sandbox.path("memory")).unwrap();
    let path = sandbox.path("memory/a.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x); INSERT INTO t VALUES(1);")
        .unwrap();
    // As kill -9 leaves it: a WAL that holds everything, and no -shm.
    let copy = sandbox.outside("copy");
    for name in ["a.db", "a.db-wal"] {
        fs::copy(sandbox.path(&format!("memory/{name}")), copy.join(name)).unwrap();
    }
    drop(database);
    for name in ["a.db", "a.db-wal"] {
        fs::copy(copy.join(name), sandbox.path(&format!("memory/{name}"))).unwrap();
    }
    let _ = fs::remove_file(sandbox.path("memory/a.db-shm"));
    let (state, summary) = state_of(&sandbox, "x");
    assert_eq!(state, "ok", "{summary}");
    let wal = |name: &str| fs::read(sandbox.path(&format!("memory/{name}"))).unwrap();
    assert_eq!(wal("a.db-wal"), fs::read(copy.join("a.db-wal")).unwrap(), "the WAL is as it was");
    assert_eq!(wal("a.db"), fs::read(copy.join("a.db")).unwrap());

    // At rest, nothing at all is touched: not even for an instant.
    for name in ["a.db-wal", "a.db-shm"] {
        let _ = fs::remove_file(sandbox.path(&format!("memory/{name}")));
    }
    let before = listing(&sandbox.path("memory"));
    assert_eq!(state_of(&sandbox, "x").0, "ok");
    assert_eq!(listing(&sandbox.path("memory")), before);
}

#[test]
fn a_database_that_is_locked_for_long_is_no_verdict() {
    let sandbox = crate::checks::with_checks(
        "[check.x]\nkind = \"sqlite\"\npaths = [\"a.db\"]\ntimeout = \"1s\"\n\
         [check.disk]\nkind = \"disk\"\nwarn = \"1B\"\ncrit = \"1B\"\n",
    );
    let database = rusqlite::Connection::open(sandbox.path("a.db")).unwrap();
    database.execute_batch("CREATE TABLE t(x); BEGIN EXCLUSIVE; INSERT INTO t VALUES(1);").unwrap();
    let begun = std::time::Instant::now();
    let (state, summary) = state_of(&sandbox, "x");
    assert_eq!(state, "unknown", "{summary}");
    assert_eq!(state_of(&sandbox, "disk").0, "ok", "the others stand");
    assert!(begun.elapsed().as_secs() < 30);
    database.execute_batch("COMMIT").unwrap();
    assert_eq!(state_of(&sandbox, "x").0, "ok");
}

#[test]
fn errors_in_the_log_are_counted_and_made_harmless() {
    let sandbox = with_agent(&[]);
    let today = chrono::Utc::now().format("%Y%m%d");
    let log = format!("logs/daemon_{today}.log");
    sandbox.write(&log, "[ERROR] one\nfine\n".repeat(5));
    assert_eq!(state_of(&sandbox, "log_errors").0, "ok");
    sandbox.write(&log, b"[ERROR] one \x1b[2J|\n\0\0Traceback\n\xff\n".repeat(5));
    let (state, summary) = state_of(&sandbox, "log_errors");
    assert_eq!(state, "warning");
    assert!(!summary.contains('\x1b'), "{summary:?}");
    // One line of a gigabyte, most of it a hole; then one that is all there.
    let giant = fs::File::create(sandbox.path(&log)).unwrap();
    giant.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&giant, b"an ERROR at its end", 1 << 30).unwrap();
    let (state, summary) = state_of(&sandbox, "log_errors");
    assert_eq!(state, "ok", "{summary}");
    assert!(summary.starts_with("1 error in the last 1 line"), "{summary}");
    // A giant line without an end, and a log that is a folder.
    sandbox.write(&log, vec![b'x'; 20_000_000]);
    assert_eq!(state_of(&sandbox, "log_errors").0, "ok");
    fs::remove_file(sandbox.path(&log)).unwrap();
    fs::create_dir(sandbox.path(&log)).unwrap();
    assert_eq!(state_of(&sandbox, "log_errors").0, "ok");
}

#[test]
fn a_port_that_answers_and_one_that_does_not() {
    let sandbox = Sandbox::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let closed = {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        other.local_addr().unwrap()
    };
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[check.open]\nkind = \"tcp\"\naddress = \"{open}\"\n\
             [check.closed]\nkind = \"tcp\"\naddress = \"{closed}\"\n[check.nowhere]\nkind = \"tcp\"\naddress = \"no port\"\n"
        ),
    );
    assert_eq!(state_of(&sandbox, "open").0, "ok");
    assert_eq!(state_of(&sandbox, "closed").0, "critical");
    assert_eq!(state_of(&sandbox, "nowhere").0, "unknown");
    let said = sandbox.expect(2, "health-check", &[]);
    assert!(said.stdout.contains("(1 critical, 0 warning, 1 unknown, 1 ok)"), "{}", said.stdout);
    sandbox.expect(0, "health-check", &["--only", "open"]);
    sandbox.expect(3, "health-check", &["--only", "opne"]);
}

#[test]
fn disk_thresholds_are_those_of_the_config() {
    let sandbox = Sandbox::new();
    for (warn, crit, expected) in
        [("0B", "0B", "ok"), ("900TB", "0B", "warning"), ("900TB", "800TB", "critical")]
    {
        let disk = format!(
            "[agent]\npreset = \"none\"\n[check.disk]\nkind = \"disk\"\nwarn = \"{warn}\"\ncrit = \"{crit}\"\n"
        );
        sandbox.write("ops.toml", disk);
        assert_eq!(state_of(&sandbox, "disk").0, expected);
    }
}
