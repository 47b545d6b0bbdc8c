//! A disk without a byte left: every program says so, and nothing is damaged.

use crate::peers::Sink;
use crate::room::{self, Room};
use crate::sandbox::{said, wait_until};
use std::fs;
use std::process::Stdio;

fn settings(sink: &Sink) -> String {
    let more = r#"
[service.daemon]
ready_timeout = "8s"
[check.disk]
warn = "256KB"
crit = "64KB"
[logs]
max_size = "100KB"
keep_lines = 10
"#;
    room::settings("cupboard", sink, more)
}

/// Writes until not a page is left.
fn fill(room: &Room) {
    room.shell(
        "cd \"$HOME_FOLDER\"; for size in 1M 64k 4k; do \
         while dd if=/dev/zero bs=$size count=1 >>filler 2>/dev/null; do :; done; done; \
         ! echo x >another 2>/dev/null; rm -f another",
    );
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
    let rows = room.sqlite("memory/agent.db", "SELECT count(*) FROM episodes");
    let (backups, pid) = (room.names("backups"), room.agent());
    let archive = backups.iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    let archive = room.path("backups").join(archive);
    let (bytes, page) = (fs::read(&archive).unwrap(), room.sandbox.read("logs/dashboard.html"));
    assert!(sink.taken().is_empty());
    fill(&room);

    // Who only looks, looks.
    let checked = room.expect(2, "health-check", &[]).stdout;
    assert!(checked.starts_with("CUPBOARD CRITICAL - disk: 0 B free"), "{checked}");
    assert!(checked.contains("(1 critical, 0 warning, 9 ok)"), "{checked}");
    for view in ["terminal", "json", "prom"] {
        let shown = room.expect(0, "dashboard", &[view]).stdout;
        assert!(shown.to_lowercase().contains("critical"), "{shown}");
    }
    room.expect(2, "ops", &["status"]);
    room.expect(0, "backup", &["list"]);

    // People are told, once.
    let told = room.expect(0, "alert", &[]);
    assert!(told.stdout.contains("Disk Critical") && told.stdout.contains("webhook: delivered"), "{told:?}");
    let again = room.expect(0, "alert", &[]);
    assert!(again.stdout.contains("nothing new to tell"), "{again:?}");
    assert_eq!(sink.taken().len(), 1);

    // Who cannot do its work says why, and leaves everything as it was.
    let page_failed = room.expect(2, "dashboard", &["web"]);
    assert!(page_failed.stderr.contains("No space left on device"), "{page_failed:?}");
    assert_eq!(room.sandbox.read("logs/dashboard.html"), page);
    let backup_failed = room.expect(2, "backup", &[]);
    assert!(backup_failed.stderr.contains("no room for a backup"), "{backup_failed:?}");
    let restore_failed = room.expect(2, "restore", &["latest", "--yes"]);
    for part in ["no room in", "are needed and", "nothing was changed", "hint: free some space"] {
        assert!(restore_failed.stderr.contains(part), "{part} in {restore_failed:?}");
    }
    let listed = room.expect(0, "restore", &["--list"]);
    assert!(listed.stdout.contains("memory/agent.db"), "{listed:?}");
    assert_eq!(room.names("backups"), backups);
    assert_eq!(fs::read(&archive).unwrap(), bytes);
    assert_eq!(room.names(""), [".ops", "backups", "filler", "logs", "memory", "ops.toml"]);
    let parts: Vec<_> = room.names("logs").into_iter().filter(|name| name.contains(".part")).collect();
    assert!(parts.is_empty(), "{parts:?}");
    assert_eq!(room.names(".ops/restore"), Vec::<String>::new());
    assert_eq!(room.agent(), pid);
    room.expect(0, "health-check", &["--only", "process"]);

    // An agent that dies now is told of, whether it can be restarted or not.
    room.shell(&format!("kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done"));
    let dead = room.run("alert", &[]);
    assert!(matches!(dead.code, 0 | 1), "{dead:?}");
    let message = sink.taken();
    assert_eq!(message.len(), 1, "{message:?}");
    assert_eq!(message[0]["type"], "daemon_critical");

    // The logs can be cut without room for a copy.
    let rotated = room.expect(0, "rotate-logs", &[]);
    assert!(rotated.stdout.contains("logs/chatter.log"), "{rotated:?}");
    let kept = room.sandbox.read("logs/chatter.log");
    assert_eq!(kept, "a line of chatter, one of very many\n".repeat(10));

    // With room again everything works again, and nothing was damaged.
    fs::remove_file(room.path("filler")).unwrap();
    assert_eq!(room.sandbox.read("ops.toml"), settings);
    room.databases_are_sound();
    room.expect(0, "ops", &["start"]);
    room.run("alert", &[]);
    room.expect(0, "health-check", &[]);
    assert!(sink.taken().iter().all(|message| message["kind"] != "new"));
    assert!(
        room.sqlite("memory/agent.db", "SELECT count(*) FROM episodes").parse::<u64>().unwrap()
            >= rows.parse().unwrap()
    );
    room.expect(0, "backup", &[]);
    room.expect(0, "backup", &["verify", "latest"]);
    room.expect(0, "restore", &["latest", "--yes"]);
    room.expect(0, "dashboard", &["web"]);
    room.expect(0, "health-check", &[]);
    room.databases_are_sound();
    room.expect(0, "ops", &["stop"]);
}

