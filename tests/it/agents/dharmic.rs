//! Dharmic: times without a zone, a pid as text, no details before the first interval is over, a status
//! file that is not written atomically, and TERM noticed once a second.

use crate::{append, misbehaves, on_term, option, pause, set};
use chrono::Local;
use std::fs;
use std::time::{Duration, Instant};

const STATUS: &str = "logs/daemon_status.json";

pub fn daemon(args: &[&str]) -> i32 {
    let interval: u64 = option(args, "--heartbeat").unwrap().parse().unwrap();
    let write = |status: &str, details: &str| {
        let pid = match status {
            "stopped" => "null".to_owned(),
            _ => format!("\"{}\"", std::process::id()),
        };
        let now = Local::now().format("%FT%T%.6f");
        let text = format!(
            "{{\n  \"status\": \"{status}\",\n  \"timestamp\": \"{now}\",\n  \"pid\": {pid},\n  \"heartbeat_interval\": {interval},\n  \"details\": {details}\n}}"
        );
        fs::write(STATUS, text).unwrap();
    };
    let say = |message: &str| {
        let now = Local::now();
        let line = format!("[{}] [DAEMON] {message}", now.format("%F %T"));
        append(format!("logs/daemon_{}.log", now.format("%Y%m%d")), &line);
    };
    let stop = on_term();
    fs::create_dir_all("logs").unwrap();
    fs::write("logs/daemon.pid", std::process::id().to_string()).unwrap();
    write("starting", "{}");
    say("Starting");
    // Its first heartbeat asks a model; a TERM that comes meanwhile is lost.
    pause(100);
    stop.store(false, std::sync::atomic::Ordering::SeqCst);
    write("running", "{}");
    let mut last = Instant::now();
    while !set(&stop) {
        pause(if misbehaves("slow-stop") { 5000 } else { 100 });
        if last.elapsed() < Duration::from_secs(interval) || misbehaves("hang") {
            continue;
        }
        last = Instant::now();
        let passed = if misbehaves("failing-checks") { 1 } else { 2 };
        let now = Local::now().format("%FT%T%.6f");
        write(
            "running",
            &format!(r#"{{"last_heartbeat": "{now}", "checks_passed": {passed}, "total_checks": 2}}"#),
        );
        say(if misbehaves("errors") { "Heartbeat error: no answer" } else { "Heartbeat" });
    }
    fs::remove_file("logs/daemon.pid").unwrap();
    write("stopped", "{}");
    0
}

/// No pid file, no handler.
pub fn email() -> i32 {
    let now = Local::now();
    let log = format!("logs/email/email_{}.log", now.format("%Y%m%d"));
    append(&log, &format!("[{}] polling", now.format("%F %T")));
    loop {
        if misbehaves("errors") {
            append(&log, &format!("[{}] ERROR cannot connect to the bridge", now.format("%F %T")));
        }
        pause(50);
    }
}
