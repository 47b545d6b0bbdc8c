//! The real systemd runs what `ops install` wrote, and what was written for launchd is a property list.

use crate::peers::{output, peer, wait_long};
use crate::room::Room;
use crate::sandbox::{Sandbox, said};
use chrono::{DateTime, Local, NaiveDateTime, Utc};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const MANAGER: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0
export XDG_RUNTIME_DIR=/run/user/0 HOME=$(dirname "$HOME_FOLDER")
setsid /lib/systemd/systemd --user </dev/null >/run/log 2>&1 &
"#;

const UNIT: &str = "agent-ops-bot-daemon.service";

struct Managed {
    room: Room,
}

impl Managed {
    fn new() -> Managed {
        peer("systemctl", "systemd");
        let room = Room::new(MANAGER);
        let managed = Managed { room };
        wait_long(30, "systemd answers", || managed.systemctl("is-system-running").contains("ing"));
        managed.room.sandbox.write(
            "ops.toml",
            "[agent]\nname = \"bot\"\npreset = \"builtin\"\n[service.daemon]\nstop_grace = \"3s\"\n\
             [alerts.desktop]\nenabled = false\n",
        );
        managed
    }

    fn systemctl(&self, words: &str) -> String {
        self.room
            .shell(&format!("XDG_RUNTIME_DIR=/run/user/0 systemctl --user --no-pager {words} 2>&1 || true"))
    }

    fn main_pid(&self) -> String {
        self.systemctl(&format!("show -P MainPID {UNIT}")).trim().to_owned()
    }

    /// The pid in the service's own status file.
    fn agent(&self) -> String {
        self.room.agent().to_string()
    }

    fn ops(&self, code: i32, words: &[&str]) -> crate::sandbox::Said {
        self.room.expect(code, "ops", words)
    }

    /// A setting of the operator's own, that stays.
    fn dropin(&self, text: &str) {
        self.room.shell(&format!(
            "d=$(dirname \"$HOME_FOLDER\")/.config/systemd/user/{UNIT}.d; mkdir -p \"$d\"; printf '{text}' >\"$d/own.conf\""
        ));
        self.systemctl("daemon-reload");
    }
}

#[test]
fn systemd_runs_a_service_and_an_operator_s_stop_stays() {
    let managed = Managed::new();
    managed.ops(0, &["install", "--user"]);
    let first = managed.agent();
    assert_eq!(managed.main_pid(), first);
    assert_eq!(managed.systemctl(&format!("is-enabled {UNIT}")).trim(), "enabled");
    let verify = format!(
        "cd \"$(dirname \"$HOME_FOLDER\")/.config/systemd/user\"; XDG_RUNTIME_DIR=/run/user/0 systemd-analyze verify --user --recursive-errors=yes ./{UNIT} 2>&1"
    );
    assert_eq!(managed.room.shell(&verify), "");

    // A crash: systemd starts it again, by its own rules, and every program of ours knows the new one.
    managed.dropin("[Service]\\nRestartSec=100ms\\n");
    managed.room.shell(&format!("kill -9 {first}"));
    wait_long(20, "systemd started it again", || !["0", &*first].contains(&&*managed.main_pid()));
    let second = managed.main_pid();
    wait_long(20, "its heart beats", || managed.agent() == second);
    assert_eq!(managed.room.run("health-check", &["--only", "process"]).code, 0);

    // A stop that takes all of it, and nothing comes back.
    managed.ops(0, &["stop"]);
    assert_eq!(managed.main_pid(), "0");
    assert_eq!(managed.systemctl(&format!("is-enabled {UNIT}")).trim(), "disabled");
    managed.room.run("alert", &[]);
    assert_eq!(managed.main_pid(), "0", "our own recovery leaves it alone, too");

    managed.ops(0, &["start"]);
    let third = managed.agent();
    assert_eq!(managed.main_pid(), third);
    managed.ops(0, &["restart"]);
    assert_eq!(managed.main_pid(), managed.agent());
    assert_ne!(managed.agent(), third);
    managed.ops(0, &["uninstall"]);
    assert!(managed.systemctl(&format!("status {UNIT}")).contains("could not be found"));
    managed.ops(0, &["stop"]);
}

