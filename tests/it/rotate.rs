//! `rotate-logs`: bounded logs, and no line lost.

use crate::sandbox::{Said, Sandbox, said};
use flate2::read::MultiGzDecoder;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The tests live on this day.
pub const NOW: &str = "2026-11-20T12:00:00Z";

pub fn sandbox(logs: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", format!("[agent]\npreset = \"builtin\"\n[logs]\n{logs}\n"));
    sandbox
}

fn program(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.program("rotate-logs");
    command.env("OPS_NOW", NOW).args(args);
    command
}

#[track_caller]
pub fn rotate(sandbox: &Sandbox, code: i32, args: &[&str]) -> Said {
    let said = said(program(sandbox, args).output().unwrap());
    assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
    said
}

/// A log last written so many hours before now.
pub fn log(sandbox: &Sandbox, name: &str, text: &str, hours: u64) {
    let path = sandbox.write(&format!("logs/{name}"), text);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(now - Duration::from_secs(hours * 3600))
        .unwrap();
}

pub fn inflate(sandbox: &Sandbox, name: &str) -> String {
    inflated(&sandbox.path(&format!("logs/{name}")))
}

pub fn inflated(path: &Path) -> String {
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text
}

pub fn there(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.path(&format!("logs/{name}")).symlink_metadata().is_ok()
}

#[test]
fn old_days_are_compressed_expired_ones_deleted_and_the_rest_stays() {
    let sandbox = sandbox("");
    log(&sandbox, "daemon_20261118.log", "the day before yesterday\n", 36);
    log(&sandbox, "daemon_20261119.log", "yesterday, an hour ago\n", 1);
    log(&sandbox, "daemon_20261120.log", "today\n", 30);
    log(&sandbox, "alerts.log", "the history of alerts\n", 2000);
    log(&sandbox, "daemon_20261001.log.gz", "expired", 2000);
    log(&sandbox, "daemon_20261101.log.gz", "not yet", 2000);

    let planned = rotate(&sandbox, 0, &["-n"]);
    assert!(planned.stdout.contains("1 compressed, 1 deleted"), "{}", planned.stdout);
    assert!(there(&sandbox, "daemon_20261118.log") && there(&sandbox, "daemon_20261001.log.gz"));
    assert!(!sandbox.path(".ops").exists() && !there(&sandbox, "rotation.log"), "a dry run changes nothing");

    rotate(&sandbox, 0, &[]);
    assert_eq!(inflate(&sandbox, "daemon_20261118.log.gz"), "the day before yesterday\n");
    assert!(!there(&sandbox, "daemon_20261118.log") && !there(&sandbox, "daemon_20261001.log.gz"));
    for name in ["daemon_20261119.log", "daemon_20261120.log", "alerts.log", "daemon_20261101.log.gz"] {
        assert!(there(&sandbox, name), "{name}");
    }
    let line = sandbox.read("logs/rotation.log");
    assert!(line.starts_with("[2026-11-20 12:00:00] [INFO] Rotation - 1 compressed, 1 deleted;"), "{line}");
    let again: serde_json::Value = serde_json::from_str(&rotate(&sandbox, 0, &["--json"]).stdout).unwrap();
    assert_eq!(again["files"].as_array().unwrap().len(), 0, "{again}");
    assert_eq!(again["schema"], 1);
}

/// Guards against the predecessor's `tail > temp; mv`: the writer kept a deleted file.
#[test]
fn a_log_in_use_is_cut_in_place() {
    let sandbox = sandbox("max_size = \"100KB\"\nkeep_lines = 100");
    let lines: String = (0..10_000).map(|number| format!("line {number:06}\n")).collect();
    log(&sandbox, "daemon_stdout.log", &lines, 0);
    log(&sandbox, "alerts.log", &"an alert\n".repeat(1001), 0);
    log(&sandbox, "notes.log", &"a note\n".repeat(1001), 0);
    let path = sandbox.path("logs/daemon_stdout.log");
    let inode = fs::metadata(&path).unwrap().ino();
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    rotate(&sandbox, 0, &[]);
    writer.write_all(b"after\n").unwrap();
    let text = sandbox.read("logs/daemon_stdout.log");
    assert!(text.ends_with("line 009999\nafter\n"));
    assert!((101..600).contains(&text.lines().count()), "{}", text.lines().count());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    // Our own are cut by lines, others only by size.
    assert!(sandbox.read("logs/alerts.log").lines().count() < 700);
    assert_eq!(sandbox.read("logs/notes.log").lines().count(), 1001);
}

