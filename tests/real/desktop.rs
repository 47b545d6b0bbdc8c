//! A real notification daemon on a real screen and session bus.

use crate::peers::{Running, output, peer};
use crate::room::Room;
use crate::sandbox::{Said, Sandbox, said, wait_until};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A bus, and what is on it.
struct Session {
    bus: String,
    _bus: Running,
}

impl Session {
    fn start() -> Session {
        let mut daemon = Running::start(
            Command::new(peer("dbus-daemon", "dbus"))
                .args(["--session", "--nofork", "--print-address=1"])
                // Whatever the bus starts by itself finds no screen.
                .env_remove("DISPLAY")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        );
        Session { bus: first_line(&mut daemon), _bus: daemon }
    }

    /// A test message, sent in this session.
    fn alert(&self, sandbox: &Sandbox) -> Said {
        let mut command = sandbox.program("alert");
        command.args(["test", "--channel", "desktop"]).env("DBUS_SESSION_BUS_ADDRESS", &self.bus);
        bounded(&mut command)
    }
}

fn first_line(running: &mut Running) -> String {
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Runs to the end; only a hang is cut short, and fails.
#[track_caller]
fn bounded(command: &mut Command) -> Said {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    said(child.wait_with_output().unwrap())
}

/// dunst on a screen of its own, printing what it shows.
struct Screen {
    daemon: Running,
    _screen: Running,
    shown: PathBuf,
}

impl Screen {
    fn start(sandbox: &Sandbox, session: &Session) -> Screen {
        let mut screen = Running::start(
            Command::new(peer("Xvfb", "xvfb"))
                .args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        );
        let display = format!(":{}", first_line(&mut screen));
        let shown = sandbox.outside("screen").join("shown");
        let daemon = Running::start(
            Command::new(peer("dunst", "dunst"))
                .args(["-print", "-config", "/dev/null"])
                .env("DISPLAY", &display)
                .env("DBUS_SESSION_BUS_ADDRESS", &session.bus)
                .stdin(Stdio::null())
                .stdout(File::create(&shown).unwrap())
                .stderr(Stdio::null()),
        );
        wait_until("dunst is on the bus", || {
            let answer = output(
                Command::new(peer("dbus-send", "dbus"))
                    .args(["--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"])
                    .arg("org.freedesktop.DBus.NameHasOwner")
                    .arg("string:org.freedesktop.Notifications")
                    .env("DBUS_SESSION_BUS_ADDRESS", &session.bus),
            );
            answer.contains("boolean true")
        });
        Screen { daemon, _screen: screen, shown }
    }
}

#[test]
fn a_notification_is_shown_and_a_daemon_that_hangs_holds_nobody_up() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\nname = \"tomcat\"\n");
    let session = Session::start();
    let screen = Screen::start(&sandbox, &session);

    let sent = session.alert(&sandbox);
    assert_eq!(sent.code, 0, "{sent:?}");
    let mut shown = String::new();
    wait_until("it is shown", || {
        shown = fs::read_to_string(&screen.shown).unwrap();
        shown.contains("[tomcat]")
    });
    assert!(shown.contains("agent-ops"), "{shown}");

    screen.daemon.signal(Signal::STOP);
    let held = session.alert(&sandbox);
    assert_eq!(held.code, 2, "{held:?}");
    assert!(held.stdout.contains("not done within"), "{held:?}");
    screen.daemon.signal(Signal::CONT);
}

#[test]
fn a_bus_without_a_daemon_is_a_failure_that_says_so() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "");
    let session = Session::start();
    let failed = session.alert(&sandbox);
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(failed.stdout.contains("desktop: failed ("), "{failed:?}");
}

#[test]
fn without_a_bus_it_is_passed_over() {
    // As under cron: nothing in the environment, and nothing in /run/user.
    let room = Room::new("mount -t tmpfs tmpfs /run");
    room.sandbox.write("ops.toml", "");
    let said = bounded(room.program("alert").args(["test", "--channel", "desktop"]));
    // Nobody has read the test, and that is worth an exit code; but it came at once.
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stdout.contains("unavailable (there is no desktop session)"), "{said:?}");
}