impl Managed {
    fn active(&self) -> String {
        self.systemctl(&format!("show -P ActiveState {UNIT}")).trim().to_owned()
    }

    /// Waits until what systemd runs gave a sign of life.
    #[track_caller]
    fn beats(&self) {
        wait_long(20, "its heart beats", || {
            let status: Value =
                serde_json::from_str(&self.room.sandbox.read("logs/daemon_status.json")).unwrap_or_default();
            status["pid"].as_u64().is_some_and(|pid| pid.to_string() == self.main_pid())
        });
    }

    /// What `alert` does with it now, and what everybody says.
    #[track_caller]
    fn stays_stopped(&self) {
        self.room.run("alert", &[]);
        assert_eq!(self.main_pid(), "0", "our own recovery leaves it alone");
        let health = self.room.run("health-check", &["--only", "process"]);
        let words = "stopped by its operator with systemctl";
        assert!(health.code == 2 && health.stdout.contains(words), "{}", health.stdout);
    }

    /// It is down, by nobody's word: `alert` starts it.
    #[track_caller]
    fn is_recovered(&self) {
        assert_eq!(self.main_pid(), "0");
        let health = self.room.run("health-check", &["--only", "process"]);
        assert!(health.code == 2 && !health.stdout.contains("operator"), "{}", health.stdout);
        self.room.run("alert", &[]);
        assert_eq!(self.main_pid(), self.agent());
        // The next one is the first again.
        self.room.sqlite(".ops/ops.db", "DELETE FROM restarts");
    }
}

#[test]
fn what_its_operator_stops_with_systemctl_stays_stopped() {
    let managed = Managed::new();
    managed.ops(0, &["install", "--user"]);
    let first = managed.main_pid();
    managed.systemctl(&format!("restart {UNIT}"));
    managed.beats();
    assert!(!["0", &*first].contains(&&*managed.main_pid()));
    assert_eq!(managed.room.run("health-check", &["--only", "process"]).code, 0);

    managed.systemctl(&format!("stop {UNIT}"));
    managed.stays_stopped();
    // What systemd forgets when it reads its units again.
    managed.systemctl("daemon-reload");
    managed.stays_stopped();
    assert!(managed.ops(0, &["install", "--user"]).stdout.contains("stays stopped"));
    managed.stays_stopped();
    assert_eq!(managed.systemctl(&format!("is-enabled {UNIT}")).trim(), "enabled", "as it was left");
    managed.systemctl(&format!("start {UNIT}"));
    managed.beats();

    managed.systemctl(&format!("disable --now {UNIT}"));
    managed.stays_stopped();
    managed.ops(0, &["start"]);
    assert_eq!(managed.systemctl(&format!("is-enabled {UNIT}")).trim(), "enabled");
    managed.systemctl(&format!("mask --runtime --now {UNIT}"));
    managed.stays_stopped();
    managed.systemctl(&format!("unmask --runtime {UNIT}"));

    // One stopped by us, started by systemctl (which leaves it disabled), and stopped by that.
    managed.ops(0, &["start"]);
    managed.ops(0, &["stop"]);
    managed.systemctl(&format!("start {UNIT}"));
    managed.beats();
    managed.systemctl(&format!("stop {UNIT}"));
    managed.stays_stopped();
    managed.ops(0, &["start"]);

    // In the pause between a crash and the next start.
    managed.room.shell(&format!("kill -9 {}", managed.main_pid()));
    wait_long(20, "it waits", || managed.active() == "activating");
    managed.systemctl(&format!("stop {UNIT}"));
    managed.stays_stopped();
    managed.ops(0, &["start"]);
    managed.ops(0, &["stop"]);
}