#[test]
fn what_is_no_plain_log_is_left_alone_and_does_not_stop_the_rest() {
    let sandbox = sandbox("max_size = \"1KB\"\ninclude = [\"logs/*.log\", \"logs/[\"]");
    let outside = sandbox.outside("outside").join("precious");
    fs::write(&outside, "x".repeat(5000)).unwrap();
    fs::create_dir_all(sandbox.path("logs/folder_20261101.log")).unwrap();
    std::os::unix::fs::symlink(&outside, sandbox.path("logs/link_20261101.log")).unwrap();
    std::os::unix::fs::symlink("/nowhere", sandbox.path("logs/dangling.log")).unwrap();
    assert!(Command::new("mkfifo").arg(sandbox.path("logs/fifo.log")).status().unwrap().success());
    log(&sandbox, "hard_20261101.log", "two names\n", 100);
    fs::hard_link(sandbox.path("logs/hard_20261101.log"), sandbox.path("other")).unwrap();
    log(&sandbox, "held_20261101.log", "held\n", 100);
    let _writer = OpenOptions::new().append(true).open(sandbox.path("logs/held_20261101.log")).unwrap();
    log(&sandbox, "z_20261101.log", "the last one\n", 100);
    log(&sandbox, "empty_20261101.log", "", 100);

    let said = rotate(&sandbox, 1, &[]);
    assert!(said.stdout.contains("failed      logs/[  (is no pattern"), "{}", said.stdout);
    for name in ["link_20261101.log", "dangling.log", "fifo.log", "hard_20261101.log"] {
        assert!(said.stdout.contains(&format!("left alone  logs/{name}")), "{name}: {}", said.stdout);
        assert!(there(&sandbox, name), "{name}");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap().len(), 5000);
    assert_eq!(inflate(&sandbox, "z_20261101.log.gz"), "the last one\n");
    assert_eq!(inflate(&sandbox, "empty_20261101.log.gz"), "");
    if cfg!(target_os = "linux") {
        assert!(said.stdout.contains("holds it open"), "{}", said.stdout);
        assert!(there(&sandbox, "held_20261101.log"));
    }
}

#[test]
fn all_logs_together_are_bounded_by_the_oldest_compressed() {
    let sandbox = sandbox("max_total = \"20KB\"");
    for day in 10..19 {
        log(&sandbox, &format!("daemon_202611{day}.log.gz"), &"x".repeat(8000), 24 * (20 - day));
    }
    rotate(&sandbox, 0, &[]);
    let left: Vec<u32> =
        (10..19).filter(|day| there(&sandbox, &format!("daemon_202611{day}.log.gz"))).collect();
    assert_eq!(left, [18], "down to half");
    log(&sandbox, "daemon_20261117.log.gz", &"x".repeat(8000), 72);
    let said = rotate(&sandbox, 0, &[]);
    assert!(there(&sandbox, "daemon_20261117.log.gz"), "not each time again: {}", said.stdout);
}

