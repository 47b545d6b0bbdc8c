//! A temporary home, the built programs, and nothing of the machine: no environment, no
//! crontab, no time zone, no desktop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// One home, empty at first. Whatever agent was started in it is ended with it, by pid.
#[must_use]
pub struct Sandbox {
    folder: tempfile::TempDir,
    /// The agent's home.
    pub home: PathBuf,
}

/// What a finished program said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        let folder = tempfile::Builder::new().prefix("agent-ops-it-").tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::create_dir_all(&home).unwrap();
        Sandbox { folder, home }
    }

    /// A path in the home.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.home.join(relative)
    }

    /// Writes a file in the home, with its folders.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    /// Puts a fake program on PATH, before the real ones.
    pub fn fake(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A folder beside the home.
    pub fn outside(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// One of the seven programs, ready to run on this home.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(built(name));
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display()))
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("TZ", "UTC")
            .env("OPS_HOME", &self.home)
            // Pauses between tries of what fails, in milliseconds.
            .env("OPS_PAUSE", "5")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end.
    #[track_caller]
    pub fn run(&self, name: &str, args: &[&str]) -> Said {
        said(self.program(name).args(args).output().unwrap())
    }

    /// Runs a program and expects an exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, name: &str, args: &[&str]) -> Said {
        let said = self.run(name, args);
        assert_eq!(
            said.code, code,
            "{name} {args:?}\n--- stdout\n{}\n--- stderr\n{}",
            said.stdout, said.stderr
        );
        said
    }

    /// Runs a program with `--json` and reads its document.
    #[track_caller]
    pub fn json(&self, code: i32, name: &str, args: &[&str]) -> serde_json::Value {
        let said = self.expect(code, name, &[args, &["--json"]].concat());
        let document: serde_json::Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout));
        assert_eq!(document["schema"], 1);
        document
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Ok(records) = fs::read_dir(self.path(".ops/service")) else { return };
        for record in records.flatten() {
            // A test may have put anything there.
            let Ok(text) = agent_ops::base::beneath::read_small_text(record.path()) else { continue };
            let Ok(record) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let Ok(identity) =
                serde_json::from_value::<agent_ops::base::process::Identity>(record["identity"].clone())
            else {
                continue;
            };
            let _ = identity.signal(agent_ops::base::process::Signal::KILL);
        }
    }
}

/// Where cargo put a program, or `OPS_TEST_PROGRAMS` has another build of it.
pub fn built(name: &str) -> PathBuf {
    if let Some(programs) = std::env::var_os("OPS_TEST_PROGRAMS") {
        return Path::new(env!("CARGO_MANIFEST_DIR")).join(programs).join(name);
    }
    PathBuf::from(match name {
        "ops" => env!("CARGO_BIN_EXE_ops"),
        "health-check" => env!("CARGO_BIN_EXE_health-check"),
        "alert" => env!("CARGO_BIN_EXE_alert"),
        "backup" => env!("CARGO_BIN_EXE_backup"),
        "restore" => env!("CARGO_BIN_EXE_restore"),
        "rotate-logs" => env!("CARGO_BIN_EXE_rotate-logs"),
        "dashboard" => env!("CARGO_BIN_EXE_dashboard"),
        other => panic!("there is no program {other}"),
    })
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until something holds; `what` says so when it never does.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
