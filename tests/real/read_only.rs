//! A home that cannot be written: every program says so, and nothing is damaged.

use crate::peers::{Sink, peer};
use crate::room::{self, Room};
use crate::sandbox::{Said, built, said};

fn settings(sink: &Sink) -> String {
    room::settings("museum", sink, "[check.disk]\nwarn = \"1MB\"\ncrit = \"1KB\"\n")
}

/// Every program that writes.
const WRITERS: [(&str, &[&str]); 6] = [
    ("dashboard", &["web"]),
    ("backup", &[]),
    ("restore", &["latest", "--yes"]),
    ("rotate-logs", &[]),
    ("ops", &["up"]),
    ("ops", &["stop"]),
];

/// What must fail, and what the reason is called.
#[track_caller]
fn refuses(said: &Said, why: &str) {
    assert!(matches!(said.code, 2 | 3), "{said:?}");
    assert!(said.stderr.contains(why) && said.stderr.lines().all(|line| line.len() < 500), "{said:?}");
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}

#[test]
fn a_read_only_home_is_survived_by_every_program() {
    let sink = Sink::start();
    let room = Room::small(32 * 1024);
    room.sandbox.write("ops.toml", settings(&sink));
    room.expect(0, "ops", &["up"]);
    room.expect(0, "alert", &[]);
    let (pid, page) = (room.agent(), room.sandbox.read("logs/dashboard.html"));
    // The agent keeps what it has open; whoever opens anything from now on cannot write it.
    room.shell("mount --bind \"$HOME_FOLDER\" \"$HOME_FOLDER\"; mount -o remount,bind,ro \"$HOME_FOLDER\"");

    // Who only looks, looks.
    let checked = room.expect(0, "health-check", &[]).stdout;
    assert!(checked.starts_with("MUSEUM OK - all is well (0 critical, 0 warning, 10 ok)"), "{checked}");
    for args in [["terminal"], ["json"], ["prom"]] {
        room.expect(0, "dashboard", &args);
    }
    room.expect(0, "ops", &["status"]);
    room.expect(0, "backup", &["list"]);
    room.expect(0, "backup", &["verify", "latest"]);
    room.expect(0, "backup", &["--dry-run"]);
    let listed = room.expect(0, "restore", &["--list", "--only", "memory"]);
    assert!(listed.stdout.contains("memory/agent.db"), "{listed:?}");
    room.expect(0, "rotate-logs", &["--dry-run"]);
    let causes = room.expect(2, "ops", &["troubleshoot"]).stdout;
    assert!(
        causes.contains("is mounted read-only") && !causes.contains("could not tell about our journal"),
        "{causes}"
    );

    // Who would write says that it cannot.
    let why = "Read-only file system";
    for (name, args) in WRITERS.into_iter().chain([("ops", &["restart"][..])]) {
        refuses(&room.run(name, args), why);
    }
    assert_eq!(room.sandbox.read("logs/dashboard.html"), page);
    room.expect(0, "health-check", &["--only", "process"]);

    // People are told, once, although nothing can be remembered in the home.
    room.expect(0, "alert", &[]);
    assert!(sink.taken().is_empty());
    room.shell(&format!("kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done"));
    let told = room.run("alert", &[]);
    assert!(matches!(told.code, 1 | 2), "{told:?}");
    assert!(told.stdout.contains("could not be restarted") && told.stdout.contains(why), "{told:?}");
    room.run("alert", &[]);
    let messages = sink.taken();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["type"], "daemon_critical");
    room.expect(2, "health-check", &[]);

    // Writable again, everything is as it was and works again.
    room.shell("umount \"$HOME_FOLDER\"");
    room.expect(0, "ops", &["start"]);
    room.run("alert", &[]);
    assert_eq!(sink.taken().len(), 1, "its recovery, and nothing else");
    room.expect(0, "health-check", &[]);
    room.databases_are_sound();
    room.expect(0, "backup", &[]);
    room.expect(0, "restore", &["latest", "--yes"]);
    room.expect(0, "dashboard", &["web"]);
    room.expect(0, "ops", &["stop"]);
}

#[test]
fn somebody_else_can_look_but_not_touch() {
    // The programs where anybody can run them: a build folder may be private.
    let room = Room::new(&format!(
        "mount -t tmpfs -o mode=0755 tmpfs \"$HOME_FOLDER\"; mount -t tmpfs -o mode=0755 tmpfs /run; \
         mkdir /run/programs; mount --bind '{}' /run/programs; chmod 755 \"${{HOME_FOLDER%/*}}\"",
        built("ops").parent().unwrap().display()
    ));
    let sink = Sink::start();
    room.sandbox.write("ops.toml", settings(&sink));
    room.expect(0, "ops", &["up"]);
    let pid = room.agent();
    let before = |room: &Room| (room.names("backups"), room.names("logs"), room.names(".ops"));
    let files = before(&room);
    let page = room.sandbox.read("logs/dashboard.html");

    let nobody = |name: &str, args: &[&str]| {
        let mut command = room.outsider(&peer("setpriv", "util-linux"));
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]);
        said(command.arg(format!("/run/programs/{name}")).args(args).output().unwrap())
    };
    // It answers; of what it may not see, it says that it could not tell.
    let checked = nobody("health-check", &[]);
    assert_eq!(checked.code, 3, "{checked:?}");
    for line in ["[OK] process: ", "[OK] heartbeat: ", "[UNKNOWN] memory: ", "[UNKNOWN] backup: "] {
        assert!(checked.stdout.contains(line), "{line} in {checked:?}");
    }
    for view in ["terminal", "json"] {
        let shown = nobody("dashboard", &[view]);
        assert_eq!(shown.code, 0, "{shown:?}");
    }
    for (name, args) in WRITERS.into_iter().chain([("ops", &["restart", "--force"][..])]) {
        refuses(&nobody(name, args), "ermission denied");
    }
    let told = nobody("alert", &[]);
    assert!(matches!(told.code, 0..=3) && told.stderr.contains("ermission denied"), "{told:?}");
    assert!(!told.stdout.contains("CRITICAL"), "{told:?}");
    assert_eq!(before(&room), files);
    assert_eq!(room.sandbox.read("logs/dashboard.html"), page);
    assert_eq!(room.agent(), pid);
    room.expect(0, "health-check", &[]);
    room.databases_are_sound();
    room.expect(0, "ops", &["stop"]);
}