#[test]
fn two_at_once_and_no_logs_at_all() {
    let sandbox = sandbox("");
    rotate(&sandbox, 0, &[]);
    for number in 0..50 {
        log(&sandbox, &format!("d{number}_20261101.log"), &format!("text {number}\n").repeat(1000), 100);
    }
    let runs: Vec<_> = (0..3)
        .map(|_| program(&sandbox, &["-q"]).stdout(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    for number in 0..50 {
        assert_eq!(
            inflate(&sandbox, &format!("d{number}_20261101.log.gz")),
            format!("text {number}\n").repeat(1000)
        );
    }
}

/// Killed at any moment, each log is whole in one of its two forms, and the next run finishes.
#[test]
fn killed_half_way_nothing_is_lost() {
    let sandbox = sandbox("");
    let text = |number: usize| format!("log {number} {}\n", number * 7919).repeat(4000);
    for number in 0..40 {
        log(&sandbox, &format!("d{number:02}_20261101.log"), &text(number), 100);
    }
    for delay in [3, 8, 15, 25, 40] {
        let mut run = program(&sandbox, &["-q"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = run.kill();
        run.wait().unwrap();
        for number in 0..40 {
            let name = format!("d{number:02}_20261101.log");
            let plain = fs::read_to_string(sandbox.path(&format!("logs/{name}")));
            let whole = plain.is_ok_and(|plain| plain == text(number));
            assert!(whole || inflate(&sandbox, &format!("{name}.gz")) == text(number), "{name}");
        }
    }
    rotate(&sandbox, 0, &[]);
    for number in 0..40 {
        assert_eq!(inflate(&sandbox, &format!("d{number:02}_20261101.log.gz")), text(number));
        assert!(!there(&sandbox, &format!("d{number:02}_20261101.log")));
    }
}

/// As Python's loggers and logrotate leave them.
#[test]
fn what_the_agents_own_logger_rotated_is_compressed_and_expires() {
    for rule in ["", "include = []\n[logs.rule.app]\npaths = [\"logs/app.log\"]"] {
        let sandbox = sandbox(rule);
        log(&sandbox, "app.log", "in use\n", 1);
        log(&sandbox, "app.log.1", "one\n", 24 * 5);
        log(&sandbox, "app.log.2", "two\n", 24 * 6);
        log(&sandbox, "app.log.3", "of this hour\n", 1);
        log(&sandbox, "app.log.4.gz", "old", 24 * 40);
        log(&sandbox, "app.log.2026-11-01", "dated\n", 24 * 19);
        log(&sandbox, "app.log-20261102", "dashed\n", 24 * 18);
        let planned = rotate(&sandbox, 0, &["-n"]);
        assert!(planned.stdout.contains("4 compressed, 1 deleted; 7 logs"), "{rule}: {}", planned.stdout);
        rotate(&sandbox, 0, &[]);
        assert_eq!(inflate(&sandbox, "app_20261115.1.log.gz"), "one\n");
        assert_eq!(inflate(&sandbox, "app_20261114.1.log.gz"), "two\n");
        assert_eq!(inflate(&sandbox, "app.log.2026-11-01.gz"), "dated\n");
        assert_eq!(inflate(&sandbox, "app.log-20261102.gz"), "dashed\n");
        assert_eq!(sandbox.read("logs/app.log.3"), "of this hour\n");
        for gone in ["app.log.1", "app.log.2", "app.log.4.gz", "app_20261011.1.log.gz"] {
            assert!(!there(&sandbox, gone), "{rule}: {gone}");
        }
        // The logger goes on counting: nothing of it meets what we made.
        log(&sandbox, "app.log.1", "one\n", 24 * 5 - 1);
        rotate(&sandbox, 0, &[]);
        assert_eq!(inflate(&sandbox, "app_20261115.2.log.gz"), "one\n");
        let again = rotate(&sandbox, 0, &[]).stdout;
        let logs = if rule.is_empty() { 8 } else { 7 };
        assert!(again.contains(&format!("nothing to do; {logs} logs")), "{rule}: {again}");
    }
    let sandbox = sandbox("max_size = \"1KB\"");
    log(&sandbox, "app.log.1", &"a line\n".repeat(9000), 1);
    rotate(&sandbox, 0, &[]);
    assert_eq!(sandbox.read("logs/app.log.1").lines().count(), 9000, "what is closed is never cut");
    let report = sandbox.json(0, "ops", &["health", "--only", "log_size"]);
    assert!(report.to_string().contains("the largest logs/app.log.1 with 63.0 KB"), "{report}");
}