#[test]
fn a_disk_that_fills_up_during_a_backup_leaves_the_old_one() {
    let sink = Sink::start();
    let room = Room::small(64 * 1024);
    room.sandbox.write("ops.toml", settings(&sink));
    room.expect(0, "ops", &["up"]);
    // Random bytes do not shrink: the archive takes as much, and a while.
    room.shell("head -c 20M /dev/urandom >\"$HOME_FOLDER/memory/noise.bin\"");
    let backups = room.names("backups");
    let failed = (0..5).any(|_| {
        let running = room.program("backup").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        wait_until("it has begun", || room.names("backups").len() > backups.len());
        fill(&room);
        let ended = said(running.wait_with_output().unwrap());
        fs::remove_file(room.path("filler")).unwrap();
        if ended.code == 0 {
            // It was quicker than we were.
            return false;
        }
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
        assert_eq!(room.names("backups"), backups, "{ended:?}");
        true
    });
    assert!(failed, "five times the backup was done before the disk was full");
    room.expect(0, "backup", &["verify", "latest"]);
    room.expect(0, "backup", &[]);
    room.expect(0, "backup", &["verify", "latest"]);
    room.databases_are_sound();
    room.expect(0, "ops", &["stop"]);
}

#[test]
fn a_restore_that_cannot_fit_is_refused_before_it_begins_and_one_that_fills_the_disk_changes_nothing() {
    let sink = Sink::start();
    let room = Room::small(64 * 1024);
    room.sandbox.write("ops.toml", settings(&sink));
    room.expect(0, "ops", &["up"]);
    room.shell("head -c 16M /dev/urandom >\"$HOME_FOLDER/memory/noise.bin\"");
    room.expect(0, "backup", &[]);
    let (names, pid) = (room.names(""), room.agent());
    room.shell("head -c 24M /dev/zero >\"$HOME_FOLDER/filler\"");
    let refused = room.expect(2, "restore", &["latest", "--yes"]);
    for part in ["no room in", "are needed and", "are free; nothing was changed", "hint: free some space"] {
        assert!(refused.stderr.contains(part), "{part} in {refused:?}");
    }
    // One small file still fits.
    let one = room.sandbox.outside("one");
    room.expect(0, "restore", &["--only", "memory/identity_core.json", "--to", one.to_str().unwrap()]);
    fs::remove_file(room.path("filler")).unwrap();
    assert_eq!(room.agent(), pid);

    // All bytes fit, but files take whole pages: it is full while files are laid ready, or when the
    // exchange is written down. Nobody else writes.
    room.expect(0, "ops", &["stop"]);
    let would = room.expect(0, "restore", &["latest", "--dry-run", "--json"]).stdout;
    let would: serde_json::Value = serde_json::from_str(&would).unwrap();
    let free = room.shell("df --output=avail -B1 \"$HOME_FOLDER\" | tail -1");
    let filler = free.trim().parse::<u64>().unwrap() - would["bytes"].as_u64().unwrap() - 12_288;
    room.shell(&format!("head -c {filler} /dev/zero >\"$HOME_FOLDER/filler\""));
    let full = room.expect(2, "restore", &["latest", "--yes"]);
    let untouched = ["nothing was changed", "everything was put back as it was"];
    assert!(untouched.iter().any(|words| full.stderr.contains(words)), "{full:?}");
    assert!(full.stderr.contains("hint: free some space"), "{full:?}");
    assert_eq!(room.names(".ops/restore"), Vec::<String>::new());
    fs::remove_file(room.path("filler")).unwrap();
    room.expect(0, "ops", &["start"]);
    let now: Vec<String> =
        room.names("").into_iter().filter(|name| !name.starts_with(".pre-restore.")).collect();
    assert_eq!(now, names);
    room.expect(0, "health-check", &["--only", "process"]);
    room.databases_are_sound();
    room.expect(0, "backup", &["verify", "latest"]);
    room.expect(0, "restore", &["latest", "--yes"]);
    room.expect(0, "ops", &["stop"]);
}

