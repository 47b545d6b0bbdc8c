//! Writers at full speed while backups run back to back.

use crate::sandbox::Sandbox;
use rusqlite::Connection;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread that writes numbered things as fast as it can, and says what is written for good.
struct Writer {
    done: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Writer {
    fn begin(stop: &Arc<AtomicBool>, mut write: impl FnMut(u64) + Send + 'static) -> Writer {
        let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::clone(stop));
        let said = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let begun = Instant::now();
                write(number);
                longest = longest.max(begun.elapsed());
                said.store(number, Ordering::SeqCst);
            }
            longest
        });
        Writer { done, thread }
    }

    /// Commits numbered rows.
    fn database(stop: &Arc<AtomicBool>, path: &Path, mode: &str) -> Writer {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", mode).unwrap();
        db.pragma_update(None, "synchronous", "off").unwrap();
        db.busy_timeout(Duration::from_secs(60)).unwrap();
        db.execute_batch("CREATE TABLE rows(n INTEGER PRIMARY KEY, text TEXT)").unwrap();
        Writer::begin(stop, move |number| {
            db.prepare("INSERT INTO rows VALUES(?1, hex(randomblob(30)))")
                .unwrap()
                .execute([number.cast_signed()])
                .unwrap();
        })
    }

    /// Appends numbered lines, each in two halves, so that a reader often meets a torn one.
    fn lines(stop: &Arc<AtomicBool>, path: &Path) -> Writer {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        Writer::begin(stop, move |number| {
            file.write_all(format!("{{\"n\":{number},\"te").as_bytes()).unwrap();
            file.write_all(b"xt\":\"a line of the journal\"}\n").unwrap();
        })
    }
}

/// For so long: every commit and line that was finished before a backup began is in it, nothing
/// is torn, every database is sound. The longest stall of each writer is printed, not judged.
pub fn writers_at_full_speed(time: Duration) {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"busy\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n",
    );
    sandbox.write("memory/still.bin", vec![7; 1 << 20]);
    let stop = Arc::new(AtomicBool::new(false));
    let names = ["memory/wal.db", "memory/rollback.db", "memory/journal.jsonl"];
    let writers = [
        Writer::database(&stop, &sandbox.path(names[0]), "wal"),
        Writer::database(&stop, &sandbox.path(names[1]), "delete"),
        Writer::lines(&stop, &sandbox.path(names[2])),
    ];
    let mut made: Vec<(PathBuf, Vec<u64>)> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time || made.len() < 2 {
        let before = writers.iter().map(|writer| writer.done.load(Ordering::SeqCst)).collect();
        let outcome = sandbox.json(0, "backup", &[]);
        made.push((PathBuf::from(outcome["archive"].as_str().unwrap()), before));
    }
    stop.store(true, Ordering::Relaxed);
    for (name, writer) in names.iter().zip(writers) {
        let done = writer.done.load(Ordering::SeqCst);
        let longest = writer.thread.join().unwrap();
        println!("{name}: {done} written, longest stall {:.1} ms", longest.as_secs_f64() * 1000.0);
    }
    println!("{} archives", made.len());
    let into = sandbox.outside("unpacked");
    for (archive, before) in made {
        assert!(
            Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&into).status().unwrap().success()
        );
        let folder = into.join("busy");
        for at in [0, 1] {
            let db = Connection::open(folder.join(names[at])).unwrap();
            let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            let (count, most): (i64, i64) = db
                .query_row("SELECT count(*), ifnull(max(n), 0) FROM rows", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .unwrap();
            assert_eq!(verdict, "ok");
            assert!(
                count == most && most.cast_unsigned() >= before[at],
                "{archive:?} {}: {count}, {most}, {before:?}",
                names[at]
            );
        }
        let mut lines = 0;
        for line in BufReader::new(File::open(folder.join(names[2])).unwrap()).lines() {
            lines += 1;
            assert_eq!(line.unwrap(), format!("{{\"n\":{lines},\"text\":\"a line of the journal\"}}"));
        }
        assert!(lines >= before[2], "{archive:?}: {lines} lines, {before:?}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
