//! Who hears of what, and when: routes by type, quiet hours, escalation, and an end to trying.

use crate::receiver::{Hook, Receiver, at, crit, good, log_lines, warn, webhook, with_checks};
use crate::sandbox::{Sandbox, said};

fn command(sandbox: &Sandbox, args: &[&str], time: &str) -> String {
    let now = format!("2026-11-20T{time}:00Z");
    let said = said(sandbox.program("alert").env("OPS_NOW", now).args(args).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    said.stdout
}

#[test]
fn a_type_goes_where_it_is_told_to() {
    let (hook, gotify) = (Hook::new(), Receiver::new());
    let sandbox = with_checks(
        1,
        &format!(
            "{}[alerts.gotify]\nurl = \"{}\"\ntoken = \"t\"\n\
             [alerts.types.disk_low]\nchannels = [\"gotify\"]\ncooldown = \"6h\"\n",
            webhook(&hook),
            gotify.url
        ),
    );
    warn(&sandbox);
    for time in ["12:00", "12:31", "17:59"] {
        at(0, &sandbox, time);
    }
    assert_eq!((hook.take().len(), gotify.take().len()), (0, 1));
    at(0, &sandbox, "18:00");
    assert_eq!((hook.take().len(), gotify.take().len()), (0, 1));
    crit(&sandbox);
    at(0, &sandbox, "18:05");
    assert_eq!((hook.take().len(), gotify.take().len()), (1, 1), "another type");
}

#[test]
fn what_the_config_cannot_mean_is_said_with_its_place() {
    for (alerts, line, words) in [
        ("[alerts]\ncritical = [\"desktop\", \"telegarm\"]\n", 13, "telegarm"),
        ("[alerts.types.disk_low]\nchannels = [\"pigeon\"]\n", 13, "pigeon"),
        ("[alerts.types.disk_lwo]\ncooldown = \"6h\"\n", 12, "did you mean 'disk_low'?"),
        ("[alerts]\nquiet_hours = \"22-7\"\n", 13, "22:00-07:00"),
        ("[alerts.webhook]\nurl = \"x\"\ntemplate = \"{titel}\"\n", 14, "{titel}"),
        ("[alerts.command]\nrun = []\n", 12, "no program"),
        ("[alerts.telegram]\ntoken = \"t\"\nchat = \"1\"\napi = \"here\"\n", 12, "http"),
        ("[alerts.ntfy]\nurl = \"u\"\nuser = \"me\"\n", 12, "password"),
    ] {
        let sandbox = with_checks(1, alerts);
        let text = sandbox.read("ops.toml").replace("[alerts.desktop]\nenabled = false\n", "");
        sandbox.write("ops.toml", text);
        let said = sandbox.expect(3, "alert", &[]);
        assert!(said.stderr.contains(&format!("ops.toml:{line}:")), "{alerts}: {}", said.stderr);
        assert!(said.stderr.contains(words), "{alerts}: {}", said.stderr);
    }
}

#[test]
fn warnings_wait_for_the_morning_and_come_as_one() {
    let hook = Hook::new();
    let sandbox = with_checks(3, &format!("[alerts]\nquiet_hours = \"22:00-07:00\"\n{}", webhook(&hook)));
    warn(&sandbox);
    at(0, &sandbox, "2026-11-20T23:00:00Z");
    at(0, &sandbox, "2026-11-21T06:55:00Z");
    assert_eq!(hook.take().len(), 0);
    let why = sandbox.expect(0, "alert", &["why", "size0"]).stdout;
    assert!(why.contains("held back in quiet hours: new"), "{why}");
    at(0, &sandbox, "2026-11-21T07:00:00Z");
    let told = hook.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["also"].as_array().unwrap().len(), 2);
    assert_eq!(log_lines(&sandbox).iter().filter(|line| line.contains("] Also - Disk Low: ")).count(), 2);
    // A critical one does not wait, and neither does its end.
    crit(&sandbox);
    at(0, &sandbox, "2026-11-21T22:30:00Z");
    good(&sandbox);
    at(0, &sandbox, "2026-11-21T22:35:00Z");
    assert_eq!(hook.kinds(), ["worse", "worse", "worse", "recovered", "recovered", "recovered"]);
}

#[test]
fn quiet_hours_are_those_of_the_wall_clock() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &format!("[alerts]\nquiet_hours = \"22:00-07:00\"\n{}", webhook(&hook)));
    warn(&sandbox);
    let run = |now: &str| {
        let said =
            said(sandbox.program("alert").env("TZ", "Europe/Berlin").env("OPS_NOW", now).output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        hook.take().len()
    };
    // The night in which the clocks go back: seven in the morning is an hour later.
    assert_eq!(run("2026-10-25T05:30:00Z"), 0);
    assert_eq!(run("2026-10-25T06:00:00Z"), 1);
}

