//! State and names that somebody forged: nothing of another agent is touched, nobody is kept silent, and
//! nothing of it reaches a screen raw.

use crate::sandbox::Sandbox;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const CONFIG: &str = "[agent]\npreset = \"none\"\n[check.there]\nkind = \"file_age\"\npaths = [\"note\"]\nwarn = \"1h\"\ncrit = \"2h\"\n";

#[test]
fn a_lock_of_alerts_that_is_held_for_ever_keeps_nobody_silent() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", CONFIG);
    sandbox.write("note", "");
    sandbox.expect(0, "alert", &[]);
    let lock = fs::File::open(sandbox.path(".ops/locks/alert.lock")).unwrap();
    lock.try_lock().unwrap();
    let later = (chrono::Utc::now() + chrono::TimeDelta::minutes(40)).to_rfc3339();
    let said = crate::sandbox::said(sandbox.program("alert").env("OPS_NOW", &later).output().unwrap());
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.stdout.contains("the lock of alerts is held") && !said.stdout.contains("all is well"),
        "{said:?}"
    );
    drop(lock);
    let later = (chrono::Utc::now() + chrono::TimeDelta::minutes(41)).to_rfc3339();
    let said = crate::sandbox::said(sandbox.program("alert").env("OPS_NOW", &later).output().unwrap());
    assert!(said.stdout.contains("Recovered: Alerts Held Back"), "{said:?}");
}

#[test]
fn maintenance_without_end_keeps_nobody_silent() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", CONFIG);
    let begin = chrono::Utc::now();
    let me = agent_ops::base::process::Process::find(std::process::id()).unwrap().unwrap().identity;
    let mut last = None;
    for hours in [0, 1, 7] {
        let now = begin + chrono::TimeDelta::hours(hours);
        let note = serde_json::json!({
            "what": "ops restart", "run": "r1", "since": now, "until": now + chrono::TimeDelta::hours(1),
            "process": me,
        });
        sandbox.write(".ops/maintenance/r1.json", note.to_string());
        let mut alert = sandbox.program("alert");
        last = Some(crate::sandbox::said(alert.env("OPS_NOW", now.to_rfc3339()).output().unwrap()));
        let said = last.as_ref().unwrap();
        assert_eq!(
            said.stdout.contains("there is missing") || said.stdout.contains("note"),
            hours == 7,
            "{said:?}"
        );
    }
    assert!(last.unwrap().stdout.contains("alerts are not held back any longer"));
}

#[test]
fn a_record_that_names_the_unit_of_another_agent_is_not_believed() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", CONFIG);
    let units = sandbox.outside(".config/systemd/user");
    let unit = units.join("agent-ops-other-daemon.service");
    let other = sandbox.outside("other");
    let text = format!(
        "# Written by `ops install`\n[Service]\nExecStart=/bin/ops run --exec daemon --home {}\n",
        other.display()
    );
    fs::write(&unit, &text).unwrap();
    sandbox.fake("systemctl", &format!("echo \"$@\" >>{}/asked\nexit 0\n", other.display()));
    let record = serde_json::json!({
        "home": sandbox.home, "manager": "systemd", "system": false, "unit": "agent-ops-other-daemon.service",
        "path": unit, "text": text,
    });
    sandbox.write(".ops/service/daemon.installed", record.to_string());
    let timers = serde_json::json!({
        "home": sandbox.home, "manager": "systemd", "system": false, "files": [
            {"unit": "agent-ops-other-daemon.service", "path": unit, "text": text},
        ],
    });
    sandbox.write(".ops/timers.installed", timers.to_string());
    for args in [&["uninstall", "--yes"][..], &["stop"], &["cron-uninstall"]] {
        let said = sandbox.run("ops", args);
        assert_eq!(fs::read_to_string(&unit).unwrap(), text, "{args:?}: {said:?}");
    }
    let asked = fs::read_to_string(other.join("asked")).unwrap_or_default();
    assert!(!asked.contains("other-daemon"), "{asked}");
}

#[test]
fn nothing_of_a_hostile_name_reaches_a_screen_a_log_or_a_page_raw() {
    let sandbox = Sandbox::new();
    let hostile = "x\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\u{e0041}\u{2028}y";
    let config = format!(
        "{CONFIG}[check.names]\nkind = \"file_age\"\npaths = [\"odd/*\"]\nwarn = \"1s\"\n\
         [check.json]\nkind = \"json\"\nfile = \"odd.json\"\nvalue = \"a\"\nequals = [\"fine\"]\n\
         [backup]\ninclude = [\"odd/**\", \"odd.json\"]\n"
    );
    sandbox.write("ops.toml", config);
    sandbox.write(&format!("odd/{hostile}.db"), "SQLite format 3\0 and rubbish that is long enough");
    sandbox.write(&format!("odd/{hostile}.log"), hostile);
    sandbox.write("odd.json", serde_json::json!({ "a": hostile }).to_string());
    sandbox.write("logs/alerts.log", format!("[2026-11-20 09:30:01] [CRITICAL] {hostile} - {hostile}\n"));
    let harmful =
        |c: char| (c.is_control() && c != '\n' && c != '\t') || hostile[1..].contains(c) && !c.is_ascii();
    let mut seen = 0;
    for (program, args) in [
        ("health-check", &[][..]),
        ("ops", &["health"]),
        ("ops", &["health", "--json"]),
        ("ops", &["status", "--json"]),
        ("ops", &["status"]),
        ("ops", &["backup"]),
        ("ops", &["backup", "--json"]),
        ("ops", &["backup", "--dry-run"]),
        ("ops", &["restore", "latest", "--list"]),
        ("ops", &["restore", &format!("no {hostile}"), "--list"]),
        ("ops", &["logs", "alerts"]),
        ("ops", &["logs", "alerts", "--json"]),
        ("alert", &[]),
        ("alert", &["--json"]),
        ("dashboard", &["web"]),
        ("dashboard", &["prom"]),
        ("ops", &["troubleshoot"]),
        ("ops", &["troubleshoot", "--json"]),
        ("ops", &["nosuch", hostile]),
    ] {
        let said = sandbox.run(program, args);
        for text in [&said.stdout, &said.stderr] {
            assert!(!text.contains(harmful), "{program} {args:?}: {text:?}");
            seen += usize::from(text.contains("u{202e}") || text.contains("u202e"));
        }
    }
    assert!(seen > 3, "nothing hostile was shown in any form: {:?}", sandbox.run("ops", &["health"]));
    for file in ["logs/dashboard.html", "logs/ops_status.json", "logs/backup.log", "logs/health_check.log"] {
        let text = sandbox.read(file);
        assert!(!text.contains(harmful), "{file}");
    }
}

