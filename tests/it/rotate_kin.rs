//! `rotate-logs` and what other programs make of their logs: numbered and dated ones.

use crate::rotate::{inflate, log, rotate, sandbox, there};
#[cfg(target_os = "linux")]
use crate::sandbox::{Said, Sandbox, said};
#[cfg(target_os = "linux")]
use std::fs;

const LINE: &str = "a line of an hour that is over\n";

#[test]
fn what_another_program_closed_is_never_cut() {
    for discipline in ["copytruncate", "rename"] {
        let sandbox = sandbox(&format!("max_size = \"1KB\"\ndiscipline = \"{discipline}\""));
        log(&sandbox, "app.log", "in use\n", 0);
        let closed = ["app.log.2026-11-20_10", "app.log.2026-11-20", "app.log-20261120", "app.log.1"];
        for name in closed {
            log(&sandbox, name, &LINE.repeat(9000), 1);
        }
        let said = rotate(&sandbox, 0, &[]).stdout;
        for name in closed {
            assert_eq!(sandbox.read(&format!("logs/{name}")), LINE.repeat(9000), "{name}: {said}");
        }
    }
}

/// It is opened anew for each line.
#[test]
fn the_log_of_today_is_in_use_whatever_its_name() {
    let sandbox = sandbox("max_total = \"1KB\"\ninclude = [\"logs/*\"]");
    let names = ["app.log-20261120", "app-2026-11-20", "lib.log.20261120"];
    for name in names {
        log(&sandbox, name, LINE, 2);
    }
    log(&sandbox, "old_20261119.log", &LINE.repeat(9000), 1);
    rotate(&sandbox, 0, &[]);
    for name in names {
        assert_eq!(sandbox.read(&format!("logs/{name}")), LINE);
    }
    assert!(!there(&sandbox, "old_20261119.log"), "the day before is over: max_total is held");
    log(&sandbox, "app.log", "the one in use\n", 2);
    log(&sandbox, "app.log-20261120", &LINE.repeat(9000), 2);
    rotate(&sandbox, 0, &[]);
    assert!(!there(&sandbox, "app.log-20261120"));
}

/// Killed between two steps, a run leaves what has our name and was never judged.
#[test]
fn a_kill_after_a_log_became_ours_does_not_get_it_cut() {
    let sandbox = sandbox("max_total = \"100KB\"\nmax_size = \"1KB\"");
    log(&sandbox, "app.log", "in use\n", 0);
    log(&sandbox, "app.log.1", &LINE.repeat(9000), 2);
    let mut killed = sandbox.program("rotate-logs");
    killed.env("OPS_NOW", crate::rotate::NOW).env("OPS_ABORT_AT", "adopted");
    assert!(!killed.status().unwrap().success());
    assert!(there(&sandbox, "app_20261120.1.log"));
    rotate(&sandbox, 0, &[]);
    assert_eq!(inflate(&sandbox, "app_20261120.1.log.gz"), LINE.repeat(9000));
}

#[test]
fn what_an_agent_counts_itself_keeps_its_name() {
    let sandbox = sandbox(
        "include = [\"logs/*\"]\n[logs.rule.chain]\npaths = [\"logs/chain.jsonl\"]\nwhole = true\n\
         [logs.rule.mem]\npaths = [\"logs/mem.jsonl\"]\narchive = true",
    );
    for name in ["chain.jsonl", "mem.jsonl"] {
        log(&sandbox, name, LINE, 0);
    }
    let kept = ["mem.jsonl.1", "mem.jsonl.2", "worker.1", "worker.2", "node-v20.1"];
    for name in kept.iter().chain(&["chain.jsonl.1", "lost.log.1", "app.log.1", "app.log.2"]) {
        log(&sandbox, name, LINE, 48);
    }
    rotate(&sandbox, 0, &[]);
    for name in kept {
        assert_eq!(sandbox.read(&format!("logs/{name}")), LINE, "{name}");
    }
    for name in ["chain.jsonl.1.gz", "lost.log.1.gz", "app_20261118.1.log.gz", "app_20261118.2.log.gz"] {
        assert_eq!(inflate(&sandbox, name), LINE, "{name}");
    }
}

/// The file is nobody's, and so is the rotation; who writes to it is not.
#[cfg(target_os = "linux")]
#[test]
fn what_somebody_unseen_may_write_to_waits_an_hour() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let sandbox = sandbox("max_total = \"1KB\"");
    let root = rustix::process::geteuid().is_root();
    log(&sandbox, "app_20261120.1.log", &LINE.repeat(9000), 0);
    // Anyone else does not see what the first process has open.
    if root {
        give_to_nobody(&sandbox);
    }
    let as_nobody = |now: &str| -> Said {
        let mut command = sandbox.program("rotate-logs");
        if root {
            command.uid(65_534).gid(65_534);
        }
        command.env("OPS_NOW", format!("2026-11-20T{now}Z"));
        said(command.output().unwrap())
    };
    let soon = as_nobody("12:00:05");
    assert!(soon.code == 1 && soon.stdout.contains("written too lately"), "{soon:?}");
    assert!(there(&sandbox, "app_20261120.1.log"));
    assert_eq!(as_nobody("13:00:05").code, 0);
    assert!(!there(&sandbox, "app_20261120.1.log"));

    fn give_to_nobody(sandbox: &Sandbox) {
        let home = &sandbox.home;
        for path in [home.parent().unwrap().to_owned(), home.clone(), sandbox.path("logs")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            chown(&path, Some(65_534), Some(65_534)).unwrap();
        }
        for name in ["logs/app_20261120.1.log", "ops.toml"] {
            chown(sandbox.path(name), Some(65_534), Some(65_534)).unwrap();
        }
    }
}
