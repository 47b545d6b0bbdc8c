//! Homes whose state an earlier version wrote are taken over live; state of a newer version is refused.
//!
//! `tests/data/homes-state-format-1.tar.gz` was made by the programs of f60b83c, before the state had a
//! mark of its format. In it are `everyday`: the demo agent with an acknowledged incident, a silence, two
//! backups (the newer pinned and restored on trial), an archived stream, a restore, a crontab block and a
//! unit; then homes in which a restore, an upgrade and a rotation were cut short; and one whose archives are encrypted.

use crate::backup::tree;
use crate::managers::{crontab_stand_in, stand_in};
use crate::sandbox::{Sandbox, built, said, wait_until};
use crate::service::{agent_pid, alive};
use agent_ops::base::process::Process;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the homes were when they were made.
const ORIGIN: &str = "/srv/agent-ops-fixture";
/// Where the programs were.
const PROGRAMS: &str = "/opt/old-programs";

/// A home of the fixture, as if it had always been where the sandbox is.
fn taken_over(name: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/homes-state-format-1.tar.gz");
    let folder = sandbox.outside("fixture");
    let unpacked = tar::Archive::new(flate2::read::GzDecoder::new(File::open(data).unwrap())).unpack(&folder);
    unpacked.unwrap();
    fs::remove_dir(&sandbox.home).unwrap();
    fs::rename(folder.join(name), &sandbox.home).unwrap();
    let home = sandbox.home.to_str().unwrap();
    let origin = if name == "restore-swapping" { "restore-place" } else { name };
    let programs = built("ops").parent().unwrap().to_str().unwrap().to_owned();
    let words = [
        (format!("{ORIGIN}/{origin}"), home.to_owned()),
        (format!("{ORIGIN}/user"), home.strip_suffix("/home").unwrap().to_owned()),
        (PROGRAMS.to_owned(), programs),
    ];
    for folder in [sandbox.path(".ops"), folder.join("units"), sandbox.home.clone()] {
        for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
            if entry.file_type().is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                let replaced = words.iter().fold(text, |text, (old, new)| text.replace(old.as_str(), new));
                fs::write(entry.path(), replaced).unwrap();
            }
        }
    }
    sandbox
}

/// The folder that is the user's `$HOME`.
fn user(sandbox: &Sandbox) -> PathBuf {
    sandbox.home.parent().unwrap().to_owned()
}