#[test]
fn logs_that_are_links_are_not_shown() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", CONFIG);
    sandbox.write("note", "");
    let secret = sandbox.outside("secret");
    let line = "[2026-11-20 09:30:01] [CRITICAL] witness";
    fs::write(secret.join("log"), line).unwrap();
    fs::create_dir(sandbox.path("logs")).unwrap();
    for log in ["alerts", "backup", "cron", "restart"] {
        std::os::unix::fs::symlink(secret.join("log"), sandbox.path(&format!("logs/{log}.log"))).unwrap();
    }
    for words in ["dashboard json", "dashboard", "ops troubleshoot", "ops troubleshoot --json"] {
        let words: Vec<&str> = words.split(' ').collect();
        let said = sandbox.run(words[0], &words[1..]);
        assert!(!said.stdout.contains("witness") && !said.stdout.is_empty(), "{words:?}: {said:?}");
    }
    fs::remove_file(sandbox.path("logs/alerts.log")).unwrap();
    fs::write(sandbox.path("logs/alerts.log"), line).unwrap();
    assert!(sandbox.run("dashboard", &["json"]).stdout.contains("witness"));
}

#[test]
fn a_folder_of_backups_that_is_a_link_is_followed_only_where_the_operator_named_it() {
    let sandbox = Sandbox::new();
    let config = format!("{CONFIG}[backup]\ninclude = [\"note\"]\n");
    sandbox.write("ops.toml", &config);
    sandbox.write("note", "");
    let elsewhere = sandbox.outside("elsewhere");
    fs::write(elsewhere.join("20200101_000000.tar.gz"), "").unwrap();
    fs::create_dir(elsewhere.join(".part-20200101_000000-dead")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, sandbox.path("backups")).unwrap();
    let files = || fs::read_dir(&elsewhere).unwrap().count();
    for words in
        [&[][..], &["list"], &["verify", "--all"], &["prune", "--yes"], &["verify", "20200101_000000"]]
    {
        let said = sandbox.expect(2, "backup", words);
        assert!(said.stderr.contains("is a symbolic link") && said.stderr.contains("[backup]"), "{said:?}");
    }
    assert_eq!(files(), 2);
    sandbox.write("ops.toml", format!("{config}dir = \"backups\"\n"));
    sandbox.expect(0, "backup", &[]);
    assert!(elsewhere.join("latest").is_symlink());
    assert!(!elsewhere.join(".part-20200101_000000-dead").exists());
}

#[test]
fn state_that_others_could_have_written_is_not_followed() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", CONFIG);
    sandbox.write("note", "");
    sandbox.expect(0, "health-check", &[]);
    let mode = |mode| fs::set_permissions(sandbox.path(".ops"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    sandbox.write(".ops/restore.json", "{}");
    for program in ["health-check", "backup", "restore", "alert", "rotate-logs"] {
        let said = sandbox.expect(3, program, &[]);
        assert!(said.stderr.contains("others may write in") && said.stderr.contains("chmod 700"), "{said:?}");
    }
    assert!(!sandbox.path("backups").exists());
    fs::remove_file(sandbox.path(".ops/restore.json")).unwrap();
    mode(0o755);
    sandbox.expect(0, "health-check", &[]);
}

#[test]
fn what_the_caller_has_open_is_not_passed_on() {
    let sandbox = Sandbox::new();
    let check = "[agent]\npreset = \"none\"\n[check.nine]\nkind = \"command\"\n\
                 command = [\"sh\", \"-c\", \"if cat <&9; then exit 2; else exit 0; fi 2>/dev/null\"]\n";
    sandbox.write("ops.toml", check);
    sandbox.write("secret", "hunter2");
    for (program, args) in [("health-check", ""), ("ops", " health")] {
        let mut shell = std::process::Command::new("sh");
        let inner = sandbox.program(program);
        shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let line = format!("exec 9<\"$0\"; exec \"$1\"{args}");
        shell.args(["-c", &line]).arg(sandbox.path("secret")).arg(inner.get_program());
        let said = crate::sandbox::said(shell.output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        assert!(!said.stdout.contains("hunter2"), "{said:?}");
    }
}
