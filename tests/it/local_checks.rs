//! The truth table of the checks of what lies on this machine: well, warning, critical, could not
//! tell, and hostile input.

use crate::checks::{look_at, with_checks};
use crate::sandbox::Sandbox;
use crate::service::{agent_pid, kill, with_agent};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// State and summary of the check `x`, so many minutes from now.
#[track_caller]
fn expect(sandbox: &Sandbox, minutes: i64, state: &str, part: &str) -> Value {
    let found = look_at(sandbox, Utc::now() + TimeDelta::minutes(minutes), "x", &[]);
    let summary = found["summary"].as_str().unwrap();
    assert!(found["state"] == state && summary.contains(part), "{state} {part:?}: {found}");
    assert!(!summary.contains(['\x1b', '\n']), "{summary:?}");
    found
}

fn metric(found: &Value, label: &str) -> f64 {
    let metrics = found["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["label"] == label).unwrap_or_else(|| panic!("{found}"))["value"]
        .as_f64()
        .unwrap()
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn written(path: &Path, ago: i64) {
    let at: DateTime<Utc> = Utc::now() - TimeDelta::minutes(ago);
    File::options().write(true).open(path).unwrap().set_modified(at.into()).unwrap();
}

/// It is asked once a run, and only those wait that ask for it, each in its own time.
#[cfg(target_os = "linux")]
#[test]
fn a_manager_that_hangs_holds_up_no_other_check() {
    let sandbox = with_agent(&[]);
    crate::managers::stand_in(&sandbox);
    sandbox.expect(0, "ops", &["install", "--user", "--manager", "systemd"]);
    kill(agent_pid(&sandbox));
    let asked = sandbox.outside("manager").join("asked");
    let config = sandbox.read("ops.toml");
    sandbox.write(
        "ops.toml",
        format!(
            "{config}\n[check.process]\nevery = \"1h\"\ntimeout = \"2s\"\n\
             [check.seldom]\nkind = \"file_age\"\npaths = [\"ops.toml\"]\nafter = [\"process\"]\nevery = \"1h\"\n\
             timeout = \"2s\"\n\
             [check.often]\nkind = \"file_age\"\npaths = [\"ops.toml\"]\nafter = [\"process\"]\n"
        ),
    );
    let looked = |hang: &str| {
        fs::write(&asked, "").unwrap();
        sandbox.fake(
            "systemctl",
            &format!("echo \"$*\" >>'{}'; {hang}; printf 'ActiveState=failed\\n'", asked.display()),
        );
        let said = sandbox.run("health-check", &["--json"]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let shown = fs::read_to_string(&asked).unwrap();
        let asked = shown.lines().filter(|line| line.contains("ActiveState")).count();
        assert_eq!(asked, 1, "{shown}");
        report
    };
    let report = looked("sleep 60");
    for (check, state, part) in [
        ("process", "unknown", "not done within 2s"),
        ("seldom", "unknown", "not done within 2s"),
        ("often", "ok", ""),
    ] {
        let found = crate::service::finding(&report, check);
        assert!(found["state"] == state && found["summary"].as_str().unwrap().contains(part), "{found}");
    }
    // It was not known what these answers rest on, so they are not kept.
    let report = looked("true");
    assert_eq!(crate::service::finding(&report, "process")["state"], "critical", "{report}");
    assert_eq!(crate::service::finding(&report, "seldom")["state"], "ok", "{report}");
}

#[test]
fn file_age() {
    let sandbox = with_checks("[check.x]\nkind = \"file_age\"\npaths = [\"out/*.txt\"]\nmin_size = \"3B\"\n");
    expect(&sandbox, 0, "critical", "there is no out/*.txt");
    let file = sandbox.write("out/\x1b[31m.txt", "long enough");
    expect(&sandbox, 0, "ok", "11 B");
    written(&file, 70);
    expect(&sandbox, 0, "warning", "1h 10m old");
    written(&file, 300);
    expect(&sandbox, 0, "critical", "5h old");
    written(&file, -60);
    expect(&sandbox, 0, "unknown", "from the future");
    fs::write(&file, "").unwrap();
    expect(&sandbox, 0, "critical", "has only 0 B");

    let sandbox = with_checks(
        "[check.x]\nkind = \"file_age\"\npaths = [\"queue/*\"]\nwhich = \"oldest\"\ncount = { warn = 2 }\n",
    );
    expect(&sandbox, 0, "ok", "nothing waits");
    written(&sandbox.write("queue/a", "x"), 90);
    sandbox.write("queue/b", "x");
    expect(&sandbox, 0, "warning", "queue/a is 1h 30m old");
    written(&sandbox.path("queue/a"), 1);
    sandbox.write("queue/c", "x");
    assert_eq!(metric(&expect(&sandbox, 0, "warning", "3 files"), "count"), 3.0);
}

#[test]
fn permissions() {
    let sandbox = with_checks("[check.x]\nkind = \"permissions\"\npaths = [\".env\", \"keys/*\"]\n");
    expect(&sandbox, 0, "ok", "0 files");
    let env = sandbox.write(".env", "TOKEN=s3cr3t");
    let mode = |mode: u32| fs::set_permissions(&env, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o600);
    expect(&sandbox, 0, "ok", "1 file");
    mode(0o640);
    expect(&sandbox, 0, "warning", ".env is 0640, more than 0600");
    mode(0o604);
    expect(&sandbox, 0, "critical", ".env is 0604");
    fs::remove_file(&env).unwrap();
    fs::create_dir(&env).unwrap();
    expect(&sandbox, 0, "critical", ".env is not a file");
    let said = with_checks("[check.x]\nkind = \"permissions\"\npaths = []\nmode = \"0999\"\n");
    assert!(said.expect(3, "health-check", &[]).stderr.contains("no mode"));
}

#[test]
fn pinned_files() {
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let sandbox =
        with_checks(&format!("[check.x]\nkind = \"pin\"\nfiles = {{ \"soul.md\" = \"{hash}\" }}\n"));
    expect(&sandbox, 0, "critical", "soul.md is missing");
    let file = sandbox.write("soul.md", "hello");
    expect(&sandbox, 0, "ok", "1 file as pinned");
    // Changed, with size and time set back.
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "hullo").unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    expect(&sandbox, 0, "critical", "soul.md was changed");
    fs::write(&file, "hello").unwrap();
    expect(&sandbox, 0, "ok", "as pinned");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    expect(&sandbox, 0, "unknown", "cannot be read");
    let wrong = with_checks("[check.x]\nkind = \"pin\"\nfiles = { \"a\" = \"abc\" }\n");
    assert!(wrong.expect(3, "health-check", &[]).stderr.contains("no SHA-256"));
}

#[test]
fn json_lines() {
    let sandbox = with_checks(
        "[check.x]\nkind = \"jsonl\"\npaths = [\"memory/a.jsonl\"]\ngrowth = { warn = \"1MB\", crit = \"5MB\" }\n",
    );
    expect(&sandbox, 0, "critical", "memory/a.jsonl is missing");
    let file = sandbox.write("memory/a.jsonl", "{\"n\":1}\n\n{\"n\":2}\n");
    assert_eq!(metric(&expect(&sandbox, 0, "ok", "1 file whole"), "lines"), 3.0);
    append(&file, "{\"n\":3}\n");
    assert_eq!(metric(&expect(&sandbox, 1, "ok", "whole"), "lines"), 1.0);
    append(&file, "{\"n\":4");
    expect(&sandbox, 2, "warning", "its last line has no end");
    append(&file, "}\nnot json\x1b[2J\n{\"n\":5}\n");
    expect(&sandbox, 3, "critical", "1 line that is no JSON: 'not json\\u{1b}[2J'");
    // It was told; the lines that come are well.
    append(&file, "{\"n\":6}\n");
    expect(&sandbox, 4, "ok", "whole");
    append(&file, &format!("\"{}\"\n", "x".repeat(2_000_000)));
    expect(&sandbox, 5, "warning", "2.0 MB more within an hour");
    append(&file, &format!("\"{}\"\n", "x".repeat(4_000_000)));
    expect(&sandbox, 6, "critical", "6.0 MB more within an hour");
    expect(&sandbox, 80, "ok", "whole");
    // One line of nothing but NULs, and no end of it.
    fs::write(&file, vec![0; 20 << 20]).unwrap();
    expect(&sandbox, 81, "critical", "its last line has no end");
}

#[test]
fn the_disk_by_inodes_and_by_trend() {
    let sandbox = with_checks(
        "[check.x]\nkind = \"disk\"\nwarn = \"1B\"\ncrit = \"1B\"\ninodes_warn = \"0%\"\ninodes_crit = \"0%\"\n\
         full_warn = \"90d\"\n",
    );
    let found = expect(&sandbox, 0, "ok", "free of");
    assert!(metric(&found, "free") > 1.0);
    let config = fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    sandbox.write("ops.toml", config.replace("inodes_warn = \"0%\"", "inodes_warn = \"100%\""));
    expect(&sandbox, 1, "warning", "inodes are left");
    sandbox.write("ops.toml", config);
    // Two hours ago there was twice as much: full in as long again.
    let free = metric(&found, "free");
    let memory = serde_json::json!([[(Utc::now() - TimeDelta::hours(2)).to_rfc3339(), (free * 2.0) as u64]]);
    let journal = rusqlite::Connection::open(sandbox.path(".ops/ops.db")).unwrap();
    journal.execute("UPDATE memories SET content = ?1 WHERE what = 'free'", [memory.to_string()]).unwrap();
    drop(journal);
    expect(&sandbox, 2, "warning", "full in 2h");
    let gone = with_checks("[check.x]\nkind = \"disk\"\npath = \"/no/such/place\"\n");
    expect(&gone, 0, "unknown", "cannot look at /no/such/place");
}

#[test]
fn databases_in_full_and_their_wal() {
    let sandbox = with_checks(
        "[check.x]\nkind = \"sqlite\"\npaths = [\"a.db\"]\nwal = { warn = \"1KB\", crit = \"1GB\" }\n",
    );
    expect(&sandbox, 0, "critical", "a.db is missing");
    let path = sandbox.path("a.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("CREATE TABLE t(x); CREATE INDEX i ON t(x); INSERT INTO t VALUES(1),(2),(3);")
        .unwrap();
    let found = expect(&sandbox, 0, "ok", "1 database sound");
    assert_eq!((metric(&found, "scanned"), metric(&found, "full_check_age")), (1.0, 0.0));
    assert_eq!(metric(&expect(&sandbox, 5, "ok", "sound"), "scanned"), 0.0, "unchanged");
    // A row that the index has another value for: quick_check does not see it, the weekly check does.
    database.execute_batch("PRAGMA writable_schema=ON; DELETE FROM sqlite_master WHERE name='i'; PRAGMA writable_schema=RESET;").unwrap();
    drop(database);
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("UPDATE t SET x = 9 WHERE x = 3;").unwrap();
    drop(database);
    restore_index(&path);
    expect(&sandbox, 10, "ok", "sound");
    expect(&sandbox, 8 * 24 * 60, "critical", "missing from index");

    let database = rusqlite::Connection::open(sandbox.path("b.db")).unwrap();
    database.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);").unwrap();
    let config = fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    sandbox.write("ops.toml", config.replace("a.db", "b.db"));
    expect(&sandbox, 0, "warning", "a -wal file has grown to");
    // Held by its writer for longer than we wait: no verdict.
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE; INSERT INTO t VALUES(2);").unwrap();
    let config = fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    sandbox.write("ops.toml", config + "timeout = \"1s\"\n");
    let found = look_at(&sandbox, Utc::now(), "x", &[]);
    assert_eq!(found["state"], "unknown", "{found}");
}

/// Puts the deleted definition of the index back: its pages are still as they were.
fn restore_index(path: &Path) {
    let database = rusqlite::Connection::open(path).unwrap();
    let root: i64 = 3;
    database
        .execute_batch(&format!(
            "PRAGMA writable_schema=ON;
             INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql) VALUES('index','i','t',{root},'CREATE INDEX i ON t(x)');
             PRAGMA writable_schema=RESET;"
        ))
        .unwrap();
}

#[test]
fn resources_and_restarts_of_a_service() {
    let sandbox = with_agent(&[]);
    let config = fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    let checks = "[check.x]\nkind = \"resources\"\nservice = \"daemon\"\nrss = { warn = \"1GB\" }\n\
                  [check.again]\nkind = \"restarts\"\nservice = \"daemon\"\nwarn = 1\ncrit = 2\n";
    sandbox.write("ops.toml", format!("{config}\n{checks}"));
    expect(&sandbox, 0, "ok", "does not run");
    sandbox.expect(0, "ops", &["start"]);
    let found = expect(&sandbox, 0, "ok", "daemon: ");
    assert!(metric(&found, "rss") > 1e5 && metric(&found, "fds") < 80.0, "{found}");
    assert!(metric(&expect(&sandbox, 5, "ok", "% of a processor"), "cpu") < 100.0);
    sandbox.write("ops.toml", format!("{config}\n{}", checks.replace("1GB\" }", "1KB\", crit = \"2KB\" }")));
    expect(&sandbox, 6, "critical", "rss limit 2.0 KB");

    let restarts = |minutes: i64| look_at(&sandbox, Utc::now() + TimeDelta::minutes(minutes), "again", &[]);
    for (minutes, state, number) in
        [(7, "ok", 0.0), (8, "ok", 1.0), (9, "warning", 2.0), (10, "critical", 3.0)]
    {
        let found = restarts(minutes);
        assert_eq!(
            (found["state"].as_str().unwrap(), metric(&found, "restarts")),
            (state, number),
            "{found}"
        );
        kill(agent_pid(&sandbox));
        sandbox.expect(0, "ops", &["start"]);
    }
    // What an operator or an upgrade asks for is none.
    let before = metric(&restarts(11), "restarts");
    for minutes in 12..15 {
        sandbox.expect(0, "ops", &["restart"]);
        assert_eq!(metric(&restarts(minutes), "restarts"), before);
    }
    sandbox.expect(0, "ops", &["stop"]);
    sandbox.expect(0, "ops", &["stop"]);
    sandbox.expect(0, "ops", &["start"]);
    assert_eq!(metric(&restarts(16), "restarts"), before);
    assert_eq!(restarts(3 * 24 * 60)["state"], "ok");
    let wrong = with_checks("[check.x]\nkind = \"resources\"\nservice = \"bto\"\n");
    assert!(wrong.expect(3, "health-check", &[]).stderr.contains("did you mean 'bot'"));
}
