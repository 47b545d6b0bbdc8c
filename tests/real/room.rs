//! A home with mounts of its own, which nobody else sees: small, read-only, or with a cron.

use crate::peers::{Running, Sink, as_root, peer, wait_long};
use crate::sandbox::{Said, Sandbox, said};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A sandbox in mount and pid namespaces of its own. They end, with all that runs in them,
/// when it is dropped.
pub struct Room {
    /// Its files, as seen from outside of the namespaces.
    pub sandbox: Sandbox,
    /// The home, as the programs in it see it.
    pub home: PathBuf,
    pid: u32,
    holder: Running,
}

/// The config of a built-in agent that tells this sink and nobody else, and more.
pub fn settings(agent: &str, sink: &Sink, more: &str) -> String {
    format!(
        r#"
[agent]
name = "{agent}"
preset = "builtin"
[alerts.desktop]
enabled = false
[alerts.webhook]
url = "{}"
{more}"#,
        sink.url
    )
}

impl Drop for Room {
    fn drop(&mut self) {
        // With its first process all others of the room end; its parent waits for them.
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid.cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.holder.0.wait();
    }
}

impl Room {
    /// Makes the room by a shell script, which finds the home in `$HOME_FOLDER`.
    pub fn new(script: &str) -> Room {
        as_root();
        let mut sandbox = Sandbox::new();
        let home = sandbox.home.clone();
        // Its first process collects orphans, as an init does.
        let init = format!(
            "set -e; mount --make-rprivate /; mount -t proc proc /proc\n{script}\ntouch \"$READY\"; set +e; while sleep 1; do :; done"
        );
        let folder = sandbox.outside("room");
        let (ready, errors) = (folder.join("ready"), folder.join("errors"));
        let mut holder = Running::start(
            Command::new(peer("unshare", "util-linux"))
                .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &init])
                .env("HOME_FOLDER", &home)
                .env("READY", &ready)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(&errors).unwrap()),
        );
        wait_long(60, "the room is made", || {
            assert!(ready.exists() || !holder.has_ended(), "{}", fs::read_to_string(&errors).unwrap());
            ready.exists()
        });
        let outer = holder.0.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
        let pid = children.trim().parse().unwrap();
        sandbox.home = seen(pid, &home);
        Room { sandbox, home, pid, holder }
    }

    /// A home on a file system of so many KiB.
    pub fn small(kib: u32) -> Room {
        Room::new(&format!("mount -t tmpfs -o size={kib}k,mode=0755 tmpfs \"$HOME_FOLDER\""))
    }

    /// A home on a file system that a program of a package makes in an image.
    pub fn on(make: (&str, &str), mebibytes: u32) -> Room {
        let make = peer(make.0, make.1);
        Room::new(&format!(
            "image=$(dirname \"$READY\")/image\ntruncate -s {mebibytes}M \"$image\"\n{} -q \"$image\"\n\
             mount -o loop \"$image\" \"$HOME_FOLDER\"",
            make.display()
        ))
    }

    /// Anything, to be run in the room with this environment.
    fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new(peer("nsenter", "util-linux"));
        command.args(["--target", &self.pid.to_string(), "--mount", "--pid", "--"]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// One of the seven programs, ready to run in the room.
    pub fn program(&self, name: &str) -> Command {
        self.outsider(Path::new(self.sandbox.program(name).get_program()))
    }

    /// Another program, ready to run in the room, with the environment of ours.
    pub fn outsider(&self, program: &Path) -> Command {
        let bare = self.sandbox.program("ops");
        let mut command = self.enter(program);
        command.env_clear().env("OPS_HOME", &self.home);
        for (name, value) in bare.get_envs().filter(|(name, _)| *name != "OPS_HOME") {
            command.env(name, value.unwrap());
        }
        command
    }

    /// Runs a program in the room, to its end.
    #[track_caller]
    pub fn run(&self, name: &str, args: &[&str]) -> Said {
        said(self.program(name).args(args).output().unwrap())
    }

    /// Runs a program in the room and expects an exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, name: &str, args: &[&str]) -> Said {
        let said = self.run(name, args);
        assert_eq!(said.code, code, "{name} {args:?}\n{}\n--- stderr\n{}", said.stdout, said.stderr);
        said
    }

    /// Runs a line of shell in the room, with the home in `$HOME_FOLDER`; it must succeed.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        crate::peers::output(
            self.enter(Path::new("/bin/sh")).args(["-e", "-c", line]).env("HOME_FOLDER", &self.home),
        )
    }

    /// Asks the SQLite shell, in the room.
    #[track_caller]
    pub fn sqlite(&self, database: &str, sql: &str) -> String {
        let shell = peer("sqlite3", "sqlite3");
        let line = format!("{} -cmd '.timeout 10000' \"$HOME_FOLDER/{database}\" '{sql}'", shell.display());
        self.shell(&line).trim().to_owned()
    }

    /// Every database of the home passes the full check of the SQLite shell.
    #[track_caller]
    pub fn databases_are_sound(&self) {
        for database in ["memory/agent.db", ".ops/ops.db"] {
            assert_eq!(self.sqlite(database, "PRAGMA integrity_check"), "ok", "{database}");
        }
    }

    /// The names in a folder of the home, sorted.
    #[track_caller]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The agent's pid, as the room numbers it.
    #[track_caller]
    pub fn agent(&self) -> u64 {
        let status: serde_json::Value =
            serde_json::from_str(&self.sandbox.read("logs/daemon_status.json")).unwrap();
        status["pid"].as_u64().unwrap()
    }

    /// A file of the room, as seen from outside of it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.sandbox.path(relative)
    }
}

fn seen(pid: u32, path: &Path) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap())
}