#[test]
fn a_backup_folder_that_goes_away_meanwhile_is_told() {
    let sink = Sink::start();
    let room = Room::small(128 * 1024);
    room.sandbox.write("ops.toml", settings(&sink));
    room.expect(0, "ops", &["up"]);
    room.shell("head -c 20M /dev/urandom >\"$HOME_FOLDER/memory/noise.bin\"");
    let told = (0..5).any(|_| {
        let before = room.names("backups").len();
        let running = room.program("backup").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        wait_until("it has begun", || room.names("backups").len() > before);
        room.shell("mv \"$HOME_FOLDER/backups\" \"$HOME_FOLDER/away\"");
        let ended = said(running.wait_with_output().unwrap());
        room.shell("rm -rf \"$HOME_FOLDER/backups\"; mv \"$HOME_FOLDER/away\" \"$HOME_FOLDER/backups\"");
        if ended.code == 0 {
            return false;
        }
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains("went away while an archive was made"), "{ended:?}");
        assert!(ended.stderr.contains("hint: is its disk still mounted?"), "{ended:?}");
        true
    });
    assert!(told, "five times the backup was done before its folder was gone");
    room.expect(0, "backup", &["verify", "latest"]);
    room.expect(0, "backup", &[]);
    room.expect(0, "ops", &["stop"]);
}

#[test]
fn a_backup_that_cannot_fit_is_refused_before_it_begins() {
    let sink = Sink::start();
    let room = Room::small(8 * 1024);
    room.sandbox.write("ops.toml", settings(&sink));
    room.expect(0, "ops", &["up"]);
    // From this one it knows that noise does not shrink.
    room.shell("head -c 1M /dev/urandom >\"$HOME_FOLDER/memory/noise.bin\"");
    room.expect(0, "backup", &[]);
    let backups = room.names("backups");
    room.shell("head -c 5M /dev/urandom >\"$HOME_FOLDER/memory/noise.bin\"");
    let refused = room.expect(2, "backup", &[]);
    assert!(refused.stderr.contains("no room for a backup"), "{refused:?}");
    assert_eq!(room.names("backups"), backups);
    room.expect(0, "backup", &["verify", "latest"]);
    room.expect(0, "ops", &["stop"]);
}
