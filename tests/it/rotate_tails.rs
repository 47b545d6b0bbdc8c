//! `rotate-logs` and the end of a file: a last line without a newline, at rest or being written.

use crate::rotate::{NOW, inflate, log, rotate, sandbox, there};
use crate::sandbox::{Sandbox, said};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// What may stand at the end of a stream of JSON lines.
fn tails() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("none", b"".to_vec()),
        ("whole", b"{\"last\":1}".to_vec()),
        ("torn", b"{\"last\":\"no e".to_vec()),
        ("one_byte", b"{".to_vec()),
        ("return", b"{\"last\":1}\r".to_vec()),
        ("returns", b"{\"last\":1}\r\n".to_vec()),
        ("blanks", b"   ".to_vec()),
        ("empty_lines", b"\n\n\n".to_vec()),
        ("nul", vec![0; 700]),
        ("half_a_character", b"{\"last\":\"\xe2\x82".to_vec()),
        ("not_utf8", b"\xff\xfe".to_vec()),
        ("of_a_block", vec![b'x'; 4096]),
        ("long", vec![b'x'; 30_000]),
    ]
}

/// Lines of many lengths.
fn body(seed: u64, count: u64) -> Vec<u8> {
    let mut text = String::new();
    for number in 0..count {
        let length = number.wrapping_mul(seed.wrapping_mul(2).wrapping_add(7919)) % 160;
        text.push_str(&format!("{{\"n\":{number},\"text\":\"{}\"}}\n", "y".repeat(length as usize)));
    }
    text.into_bytes()
}

fn inflate_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap());
    std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
    bytes
}

/// What rotation archived of a stream, oldest first.
fn archived(sandbox: &Sandbox, stem: &str) -> Vec<u8> {
    let folder = sandbox.path("archive/20261120/memory");
    let mut bytes = Vec::new();
    for number in 1.. {
        let plain = folder.join(format!("{stem}_20261120.{number}.jsonl"));
        let packed = folder.join(format!("{stem}_20261120.{number}.jsonl.gz"));
        match (fs::read(&plain), packed.exists()) {
            (Ok(part), false) => bytes.extend(part),
            (Err(_), true) => bytes.extend(inflate_bytes(&packed)),
            (Err(_), false) => break,
            (Ok(_), true) => panic!("{stem}: both forms of {number}"),
        }
    }
    bytes
}

/// That what is in the archive and what stayed are the stream, with nothing but blanks between them: a cut
/// takes whole blocks of the file, and blanks stand for the end of a line that was archived.
#[track_caller]
fn nothing_is_lost(sandbox: &Sandbox, stem: &str, before: &[u8]) {
    let gone = archived(sandbox, stem);
    let stayed = fs::read(sandbox.path(&format!("memory/{stem}.jsonl"))).unwrap_or_default();
    assert!(before.starts_with(&gone), "{stem}: what was archived is not the beginning");
    let rest = &before[gone.len()..];
    assert!(stayed.ends_with(rest), "{stem}: {} bytes of {} stayed", stayed.len(), rest.len());
    assert!(stayed[..stayed.len() - rest.len()].iter().all(|byte| *byte == b' '), "{stem}");
}

fn streams(discipline: &str, keep: u64) -> Sandbox {
    sandbox(&format!(
        "[logs.rule.stream]\npaths = [\"memory/*.jsonl\"]\narchive = true\nmax_size = \"5KB\"\nkeep_lines = {keep}\n\
         discipline = \"{discipline}\""
    ))
}

