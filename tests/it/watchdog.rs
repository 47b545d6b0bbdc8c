//! Runs that cannot finish.

use crate::sandbox::{Sandbox, said, wait_until};
use agent_ops::base::process::Process;
use std::fs;

const LIMITS: &str = "[schedule.limit]\nhealth_check = \"1s\"\nalert = \"1s\"\nrotate_logs = \"1s\"\nbackup = \"1s\"\ndrill = \"1s\"\ndashboard = \"1s\"\n";

/// Ends itself in its time, says what it was at, and leaves its locks free for the next run, which says so too.
#[test]
fn a_run_that_hangs_ends_itself_and_the_next_says_so() {
    let sandbox = Sandbox::new();
    let config = "[backup]\ninclude = [\"memory/**\"]\n[logs]\nmax_size = \"1KB\"\n[alerts.desktop]\nenabled = false\n";
    sandbox.write("ops.toml", format!("{config}{LIMITS}"));
    sandbox.write("memory/state.json", "{}\n");
    sandbox.expect(0, "backup", &[]);
    sandbox.write("memory/state.json", "{\"a\":1}\n");
    let cases: [(&str, &[&str], &str, &str, &str); 4] = [
        ("backup", &[], "written", "writing the archive", "backup"),
        ("alert", &[], "delivered", "sending messages", "alerts"),
        ("restore", &["latest", "--drill"], "1", "a test restore", "backup"),
        ("rotate-logs", &[], "1", "compressing logs", "rotation"),
    ];
    for (program, words, step, phase, log) in cases {
        sandbox.write("logs/big.log", "a line\n".repeat(1000));
        let hung = said(sandbox.program(program).env("OPS_HANG_AT", step).args(words).output().unwrap());
        assert_eq!(hung.code, 2, "{program}: {hung:?}");
        assert!(hung.stderr.contains("was not done after 1s and was ended"), "{program}: {hung:?}");
        assert!(hung.stderr.contains(phase), "{program}: {hung:?}");
        let next = sandbox.run(program, words);
        assert!(next.code < 2 && next.stderr.contains("was not done after 1s"), "{program}: {next:?}");
        assert!(sandbox.read(&format!("logs/{log}.log")).contains("Run not done in time"), "{program}");
        let third = sandbox.run(program, words);
        assert!(third.code < 2 && !third.stderr.contains("was not done"), "{program}: {third:?}");
    }
}

/// What it started does not outlive it.
#[test]
fn what_a_hung_run_started_ends_with_it() {
    let sandbox = Sandbox::new();
    let check = "[check.slow]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo $$ >pid; sleep 300\"]\ntimeout = \"200s\"\n";
    sandbox.write("ops.toml", format!("{check}{LIMITS}"));
    let hung = sandbox.expect(2, "health-check", &[]);
    assert!(hung.stderr.contains("it was at: the checks"), "{hung:?}");
    let pid = sandbox.read("pid").trim().parse().unwrap();
    wait_until("the check is gone", || !Process::find(pid).unwrap().is_some_and(|process| process.alive()));
    let next = sandbox.run("health-check", &["--list"]);
    assert_eq!(next.code, 0, "{next:?}");
}

/// A start that takes its time is not cut, and no time is no limit.
#[test]
fn what_must_not_be_cut_is_waited_for() {
    let sandbox = Sandbox::new();
    let script = r#"sleep 2; printf '{"status": "running", "timestamp": "%s"}' "$(date -u +%FT%T+00:00)" >status.json; exec sleep 6077"#;
    sandbox.write("run.sh", script);
    let service = "[alerts.desktop]\nenabled = false\n[service.bot]\ncommand = [\"sh\", \"run.sh\"]\nready = \"status\"\nstatus_file = \"status.json\"\n";
    sandbox.write("ops.toml", format!("{service}{LIMITS}"));
    sandbox.expect(0, "ops", &["start"]);
    let first: u32 = fs::read_to_string(sandbox.path(".ops/service/bot.json"))
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .and_then(|record| record["identity"]["pid"].as_u64())
        .unwrap() as u32;
    let identity = Process::find(first).unwrap().unwrap().identity;
    identity.signal(agent_ops::base::process::Signal::KILL).unwrap();
    wait_until("it is dead", || identity.find().unwrap().is_none());
    // Its limit is over while the service comes up.
    let ended = sandbox.run("alert", &[]);
    assert!(ended.code <= 2, "{ended:?}");
    let status = sandbox.run("ops", &["status"]);
    assert!(status.stdout.contains("running"), "{status:?}");
}
