//! `ops cron-install` and `cron-uninstall`, against a `crontab` that keeps a file.

use crate::sandbox::Sandbox;
use std::fs;
use std::path::PathBuf;

/// A home, and the file of its user's crontab.
fn sandbox() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\nname = \"tess\"\npreset = \"builtin\"\n");
    let file = sandbox.outside("spool").join("tess");
    // As Debian's: no newline at the end is refused, and `-` reads all of it first.
    let script = format!(
        r#"file='{}'
case "$1" in
-l) if [ -f "$file" ]; then cat "$file"; else echo "no crontab for tess" >&2; exit 1; fi ;;
-) cat > "$file.new"
   if [ -s "$file.new" ] && [ -n "$(tail -c 1 "$file.new")" ]; then
     echo "new crontab file is missing newline before EOF, can't install." >&2; exit 1; fi
   mv "$file.new" "$file" ;;
-r) rm "$file" ;;
*) exit 2 ;;
esac
"#,
        file.display()
    );
    sandbox.fake("crontab", &script);
    (sandbox, file)
}

const FOREIGN: &[u8] =
    b"MAILTO=me@example.org\r\n# \xff not UTF-8\n\n  5 4 * * 1-5  echo 100\\% > /dev/null  \n@reboot true\n";

/// Guards against the predecessor's `crontab FILE`, which replaced everything.
#[test]
fn foreign_lines_are_byte_for_byte_what_they_were() {
    let (sandbox, file) = sandbox();
    for before in [FOREIGN, b"".as_slice(), b"* * * * * true\n"] {
        fs::write(&file, before).unwrap();
        let said = sandbox.expect(0, "ops", &["cron-install"]);
        assert!(said.stdout.contains("the jobs of tess now (6)"), "{}", said.stdout);
        let once = fs::read(&file).unwrap();
        assert!(once.starts_with(before) && once.len() > before.len());
        assert_eq!(fs::read(sandbox.path(".ops/crontab.before")).unwrap(), before);
        let said = sandbox.expect(0, "ops", &["cron-install"]);
        assert!(said.stdout.contains("already"), "{}", said.stdout);
        assert_eq!(fs::read(&file).unwrap(), once, "twice is once");
        sandbox.expect(0, "ops", &["cron-uninstall"]);
        assert_eq!(fs::read(&file).unwrap_or_default(), before);
        assert_eq!(file.exists(), !before.is_empty(), "nothing is left, not even an empty one");
        let said = sandbox.expect(0, "ops", &["cron-uninstall"]);
        assert!(said.stdout.contains("nothing was changed"), "{}", said.stdout);
    }
}

#[test]
fn without_a_crontab_one_is_made_and_its_lines_run() {
    let (sandbox, file) = sandbox();
    fs::remove_dir_all(sandbox.path("logs")).ok();
    let json = sandbox.json(0, "ops", &["cron-install"]);
    assert_eq!((&json["changed"], &json["dry_run"]), (&true.into(), &false.into()));
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(json["block"], text.as_str());
    assert!(!text.contains('%'));
    let line = text.lines().find(|line| line.contains("ops rotate-logs ")).unwrap();
    // What cron has of PATH is hardly enough to start an agent.
    let bin = sandbox.home.parent().unwrap().join("bin");
    assert!(line.contains(&format!("PATH={}:/usr/bin:/bin", bin.display())), "{line}");
    let command = line.splitn(6, ' ').nth(5).unwrap();
    // As cron runs it: sh, another folder, next to no environment, and the logs may be gone.
    fs::remove_dir_all(sandbox.path("logs")).unwrap();
    let ran = std::process::Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .status()
        .unwrap();
    assert!(ran.success(), "{command}");
    assert!(sandbox.read("logs/rotation.log").contains("nothing to do"));
    assert!(sandbox.path("logs/cron.log").exists());
}

#[test]
fn a_changed_schedule_replaces_the_lines_in_place() {
    let (sandbox, file) = sandbox();
    sandbox.expect(0, "ops", &["cron-install"]);
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("0 0 * * * after\n");
    fs::write(&file, &text).unwrap();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"renamed\"\npreset = \"builtin\"\n[schedule]\nalert = \"*/7 * * * *\"\ndashboard = \"\"\n",
    );
    sandbox.expect(0, "ops", &["cron-install"]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("*/7 * * * * ") && !text.contains("*/5") && !text.contains("ops dashboard "),
        "{text}"
    );
    assert!(text.ends_with("<<<\n0 0 * * * after\n"));
    assert_eq!(text.matches(">>> agent-ops").count(), 1);
}