#[test]
fn what_ends_by_itself_is_no_stop_of_an_operator() {
    let managed = Managed::new();
    managed.ops(0, &["install", "--user"]);
    // It ends well, and systemd leaves it at that.
    let end = |managed: &Managed| {
        managed.room.shell(&format!("kill {}", managed.main_pid()));
        wait_long(20, "it ended", || managed.active() == "inactive");
    };
    end(&managed);
    managed.is_recovered();

    // After a stop that was one.
    managed.systemctl(&format!("stop {UNIT}"));
    managed.systemctl(&format!("start {UNIT}"));
    managed.beats();
    end(&managed);
    managed.is_recovered();

    // Disabled by `ops stop`, not by hand.
    managed.ops(0, &["stop"]);
    managed.systemctl(&format!("start {UNIT}"));
    managed.beats();
    end(&managed);
    managed.is_recovered();

    // A restart of which systemd refuses the second half.
    managed.dropin("[Unit]\\nStartLimitBurst=1\\n");
    managed.ops(0, &["restart"]);
    managed.systemctl(&format!("restart {UNIT}"));
    assert_eq!(managed.active(), "failed");
    managed.is_recovered();

    // A manager that ends with its machine, or the session of its user, and one that starts what is enabled.
    managed.systemctl("exit");
    wait_long(30, "systemd ended", || managed.systemctl("is-system-running").contains("onnect"));
    let health = managed.room.run("health-check", &["--only", "process"]);
    assert!(health.code == 2 && !health.stdout.contains("operator"), "{}", health.stdout);
    let again = "export XDG_RUNTIME_DIR=/run/user/0 HOME=$(dirname \"$HOME_FOLDER\")\n\
                 setsid /lib/systemd/systemd --user </dev/null >/run/log 2>&1 &";
    managed.room.shell(again);
    managed.beats();
    managed.ops(0, &["stop"]);
}

/// An agent that takes a TERM for an error.
#[test]
fn a_stop_that_its_service_calls_a_failure_is_a_stop_and_a_restart_is_none() {
    let managed = Managed::new();
    managed.room.sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\n[service.daemon]\nready = \"alive\"\n\
         command = [\"sh\", \"-c\", \"trap 'exit 1' TERM; while :; do sleep 0.1; done\"]\n\
         [check.process]\nkind = \"process\"\nservice = \"daemon\"\n[alerts.desktop]\nenabled = false\n",
    );
    managed.ops(0, &["install", "--user"]);
    managed.systemctl(&format!("stop {UNIT}"));
    assert_eq!(managed.active(), "failed");
    managed.stays_stopped();
    managed.systemctl("daemon-reload");
    managed.stays_stopped();

    managed.dropin("[Unit]\\nStartLimitBurst=1\\n");
    managed.ops(0, &["start"]);
    managed.systemctl(&format!("restart {UNIT}"));
    assert_eq!(managed.active(), "failed");
    for _ in 0..2 {
        let health = managed.room.run("health-check", &["--only", "process"]);
        assert!(health.code == 2 && !health.stdout.contains("operator"), "{}", health.stdout);
        managed.systemctl("daemon-reload");
    }
}

/// Whatever a home is called, systemd reads what was meant.
#[test]
fn a_home_with_an_awkward_name_is_run_by_systemd() {
    let managed = Managed::new();
    let beside = |path: &Path| path.parent().unwrap().to_owned();
    let names = ["back\\", "blank ", "it's \"so\" 100%h $HOME ${X} \\x41;#", "a  b\\ c", "tilde~{home}"];
    for (number, name) in names.iter().enumerate() {
        let (inside, outside) =
            (beside(&managed.room.home).join(name), beside(&managed.room.sandbox.home).join(name));
        fs::create_dir(&outside).unwrap();
        let config = format!(
            "[agent]\nname = \"a{number}\"\n[service.daemon]\nready = \"alive\"\n\
             command = [\"sh\", \"-c\", \"pwd; exec sleep 600\"]\n"
        );
        fs::write(outside.join("ops.toml"), config).unwrap();
        let ops = |words: &[&str]| {
            let mut command = managed.room.program("ops");
            let said = said(command.args(words).env("OPS_HOME", &inside).output().unwrap());
            assert_eq!(said.code, 0, "{name:?} {words:?}: {}", said.stderr);
        };
        ops(&["install", "--user"]);
        let unit = format!("agent-ops-a{number}-daemon.service");
        let verify = format!(
            "cd \"$(dirname \"$HOME_FOLDER\")/.config/systemd/user\"; XDG_RUNTIME_DIR=/run/user/0 systemd-analyze verify --user --recursive-errors=yes ./{unit} 2>&1"
        );
        assert_eq!(managed.room.shell(&verify), "", "{name:?}");
        let log = fs::read_to_string(outside.join("logs/daemon_stdout.log")).unwrap();
        assert_eq!(log, format!("{}\n", inside.display()));
        managed.systemctl(&format!("stop {unit}"));
        assert!(outside.join(".ops/service/daemon.asked").exists(), "{name:?}");
        ops(&["install", "--user"]);
        ops(&["uninstall"]);

        ops(&["cron-install", "--manager", "systemd", "--user"]);
        managed.systemctl(&format!("start agent-ops-a{number}--dashboard.service"));
        assert!(outside.join("logs/dashboard.html").exists(), "{name:?}");
        ops(&["cron-uninstall"]);
    }
}

