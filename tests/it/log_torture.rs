//! Writers at full speed while their logs are rotated back to back, and rotations are ended at all of
//! their steps: every line is there afterwards, exactly once.

use crate::sandbox::{Sandbox, said};
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

fn append(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

/// A thread that writes numbered lines as fast as it can; gives how many.
fn writer(stop: &Arc<AtomicBool>, mut write: impl FnMut(&[u8]) + Send + 'static) -> JoinHandle<usize> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            write(format!("{{\"n\":{number}}}\n").as_bytes());
            number += 1;
        }
        number
    })
}

/// Opens the file anew for each line.
fn anew(stop: &Arc<AtomicBool>, path: PathBuf) -> JoinHandle<usize> {
    writer(stop, move |line| append(&path).write_all(line).unwrap())
}

/// Keeps the file open.
fn held(stop: &Arc<AtomicBool>, path: &Path) -> JoinHandle<usize> {
    let mut file = append(path);
    writer(stop, move |line| file.write_all(line).unwrap())
}

/// Keeps the file open until it is told.
fn told(stop: &Arc<AtomicBool>, path: PathBuf, word: PathBuf) -> JoinHandle<usize> {
    let (mut file, mut lines) = (append(&path), 0_u64);
    writer(stop, move |line| {
        lines += 1;
        if lines.is_multiple_of(50) && fs::remove_file(&word).is_ok() {
            file = append(&path);
        }
        file.write_all(line).unwrap();
    })
}

/// Renames the file to `.1`, that to `.2`, and so on, as Python's RotatingFileHandler does.
fn shifted(stop: &Arc<AtomicBool>, path: PathBuf) -> JoinHandle<usize> {
    let (mut file, mut last) = (append(&path), Instant::now());
    let numbered = move |number: u32| path.with_file_name(format!("shifted.jsonl.{number}"));
    writer(stop, move |line| {
        // Far more often than any logger does; as often as it can, no rotation keeps up with it.
        if last.elapsed() > Duration::from_millis(50) {
            last = Instant::now();
            let most = (1..).find(|number| !numbered(*number).exists()).unwrap();
            for number in (1..most).rev() {
                // Somebody may have taken it.
                let _ = fs::rename(numbered(number), numbered(number + 1));
            }
            let live = numbered(1).with_file_name("shifted.jsonl");
            fs::rename(&live, numbered(1)).unwrap();
            file = append(&live);
        }
        file.write_all(line).unwrap();
    })
}

/// How often each line of a stream is there, whatever became of the files; and how many files.
fn count(home: &Path, stem: &str, lines: usize) -> (Vec<u8>, usize) {
    let (mut times, mut files) = (vec![0; lines], 0);
    for entry in walkdir::WalkDir::new(home) {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().is_file() || !name.starts_with(stem) {
            continue;
        }
        files += 1;
        let mut text = String::new();
        let mut file = File::open(entry.path()).unwrap();
        match name.ends_with(".gz") {
            true => MultiGzDecoder::new(file).read_to_string(&mut text).unwrap(),
            false => file.read_to_string(&mut text).unwrap(),
        };
        for line in text.lines() {
            let number = line.trim_start().strip_prefix("{\"n\":").and_then(|rest| rest.strip_suffix('}'));
            let number: Option<usize> = number.and_then(|number| number.parse().ok());
            times[number.unwrap_or_else(|| panic!("{name}: a torn line: {line:?}"))] += 1;
        }
    }
    (times, files)
}

/// For so long, in all disciplines at once.
pub fn logs_at_full_speed(time: Duration) {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\npreset = \"none\"\nname = \"busy\"\n[logs]\nmax_size = \"100KB\"\nkeep_lines = 100\ncompress_after = \"0s\"\n\
         max_total = \"1TB\"\n\
         [logs.rule.anew]\npaths = [\"logs/anew.jsonl\"]\ndiscipline = \"rename\"\n\
         [logs.rule.told]\npaths = [\"logs/told.jsonl\"]\ndiscipline = \"rename\"\nafter = [\"touch\", \"word\"]\n\
         [logs.rule.moved]\npaths = [\"memory/moved.jsonl\"]\ndiscipline = \"rename\"\narchive = true\n\
         [logs.rule.shifted]\npaths = [\"logs/shifted.jsonl\"]\nmax_size = \"1GB\"\n\
         [logs.rule.held]\npaths = [\"memory/held.jsonl\"]\narchive = true\n",
    );
    for folder in ["logs", "memory"] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [
        ("anew", anew(&stop, sandbox.path("logs/anew.jsonl"))),
        ("told", told(&stop, sandbox.path("logs/told.jsonl"), sandbox.path("word"))),
        ("moved", anew(&stop, sandbox.path("memory/moved.jsonl"))),
        ("shifted", shifted(&stop, sandbox.path("logs/shifted.jsonl"))),
        ("held", held(&stop, &sandbox.path("memory/held.jsonl"))),
    ];
    let begun = Instant::now();
    let (mut runs, mut killed, mut refused) = (0_usize, 0, false);
    while begun.elapsed() < time || runs < 4 {
        let mut command = sandbox.program("rotate-logs");
        // Every other run is ended at one of its steps, another one each time.
        if runs % 2 == 1 {
            command.env("OPS_ABORT_AT", (runs / 2 % 25 + 1).to_string());
        }
        let said = said(command.output().unwrap());
        // 1: this file system cannot cut a stream without risk, and it was left alone.
        assert!((-1..=1).contains(&said.code), "{said:?}");
        assert!(said.code != 1 || said.stdout.contains("cannot take the beginning"), "{said:?}");
        refused |= said.code == 1;
        killed += usize::from(said.code == -1);
        runs += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writers.map(|(name, thread)| (name, thread.join().unwrap()));
    // Whoever had one open is done.
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..2 {
        assert!(sandbox.run("rotate-logs", &[]).code <= 1);
    }
    println!("{runs} runs, {killed} of them killed");
    for (name, lines) in written {
        let (times, files) = count(&sandbox.home, name, lines);
        println!("{name}: {lines} lines in {files} files");
        let wrong: Vec<(usize, &u8)> = times.iter().enumerate().filter(|(_, times)| **times != 1).collect();
        assert!(
            wrong.is_empty(),
            "{name}: {} of {lines} lines, such as {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
        assert!(
            lines > 1000 && (files > 1 || name == "held" && refused),
            "{name}: {lines} lines in {files} files"
        );
    }
}

#[test]
fn no_line_is_lost_or_there_twice() {
    logs_at_full_speed(Duration::from_secs(3));
}
