//! A home that cannot be written: every program says so, and nothing is damaged.

use crate::peers::{Sink, sqlite};
use crate::room::Room;

#[test]
fn a_read_only_home_is_survived_by_every_program() {
    let sink = Sink::start();
    let room = Room::small(32 * 1024);
    let settings = format!(
        "[agent]\nname = \"museum\"\npreset = \"builtin\"\n[check.disk]\nwarn = \"1MB\"\ncrit = \"1KB\"\n[alerts.desktop]\nenabled = false\n[alerts.webhook]\nurl = \"{}\"\n",
        sink.url
    );
    room.sandbox.write("ops.toml", settings);
    room.expect(0, "ops", &["up"]);
    room.expect(0, "alert", &[]);
    // The agent keeps what it has open; whoever opens anything now cannot write it.
    room.shell("mount --bind \"$HOME_FOLDER\" \"$HOME_FOLDER\"; mount -o remount,bind,ro \"$HOME_FOLDER\"");
    for (name, args) in [
        ("health-check", vec![]),
        ("dashboard", vec!["web"]),
        ("dashboard", vec![]),
        ("alert", vec![]),
        ("backup", vec![]),
        ("restore", vec!["latest", "--yes"]),
        ("rotate-logs", vec![]),
        ("ops", vec!["status"]),
        ("ops", vec!["stop"]),
        ("ops", vec!["up"]),
        ("ops", vec!["start"]),
        ("ops", vec!["restart"]),
    ] {
        eprintln!("{name} {args:?} {:?}", room.run(name, &args));
    }
    eprintln!("{:?}", sink.taken());
    room.shell("pkill -9 -x ops || true");
    for (name, args) in [("health-check", vec![]), ("alert", vec![]), ("alert", vec![])] {
        eprintln!("{name} {args:?} {:?}", room.run(name, &args));
    }
    eprintln!("{:?}", sink.taken());
    eprintln!("{}", sqlite(&room.path("memory/agent.db"), "PRAGMA integrity_check"));
    panic!();
}