/// The law of `runbooks/restart_loop.md`: what systemd gave up, `alert` has it try again, and then all of it
/// is over.
#[test]
fn a_crash_loop_ends() {
    let managed = Managed::new();
    managed.room.sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\n[service.daemon]\nready = \"alive\"\n\
         command = [\"sh\", \"-c\", \"echo again; exit 1\"]\n[alerts.desktop]\nenabled = false\n",
    );
    managed.dropin("[Service]\\nRestartSec=100ms\\n");
    let starts = |expected: usize| {
        wait_long(20, "systemd gives up", || managed.active() == "failed");
        assert_eq!(managed.room.sandbox.read("logs/daemon_stdout.log").matches("again").count(), expected);
    };
    managed.ops(2, &["install", "--user"]);
    starts(4);
    for recovery in 1..=4 {
        managed.room.run("alert", &[]);
        starts(4 + 4 * recovery.min(3));
        // At the same moment: a pause that is not over.
        managed.room.run("alert", &[]);
        starts(4 + 4 * recovery.min(3));
        managed.room.sqlite(".ops/ops.db", "UPDATE restarts SET at = at - 960000");
    }
}

#[test]
fn one_that_crashes_too_often_stays_down_until_it_is_started() {
    let managed = Managed::new();
    managed.dropin("[Service]\\nRestartSec=100ms\\n");
    managed.ops(0, &["install", "--user"]);
    for crash in 1..=4 {
        let pid = managed.main_pid();
        managed.room.shell(&format!("kill -9 {pid}"));
        wait_long(20, "it is started again, or not", || {
            if crash < 4 {
                !["0", &*pid].contains(&&*managed.main_pid())
            } else {
                managed.systemctl(&format!("show -P ActiveState {UNIT}")).trim() == "failed"
            }
        });
    }
    assert_eq!(managed.systemctl(&format!("show -P Result {UNIT}")).trim(), "signal");
    assert_eq!(managed.room.run("health-check", &["--only", "process"]).code, 2);
    // systemd itself refuses by now: `ops start` has it forget.
    managed.ops(0, &["start"]);
    assert_eq!(managed.main_pid(), managed.agent());
    managed.ops(0, &["stop"]);
}

/// What would be written, and where, with a manager that only has to answer.
fn definition(manager: &str, scope: &str, home: &Path, config: &str) -> Value {
    let sandbox = Sandbox::new();
    sandbox.fake("systemctl", "echo Version=252");
    sandbox.fake("launchctl", "exit 0");
    fs::write(home.join("ops.toml"), config).unwrap();
    let mut command = sandbox.program("ops");
    command.args(["install", "-n", "--json", "--manager", manager, scope, "--home"]).arg(home);
    let shown = said(command.output().unwrap());
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    document["services"][0].clone()
}

const AWKWARD: &str = "[agent]\nname = \"b-1.x_y\"\n\
    [service.\"daemon.2\"]\ncommand = [\"/bin/sleep\", \"600\"]\nstop_grace = \"75s\"\nrestart = \"always\"\nsuccess_exit = [3]\n";

