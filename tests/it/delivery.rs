//! `alert` when channels fail, when it is killed, and when there is nowhere to remember anything.

use crate::receiver::{
    Hook, SILENCE, at, crit, email, good, log_lines, mail_server, warn, webhook, with_checks,
};
use crate::sandbox::wait_until;
use std::fs;
use std::process::Stdio;

#[test]
fn a_dead_hook_gets_it_in_the_next_run_once_and_under_the_same_name() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    warn(&sandbox);
    hook.answer(503);
    let run = at(2, &sandbox, "12:00");
    assert!(run.stderr.contains("nobody could be told"), "{}", run.stderr);
    let first = hook.take();
    hook.answer(200);
    at(0, &sandbox, "12:05");
    let second = hook.take();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0], second[0]);
    at(0, &sandbox, "12:10");
    assert_eq!(hook.take().len(), 0);
    assert_eq!(log_lines(&sandbox).len(), 1, "one message, one line");
}

#[test]
fn a_refusal_for_good_is_not_tried_again() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    warn(&sandbox);
    hook.answer(404);
    at(2, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    at(0, &sandbox, "12:05");
    assert_eq!(hook.take().len(), 0);
    at(2, &sandbox, "12:30");
    assert_eq!(hook.kinds(), ["reminder"], "but what is new is tried");
}

#[test]
fn an_end_that_nobody_was_told_is_told_later() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    hook.answer(500);
    at(2, &sandbox, "12:00");
    good(&sandbox);
    at(2, &sandbox, "12:05");
    hook.take();
    hook.answer(200);
    at(0, &sandbox, "12:10");
    assert_eq!(hook.kinds(), ["recovered"], "which says it all");
    at(0, &sandbox, "12:15");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn killed_while_delivering_it_is_sent_again_under_the_same_name() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    hook.answer(SILENCE);
    let mut child = sandbox.program("alert").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the message is under way", || !hook.receiver.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let first = hook.take();
    hook.answer(200);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take(), first);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn a_damaged_journal_keeps_no_alert_back() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    for sidecar in ["-wal", "-shm"] {
        let _ = fs::remove_file(sandbox.path(&format!(".ops/ops.db{sidecar}")));
    }
    fs::write(sandbox.path(".ops/ops.db"), [0x5a; 9000]).unwrap();
    let run = at(0, &sandbox, "12:05");
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    assert_eq!(hook.kinds(), ["new"], "what was told is not known any more");
    at(0, &sandbox, "12:10");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn damage_deep_in_the_journal_keeps_no_alert_back() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    // All of it in one file; its first page, with the header and the tables' names, stays whole.
    let connection = rusqlite::Connection::open(sandbox.path(".ops/ops.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let mut bytes = fs::read(sandbox.path(".ops/ops.db")).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(sandbox.path(".ops/ops.db"), bytes).unwrap();
    let run = at(0, &sandbox, "12:05");
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    assert_eq!(hook.kinds(), ["new"]);
    at(0, &sandbox, "12:10");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn a_home_that_takes_no_state_keeps_no_alert_back() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    sandbox.write(".ops", "a file where a folder should be");
    let run = at(0, &sandbox, "12:00");
    assert!(run.stderr.contains("people are told all the same"), "{}", run.stderr);
    assert_eq!(hook.kinds(), ["new"]);
    // And yet it is told once.
    at(0, &sandbox, "12:05");
    assert_eq!(hook.take().len(), 0);
    hook.answer(500);
    at(2, &sandbox, "12:30");
    hook.answer(200);
    hook.take();
    at(0, &sandbox, "12:35");
    assert_eq!(hook.kinds(), ["reminder"], "what reached nobody is told again");
    fs::remove_file(sandbox.path(".ops")).unwrap();
    at(0, &sandbox, "12:40");
    assert_eq!(hook.take().len(), 0, "the journal takes over what was remembered");
    assert_eq!(sandbox.json(0, "alert", &["list"])["open"][0]["check"], "size0");
    good(&sandbox);
    at(0, &sandbox, "12:45");
    assert_eq!(hook.kinds(), ["recovered"]);
}

#[test]
fn without_a_channel_it_says_that_nobody_was_told_and_what_to_set_up() {
    let sandbox = with_checks(1, "");
    crit(&sandbox);
    let run = at(1, &sandbox, "12:00");
    assert!(run.stderr.contains("nobody could be told"), "{}", run.stderr);
    assert!(run.stderr.contains("[alerts.email]") && run.stderr.contains("ops.toml"), "{}", run.stderr);
    assert_eq!(log_lines(&sandbox).len(), 1);
    assert_eq!(sandbox.run("alert", &["test"]).code, 2);
}

#[test]
fn no_desktop_session_is_neither_success_nor_failure() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    let config = sandbox.read("ops.toml").replace("enabled = false", "enabled = true");
    sandbox.write("ops.toml", config);
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    at(0, &sandbox, "12:05");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn where_one_channel_fails_another_stands_in() {
    let (port, mails) = mail_server("250 fine");
    let hook = Hook::new();
    hook.answer(500);
    let sandbox = with_checks(1, &format!("{}{}", email(port), webhook(&hook)));
    warn(&sandbox);
    // A warning goes to the hook; mail is for what is critical, but better than nobody.
    at(1, &sandbox, "12:00");
    assert_eq!(mails.lock().unwrap().len(), 1);
    hook.answer(200);
    hook.take();
    at(0, &sandbox, "12:05");
    assert_eq!((hook.take().len(), mails.lock().unwrap().len()), (1, 1));
    at(0, &sandbox, "12:10");
    assert_eq!((hook.take().len(), mails.lock().unwrap().len()), (0, 1));
}

#[test]
fn a_hundred_alerts_at_once_tell_once() {
    let hook = Hook::new();
    let sandbox = with_checks(3, &webhook(&hook));
    crit(&sandbox);
    let children: Vec<_> = (0..100)
        .map(|_| sandbox.program("alert").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        // Those that waited in vain for their turn say so (3); nobody else may fail.
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 3)), "{code:?}");
    }
    assert_eq!(hook.kinds(), ["new"; 3]);
    assert_eq!(log_lines(&sandbox).len(), 3);
}

#[test]
fn killed_at_any_step_nothing_is_lost_and_a_second_one_has_the_same_name() {
    let mut killed = 0;
    for step in 1.. {
        let hook = Hook::new();
        let sandbox = with_checks(2, &webhook(&hook));
        crit(&sandbox);
        let code = sandbox
            .program("alert")
            .env("OPS_ABORT_AT", step.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .code();
        killed += u32::from(code.is_none());
        for _ in 0..2 {
            sandbox.expect(0, "alert", &[]);
        }
        good(&sandbox);
        sandbox.expect(0, "alert", &[]);
        let told = hook.take();
        for check in ["size0", "size1"] {
            let of = |kind: &str| -> Vec<&str> {
                let of_it =
                    told.iter().filter(|message| message["check"] == check && message["kind"] == kind);
                of_it.map(|message| message["uid"].as_str().unwrap()).collect()
            };
            let (mut new, recovered) = (of("new"), of("recovered"));
            assert!(matches!(new.len(), 1 | 2), "step {step}: {told:?}");
            new.dedup();
            assert_eq!((new.len(), recovered.len()), (1, 1), "step {step}: {told:?}");
        }
        let twice = told.len() - 4;
        assert!(twice <= 1, "step {step}: {twice} were sent twice");
        assert_eq!(sandbox.json(0, "alert", &["list"])["open"], serde_json::json!([]));
        if code.is_some() {
            break;
        }
    }
    assert!(killed >= 7, "only {killed} steps were found");
}
