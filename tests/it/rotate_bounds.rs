//! `rotate-logs` under pressure: log storms, clocks that leap, and a dry run that tells what comes.

use crate::rotate::{NOW, inflate, log, rotate, sandbox, there};
use crate::sandbox::{Sandbox, said};
use std::collections::BTreeSet;
use std::fs;

/// Text that does not pack.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + (state % 95) as u8)
    };
    (0..bytes).map(|index| if index % 100 == 99 { '\n' } else { next() }).collect()
}

fn names(sandbox: &Sandbox) -> BTreeSet<String> {
    let entries = fs::read_dir(sandbox.path("logs")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A writer that fills the disk within the hour is bounded within the hour.
#[test]
fn a_storm_is_compressed_at_once_and_then_goes_whatever_its_age() {
    let storm = |text: &dyn Fn(u64) -> String| {
        let sandbox = sandbox("discipline = \"rename\"\nmax_total = \"200KB\"");
        for number in 1..=8 {
            log(&sandbox, &format!("app_20261120.{number}.log"), &text(number), 0);
            log(&sandbox, &format!("lib.log.{number}"), &text(number + 8), 0);
        }
        log(&sandbox, "app.log", "in use\n", 0);
        // A second has gone by since; an hour, where others may have it open unseen.
        let now = if rustix::process::geteuid().is_root() { "12:00:05" } else { "13:00:05" };
        let mut later = sandbox.program("rotate-logs");
        let said = said(later.env("OPS_NOW", format!("2026-11-20T{now}Z")).output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        (sandbox, said.stdout)
    };
    let (sandbox, said) = storm(&|number| format!("line {number}\n").repeat(5000));
    assert!(
        said.contains("16 compressed; 17 logs, 595.0 KB before"),
        "nothing is deleted if that is enough: {said}"
    );
    assert_eq!(inflate(&sandbox, "app_20261120.1.log.gz"), "line 1\n".repeat(5000));

    let (sandbox, said) = storm(&|number| noise(number, 40_000));
    assert!(said.contains("16 compressed, 14 deleted;"), "{said}");
    let left: u64 =
        names(&sandbox).iter().map(|name| fs::metadata(sandbox.path("logs").join(name)).unwrap().len()).sum();
    assert!((60_000..=101_000).contains(&left), "{left}");
    assert!(there(&sandbox, "app.log"));
}

#[test]
fn more_closed_ones_than_are_kept_go_whatever_their_age() {
    let sandbox = sandbox("[logs.rule.app]\npaths = [\"logs/app.log\"]\nkeep = 2");
    for number in 1..=5 {
        log(&sandbox, &format!("app_20261120.{number}.log"), "x\n", 6 - number);
        log(&sandbox, &format!("app.log.{number}"), "x\n", 10 + number);
    }
    rotate(&sandbox, 0, &[]);
    let left: Vec<String> = names(&sandbox).into_iter().filter(|name| name.starts_with("app")).collect();
    assert_eq!(left, ["app_20261120.4.log", "app_20261120.5.log"]);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_bounded_is_said() {
    let sandbox = sandbox("max_total = \"200KB\"");
    log(&sandbox, "held_20261120.1.log", &noise(1, 300_000), 5);
    log(&sandbox, "free_20261120.1.log", &noise(2, 100_000), 1);
    log(&sandbox, "app.log", "in use\n", 0);
    let _writer = fs::File::options().append(true).open(sandbox.path("logs/held_20261120.1.log")).unwrap();
    let planned = rotate(&sandbox, 1, &["-n"]);
    let said = rotate(&sandbox, 1, &[]);
    for said in [&planned.stdout, &said.stdout] {
        assert!(
            said.contains("left alone  logs/held_20261120.1.log") && said.contains("holds it open"),
            "{said}"
        );
        assert!(
            said.contains("left alone  [logs] max_total") && said.contains("such as logs/held_"),
            "{said}"
        );
        assert!(said.contains("1 compressed, 1 deleted, 2 left alone"), "{said}");
    }
    assert!(there(&sandbox, "held_20261120.1.log") && !there(&sandbox, "free_20261120.1.log.gz"));
}

/// What is done to which file, sizes left out.
fn deeds(said: &str) -> BTreeSet<String> {
    said.lines()
        .filter(|line| line.contains("  logs/"))
        .map(|line| {
            let line = line.split(" (").next().unwrap_or_default();
            line.split(" → ").next().unwrap_or_default().trim().to_owned()
        })
        .collect()
}

#[test]
fn a_dry_run_tells_what_the_real_one_does() {
    for (what, pack) in [("text", true), ("noise", false)] {
        for discipline in ["copytruncate", "rename"] {
            let sandbox = sandbox(&format!(
                "discipline = \"{discipline}\"\nmax_total = \"500KB\"\nmax_size = \"200KB\"\n\
                 [logs.rule.few]\npaths = [\"logs/few*.log\"]\nkeep = 1"
            ));
            let text = |number: u64, bytes: usize| match pack {
                true => "one and the same line\n".repeat(bytes / 22),
                false => noise(number, bytes),
            };
            for day in 10..=19 {
                log(&sandbox, &format!("daemon_202611{day}.log"), &text(day, 90_000), 24 * (20 - day));
            }
            log(&sandbox, "daemon_20261120.log", &text(50, 900_000), 1);
            log(&sandbox, "app.log.1", &text(60, 90_000), 2);
            log(&sandbox, "few.log", &text(61, 300_000), 1);
            log(&sandbox, "few_20261120.1.log", &text(62, 3000), 2);
            log(&sandbox, "daemon_20261001.log.gz", "expired", 24 * 50);
            let before = names(&sandbox);
            let planned = rotate(&sandbox, 0, &["-n"]).stdout;
            assert_eq!(names(&sandbox), before, "nothing is changed");
            let real = rotate(&sandbox, 0, &[]).stdout;
            // An adopted log is named by its new name.
            let same = |said: &str| {
                let said = said.replace("app_20261120.1.log", "app.log.1");
                deeds(&said.replace(".gz", ""))
            };
            assert_eq!(same(&planned), same(&real), "{what} {discipline}\n{planned}\n{real}");
            let after = |said: &str| {
                let (_, after) = said.trim_end().rsplit_once("before, ").unwrap();
                let number = after.trim_start_matches("about ").split(' ').next().unwrap();
                number.parse::<f64>().unwrap() * if after.contains("KB") { 1e3 } else { 1.0 }
            };
            let (planned, real) = (after(&planned), after(&real));
            assert!((planned - real).abs() < 0.1 * real + 9000.0, "{what} {discipline}: {planned} {real}");
        }
    }
}

#[test]
fn a_dry_run_leaves_alone_what_the_real_one_does() {
    let rules = "[logs.rule.stream]\npaths = [\"memory/*.jsonl\"]\narchive = true\nmax_size = \"50KB\"\nkeep_lines = 100";
    let sandbox = sandbox(rules);
    // A line without an end cannot be archived; nor can any be where no hole can be made.
    sandbox.write("memory/stream.jsonl", "x".repeat(100_000));
    let planned = rotate(&sandbox, 1, &["-n"]);
    assert!(planned.stdout.contains("left alone  memory/stream.jsonl"), "{}", planned.stdout);
    assert!(!sandbox.path(".ops").exists() && !sandbox.path("archive").exists());
    rotate(&sandbox, 1, &[]);
}

#[test]
fn what_killed_runs_left_goes_before_long() {
    let sandbox = sandbox("");
    log(&sandbox, "app.log", "in use\n", 0);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(1200);
    for (name, gone, age) in
        [(".part-aB3xYz", true, Some(old)), (".part-aB3xYq", false, None), (".part-move-1", false, Some(old))]
    {
        let path = sandbox.write(&format!("logs/{name}"), "");
        if let Some(age) = age {
            fs::File::options().write(true).open(path).unwrap().set_modified(age).unwrap();
        }
        rotate(&sandbox, 0, &[]);
        assert_eq!(there(&sandbox, name), !gone, "{name}");
    }
}

#[test]
fn another_user_is_told_whose_the_home_is() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = sandbox("");
    // Root may write anywhere.
    let root = rustix::process::geteuid().is_root();
    fs::create_dir_all(sandbox.path(".ops")).unwrap();
    let mut command = sandbox.program("rotate-logs");
    if root {
        use std::os::unix::process::CommandExt;
        for path in [sandbox.home.parent().unwrap(), &sandbox.home] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // As nobody.
        command.uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(sandbox.path(".ops"), fs::Permissions::from_mode(0o500)).unwrap();
    }
    let said = said(command.output().unwrap());
    fs::set_permissions(sandbox.path(".ops"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("Permission denied"), "{}", said.stderr);
    let remedy = format!("sudo -u '#0' rotate-logs --home {}", sandbox.home.display());
    assert_eq!(said.stderr.contains(&remedy), root, "who owns it is told of nobody else: {}", said.stderr);
    assert_eq!(said.stderr.contains("sudo"), root, "{}", said.stderr);
}

/// As of the battery of a clock that ran out, or of a wrong year at the keyboard.
#[test]
fn a_clock_that_leaps_does_not_empty_the_logs() {
    let sandbox = sandbox("");
    for day in 10..=19 {
        log(&sandbox, &format!("daemon_202611{day}.log"), &format!("of the {day}th\n"), 24 * (20 - day));
    }
    log(&sandbox, "daemon_20261120.log", "today\n", 1);
    let at = |now: &str, args: &[&str]| {
        let mut command = sandbox.program("rotate-logs");
        said(command.env("OPS_NOW", now).args(args).output().unwrap())
    };
    for _ in 0..2 {
        let said = at("2029-01-01T00:00:00Z", &[]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.stdout.contains("left alone  [logs] delete_after") && said.stdout.contains("--yes"),
            "{said:?}"
        );
    }
    for day in 10..=20 {
        inflate(&sandbox, &format!("daemon_202611{day}.log.gz"));
    }
    assert_eq!(rotate(&sandbox, 0, &[]).code, 0, "the clock is right again: {NOW}");
    let said = at("2029-01-01T00:00:00Z", &["--yes"]);
    assert!(said.code == 0 && said.stdout.contains("11 deleted"), "{said:?}");
}

/// As in an old home in which rotation is new: that is no reason to warn for ever.
#[test]
fn what_is_old_goes_once_a_month_went_by() {
    let sandbox = sandbox("");
    for day in 1..=5 {
        log(&sandbox, &format!("daemon_2026070{day}.log"), "of summer\n", 24 * 140);
    }
    for night in 0..=31 {
        let now = chrono::DateTime::from_timestamp(1_795_176_000 + night * 86_400, 0).unwrap();
        log(&sandbox, "d.log", "always written\n", 0);
        let file = fs::File::options().write(true).open(sandbox.path("logs/d.log")).unwrap();
        file.set_modified(now.into()).unwrap();
        let said = said(sandbox.program("rotate-logs").env("OPS_NOW", now.to_rfc3339()).output().unwrap());
        assert_eq!(said.code, i32::from(night < 30), "{night}: {said:?}");
        assert_eq!(said.stdout.contains("They stay until 2026-12-20"), night < 30, "{said:?}");
    }
    assert!(!there(&sandbox, "daemon_20260701.log.gz") && !sandbox.path(".ops/rotation.json").exists());
}

#[test]
fn a_dry_run_looks_at_more_logs_than_may_be_open() {
    let sandbox = sandbox("");
    for number in 0..300 {
        log(&sandbox, &format!("l{number:03}_20261101.log"), "a line\n", 48);
    }
    let mut command = sandbox.program("rotate-logs");
    command.env("OPS_NOW", NOW).arg("-n");
    let said = said(crate::logs::with_few_files(&command).output().unwrap());
    assert!(said.code == 0 && said.stdout.contains("300 compressed;"), "{said:?}");
}