fn names(archives: &Value, which: impl Fn(&Value) -> bool) -> Vec<&str> {
    let archives = archives["archives"].as_array().unwrap().iter();
    archives.filter(|one| which(one)).map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn history_backups_and_what_an_operator_said_are_taken_over() {
    let sandbox = taken_over("everyday");
    crontab_stand_in(&sandbox);
    fs::copy(user(&sandbox).join("fixture/units/crontab"), user(&sandbox).join("crontab")).unwrap();
    // What the journal knew.
    let problems = sandbox.json(0, "ops", &["alert", "list"]);
    let problem = &problems["open"][0];
    assert_eq!(
        (&problem["check"], &problem["acknowledged"].is_null()),
        (&json!("marker"), &false),
        "{problems}"
    );
    assert!(sandbox.read(".ops/format").contains("\"format\":2"));
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(names(&list, |one| one["verified"] == true).len(), 2, "{list}");
    let pinned = names(&list, |one| one["pinned"] == true);
    assert_eq!(pinned, names(&list, |one| !one["drilled"].is_null()), "{list}");
    let silenced = sandbox.expect(0, "alert", &[]);
    assert!(!silenced.stdout.contains("sent"), "an incident that was acknowledged is no news: {silenced:?}");

    // Its archives, and what a restore set aside.
    sandbox.expect(0, "backup", &[]);
    sandbox.expect(0, "backup", &["verify", "--all"]);
    sandbox.expect(0, "restore", &["latest", "--drill"]);
    let asides = sandbox.json(0, "restore", &["--aside"]);
    assert_eq!(asides["asides"].as_array().map(Vec::len), Some(1), "{asides}");
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    sandbox.expect(0, "backup", &["verify", "--all"]);
}

#[test]
fn an_operators_stop_and_the_unit_of_before_are_known() {
    let sandbox = taken_over("everyday");
    stand_in(&sandbox);
    let units = user(&sandbox).join(".config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    let unit = "agent-ops-agent-daemon.service";
    fs::copy(user(&sandbox).join("fixture/units/.config/systemd/user").join(unit), units.join(unit)).unwrap();
    sandbox.run("alert", &[]);
    let status = sandbox.json(2, "ops", &["status"]);
    assert!(status.to_string().contains("stopped"), "{status}");
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    assert!(alive(pid), "started through the unit that the earlier version wrote");
    assert!(user(&sandbox).join("manager").join(format!("{unit}.pid")).exists());
    sandbox.expect(0, "ops", &["stop"]);
    assert!(!alive(pid));
    sandbox.expect(0, "ops", &["uninstall"]);
    assert!(!units.join(unit).exists());
}

#[test]
fn the_crontab_block_of_before_works_and_is_replaced() {
    let sandbox = taken_over("everyday");
    crontab_stand_in(&sandbox);
    let block = fs::read_to_string(user(&sandbox).join("fixture/units/crontab")).unwrap();
    fs::write(user(&sandbox).join("crontab"), format!("0 1 * * * mine\n{block}")).unwrap();
    let jobs: Vec<&str> =
        block.lines().filter(|line| line.starts_with(|c: char| c == '*' || c.is_ascii_digit())).collect();
    assert_eq!(jobs.len(), 6, "{block}");
    for job in jobs {
        let command = job.splitn(6, ' ').nth(5).unwrap();
        let done = sandbox.program("ops");
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().envs(done.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let said = said(shell.env_remove("OPS_HOME").arg("-c").arg(command).output().unwrap());
        assert!([0, 1, 2].contains(&said.code), "{command}: {said:?}\n{}", sandbox.read("logs/cron.log"));
    }
    assert!(!sandbox.read("logs/cron.log").contains("error:"), "{}", sandbox.read("logs/cron.log"));
    let schedule = sandbox.run("ops", &["health", "--only", "schedule"]);
    assert!(!schedule.stdout.contains("nobody runs the jobs"), "{schedule:?}");
    sandbox.expect(0, "ops", &["cron-install"]);
    let now = fs::read_to_string(user(&sandbox).join("crontab")).unwrap();
    assert_eq!(now.matches("# >>> agent-ops").count(), 1, "one block: {now}");
    assert!(now.starts_with("0 1 * * * mine\n"), "{now}");
    sandbox.expect(0, "ops", &["cron-uninstall"]);
    assert_eq!(fs::read_to_string(user(&sandbox).join("crontab")).unwrap(), "0 1 * * * mine\n");
}

#[test]
fn a_process_that_an_earlier_version_started_is_known_and_stopped() {
    let sandbox = taken_over("everyday");
    let mut record: Value = serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap();
    let config = sandbox.path("ops.toml");
    // As f60b83c starts it, with its mark.
    let mut agent = sandbox.program("ops");
    agent.args(["agent", "--config"]).arg(config).arg("--home").arg(&sandbox.home).current_dir(&sandbox.home);
    agent.env(
        "AGENT_OPS_SERVICE",
        format!("daemon:{}:{}", record["run"].as_str().unwrap(), sandbox.home.display()),
    );
    let mut child = agent.spawn().unwrap();
    let identity = Process::find(child.id()).unwrap().unwrap().identity;
    record["identity"] = serde_json::to_value(identity).unwrap();
    for key in ["stopped_by_operator", "failed"] {
        record[key] = Value::Null;
    }
    for key in ["ended", "managed", "disabled"] {
        record[key] = json!(false);
    }
    sandbox.write(".ops/service/daemon.json", record.to_string());
    fs::remove_file(sandbox.path(".ops/service/daemon.installed")).unwrap();
    wait_until("the agent says that it runs", || {
        fs::read_to_string(sandbox.path("logs/daemon_status.json"))
            .is_ok_and(|text| text.contains(&child.id().to_string()) && text.contains("running"))
    });
    sandbox.expect(0, "ops", &["health", "--only", "process"]);
    let again = sandbox.run("ops", &["start"]);
    assert_eq!(agent_pid(&sandbox), child.id(), "no second one: {again:?}");
    let waiting = std::thread::spawn(move || child.wait().unwrap());
    sandbox.expect(0, "ops", &["stop"]);
    waiting.join().unwrap();
}

#[test]
fn a_restore_that_an_earlier_version_began_is_finished_or_undone() {
    for (name, settings, today, new) in [
        // The old files are put back.
        ("restore-swapping", "changed\n", None, Some("new\n")),
        // The new ones are in place.
        ("restore-placed", "{}\n", Some("a note\n"), Some("new\n")),
    ] {
        let sandbox = taken_over(name);
        sandbox.run("backup", &[]);
        assert!(!sandbox.path(".ops/restore.json").exists(), "{name}");
        let text = |path: &str| fs::read_to_string(sandbox.path(path)).ok();
        assert_eq!(text("config/settings.json").as_deref(), Some(settings), "{name}");
        assert_eq!(text("memory/notes/today.md").as_deref(), today, "{name}");
        assert_eq!(text("memory/new.txt").as_deref(), new, "{name}");
        sandbox.expect(0, "backup", &["verify", "--all"]);
    }
}

#[test]
fn an_upgrade_that_was_cut_short_under_an_earlier_version_can_be_put_back() {
    let sandbox = taken_over("upgrade");
    let refused = sandbox.run("ops", &["status"]);
    assert!(refused.stdout.contains("upgrade"), "{refused:?}");
    sandbox.run("ops", &["upgrade", "--back", "--yes"]);
    assert_eq!(sandbox.read("memory/notes/today.md"), "a note\n");
    assert!(!sandbox.path(".ops/upgrade.json").exists());
}

#[test]
fn a_rotation_that_an_earlier_version_began_loses_no_line() {
    let sandbox = taken_over("rotation");
    // The stream lies in another file than then.
    let meta = fs::metadata(sandbox.path("memory/stream.jsonl")).unwrap();
    let mut begun: Value = serde_json::from_str(&sandbox.read(".ops/rotation.json")).unwrap();
    begun["cut"]["file"] = json!([meta.dev(), meta.ino()]);
    sandbox.write(".ops/rotation.json", begun.to_string());
    sandbox.expect(0, "rotate-logs", &[]);
    assert!(!sandbox.path(".ops/rotation.json").exists());
    let mut lines: Vec<Value> = Vec::new();
    let mut parts: Vec<PathBuf> = walkdir::WalkDir::new(sandbox.path("archive"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file())
        .collect();
    parts.sort();
    for part in parts {
        let text =
            std::io::read_to_string(flate2::read::MultiGzDecoder::new(File::open(&part).unwrap())).unwrap();
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    let left = sandbox.read("memory/stream.jsonl");
    lines.extend(
        left.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str::<Value>(line).unwrap()),
    );
    let numbers: Vec<u64> = lines.iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=4000).collect::<Vec<u64>>());
}

/// Every program, and verbs that read, write, or both.
const RUNS: [(&str, &[&str]); 14] = [
    ("health-check", &[]),
    ("alert", &[]),
    ("backup", &[]),
    ("backup", &["list"]),
    ("backup", &["prune"]),
    ("restore", &["latest", "--yes"]),
    ("restore", &["latest", "--drill"]),
    ("rotate-logs", &[]),
    ("dashboard", &["web"]),
    ("ops", &["status"]),
    ("ops", &["start"]),
    ("ops", &["up"]),
    ("ops", &["upgrade", "--yes", "--", "true"]),
    ("ops", &["report"]),
];

#[test]
fn state_of_a_newer_version_is_refused_and_left_alone() {
    let newer_journal = |sandbox: &Sandbox| {
        let db = rusqlite::Connection::open(sandbox.path(".ops/ops.db")).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
    };
    let newer_mark = |sandbox: &Sandbox| {
        sandbox.write(".ops/format", "{\"format\":99,\"version\":\"9.0.0\"}\n");
    };
    for (file, change) in [(".ops/format", &newer_mark as &dyn Fn(&Sandbox)), (".ops/ops.db", &newer_journal)]
    {
        let sandbox = taken_over("everyday");
        change(&sandbox);
        let before = tree(&sandbox.home);
        for (program, args) in RUNS {
            let refused = sandbox.expect(3, program, args);
            assert!(
                refused.stderr.contains(file) && refused.stderr.contains("newer agent-ops"),
                "{refused:?}"
            );
            assert!(refused.stderr.contains("docs/upgrading.md"), "{refused:?}");
        }
        assert_eq!(tree(&sandbox.home), before, "{file}");
    }
}