#[test]
fn print_and_dry_run_change_nothing() {
    let (sandbox, file) = sandbox();
    fs::write(&file, FOREIGN).unwrap();
    let printed = sandbox.expect(0, "ops", &["cron-install", "--print"]).stdout;
    assert!(
        printed.starts_with("# >>> agent-ops tess ")
            && printed.contains("--home")
            && !printed.contains("--config")
    );
    sandbox.expect(0, "ops", &["cron-install", "-n"]);
    sandbox.expect(0, "ops", &["cron-uninstall", "-n"]);
    assert_eq!(fs::read(&file).unwrap(), FOREIGN);
    assert!(!sandbox.path(".ops").exists());
}

/// Other tools took any failure of `crontab -l` for "none there" and wiped what there was.
#[test]
fn a_crontab_that_cannot_be_read_is_not_replaced() {
    let (sandbox, _) = sandbox();
    let marker = sandbox.outside("spool").join("written");
    for answer in [
        "echo 'you are not allowed to use this program' >&2; exit 1",
        "echo 'no crontab for tess' >&2; exit 2",
        "echo 'no crontab for tess' >&2; echo '* * * * * true'; exit 1",
        "echo '* * * * * true'; kill -9 $$",
    ] {
        let script = format!("if [ \"$1\" = - ]; then touch '{}'; else {answer}; fi\n", marker.display());
        sandbox.fake("crontab", &script);
        let said = sandbox.expect(3, "ops", &["cron-install"]);
        assert!(said.stderr.contains("cannot read the crontab"), "{}", said.stderr);
        sandbox.expect(3, "ops", &["cron-uninstall"]);
        assert!(!marker.exists(), "{answer}");
    }
}

#[test]
fn torn_markers_bad_times_and_bad_paths_are_refused() {
    let (sandbox, file) = sandbox();
    sandbox.expect(0, "ops", &["cron-install"]);
    let text = fs::read_to_string(&file).unwrap();
    let torn = text.rsplit_once("# <<<").unwrap().0.to_owned();
    fs::write(&file, &torn).unwrap();
    for verb in ["cron-install", "cron-uninstall"] {
        let said = sandbox.expect(3, "ops", &[verb]);
        assert!(
            said.stderr.contains("line 1 of the crontab: our block begins and never ends"),
            "{}",
            said.stderr
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), torn);
    sandbox.write("ops.toml", "[agent]\npreset = \"builtin\"\n[schedule]\nbackup = \"0 25 * * *\"\n");
    for words in [&["cron-install"][..], &["config", "check"]] {
        let said = sandbox.expect(3, "ops", words);
        let told = "ops.toml:4:1: schedule.backup = \"0 25 * * *\": '25' is no hour";
        assert!(said.stderr.contains(told), "{}", said.stderr);
    }
}

/// People write "never" so; and what was taken once does not stop the jobs that run already.
#[test]
fn what_is_hardly_meant_is_told_and_stops_nothing() {
    let (sandbox, _) = sandbox();
    sandbox.write("logs/a.log", "one line\n");
    let check = |keys: &str, warnings: &[&str]| {
        sandbox.write("ops.toml", format!("[agent]\nname = \"tess\"\npreset = \"builtin\"\n{keys}\n"));
        let said = sandbox.expect(1, "ops", &["config", "check"]);
        for warning in warnings {
            assert!(said.stdout.contains(warning), "{warning}: {said:?}");
        }
        assert_eq!(said.stdout.matches("warning: ").count(), warnings.len(), "{said:?}");
        let shown = sandbox.json(1, "ops", &["config", "check"]);
        assert_eq!(shown["warnings"].as_array().unwrap().len(), warnings.len());
        sandbox.expect(0, "ops", &["config", "show"]);
        // The config is no reason for 3.
        for program in ["alert", "rotate-logs", "health-check"] {
            let said = sandbox.run(program, &["--json"]);
            assert!(said.code < 3, "{keys} {program}: {said:?}");
        }
    };
    check(
        "[logs]\nkeep_lines = 0\nmax_size = \"0\"\nmax_total = \"999B\"\n\
         [logs.rule.x]\npaths = [\"logs/x.log\"]\nkeep_lines = 0\nmax_size = \"0\"",
        &[
            "logs.keep_lines = 0: ",
            "logs.max_size is 0: ",
            "logs.max_total is less than 1KB: ",
            "logs.rule.x.keep_lines = 0: ",
            "logs.rule.x.max_size is 0: ",
        ],
    );
    check("[schedule]\nbackup = \"0 0 31 2 *\"", &["schedule.backup = \"0 0 31 2 *\": there is no such day"]);
    for words in [&["cron-install"][..], &["cron-install", "--print", "--manager", "systemd"]] {
        let said = sandbox.expect(1, "ops", words);
        assert!(said.stderr.contains("schedule.backup = \"0 0 31 2 *\": there is no such day"), "{said:?}");
        assert!(
            !said.stdout.contains("backup       0 0 31") && !said.stdout.contains("ops backup"),
            "{said:?}"
        );
    }
}