fn written_days_ago(path: &Path, days: u64) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000);
    let then = now - Duration::from_secs(days * 86_400);
    OpenOptions::new().append(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn a_stream_at_rest_is_archived_to_its_last_byte() {
    for (discipline, keep) in
        [("rename", 100), ("copytruncate", 0), ("copytruncate", 1), ("copytruncate", 50)]
    {
        let sandbox = streams(discipline, keep);
        let mut all = Vec::new();
        for (index, (name, tail)) in tails().into_iter().enumerate() {
            for lines in [0, 1, 90, 300] {
                let stem = format!("{name}_{lines}");
                let before = [body(index as u64, lines), tail.clone()].concat();
                let path = sandbox.write(&format!("memory/{stem}.jsonl"), &before);
                written_days_ago(&path, 2);
                all.push((stem, before));
            }
        }
        for _ in 0..2 {
            let mut command = sandbox.program("rotate-logs");
            let said = said(command.env("OPS_NOW", NOW).output().unwrap());
            assert!((0..=1).contains(&said.code), "{said:?}");
            for (stem, before) in &all {
                nothing_is_lost(&sandbox, stem, before);
                let live = sandbox.path(&format!("memory/{stem}.jsonl"));
                if discipline == "rename" && before.len() > 5000 {
                    assert!(!live.exists(), "{stem}: a file at rest goes whole");
                }
            }
        }
    }
}

/// Whoever opens the file anew for each write may write a line in many pieces.
#[test]
fn a_line_that_is_being_written_is_not_torn_apart() {
    let sandbox = streams("rename", 100);
    let path = sandbox.write("memory/s.jsonl", [body(3, 300), b"{\"half\":\"".to_vec()].concat());
    let write = move |text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let stop = AtomicBool::new(false);
    let (said, pieces) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut pieces = 0;
            while !stop.load(Ordering::Relaxed) {
                write("x");
                pieces += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            pieces
        });
        let mut command = sandbox.program("rotate-logs");
        let output = command.env("OPS_NOW", NOW).output();
        stop.store(true, Ordering::Relaxed);
        (said(output.unwrap()), writer.join().unwrap())
    });
    assert!(said.code == 1 && said.stdout.contains("a line of it is being written"), "{said:?}");
    assert!(!sandbox.path("archive").join("20261120/memory/s_20261120.1.jsonl").exists());
    write("\"}\n");
    rotate(&sandbox, 0, &[]);
    write("{\"next\":1}\n");
    let half = format!("{{\"half\":\"{}\"}}\n{{\"next\":1}}\n", "x".repeat(pieces));
    nothing_is_lost(&sandbox, "s", &[body(3, 300), half.into_bytes()].concat());
    assert_eq!(sandbox.read("memory/s.jsonl"), "{\"next\":1}\n");
}

/// The second log would begin in the last line of the first.
#[test]
fn a_log_without_a_last_newline_is_not_joined_with_the_next() {
    let sandbox = sandbox("");
    for (number, text) in ["{\"n\":1}", "{\"n\":2}\n", "{\"n\":3}"].iter().enumerate() {
        log(&sandbox, "run_20261101.jsonl.log", text, 100 - number as u64);
        rotate(&sandbox, 0, &[]);
    }
    assert_eq!(inflate(&sandbox, "run_20261101.jsonl.log.gz"), "{\"n\":1}");
    assert_eq!(inflate(&sandbox, "run_20261101.jsonl.1.log.gz"), "{\"n\":2}\n{\"n\":3}");
    assert!(!there(&sandbox, "run_20261101.jsonl.log"));
}

/// Live or archived, plain or compressed: a stream that is state is read, and is in every backup.
#[test]
fn what_rotation_archived_is_compressed_soon_and_is_in_the_backup() {
    let sandbox = sandbox(
        "[logs.rule.said]\npaths = [\"logs/said.jsonl\"]\narchive = true\nmax_size = \"5KB\"\ndiscipline = \"rename\"\n",
    );
    sandbox.write("memory/a.txt", "a");
    log(&sandbox, "said.jsonl", &"{\"first\":1}\n".repeat(1000), 2);
    rotate(&sandbox, 0, &[]);
    let part = "archive/20261120/logs/said_20261120.1.jsonl";
    assert!(sandbox.path(part).exists());
    log(&sandbox, "said.jsonl", "{\"second\":1}\n", 1);
    let shown = sandbox.expect(0, "ops", &["logs", "said", "-n", "2000"]);
    assert_eq!(shown.stdout.matches("first").count(), 1000, "{}", shown.stderr);
    // An hour later, whoever looks: anyone but root does not see who writes.
    rotate(&sandbox, 0, &[]);
    assert!(!sandbox.path(part).exists() && sandbox.path(&format!("{part}.gz")).exists());
    let shown = sandbox.expect(0, "ops", &["logs", "said", "-n", "2000"]);
    let count = |word: &str| shown.stdout.matches(word).count();
    assert_eq!((count("first"), count("second")), (1000, 1), "{}", shown.stderr);
    sandbox.expect(0, "backup", &[]);
    let listed = sandbox.expect(0, "restore", &["latest", "--list"]);
    for path in ["logs/said.jsonl", &format!("{part}.gz")] {
        assert!(listed.stdout.contains(path), "{path}: {}", listed.stdout);
    }
}