#[test]
fn units_of_every_kind_are_understood() {
    peer("systemd-analyze", "systemd");
    for (scope, config) in
        [("--user", AWKWARD), ("--system", AWKWARD), ("--system", "[agent]\nname = \"x\"\n")]
    {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("my <home> & 100% \"it\"");
        fs::create_dir_all(&home).unwrap();
        let unit = definition("systemd", scope, &home, config);
        let path = folder.path().join(unit["unit"].as_str().unwrap());
        let text = unit["text"].as_str().unwrap();
        fs::write(&path, text).unwrap();
        // The manager's version of the manual is not on every machine.
        let said = said(
            Command::new("systemd-analyze")
                .args(["verify", "--recursive-errors=yes", "--man=no"])
                .args(if scope == "--user" { &["--user"][..] } else { &[] })
                .env("XDG_RUNTIME_DIR", folder.path())
                .arg(&path)
                .output()
                .unwrap(),
        );
        assert!(said.code == 0 && said.stderr.is_empty(), "{scope}: {}\n{text}", said.stderr);
        assert_eq!(text.contains("User=root"), scope == "--system", "{text}");
    }
}

#[test]
fn a_property_list_says_what_launchd_is_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("my <home> & 100% \"it\"");
    fs::create_dir_all(&home).unwrap();
    let read = |config: &str, scope: &str| -> Value {
        let job = definition("launchd", scope, &home, config);
        let path = folder.path().join("job.plist");
        fs::write(&path, job["text"].as_str().unwrap()).unwrap();
        let script = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
        let printed = output(Command::new(peer("python3", "python3-venv")).args(["-c", script]).arg(&path));
        serde_json::from_str(&printed).unwrap()
    };
    let job = read(AWKWARD, "--user");
    assert_eq!(job["Label"], "org.agent-ops.b-1.x_y.daemon.2");
    let words: Vec<&str> =
        job["ProgramArguments"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[1..4], ["run", "--exec", "daemon.2"]);
    assert_eq!(words.last().unwrap(), &home.to_str().unwrap());
    assert_eq!(job["WorkingDirectory"], home.to_str().unwrap());
    assert_eq!(job["KeepAlive"], true);
    assert_eq!(
        (&job["ThrottleInterval"], &job["ExitTimeOut"], &job["Nice"]),
        (&60.into(), &75.into(), &10.into())
    );
    assert_eq!((&job["RunAtLoad"], &job["ProcessType"]), (&true.into(), &"Background".into()));
    let log = home.join("logs/daemon.2_stderr.log");
    assert_eq!(job["StandardErrorPath"], log.to_str().unwrap());
    assert!(job["EnvironmentVariables"]["PATH"].as_str().unwrap().contains("/usr/bin"));
    assert!(job.get("UserName").is_none());

    let job = read("[agent]\nname = \"bot\"\n", "--system");
    assert_eq!(job["UserName"], "root");
    assert_eq!(job["KeepAlive"], serde_json::json!({"SuccessfulExit": false}));
}

#[test]
fn systemd_runs_the_jobs_and_knows_our_units() {
    let managed = Managed::new();
    let config = managed.room.sandbox.read("ops.toml");
    let every_minute = "[schedule]\nalert = \"* * * * *\"\nbackup = \"*/5 2-4 1,15 * mon-fri\"\n";
    managed.room.sandbox.write("ops.toml", format!("{config}{every_minute}"));
    managed.ops(0, &["cron-install", "--manager", "systemd", "--user"]);
    let verify = "cd \"$(dirname \"$HOME_FOLDER\")/.config/systemd/user\"; XDG_RUNTIME_DIR=/run/user/0 systemd-analyze verify --user --recursive-errors=yes ./*.timer ./*.service 2>&1";
    assert_eq!(managed.room.shell(verify), "");
    let listed = managed.systemctl("list-timers --all --no-legend");
    assert_eq!(listed.matches("agent-ops-bot--").count(), 6 * 2, "{listed}");
    wait_long(90, "the page is made", || managed.room.path("logs/dashboard.html").exists());
    wait_long(90, "the checks are run", || {
        managed.room.sandbox.path("logs/health_check.log").exists()
            || managed.room.path("logs/alerts.log").exists()
    });
    managed.ops(0, &["cron-uninstall"]);
    assert_eq!(managed.systemctl("list-timers --all --no-legend").matches("agent-ops").count(), 0);
}