#[test]
fn what_nobody_answers_goes_to_the_next_and_an_answer_ends_that() {
    let (hook, next) = (Hook::new(), Receiver::new());
    let sandbox = with_checks(
        1,
        &format!(
            "[alerts]\ncritical = [\"webhook\"]\nescalate = [\"gotify\"]\nescalate_after = \"20m\"\n{}\
             [alerts.gotify]\nurl = \"{}\"\ntoken = \"t\"\n",
            webhook(&hook),
            next.url
        ),
    );
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    at(0, &sandbox, "12:15");
    assert_eq!((hook.take().len(), next.take().len()), (1, 0));
    at(0, &sandbox, "12:20");
    let told = next.take();
    assert_eq!((hook.take().len(), told.len()), (0, 1));
    assert!(told[0].json()["title"].as_str().unwrap().contains("Unanswered: Disk Critical"));
    at(0, &sandbox, "12:25");
    at(0, &sandbox, "13:25");
    assert_eq!((hook.kinds(), next.take().len()), (vec!["reminder".to_owned(); 1], 0));
    let list = command(&sandbox, &["list"], "13:26");
    assert!(list.contains("escalated"), "{list}");
    let why = command(&sandbox, &["why", "size0"], "13:26");
    for part in [
        "told: nobody acknowledged it within 20m",
        "next: messages about it go to webhook ([alerts] critical)",
        "next: a reminder is due at 2026-11-20 14:25:00",
        "next: escalated to gotify at 2026-11-20 12:20:00",
    ] {
        assert!(why.contains(part), "{part} is missing in\n{why}");
    }
    good(&sandbox);
    at(0, &sandbox, "13:30");
    assert_eq!((hook.take().len(), next.take().len()), (1, 1), "both hear of the end");

    crit(&sandbox);
    at(0, &sandbox, "18:00");
    command(&sandbox, &["ack", "size0"], "18:05");
    at(0, &sandbox, "18:30");
    assert_eq!((hook.take().len(), next.take().len()), (1, 0));
}

#[test]
fn trying_has_an_end_that_is_said() {
    let hook = Hook::new();
    hook.answer(503);
    let sandbox = with_checks(1, &format!("[alerts]\nretry_for = \"2h\"\n{}", webhook(&hook)));
    crit(&sandbox);
    at(2, &sandbox, "12:00");
    command(&sandbox, &["ack", "size0"], "12:01");
    at(2, &sandbox, "13:00");
    at(2, &sandbox, "14:00");
    assert_eq!(hook.take().len(), 3);
    let run = at(0, &sandbox, "14:05");
    assert_eq!(hook.take().len(), 0);
    let words = "given up: Disk Critical of 2026-11-20 12:00:00 was not taken by webhook: the server answered 503 (tried 3 times)";
    assert!(run.stderr.contains(words), "{}", run.stderr);
    assert!(log_lines(&sandbox).last().unwrap().contains("[WARNING] Given up - "));
    let run = at(0, &sandbox, "14:10");
    assert!(!run.stderr.contains("given up"), "{}", run.stderr);
}

#[test]
fn what_follows_from_another_check_is_no_news() {
    let hook = Hook::new();
    let sandbox = with_checks(2, &webhook(&hook));
    let chained = |more: &str| {
        let base = sandbox.read("ops.toml").replace("after = [\"size0\"]\n", "");
        sandbox.write("ops.toml", base.replace("[check.size1]\n", &format!("[check.size1]\n{more}")));
    };
    chained("after = [\"size0\"]\n");
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    let told = hook.take();
    assert_eq!((told.len(), &told[0]["check"]), (1, &"size0".into()));
    good(&sandbox);
    at(0, &sandbox, "12:05");
    assert_eq!(hook.kinds(), ["recovered"]);
    // A warning hides nothing.
    warn(&sandbox);
    at(0, &sandbox, "14:00");
    assert_eq!(hook.take().len(), 2);

    for (wrong, words) in
        [("after = [\"size7\"]\n", "size7"), ("after = [\"size1\"]\n", "come after each other")]
    {
        chained(wrong);
        let said = sandbox.expect(3, "alert", &[]);
        assert!(said.stderr.contains(words), "{}", said.stderr);
        sandbox.write("ops.toml", sandbox.read("ops.toml").replace(wrong, ""));
    }
}