#[test]
fn options_that_say_nothing_to_cron_are_refused() {
    let (sandbox, file) = sandbox();
    for option in ["--user", "--system"] {
        let said = sandbox.expect(3, "ops", &["cron-install", option]);
        assert!(said.stderr.contains("cron has no --system and no --user"), "{said:?}");
    }
    assert!(!file.exists());
    sandbox.expect(0, "ops", &["cron-install"]);
    let said = sandbox.expect(0, "ops", &["cron-uninstall", "--manager", "systemd"]);
    assert!(said.stdout.contains("systemd has no jobs of tess; nothing was changed"), "{said:?}");
    assert!(file.exists());
    sandbox.expect(0, "ops", &["cron-uninstall", "--manager", "cron"]);
    assert!(!file.exists());
}

#[test]
fn where_no_manager_answers_cron_is_told_of_and_a_dry_run_shows_all_the_same() {
    let (sandbox, _) = sandbox();
    for program in ["systemctl", "launchctl"] {
        sandbox.fake(program, "echo no bus here >&2; exit 1");
    }
    for (manager, word) in [("systemd", "OnCalendar="), ("launchd", "StartCalendarInterval")] {
        let words = ["cron-install", "--manager", manager, "--user"];
        let said = sandbox.expect(3, "ops", &words);
        assert!(said.stderr.contains("`ops cron-install`, without --manager, has cron run"), "{said:?}");
        let said = sandbox.expect(0, "ops", &[&words[..], &["-n"]].concat());
        assert!(said.stdout.contains(word) && said.stderr.contains("could not be done now"), "{said:?}");
    }
    for (manager, word) in [("systemd", "ExecStart="), ("launchd", "ProgramArguments")] {
        let said = sandbox.expect(0, "ops", &["install", "-n", "--manager", manager, "--user"]);
        assert!(said.stdout.contains(word) && said.stderr.contains("could not be done now"), "{said:?}");
        sandbox.expect(3, "ops", &["install", "--manager", manager, "--user"]);
    }
}

/// Each home of a fleet waits for a moment of its own, always the same, and never longer than it may.
#[test]
fn jitter_is_each_home_s_own() {
    let (sandbox, _) = sandbox();
    let delays = |home: &str| -> Vec<u64> {
        let home = sandbox.outside(home);
        fs::write(home.join("ops.toml"), "[agent]\npreset = \"builtin\"\n[schedule]\njitter = \"10m\"\n")
            .unwrap();
        let said = sandbox.expect(0, "ops", &["cron-install", "--print", "--home", home.to_str().unwrap()]);
        let lines = said.stdout.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split("sleep ").nth(1)?.split(';').next()?.parse().ok()).collect()
    };
    let (one, two) = (delays("one"), delays("two"));
    assert_eq!(one, delays("one"));
    assert_ne!(one, two);
    // The page is nobody else's business.
    let home = sandbox.outside("one");
    let mut command = sandbox.program("ops");
    command.args(["cron-install", "--home"]).arg(&home).env("OPS_NOW", "2026-11-20T12:07:00Z");
    let said = crate::sandbox::said(command.output().unwrap());
    // Of a run that was due before, if it waits still.
    let waits = i64::try_from(one[0]).unwrap();
    let now = 12 * 3600 + 7 * 60;
    let due = ((now - waits) / 300 + 1) * 300 + waits;
    let next = format!("next 2026-11-20 {:02}:{:02}:{:02}", due / 3600, due / 60 % 60, due % 60);
    let line = said.stdout.lines().find(|line| line.trim_start().starts_with("alert ")).unwrap();
    assert!(line.ends_with(&next), "{waits}: {line}");
    assert!(one.len() == 5 && one.iter().chain(&two).all(|&seconds| seconds <= 600), "{one:?}");
    sandbox.write("ops.toml", "[agent]\npreset = \"builtin\"\n[schedule]\njitter = \"2h\"\n");
    let said = sandbox.expect(3, "ops", &["cron-install"]);
    assert!(said.stderr.contains("an hour at most"), "{}", said.stderr);
}

