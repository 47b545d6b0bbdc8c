//! `[logs.rule.NAME]`: renamed or cut, archived first, whole only, so many kept, writers told.

use crate::rotate::{NOW, inflate, log, rotate, sandbox, there};
use crate::sandbox::{Sandbox, said, wait_until};
use agent_ops::base::durable::Lock;
use agent_ops::base::{Home, Run};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{{\"n\":{number},\"text\":\"a line of the stream\"}}\n")).collect()
}

/// The numbers of all lines below a folder, whatever became of the file they were written to.
/// Spaces before a line are what a cut leaves; a file that was being written is not looked at.
pub fn numbers(folder: &Path) -> Vec<usize> {
    let mut numbers = Vec::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().is_file() || name.starts_with('.') || !name.contains(".jsonl") {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let text = match name.ends_with(".gz") {
            true => crate::rotate::inflated(entry.path()),
            false => String::from_utf8(bytes).unwrap(),
        };
        for line in text.lines() {
            let line: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line:?}"));
            numbers.push(usize::try_from(line["n"].as_u64().unwrap()).unwrap());
        }
    }
    numbers.sort_unstable();
    numbers
}

/// That the lines from 0 to `count` are below a folder, each once; says which are not.
#[track_caller]
pub fn each_once(folder: &Path, count: usize, what: &str) {
    let numbers = numbers(folder);
    let twice: Vec<usize> =
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    let mut seen = vec![false; count];
    numbers.iter().for_each(|&number| seen[number] = true);
    let missing: Vec<usize> = (0..count).filter(|&number| !seen[number]).collect();
    let some = |numbers: &[usize]| format!("{} {:?}", numbers.len(), &numbers[..numbers.len().min(10)]);
    assert!(
        missing.is_empty() && twice.is_empty(),
        "{what}: missing {}, twice {}",
        some(&missing),
        some(&twice)
    );
}

#[test]
fn a_log_whose_writer_opens_it_anew_is_renamed_and_compressed_later() {
    let sandbox = sandbox(
        "discipline = \"rename\"\nmax_size = \"10KB\"\n[logs.rule.few]\npaths = [\"logs/few.log\"]\nkeep = 2",
    );
    log(&sandbox, "daemon.log", &"a line\n".repeat(2000), 0);
    log(&sandbox, "daemon_20261120.log", &"of today\n".repeat(2000), 0);
    log(&sandbox, "small.log", "small\n", 0);
    let mut slow = OpenOptions::new().append(true).open(sandbox.path("logs/daemon.log")).unwrap();
    let said = rotate(&sandbox, 0, &[]);
    assert!(
        said.stdout.contains("rename      logs/daemon.log → logs/daemon_20261120.1.log  (14.0 KB, "),
        "{}",
        said.stdout
    );
    assert!(!there(&sandbox, "daemon.log") && there(&sandbox, "small.log"));
    slow.write_all(b"the last one\n").unwrap();
    drop(slow);
    assert!(sandbox.read("logs/daemon_20261120.1.log").ends_with("a line\nthe last one\n"));
    assert_eq!(sandbox.read("logs/daemon_20261120.2.log").lines().count(), 2000, "the day in its name stays");
    // A number is not given again, and what was rotated is not rotated once more.
    log(&sandbox, "daemon.log", &"a line\n".repeat(2000), 0);
    fs::remove_file(sandbox.path("logs/daemon_20261120.1.log")).unwrap();
    rotate(&sandbox, 0, &[]);
    assert!(there(&sandbox, "daemon_20261120.3.log") && !there(&sandbox, "daemon_20261120.1.log"));

    for number in 1..=4 {
        log(&sandbox, &format!("few_20261101.{number}.log"), &format!("{number}\n"), 400 - number);
    }
    log(&sandbox, "few.log", "in use\n", 400);
    rotate(&sandbox, 0, &[]);
    let left: Vec<u64> = (1..=4).filter(|n| there(&sandbox, &format!("few_20261101.{n}.log.gz"))).collect();
    assert_eq!(left, [3, 4]);
    assert_eq!(inflate(&sandbox, "few_20261101.4.log.gz"), "4\n");
    assert_eq!(sandbox.read("logs/few.log"), "in use\n");
}