/// The moments at which systemd would start something, from a time on.
fn elapses(lines: &[String], from: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
    let mut all = BTreeSet::new();
    for line in lines {
        let base = from.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        let mut command = Command::new(peer("systemd-analyze", "systemd"));
        command
            .args(["calendar", &format!("--iterations={count}"), "--base-time", &base, line])
            .env("TZ", "UTC");
        for printed in output(&mut command).lines() {
            let time = printed.split_once(": ").map(|(_, time)| time.trim());
            if let Some(time) = time.and_then(|time| time.strip_suffix(" UTC")) {
                let time = time.split_once(' ').unwrap().1;
                all.insert(NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").unwrap().and_utc());
            }
        }
    }
    all.into_iter().take(count).collect()
}

#[test]
fn a_calendar_of_systemd_means_what_the_crontab_means() {
    let sandbox = Sandbox::new();
    let from: DateTime<Utc> = "2026-11-21T14:07:30Z".parse().unwrap();
    for text in [
        "* * * * *",
        "*/7 * * * *",
        "5-50/15 8-18/3 * * 1-5",
        "0 0 13 * 5",
        "0 0 */10 * 1",
        "30 4 29 2 *",
        "59 23 31 12 *",
        "0 9 * jan,jul sun",
        "0 0 1,15 * mon",
        "@weekly",
        "@monthly",
        "@hourly",
    ] {
        let config = format!("[agent]\nname = \"bot\"\n[schedule]\nbackup = \"{text}\"\n");
        let file = sandbox.write("ops.toml", config);
        let loaded = agent_ops::config::load(&file, None).unwrap();
        let mut command = sandbox.program("ops");
        command.args(["cron-install", "--print", "--json", "--manager", "systemd"]);
        let shown: Value = serde_json::from_str(&said(command.output().unwrap()).stdout).unwrap();
        let files = shown["files"].as_array().unwrap();
        let timer = files.iter().find(|file| file["unit"] == "agent-ops-bot--backup.timer").unwrap();
        let lines: Vec<String> = timer["text"]
            .as_str()
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("OnCalendar="))
            .map(str::to_owned)
            .collect();
        // By the clock on the wall, whatever the zone of this machine.
        let (mut at, mut ours) = (from.naive_utc().and_local_timezone(Local).unwrap().to_utc(), Vec::new());
        while ours.len() < 5 {
            at = agent_ops::schedule::next(&loaded.config.schedule.backup, at).unwrap();
            ours.push(at.with_timezone(&Local).naive_local().and_utc());
        }
        assert_eq!(elapses(&lines, from, 5), ours, "{text}: {lines:?}");
    }
}

/// Units of the system run as the owner of the home, who must not get at root's files by them.
#[test]
fn a_link_that_the_owner_lays_in_the_way_of_a_log_leads_root_nowhere() {
    let managed = Managed::new();
    managed.room.sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\n[service.daemon]\ncommand = [\"sh\", \"-c\", \"echo so; echo so >&2; exec sleep 600\"]\n\
         ready = \"alive\"\nharden = false\n[alerts.desktop]\nenabled = false\n",
    );
    managed.room.shell(
        "chmod 755 \"$(dirname \"$HOME_FOLDER\")\"; mkdir -p \"$HOME_FOLDER/logs\"; echo root >/run/secret; chmod 600 /run/secret\n\
         ln -s /run/secret \"$HOME_FOLDER/logs/daemon_stdout.log\"; ln -s /run/secret \"$HOME_FOLDER/logs/cron.log\"\n\
         chown -R -h 65534 \"$HOME_FOLDER\"",
    );
    // The system's definitions, run by the manager that is here: it may take on any user, too.
    managed.room.sandbox.fake("systemctl", "echo Version=252");
    let shown = |words: &[&str]| -> Value {
        serde_json::from_str(&managed.ops(0, &[words, &["--system", "--json"]].concat()).stdout).unwrap()
    };
    let service = shown(&["install", "-n", "--manager", "systemd"])["services"][0]["text"].clone();
    let jobs = shown(&["cron-install", "--print", "--manager", "systemd"]);
    let job = jobs["files"][0]["text"].clone();
    let folder = managed.room.sandbox.outside(".config/systemd/user");
    for (name, text) in [("link-service", service), ("link-job", job)] {
        let text = text.as_str().unwrap();
        assert!(text.contains("User=nobody"), "{text}");
        fs::write(folder.join(format!("{name}.service")), text).unwrap();
    }
    let start = "export XDG_RUNTIME_DIR=/run/user/0; systemctl --user daemon-reload";
    managed.room.shell(&format!("{start}; systemctl --user start link-service link-job || true"));
    // Refused where root's file is, and written where the way is clear.
    assert_eq!(managed.room.shell("cat /run/secret"), "root\n");
    managed.room.shell(&format!(
        "rm \"$HOME_FOLDER/logs/daemon_stdout.log\" \"$HOME_FOLDER/logs/cron.log\"; {start}; systemctl --user start link-service link-job"
    ));
    for (log, words) in [("daemon_stdout", "so\n"), ("daemon_stderr", "so\n"), ("cron", "")] {
        let path = managed.room.path(&format!("logs/{log}.log"));
        wait_long(20, "its output is there", || {
            fs::read_to_string(&path).is_ok_and(|text| text.contains(words))
        });
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap());
        assert_eq!(owner, 65534, "{log}");
    }
}

