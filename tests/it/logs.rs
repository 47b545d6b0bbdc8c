//! `ops logs`: tails, names, following.

use crate::sandbox::{Sandbox, wait_until};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\npreset = \"builtin\"\n");
    sandbox
}

fn append(sandbox: &Sandbox, log: &str, text: &str) {
    let path = sandbox.path(log);
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_name_is_the_newest_file_of_that_name() {
    let sandbox = sandbox();
    sandbox.write("logs/daemon_20261119.log", "old\n");
    sandbox.write("logs/daemon_20261120.log", "one\ntwo\nthree ERROR\nlast without end");
    sandbox.write("logs/daemon_stderr.log", "noise\n");
    sandbox.write("logs/email/inbox.log", "mail\x1b[31m\n");
    let newer = fs::metadata(sandbox.path("logs/daemon_20261120.log")).unwrap().modified().unwrap();
    let older = newer - std::time::Duration::from_secs(86_400);
    let file = OpenOptions::new().write(true).open(sandbox.path("logs/daemon_20261119.log")).unwrap();
    file.set_modified(older).unwrap();

    assert_eq!(
        sandbox.expect(0, "ops", &["logs", "daemon", "-n", "2"]).stdout,
        "three ERROR\nlast without end\n"
    );
    let default = sandbox.expect(0, "ops", &["logs"]).stdout;
    assert!(default.starts_with("old\none\n"), "without a name it is the first service's: {default}");
    assert_eq!(sandbox.expect(0, "ops", &["logs", "daemon", "--grep", "error"]).stdout, "three ERROR\n");
    assert_eq!(sandbox.expect(0, "ops", &["logs", "email"]).stdout, "mail\\u{1b}[31m\n");
}

#[test]
fn all_logs_are_merged_in_the_order_of_time() {
    let sandbox = sandbox();
    sandbox.write(
        "logs/alerts.log",
        "[2025-11-20 09:30:01] [CRITICAL] Daemon - gone\n[2025-11-20 09:40:00] [OK] Daemon - back\n",
    );
    sandbox.write(
        "logs/daemon_20251120.log",
        "[2025-11-20 09:30:00] [DAEMON] ERROR in cycle\nTraceback\n[2025-11-20 09:35:00] [DAEMON] up\n",
    );
    sandbox.write(
        "logs/mama.log",
        "{\"timestamp\":\"2025-11-20T09:34:00.000Z\",\"level\":\"warn\",\"message\":\"\x1b[2Jslow\"}\n",
    );
    let all = sandbox.expect(0, "ops", &["logs", "all"]).stdout;
    assert_eq!(
        all,
        "daemon | [2025-11-20 09:30:00] [DAEMON] ERROR in cycle\n\
         daemon | Traceback\n\
         alerts | [2025-11-20 09:30:01] [CRITICAL] Daemon - gone\n\
         mama   | {\"timestamp\":\"2025-11-20T09:34:00.000Z\",\"level\":\"warn\",\"message\":\"\\u{1b}[2Jslow\"}\n\
         daemon | [2025-11-20 09:35:00] [DAEMON] up\n\
         alerts | [2025-11-20 09:40:00] [OK] Daemon - back\n"
    );
    let bad = sandbox.json(0, "ops", &["logs", "all", "--level", "ERROR"]);
    let texts: Vec<&str> =
        bad["lines"].as_array().unwrap().iter().map(|line| line["log"].as_str().unwrap()).collect();
    assert_eq!(texts, ["daemon", "daemon", "alerts"]);
    assert_eq!(bad["lines"][1]["text"], "Traceback");
    assert_eq!(bad["lines"][2]["at"], "2025-11-20T09:30:01.000Z");
    assert_eq!(bad["lines"][2]["level"], "critical");
    assert_eq!(bad["cut"], false);
    let since = ["logs", "all", "--since", "2025-11-20 09:32", "--grep", "^\\[.*(up|back)$", "-n", "1"];
    let said = sandbox.expect(0, "ops", &since);
    assert_eq!(said.stdout, "alerts | [2025-11-20 09:40:00] [OK] Daemon - back\n");
    assert!(said.stderr.contains("only the last 1 line: -n takes more"), "{}", said.stderr);
}

#[test]
fn what_was_compressed_is_read_when_the_time_reaches_back() {
    let sandbox = sandbox();
    let yesterday = sandbox.write("logs/daemon_20251119.log", "[2025-11-19 09:00:00] ERROR yesterday\n");
    assert!(std::process::Command::new("gzip").arg(yesterday).status().unwrap().success());
    sandbox.write("logs/daemon_20251120.log", "[2025-11-20 09:00:00] ERROR today\n");
    let since = |time| sandbox.expect(0, "ops", &["logs", "daemon", "--since", time]).stdout;
    assert_eq!(since("2025-11-20"), "[2025-11-20 09:00:00] ERROR today\n");
    assert_eq!(
        since("2025-11-19 08:00"),
        "[2025-11-19 09:00:00] ERROR yesterday\n[2025-11-20 09:00:00] ERROR today\n"
    );
    sandbox.write("logs/daemon_20251118.log.gz", "no gz");
    let said = sandbox.expect(1, "ops", &["logs", "daemon", "--since", "2025-11-01"]);
    assert!(said.stderr.contains("cannot read") && said.stderr.contains("daemon_20251118.log.gz"));
    assert!(said.stdout.contains("yesterday"), "one that is damaged does not hide the others");
}

#[test]
fn what_cannot_be_understood_is_refused_with_a_remedy() {
    let sandbox = sandbox();
    sandbox.write("logs/alerts.log", "x\n");
    for (args, remedy) in [
        (["--grep", "(("], "--grep '\\(\\('"),
        (["--grep", "(a{1000}){1000}"], "is too large a regular expression"),
        (["-n", "-1"], "invalid value '-1' for '--lines <N>'"),
        (["--since", "soon"], "write it like 30m, 2h"),
        (["--since", "2999-01-01"], "yet to come"),
        (["--level", "loud"], "possible values: debug, info, warning, error, critical"),
        (["-f", "--json"], "leave one of the two out"),
    ] {
        let said = sandbox.expect(3, "ops", &[&["logs", "alerts"], &args[..]].concat());
        assert!(said.stderr.contains(remedy), "{args:?}: {}", said.stderr);
    }
}

#[test]
fn an_unknown_name_is_refused_with_those_that_there_are() {
    let sandbox = sandbox();
    for name in ["daemon", "alerts"] {
        let said = sandbox.expect(0, "ops", &["logs", name]);
        assert!(said.stderr.contains(&format!("nothing was written to '{name}' yet")), "{}", said.stderr);
    }
    assert_eq!(sandbox.json(0, "ops", &["logs", "backup"])["lines"], serde_json::json!([]));
    sandbox.write("logs/alerts.log", "x\n");
    let said = sandbox.expect(3, "ops", &["logs", "alert"]);
    assert!(said.stderr.contains("did you mean 'alerts'?"), "{}", said.stderr);
    let said = sandbox.expect(3, "ops", &["logs", "../../etc/passwd"]);
    assert!(said.stderr.contains("there are: all, alerts"), "{}", said.stderr);
}

#[test]
fn the_last_lines_reach_back_over_midnight_and_rotation() {
    let sandbox = sandbox();
    let lines = |from: usize, to: usize| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    for (name, text, days) in [
        ("daemon_20261117.log", lines(0, 100_000), 4),
        ("daemon_20261118.log", lines(100_000, 100_020), 3),
        ("daemon_20261119.1.log", lines(100_020, 100_025), 2),
        ("daemon_20261119.log", lines(100_025, 100_030), 1),
        ("daemon_20261120.log", lines(100_030, 100_031), 0),
    ] {
        let path = sandbox.write(&format!("logs/{name}"), text);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(old - std::time::Duration::from_secs(86_400 * days)).unwrap();
        if days > 2 {
            assert!(std::process::Command::new("gzip").arg(path).status().unwrap().success());
        }
    }
    for wanted in [1, 2, 10, 11, 12, 31, 32, 50, 5000] {
        let said = sandbox.expect(0, "ops", &["logs", "daemon", "-n", &wanted.to_string()]);
        assert_eq!(said.stdout, lines(100_031 - wanted, 100_031), "{wanted}");
    }
}

/// Names that the runbooks and the remedies of checks use.
#[test]
fn a_service_s_name_shows_its_logs_whatever_they_are_called() {
    for (preset, files, name, shown) in [
        ("mama", &["logs/mama.log", "logs/daemon_stderr.log"][..], "daemon", &["mama", "daemon_stderr"][..]),
        (
            "gomikrobot",
            &["logs/gateway_stdout.log", "logs/gateway_stderr.log"],
            "daemon",
            &["gateway_stdout", "gateway_stderr"],
        ),
        ("gomikrobot", &["logs/gateway_stdout.log"], "gateway", &["gateway_stdout"]),
        ("macha", &["orchestrator.log"], "daemon", &["orchestrator"]),
        (
            "machina",
            &["logs/serve_stdout.log", "logs/autonomic_stderr.log", "logs/noise.log"],
            "daemon",
            &["serve_stdout", "autonomic_stderr"],
        ),
        (
            "machina",
            &["logs/serve_stdout.log", "logs/serve_stderr.log"],
            "serve",
            &["serve_stdout", "serve_stderr"],
        ),
        ("machina", &["logs/run_ab12.jsonl", "logs/run_cd34.jsonl"], "run_ab12", &["run_ab12.jsonl"]),
        (
            "machina",
            &["logs/run_ab12.jsonl", "logs/run_cd34.jsonl"],
            "runs",
            &["run_ab12.jsonl", "run_cd34.jsonl"],
        ),
        (
            "dharmic",
            &["logs/charan_vidhi_reflections.jsonl"],
            "charan_vidhi_reflections",
            &["charan_vidhi_reflections.jsonl"],
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("ops.toml", format!("[agent]\npreset = \"{preset}\"\n"));
        let empty = sandbox.run("ops", &["logs", name]);
        assert_eq!(empty.code, if name == "run_ab12" { 3 } else { 0 }, "{preset} {name}: {empty:?}");
        for file in files {
            sandbox.write(file, "a line\n");
        }
        sandbox.write("logs/alerts.log", "one of ours\n");
        let said = sandbox.json(0, "ops", &["logs", name]);
        let mut logs: Vec<&str> =
            said["lines"].as_array().unwrap().iter().map(|line| line["log"].as_str().unwrap()).collect();
        let mut shown = shown.to_vec();
        logs.sort_unstable();
        shown.sort_unstable();
        assert_eq!(logs, shown, "{preset} {name}");
    }
}

#[test]
fn giant_lines_and_strange_characters_do_no_harm() {
    let sandbox = sandbox();
    sandbox.write(
        "logs/alerts.log",
        format!("before\n[2026-11-20 09:30:01] ERROR {}\nafter\u{2028}[x]\n", "x".repeat(24_000_000)),
    );
    let said = sandbox.expect(0, "ops", &["logs", "alerts"]).stdout;
    assert!(
        said.len() < 40_000 && said.contains("… (24.0 MB more)\nafter\\u{2028}[x]\n"),
        "{} {}",
        said.len(),
        &said[said.len() - 60..]
    );
    assert_eq!(
        sandbox.json(0, "ops", &["logs", "alerts", "--level", "error"])["lines"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn a_log_that_is_not_there_yet_is_waited_for() {
    let sandbox = sandbox();
    let said = sandbox.expect(3, "ops", &["logs", "deamon", "-f"]);
    assert!(said.stderr.contains("did you mean 'daemon'?"), "{}", said.stderr);
    for name in ["daemon", "alerts", "trading"] {
        let mut child =
            sandbox.program("ops").args(["logs", name, "-f"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        // It has looked, and found nothing.
        std::thread::sleep(std::time::Duration::from_millis(300));
        sandbox.write(&format!("logs/{name}.log"), "the first\n");
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.ends_with("the first\n"), "{name}: {line}");
        fs::remove_file(sandbox.path(&format!("logs/{name}.log"))).unwrap();
    }
}

/// Guards against the predecessor's `tail -f` of all files of the past, which did not see the
/// new day's file.
#[test]
fn following_goes_on_through_rotation_and_a_new_day() {
    let sandbox = sandbox();
    sandbox.write("logs/daemon_20261119.log", "WARN before\n");
    let mut child = sandbox
        .program("ops")
        .args(["logs", "daemon", "-f", "-n", "1", "--grep", "E$", "--level", "warn"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let reader = BufReader::new(child.stdout.take().unwrap());
    let thread = {
        let lines = Arc::clone(&lines);
        std::thread::spawn(move || {
            reader.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line))
        })
    };
    let seen = |wanted: &str| lines.lock().unwrap().iter().any(|line| line == wanted);
    wait_until("the tail is shown", || seen("WARN before"));
    append(&sandbox, "logs/daemon_20261119.log", "WARN one e\nERROR two\nINFO one e\n");
    wait_until("a new line is shown", || seen("WARN one e"));
    fs::rename(sandbox.path("logs/daemon_20261119.log"), sandbox.path("away")).unwrap();
    append(&sandbox, "logs/daemon_20261119.log", "2026-11-19 23:59:59 ERROR it\ntwo e\n");
    wait_until("a line after the rotation is shown", || seen("two e"));
    append(&sandbox, "logs/daemon_20261120.log", "[00:00:01] CRITICAL three e\n");
    wait_until("a line of the new day is shown", || seen("[00:00:01] CRITICAL three e"));
    child.kill().unwrap();
    child.wait().unwrap();
    thread.join().unwrap();
    assert_eq!(*lines.lock().unwrap(), ["WARN before", "WARN one e", "two e", "[00:00:01] CRITICAL three e"]);
}

/// A compressed log of two members: the end can be read without the beginning.
fn two_members(sandbox: &Sandbox, name: &str, first: &str, second: &str) {
    let gz = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    sandbox.write(name, [gz(first), gz(second)].concat());
}

#[test]
fn what_is_asked_for_by_what_it_says_is_found_in_compressed_logs() {
    let sandbox = sandbox();
    two_members(&sandbox, "logs/daemon_20261119.log.gz", "the needle ERROR\n", &"hay\n".repeat(500));
    for args in [["--grep", "needle"], ["--level", "error"]] {
        let said = sandbox.expect(0, "ops", &["logs", "daemon", "-n", "3", args[0], args[1]]).stdout;
        assert_eq!(said, "the needle ERROR\n", "{args:?}");
    }
    assert_eq!(sandbox.expect(0, "ops", &["logs", "daemon", "-n", "2"]).stdout, "hay\nhay\n");
}

#[test]
fn of_two_services_the_one_with_the_longer_name_has_the_log() {
    let sandbox = Sandbox::new();
    let services = ["api", "api-gw"].map(|name| format!("[service.{name}]\ncommand = [\"sleep\", \"9\"]\n"));
    sandbox.write("ops.toml", format!("[agent]\npreset = \"none\"\n{}", services.concat()));
    sandbox.write("logs/api_stdout.log", "of the api\n");
    sandbox.write("logs/api-gw_stdout.log", "of the gateway\n");
    assert!(!sandbox.expect(0, "ops", &["logs", "api"]).stdout.contains("gateway"));
    assert!(sandbox.expect(0, "ops", &["logs", "api-gw"]).stdout.contains("gateway"));
}

/// The same command where few files may be open at once.
pub fn with_few_files(command: &std::process::Command) -> std::process::Command {
    let mut few = std::process::Command::new("/bin/sh");
    few.args(["-c", "ulimit -n 250 && exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    few.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    few
}

#[test]
fn more_logs_are_followed_than_may_be_open() {
    let sandbox = sandbox();
    for number in 0..600 {
        sandbox.write(&format!("logs/l{number:03}.log"), "before\n");
    }
    let mut command = sandbox.program("ops");
    command.args(["logs", "all", "-f", "-n", "1"]);
    let mut child = with_few_files(&command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    };
    assert!(line().contains("before"));
    for round in ["one", "two"] {
        for number in ["000", "300", "599"] {
            append(&sandbox, &format!("logs/l{number}.log"), &format!("{round} {number}\n"));
            let came = line();
            assert!(came.ends_with(&format!("{round} {number}\n")), "{came}");
        }
    }
    child.kill().unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}