#[test]
fn a_rotated_log_outside_of_the_folder_is_still_found() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\npreset = \"macha\"\n[logs.rule.orchestrator]\nmax_size = \"1KB\"\n");
    sandbox.write("orchestrator.log", "a line\n".repeat(1000));
    sandbox.write("orchestrator_20261101.1.log", "an older one\n");
    sandbox.write("orchestrator_20260901.1.log.gz", "expired");
    sandbox.write("orchestrator_notes.log", "none of ours\n");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_000_000);
    fs::File::options()
        .write(true)
        .open(sandbox.path("orchestrator_20261101.1.log"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    rotate(&sandbox, 0, &[]);
    let mut names: Vec<_> = fs::read_dir(&sandbox.home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.starts_with("orchestrator"));
    names.sort();
    assert_eq!(
        names,
        ["orchestrator_20261101.1.log.gz", "orchestrator_20261120.1.log", "orchestrator_notes.log"]
    );
}

const STREAM: &str =
    "[logs.rule.stream]\npaths = [\"memory/*.jsonl\"]\narchive = true\nmax_size = \"50KB\"\nkeep_lines = 100";

#[test]
fn a_state_stream_goes_to_the_archive_and_is_never_deleted() {
    let sandbox = sandbox(&format!("max_total = \"1KB\"\n{STREAM}\ndiscipline = \"rename\""));
    sandbox.write("memory/stream.jsonl", lines(0..2000));
    // Somebody else's file has the first name.
    sandbox.write("archive/20261120/memory/stream_20261120.1.jsonl.gz", "not ours");
    sandbox.write("archive/20250101/memory/stream_20250101.1.jsonl", "{\"n\":4000}\n");
    rotate(&sandbox, 0, &[]);
    assert_eq!(sandbox.read("archive/20261120/memory/stream_20261120.1.jsonl.gz"), "not ours");
    assert_eq!(sandbox.read("archive/20261120/memory/stream_20261120.2.jsonl"), lines(0..2000));
    assert!(!sandbox.path("memory/stream.jsonl").exists());
    sandbox.write("memory/stream.jsonl", lines(2000..4000));
    rotate(&sandbox, 0, &[]);
    fs::remove_file(sandbox.path("archive/20261120/memory/stream_20261120.1.jsonl.gz")).unwrap();
    // Ten years later.
    let mut late = sandbox.program("rotate-logs");
    let late = said(late.env("OPS_NOW", "2036-11-20T12:00:00Z").output().unwrap());
    assert_eq!(late.code, 0, "{late:?}");
    for path in ["20261120/memory/stream_20261120.2.jsonl.gz", "20250101/memory/stream_20250101.1.jsonl.gz"] {
        assert!(sandbox.path("archive").join(path).exists(), "{path}: {late:?}");
    }
    each_once(&sandbox.home, 4001, "after ten years");
}

/// Whether the file system can take the beginning of a file away. Else the stream must stay as it is.
#[cfg(target_os = "linux")]
fn collapses(sandbox: &Sandbox) -> bool {
    let probe = sandbox.write("probe", vec![0; 1 << 16]);
    let file = fs::File::options().write(true).open(&probe).unwrap();
    fs::remove_file(probe).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::COLLAPSE_RANGE, 0, 1 << 15).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn collapses(_: &Sandbox) -> bool {
    false
}

#[test]
fn a_state_stream_that_is_held_open_is_cut_at_whole_lines_after_they_are_archived() {
    let sandbox = sandbox(STREAM);
    let path = sandbox.write("memory/stream.jsonl", lines(0..4000));
    let can = collapses(&sandbox);
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    let planned = rotate(&sandbox, i32::from(!can), &["-n"]).stdout;
    assert!(
        planned.starts_with(if can { "cut         memory/" } else { "left alone  memory/" }),
        "{planned}"
    );
    let said = rotate(&sandbox, i32::from(!can), &[]);
    writer.write_all(lines(4000..4001).as_bytes()).unwrap();
    each_once(&sandbox.home, 4001, "after a cut");
    if can {
        let left = sandbox.read("memory/stream.jsonl");
        assert!((100..300).contains(&left.lines().count()), "{}", left.lines().count());
        let member = "archive/20261120/memory/stream_20261120.1.jsonl.gz";
        assert!(
            said.stdout.contains(&format!("cut         memory/stream.jsonl → {member}")),
            "{}",
            said.stdout
        );
        writer.write_all(lines(4001..9000).as_bytes()).unwrap();
        rotate(&sandbox, 0, &[]);
        assert!(sandbox.path("archive/20261120/memory/stream_20261120.2.jsonl.gz").exists());
        each_once(&sandbox.home, 9000, "after a cut");
    } else {
        assert!(said.stdout.contains("left alone  memory/stream.jsonl"), "{}", said.stdout);
    }
}

/// It would have the beginning of the stream, and then what is behind the cut; or nothing of it.
#[test]
fn a_state_stream_is_not_changed_under_a_backup() {
    for discipline in ["rename", "copytruncate"] {
        let sandbox = sandbox(&format!("{STREAM}\ndiscipline = \"{discipline}\""));
        let path = sandbox.write("memory/stream.jsonl", lines(0..4000));
        let code = i32::from(discipline != "rename" && !collapses(&sandbox));
        let home = Home::new(sandbox.home.clone());
        let backup = Lock::take(&home, "backup", &Run::begin("backup"), Duration::ZERO).unwrap();
        let mut command = sandbox.program("rotate-logs");
        let child = command.env("OPS_NOW", NOW).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(fs::read_to_string(&path).unwrap_or_default() == lines(0..4000), "{discipline}");
        drop(backup);
        let said = said(child.wait_with_output().unwrap());
        assert_eq!(said.code, code, "{said:?}");
        let there = fs::metadata(&path).map_or(0, |meta| meta.len());
        assert!(code == 1 || there < lines(0..4000).len() as u64, "{discipline}: {said:?}");
        each_once(&sandbox.home, 4000, discipline);
    }
}

/// Ended at each step, and run again: every line is there exactly once.
#[test]
fn killed_at_any_step_every_line_is_there_exactly_once() {
    let (mut steps, mut can) = (0, false);
    for step in 1.. {
        let sandbox = sandbox(&format!(
            "{STREAM}\n[logs.rule.moved]\npaths = [\"logs/*.jsonl\"]\ndiscipline = \"rename\"\nmax_size = \"1KB\"\n\
             after = [\"sh\", \"-c\", \"echo told >> told\"]"
        ));
        sandbox.write("memory/stream.jsonl", lines(0..3000));
        log(&sandbox, "moved.jsonl", &lines(3000..3500), 0);
        for old in 1..4 {
            log(
                &sandbox,
                &format!("old_2026110{old}.1.jsonl"),
                &lines(3400 + old * 100..3500 + old * 100),
                100,
            );
        }
        log(&sandbox, "counted.jsonl.1", &lines(3800..3900), 100);
        let mut command = sandbox.program("rotate-logs");
        command.env("OPS_NOW", NOW).env("OPS_ABORT_AT", step.to_string());
        let said = said(command.output().unwrap());
        let done = said.code != -1;
        rotate(&sandbox, i32::from(!collapses(&sandbox)), &[]);
        each_once(&sandbox.home, 3900, &format!("step {step}"));
        assert!(!there(&sandbox, "counted.jsonl.1"), "step {step}");
        for old in 1..4 {
            assert!(there(&sandbox, &format!("old_2026110{old}.1.jsonl.gz")), "step {step}");
            assert!(!there(&sandbox, &format!("old_2026110{old}.1.jsonl")), "step {step}");
        }
        assert!(!there(&sandbox, "moved.jsonl") && sandbox.read("told").starts_with("told\n"), "step {step}");
        assert!(!sandbox.path(".ops/rotation.json").exists(), "step {step}");
        if done {
            steps = step - 1;
            can = collapses(&sandbox);
            break;
        }
    }
    println!("killed at {steps} steps");
    assert!(steps >= if can { 10 } else { 6 } || !cfg!(debug_assertions), "{steps} steps");
}

/// Nothing would bound it: it is neither renamed again nor compressed.
#[cfg(target_os = "linux")]
#[test]
fn a_writer_that_goes_on_in_the_renamed_log_is_told_of() {
    let sandbox = sandbox("discipline = \"rename\"");
    log(&sandbox, "held_20261119.1.log", "a line\n", 0);
    log(&sandbox, "done_20261119.1.log", "a line\n", 0);
    let _writer = OpenOptions::new().append(true).open(sandbox.path("logs/held_20261119.1.log")).unwrap();
    let said = rotate(&sandbox, 1, &[]);
    assert!(
        said.stdout.contains("left alone  logs/held_20261119.1.log") && said.stdout.contains("still writes"),
        "{}",
        said.stdout
    );
    assert!(!said.stdout.contains("done_"), "{}", said.stdout);
}

#[test]
fn chained_files_are_only_dealt_with_as_a_whole() {
    let sandbox = sandbox(
        "max_size = \"1KB\"\n[logs.rule.runs]\npaths = [\"logs/run_*.jsonl\"]\nwhole = true\nkeep = 3",
    );
    for run in 0..5_u64 {
        // One of them looks as if it had a day in its name.
        let name = if run == 4 { "run_20200101.jsonl".to_owned() } else { format!("run_{run}f.jsonl") };
        log(&sandbox, &name, &lines(0..1000), 100 - run);
    }
    log(&sandbox, "run_new.jsonl", &lines(0..1000), 0);
    rotate(&sandbox, 0, &[]);
    for name in ["run_2f.jsonl.gz", "run_3f.jsonl.gz", "run_20200101.jsonl.gz"] {
        assert_eq!(inflate(&sandbox, name), lines(0..1000), "{name}");
    }
    assert_eq!(sandbox.read("logs/run_new.jsonl"), lines(0..1000));
    assert_eq!(fs::read_dir(sandbox.path("logs")).unwrap().count(), 5, "with rotation.log");
}

#[test]
fn the_command_afterwards_runs_once_and_is_owed_until_it_works() {
    let sandbox = sandbox(
        "discipline = \"rename\"\nmax_size = \"1KB\"\n[logs.rule.told]\npaths = [\"logs/told*.log\"]\n\
         after = [\"sh\", \"-c\", \"test -e works && echo told >> told\"]",
    );
    for name in ["told_a.log", "told_b.log", "other.log"] {
        log(&sandbox, name, &"a line\n".repeat(1000), 0);
    }
    let planned = rotate(&sandbox, 0, &["-n"]);
    assert!(
        planned.stdout.contains("then        [logs.rule.told]  (sh -c test -e works"),
        "{}",
        planned.stdout
    );
    assert!(there(&sandbox, "told_a.log") && !sandbox.path(".ops").exists());
    let failed = rotate(&sandbox, 1, &[]);
    assert!(failed.stdout.contains("failed      [logs.rule.told]  (sh: exit status: 1"), "{}", failed.stdout);
    assert!(!sandbox.path("told").exists());
    sandbox.write("works", "");
    rotate(&sandbox, 0, &[]);
    rotate(&sandbox, 0, &[]);
    assert_eq!(sandbox.read("told"), "told\n", "once for both logs, and not again");
}

#[test]
fn a_service_is_told_by_a_signal_and_goes_on_in_a_new_log() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "writer.sh",
        "#!/bin/sh\nexec >> logs/writer.log\ntrap 'exec >> logs/writer.log; echo anew' HUP\n\
         echo begun\nwhile :; do sleep 0.05; done\n",
    );
    std::process::Command::new("chmod").arg("+x").arg(sandbox.path("writer.sh")).status().unwrap();
    sandbox.write(
        "ops.toml",
        "[agent]\npreset = \"none\"\n[service.writer]\ncommand = [\"./writer.sh\"]\n\
         [logs.rule.writer]\npaths = [\"logs/writer.log\"]\ndiscipline = \"rename\"\nmax_size = \"2B\"\n\
         after = { signal = \"HUP\", service = \"writer\" }\n",
    );
    sandbox.expect(0, "ops", &["start"]);
    wait_until("it has begun", || {
        fs::read_to_string(sandbox.path("logs/writer.log")).is_ok_and(|text| text == "begun\n")
    });
    let said = rotate(&sandbox, 0, &[]);
    assert!(said.stdout.contains("then        [logs.rule.writer]  (HUP to writer)"), "{}", said.stdout);
    assert_eq!(sandbox.read("logs/writer_20261120.1.log"), "begun\n");
    wait_until("it goes on", || {
        fs::read_to_string(sandbox.path("logs/writer.log")).is_ok_and(|text| text == "anew\n")
    });
    sandbox.expect(0, "ops", &["stop"]);
    let said = rotate(&sandbox, 0, &[]);
    assert!(said.stdout.contains("(writer does not run)"), "{}", said.stdout);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_whose_writer_does_not_append_is_left_alone_and_that_is_said() {
    let sandbox = sandbox("max_size = \"10KB\"");
    let path = sandbox.path("logs/serve.log");
    fs::create_dir_all(sandbox.path("logs")).unwrap();
    let mut writer = fs::File::create(&path).unwrap();
    writer.write_all("a line\n".repeat(5000).as_bytes()).unwrap();
    let said = rotate(&sandbox, 1, &[]);
    assert!(
        said.stdout.contains("left alone  logs/serve.log") && said.stdout.contains("does not append"),
        "{}",
        said.stdout
    );
    writer.write_all(b"last\n").unwrap();
    let text = sandbox.read("logs/serve.log");
    assert!(!text.contains('\0') && text.lines().count() == 5001);
}

