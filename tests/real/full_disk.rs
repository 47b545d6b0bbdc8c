//! A disk without a byte left: every program says so, and nothing is damaged.

use crate::peers::{Sink, sqlite};
use crate::room::Room;
use std::fs;

fn settings(sink: &Sink) -> String {
    format!(
        r#"
[agent]
name = "cupboard"
preset = "builtin"
[check.disk]
warn = "256KB"
crit = "64KB"
[logs]
max_size = "100KB"
keep_lines = 10
[alerts.desktop]
enabled = false
[alerts.webhook]
url = "{}"
"#,
        sink.url
    )
}

/// The names in a folder, sorted.
fn names(room: &Room, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(room.path(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fill(room: &Room) {
    // In smaller and smaller steps, to the last byte.
    room.shell(
        "cd \"$HOME_FOLDER\"; for size in 1M 64k 4k 1; do \
         while dd if=/dev/zero bs=$size count=1 >>filler 2>/dev/null; do :; done; done; \
         ! echo x >another 2>/dev/null; rm another",
    );
}

fn agent(room: &Room) -> u64 {
    let status: serde_json::Value =
        serde_json::from_str(&room.sandbox.read("logs/daemon_status.json")).unwrap();
    status["pid"].as_u64().unwrap()
}

#[track_caller]
fn sound(room: &Room) {
    for database in ["memory/agent.db", ".ops/ops.db"] {
        assert_eq!(sqlite(&room.path(database), "PRAGMA integrity_check"), "ok", "{database}");
    }
}

#[test]
fn a_full_disk_is_survived_by_every_program() {
    let sink = Sink::start();
    let room = Room::small(8 * 1024);
    let settings = settings(&sink);
    room.sandbox.write("ops.toml", &settings);
    room.expect(0, "ops", &["up"]);
    room.expect(0, "alert", &[]);
    room.sandbox.write("logs/chatter.log", "a line of chatter, one of very many\n".repeat(20_000));
    let backups = names(&room, "backups");
    let archive = backups.iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    let bytes = fs::read(room.path("backups").join(archive)).unwrap();
    let page = room.sandbox.read("logs/dashboard.html");
    let (pid, home) = (agent(&room), names(&room, ""));
    assert!(sink.taken().is_empty());
    fill(&room);

    let checked = room.expect(2, "health-check", &[]);
    eprintln!("{checked:?}");
    eprintln!("{:?}", room.run("dashboard", &["web"]));
    eprintln!("{:?}", room.run("dashboard", &["terminal"]));
    eprintln!("{:?}", room.run("dashboard", &["json"]));
    eprintln!("{:?}", room.run("alert", &[]));
    eprintln!("{:?}", room.run("alert", &[]));
    eprintln!("{:?}", sink.taken());
    eprintln!("{:?}", room.run("backup", &[]));
    eprintln!("{:?}", room.run("restore", &["latest", "--yes"]));
    eprintln!("{:?}", room.run("ops", &["status"]));
    eprintln!("{:?}", room.run("ops", &["config", "check"]));
    eprintln!("{:?} {:?}", room.run("rotate-logs", &[]), fs::metadata(room.path("logs/chatter.log")));
    eprintln!("{backups:?} {:?}", names(&room, "backups"));
    eprintln!("{home:?} {:?} {pid} {}", names(&room, ""), agent(&room));
    eprintln!("{:?}", names(&room, ".ops"));
    sound(&room);
    let _ = (bytes, page);
    fs::remove_file(room.path("filler")).unwrap();
    eprintln!("{:?}", room.run("health-check", &[]));
    eprintln!("{:?}", room.run("alert", &[]));
    eprintln!("{:?}", sink.taken());
    eprintln!("{:?}", room.run("backup", &[]));
    eprintln!("{:?}", room.run("restore", &["latest", "--yes"]));
    eprintln!("{:?}", room.run("dashboard", &["web"]));
    panic!();
}