#[test]
fn a_write_that_does_not_hold_is_noticed() {
    let (sandbox, file) = sandbox();
    fs::write(&file, FOREIGN).unwrap();
    for write in ["exit 1", "exit 0", "echo '# other' > \"$file\""] {
        let script = format!(
            "file='{}'\nif [ \"$1\" = - ]; then cat > /dev/null; {write}; else cat \"$file\"; fi\n",
            file.display()
        );
        sandbox.fake("crontab", &script);
        let said = sandbox.expect(2, "ops", &["cron-install"]);
        assert!(said.stderr.contains("not what was written"), "{}", said.stderr);
        assert_eq!(fs::read(sandbox.path(".ops/crontab.before")).unwrap(), FOREIGN);
    }
    sandbox.fake("crontab", "sleep 0; exec /nonexistent/crontab");
    sandbox.expect(3, "ops", &["cron-install"]);
}

#[test]
fn two_agents_of_one_user_have_a_block_each() {
    let (sandbox, file) = sandbox();
    let other = sandbox.outside("other agent");
    fs::write(other.join("ops.toml"), "[agent]\nname = \"tess\"\npreset = \"builtin\"\n").unwrap();
    sandbox.expect(0, "ops", &["cron-install"]);
    let one = fs::read(&file).unwrap();
    sandbox.expect(0, "ops", &["cron-install", "--home", other.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("other agent/logs'; '") || text.contains("--home '"), "{text}");
    sandbox.expect(0, "ops", &["cron-uninstall", "--home", other.to_str().unwrap()]);
    assert_eq!(fs::read(&file).unwrap(), one);
}

#[test]
fn jobs_that_do_not_run_are_missed() {
    let sandbox = crate::service::with_agent(&[]);
    let spool = sandbox.outside("spool").join("crontab");
    sandbox.fake(
        "crontab",
        &format!(
            "if [ \"$1\" = -l ]; then [ -f {0} ] || {{ echo 'no crontab for me' >&2; exit 1; }}; cat {0}; else cat > {0}; fi\n",
            spool.display()
        ),
    );
    let begin = chrono::Utc::now();
    let at = |minutes: i64| {
        crate::checks::look_at(
            &sandbox,
            begin + chrono::TimeDelta::minutes(minutes),
            "schedule",
            &["--only", "schedule"],
        )
    };
    let run = |program: &str, args: &[&str], minutes: i64| {
        let now = begin + chrono::TimeDelta::minutes(minutes);
        let said = sandbox.program(program).args(args).env("OPS_NOW", now.to_rfc3339()).output().unwrap();
        assert!(said.status.code().unwrap() < 3, "{said:?}");
    };
    assert!(at(0)["summary"].as_str().unwrap().contains("nobody runs the jobs"));
    let usual = || {
        let report: serde_json::Value =
            serde_json::from_str(&sandbox.run("health-check", &["--json"]).stdout).unwrap();
        crate::service::finding(&report, "schedule")["summary"].as_str().unwrap().to_owned()
    };
    assert!(usual().contains("nobody"));
    let config = std::fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    // Only the two that run often: the others would be due at times that depend on the clock.
    sandbox.write(
        "ops.toml",
        config + "\n[schedule]\nrotate_logs = \"\"\nbackup = \"\"\ndrill = \"\"\nreport = \"\"\n",
    );
    let said = sandbox.expect(0, "ops", &["cron-install"]);
    assert!(said.stdout.contains("alert        */5 * * * *    next "), "{}", said.stdout);
    assert!(!usual().contains("nobody"), "what was known of before is not told as present: {}", usual());
    assert_eq!(at(1)["state"], "ok", "{}", at(1));
    run("alert", &[], 29);
    run("dashboard", &["web"], 29);
    assert_eq!(at(29)["summary"], "2 jobs in the crontab, all on time");
    let late = at(60);
    assert_eq!(late["state"], "ok", "due a moment ago: {late}");
    assert_eq!(at(29)["metrics"][0]["value"], 0.0);

    // The lines are changed, then gone.
    let lines = std::fs::read_to_string(&spool).unwrap();
    std::fs::write(&spool, lines.replace("*/5", "*/50")).unwrap();
    let found = at(29);
    assert!(
        found["state"] == "warning" && found["summary"].as_str().unwrap().contains("were changed"),
        "{found}"
    );
    std::fs::write(&spool, "0 0 * * * other\n").unwrap();
    let found = at(29);
    assert!(
        found["state"] == "critical" && found["summary"].as_str().unwrap().contains("are gone"),
        "{found}"
    );
    // To another user, who has a crontab of his own, it says nothing of that.
    if rustix::process::geteuid().is_root() {
        let note = sandbox.path(".ops/crontab.installed");
        std::os::unix::fs::chown(&note, Some(12_345), None).unwrap();
        assert_eq!(at(29)["summary"], "2 jobs in the crontab of another user, all on time");
        std::os::unix::fs::chown(&note, Some(0), None).unwrap();
    }
    sandbox.expect(0, "ops", &["cron-install"]);
    sandbox.expect(0, "ops", &["cron-uninstall"]);
    assert!(at(29)["summary"].as_str().unwrap().contains("nobody runs the jobs"));
    assert!(usual().contains("nobody"), "{}", usual());
}

#[test]
fn a_daily_job_that_did_not_run_is_late_for_hours() {
    let sandbox = crate::service::with_agent(&[]);
    let spool = sandbox.outside("spool").join("crontab");
    sandbox.fake(
        "crontab",
        &format!(
            "if [ \"$1\" = -l ]; then cat {0} 2>/dev/null || {{ echo 'no crontab for me' >&2; exit 1; }}; else cat > {0}; fi\n",
            spool.display()
        ),
    );
    let config = std::fs::read_to_string(sandbox.path("ops.toml")).unwrap();
    let schedule = "alert = \"\"\nrotate_logs = \"\"\nbackup = \"0 2 * * *\"\ndrill = \"\"\ndashboard = \"\"\nreport = \"\"\n";
    sandbox.write("ops.toml", format!("{config}\n[schedule]\n{schedule}"));
    sandbox.expect(0, "ops", &["cron-install"]);
    let tomorrow = (chrono::Utc::now() + chrono::TimeDelta::days(2)).date_naive();
    let at = |hour: u32, minute: u32| {
        crate::checks::look_at(
            &sandbox,
            tomorrow.and_hms_opt(hour, minute, 0).unwrap().and_utc(),
            "schedule",
            &["--only", "schedule"],
        )
    };
    for (hour, minute, state) in [(2, 5, "ok"), (2, 20, "warning"), (4, 0, "critical")] {
        let found = at(hour, minute);
        assert_eq!(found["state"], state, "{found}");
    }
    assert!(at(4, 0)["summary"].as_str().unwrap().contains("backup was due 2h ago and did not run"));
    let now = tomorrow.and_hms_opt(4, 1, 0).unwrap().and_utc().to_rfc3339();
    sandbox.program("backup").env("OPS_NOW", now).output().unwrap();
    assert_eq!(at(4, 2)["state"], "ok");
    // A clock that went back does not make it late.
    assert_eq!(at(1, 0)["state"], "ok");
}

#[test]
fn the_nights_when_the_clock_is_changed_miss_nothing() {
    let (sandbox, _) = sandbox();
    sandbox.write(
        "ops.toml",
        "[agent]\npreset = \"builtin\"\n[check.schedule]\nkind = \"schedule\"\n\
         [schedule]\nalert = \"\"\nrotate_logs = \"\"\ndashboard = \"\"\ndrill = \"\"\nreport = \"\"\n",
    );
    sandbox.expect(0, "ops", &["cron-install"]);
    let note = fs::File::options().write(true).open(sandbox.path(".ops/crontab.installed")).unwrap();
    let since: chrono::DateTime<chrono::Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    note.set_modified(since.into()).unwrap();
    let at = |program: &str, args: &[&str], now: &str| {
        let mut command = sandbox.program(program);
        command.args(args).env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3").env("OPS_NOW", now);
        crate::sandbox::said(command.output().unwrap())
    };
    // The backup of 02:00, which is not there in spring (systemd leaves it out), and twice in autumn.
    for (ran, looked, code) in [
        ("2026-03-28T01:00:20Z", "2026-03-29T08:00:00Z", 0),
        ("2026-03-28T01:00:20Z", "2026-03-30T08:00:00Z", 2),
        ("2026-10-25T00:00:20Z", "2026-10-25T00:30:00Z", 0),
        ("2026-10-25T00:00:20Z", "2026-10-25T08:00:00Z", 0),
        ("2026-10-25T00:00:20Z", "2026-10-26T08:00:00Z", 2),
    ] {
        at("backup", &[], ran);
        let said = at("health-check", &["--only", "schedule"], looked);
        assert_eq!(said.code, code, "{ran} {looked}: {}{}", said.stdout, said.stderr);
    }
}