#[test]
fn what_was_noted_and_cannot_be_read_stops_only_what_would_have_to_be_noted() {
    let sandbox =
        sandbox(&format!("{STREAM}\n[logs.rule.plain]\npaths = [\"logs/plain.log\"]\nmax_size = \"10KB\""));
    sandbox.write("memory/stream.jsonl", lines(0..3000));
    log(&sandbox, "plain.log", &"a line\n".repeat(9000), 0);
    sandbox.write(".ops/rotation.json", "{\"cut\":");
    let said = rotate(&sandbox, 1, &[]);
    assert!(said.stdout.contains("rotation.json is damaged"), "{}", said.stdout);
    assert_eq!(sandbox.read("memory/stream.jsonl"), lines(0..3000));
    assert!(sandbox.read("logs/plain.log").len() < 60_000);
    assert_eq!(sandbox.read(".ops/rotation.json"), "{\"cut\":", "it is left to a person");
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_with_its_reason() {
    for (rule, why) in [
        ("keep = 3", "has no paths"),
        ("paths = [\"a\"]\nwhole = true\narchive = true", "never cut"),
        ("paths = [\"a\"]\narchive = true\nkeep = 3", "never deleted"),
        ("paths = [\"a\"]\nafter = []", "no program"),
        ("paths = [\"a\"]\nafter = { signal = \"HUP\", service = \"deamon\" }", "did you mean 'daemon'?"),
        (
            "paths = [\"a\"]\nafter = { signal = \"KILL\", service = \"daemon\" }",
            "after is a command such as",
        ),
        ("paths = [\"a\"]\ndiscipline = \"move\"", "unknown"),
    ] {
        let sandbox = sandbox(&format!("[logs.rule.x]\n{rule}"));
        let said = rotate(&sandbox, 3, &[]);
        assert!(said.stderr.contains(why) && said.stderr.contains("ops.toml:"), "{rule}: {}", said.stderr);
    }
}

#[test]
fn a_secret_in_the_command_afterwards_is_told_to_nobody() {
    let sandbox = sandbox(
        "[logs.rule.x]\npaths = [\"logs/x.log\"]\nmax_size = \"1KB\"\nafter = [\"true\", \"--token\", \"hunter2hunter2\"]",
    );
    log(&sandbox, "x.log", &"a line\n".repeat(9000), 0);
    for words in [&["-n"] as &[&str], &[]] {
        let said = rotate(&sandbox, 0, words);
        assert!(said.stdout.contains("true --token") && !said.stdout.contains("hunter2"), "{}", said.stdout);
    }
}