/// `sudo ops install --system`, for the home of another user.
#[test]
fn what_root_installs_is_the_owner_s_to_go_on_with() {
    let managed = Managed::new();
    let config = managed.room.sandbox.read("ops.toml").replace("stop_grace", "harden = false\nstop_grace");
    managed.room.sandbox.write("ops.toml", config);
    // The manager that is here stands for that of the system: it may take on any user, too.
    managed.room.sandbox.fake("systemctl", "XDG_RUNTIME_DIR=/run/user/0 exec /bin/systemctl --user \"$@\"");
    managed.room.shell(
        "beside=$(dirname \"$HOME_FOLDER\"); chmod 755 \"$beside\"; chown -R 65534:65534 \"$HOME_FOLDER\"\n\
         mkdir -p \"$beside/.config/systemd/user\"; mount --bind \"$beside/.config/systemd/user\" /etc/systemd/system",
    );
    managed.ops(0, &["install", "--system"]);
    assert_eq!(managed.main_pid(), managed.agent());
    managed.ops(0, &["cron-install", "--system", "--manager", "systemd"]);
    managed.ops(0, &["restart"]);
    assert_eq!(managed.room.shell("find \"$HOME_FOLDER\" ! -user 65534 -o ! -group 65534"), "");
    let as_owner = |program: &str, words: &[&str]| {
        let mut command = managed.room.outsider(&peer("setpriv", "util-linux"));
        let program = managed.room.program(program).get_args().last().unwrap().to_owned();
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program).args(words);
        said(command.output().unwrap())
    };
    let refused = as_owner("ops", &["restart"]);
    assert!(refused.code == 2 && refused.stderr.contains("sudo systemctl stop"), "{}", refused.stderr);
    let alert = as_owner("alert", &[]);
    // There is no backup yet.
    assert!(alert.code == 1 && !alert.stderr.contains("denied"), "{} {}", alert.stdout, alert.stderr);
    // Without the manager it is the owner's all the same.
    let said = managed.ops(0, &["uninstall"]);
    assert!(said.stdout.contains("runs on without a manager"), "{said:?}");
    assert!(managed.room.shell(&format!("grep Uid: /proc/{}/status", managed.agent())).contains("65534"));
    assert_eq!(as_owner("ops", &["start"]).code, 0);
    managed.ops(0, &["stop"]);
}

#[test]
fn a_unit_that_is_gone_from_the_disk_but_not_from_systemd_is_stopped() {
    let managed = Managed::new();
    let config =
        managed.room.sandbox.read("ops.toml").replace("stop_grace", "restart = \"always\"\nstop_grace");
    managed.room.sandbox.write("ops.toml", config);
    managed.dropin("[Service]\\nRestartSec=100ms\\n");
    managed.ops(0, &["install", "--user"]);
    managed.room.shell(&format!("rm \"$(dirname \"$HOME_FOLDER\")/.config/systemd/user/{UNIT}\""));
    managed.ops(0, &["stop"]);
    assert_eq!(managed.systemctl(&format!("show -P ActiveState {UNIT}")).trim(), "inactive");
    assert_eq!(managed.main_pid(), "0");
}
