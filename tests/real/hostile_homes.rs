//! Homes in which somebody hostile has put FIFOs, devices, links, forged state and databases, and swaps folders
//! while we run: nothing outside is changed or leaks, and no program hangs. As the same user, and as root on the
//! home of another. `OPS_TEST_HOSTILE=2000` takes more runs, `OPS_TEST_SEED` others.

use crate::peers::as_root;
use crate::sandbox::{Sandbox, built};
use flate2::read::MultiGzDecoder;
use rusqlite::Connection;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const NOBODY: u32 = 65534;
/// What stands in each file outside the home.
const SECRET: &str = "witness-4b825dc642cb6eb9";
/// No run takes longer.
const BOUND: Duration = Duration::from_secs(60);

/// No run prints more.
const MOST_OUTPUT: u64 = 32 << 20;

const CONFIG: &str = r#"
[agent]
preset = "none"
[service.daemon]
command = ["sleep", "15"]
ready = "alive"
pid_file = "logs/daemon.pid"
status_file = "logs/daemon_status.json"
[check.heartbeat]
kind = "heartbeat"
service = "daemon"
[check.memory]
kind = "sqlite"
paths = ["memory/*.db"]
timeout = "1s"
[check.rows]
kind = "sql"
database = "memory/agent.db"
query = "SELECT count(*) FROM t"
timeout = "1s"
[check.lines]
kind = "jsonl"
paths = ["memory/*.jsonl"]
[check.value]
kind = "json"
file = "value.json"
value = "a"
equals = ["fine"]
[check.fresh]
kind = "file_age"
paths = ["value.json", "memory/**"]
warn = "1h"
[check.errors]
kind = "log_errors"
paths = ["logs/daemon.log"]
[backup]
include = ["memory/**", "value.json"]
[alerts]
recover = false
"#;

const PLACES: [&str; 46] = [
    ".ops",
    ".ops/ops.db",
    ".ops/ops.db-wal",
    ".ops/ops.db-shm",
    ".ops/ops.db-journal",
    ".ops/format",
    ".ops/upgrade.json",
    ".ops/restore.json",
    ".ops/restore",
    ".ops/rotation.json",
    ".ops/locks",
    ".ops/locks/alert.lock",
    ".ops/locks/backup.lock",
    ".ops/locks/rotate.lock",
    ".ops/maintenance",
    ".ops/maintenance/r1.json",
    ".ops/service",
    ".ops/service/daemon.json",
    ".ops/service/daemon.installed",
    ".ops/service/daemon.asked",
    ".ops/crontab.installed",
    ".ops/timers.installed",
    "logs",
    "logs/alerts.log",
    "logs/health_check.log",
    "logs/backup.log",
    "logs/rotation.log",
    "logs/restart.log",
    "logs/cron.log",
    "logs/daemon.log",
    "logs/dashboard.html",
    "logs/ops_status.json",
    "logs/daemon_status.json",
    "logs/daemon.pid",
    "memory",
    "memory/agent.db",
    "memory/agent.db-wal",
    "memory/agent.db-journal",
    "memory/agent.db-shm",
    "memory/state.jsonl",
    "memory/deep",
    "memory/deep/note.txt",
    "value.json",
    "backups",
    "backups/latest",
    "archive",
];

/// Files that the config names.
const NAMED: [&str; 6] = [
    "logs/daemon.log",
    "logs/daemon_status.json",
    "logs/daemon.pid",
    "memory/agent.db",
    "memory/state.jsonl",
    "value.json",
];

/// Folders that are swapped for a link to the outside and back.
const FOLDERS: [&str; 7] = ["memory", "memory/deep", "logs", "backups", ".ops", ".ops/service", ".ops/locks"];

const PROGRAMS: [&[&str]; 21] = [
    &["health-check"],
    &["alert"],
    &["backup"],
    &["backup", "list"],
    &["backup", "verify", "--all"],
    &["backup", "prune", "--yes"],
    &["restore", "latest", "--yes"],
    &["restore", "latest", "--drill"],
    &["restore", "latest", "--list"],
    &["rotate-logs"],
    &["dashboard", "web"],
    &["dashboard", "json"],
    &["ops", "status"],
    &["ops", "health", "--json"],
    &["ops", "troubleshoot"],
    &["ops", "troubleshoot", "--json"],
    &["ops", "detect"],
    &["ops", "logs", "all"],
    &["ops", "stop", "--force"],
    &["ops", "uninstall", "--yes"],
    &["ops", "alert", "list"],
];

const DATABASES: [&str; 5] = [
    "CREATE TRIGGER more AFTER INSERT ON t BEGIN INSERT INTO t SELECT * FROM t; END",
    "DROP TABLE t; CREATE VIEW t AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    "CREATE TABLE u(a, b AS (hex(zeroblob(100000000))) VIRTUAL); INSERT INTO u VALUES(1)",
    "CREATE INDEX i ON t(randomblob(8))",
    "PRAGMA user_version = 2147483647",
];

const JOURNALS: [&str; 4] = [
    "CREATE TRIGGER more AFTER INSERT ON runs BEGIN INSERT INTO actions SELECT * FROM actions; END",
    "DROP TABLE incidents; CREATE VIEW incidents AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
     SELECT x AS id FROM n",
    "CREATE TRIGGER more AFTER DELETE ON runs BEGIN DELETE FROM runs; END; PRAGMA user_version = 1",
    "PRAGMA user_version = -1",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % limit as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A path: mode, owner, time, and content or target.
type Witness = BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)>;

fn witness(outside: &Path) -> Witness {
    let entries = walkdir::WalkDir::new(outside).into_iter().map(Result::unwrap);
    entries
        .map(|entry| {
            let (path, meta) = (entry.path().to_owned(), entry.path().symlink_metadata().unwrap());
            let content = match () {
                () if meta.len() > 1 << 24 => b"it grew".to_vec(),
                () if meta.is_file() => fs::read(&path).unwrap(),
                () if meta.is_symlink() => {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                () => Vec::new(),
            };
            (path, (meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec(), content))
        })
        .collect()
}

/// A tree with the names that our own files have, so that whoever is led there finds something.
fn outside(sandbox: &Sandbox) -> PathBuf {
    let outside = sandbox.outside("outside");
    for name in PLACES {
        let path = outside.join(name.replace("latest", "20200101_000000.tar.gz"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !path.exists() && path.extension().is_some() {
            fs::write(&path, format!("{SECRET} {name}\n")).unwrap();
        }
    }
    fs::remove_file(outside.join("memory/agent.db")).unwrap();
    let database = Connection::open(outside.join("memory/agent.db")).unwrap();
    database.execute_batch(&format!("CREATE TABLE t(a); INSERT INTO t VALUES('{SECRET}')")).unwrap();
    outside
}

/// A home as our own programs leave it.
fn good(sandbox: &Sandbox) {
    sandbox.write("ops.toml", CONFIG);
    sandbox.write("value.json", r#"{"a": "fine"}"#);
    sandbox.write("memory/state.jsonl", "{\"a\": 1}\n{\"a\": 2}\n");
    sandbox.write("memory/deep/note.txt", "note");
    sandbox.write("logs/daemon.log", "[2026-11-20 09:30:01] ERROR something\n");
    sandbox.write("logs/daemon_status.json", r#"{"status": "stopped", "timestamp": "2026-11-20T09:30:01Z"}"#);
    let database = Connection::open(sandbox.path("memory/agent.db")).unwrap();
    database.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
    drop(database);
    for program in ["backup", "alert", "rotate-logs", "dashboard"] {
        sandbox.run(program, if program == "dashboard" { &["web"] } else { &[] });
    }
}

/// Puts something hostile in the place of a file or folder.
fn spoil(random: &mut Random, home: &Path, outside: &Path, of_another: bool) -> String {
    let place = random.one(&PLACES);
    let path = home.join(place);
    let kind = match random.below(13) {
        // Where the config names the file a link is followed, with the rights of the user alone.
        4 | 5 if !of_another && NAMED.contains(&place) => 0,
        kind => kind,
    };
    if kind < 11 {
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let _ = fs::rename(&path, home.join(format!("away-{}", random.below(1 << 30))));
        }
        let _ = fs::remove_file(&path);
        let _ = path.parent().map(fs::create_dir_all);
    }
    let mode = Mode::from_raw_mode(0o666);
    let done: std::io::Result<()> = match kind {
        0..3 => mknodat(CWD, &path, FileType::Fifo, mode, 0).map_err(Into::into),
        3 => mknodat(CWD, &path, FileType::CharacterDevice, mode, rustix::fs::makedev(1, 5))
            .map_err(Into::into),
        4 => symlink(outside.join(place), &path),
        5 => symlink(outside, &path),
        6 => symlink(random.one(&["/dev/zero", "/proc/self/pagemap", "/dev/stdin", "nowhere", "."]), &path),
        7 => fs::create_dir(&path),
        8 => {
            // Files of the agent are read whole on purpose: large, but not without end.
            let small =
                ["memory", "value", "logs", "archive", "backups"].iter().any(|name| place.starts_with(name));
            File::create(&path).and_then(|file| file.set_len(if small { 1 << 26 } else { 1 << 40 }))
        }
        9 => fs::write(&path, forged(random, outside)),
        10 => fs::write(&path, [b'['; 200_000]),
        11 => database(&home.join("memory/agent.db"), random.one(&DATABASES)),
        _ => database(&home.join(".ops/ops.db"), random.one(&JOURNALS)),
    };
    format!("{place} kind {kind} ({})", done.map_or_else(|error| error.to_string(), |()| "done".to_owned()))
}

fn database(path: &Path, statements: &str) -> std::io::Result<()> {
    // One that is a FIFO by now would hold the test up.
    if !path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    Connection::open(path)
        .and_then(|connection| connection.execute_batch(statements))
        .map_err(std::io::Error::other)
}

/// State as we write it, with paths that lead out and processes that are none of ours.
fn forged(random: &mut Random, outside: &Path) -> String {
    let up = format!("../{}", outside.file_name().unwrap().to_str().unwrap());
    let path = random.one(&[up.as_str(), outside.to_str().unwrap(), "../../etc", "memory/../../outside"]);
    serde_json::json!({
        "format": 2, "version": "0.1.0", "home": outside, "manager": "systemd", "system": random.below(2) == 0,
        "unit": "agent-ops-other-daemon.service", "path": path, "text": "", "files": [],
        "stage": {"path": path}, "aside": path, "moves": [[path, path]], "cuts": [{"log": path, "copy": path}],
        "run": "r1", "at": "2026-11-20T09:30:01Z", "since": "2026-11-20T09:30:01Z", "archive": path,
        "until": "9999-01-01T00:00:00Z", "what": "ops restart", "services": ["daemon"], "changed": true,
        "process": {"pid": 1, "start": 1, "boot": ""}, "identity": {"pid": 1, "start": 1, "boot": ""},
        "status": "running", "timestamp": "2026-11-20T09:30:01Z", "pid": 1,
    })
    .to_string()
}

/// Runs a program and gives what it printed, or that it had to be ended.
fn run(sandbox: &Sandbox, words: &[&str], output: &Path) -> Result<Vec<u8>, String> {
    let out = File::create(output).unwrap();
    let mut shell = Command::new("/bin/sh");
    let plain = sandbox.program(words[0]);
    shell.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // More address space than any run needs, and less than an endless file has.
    shell.args(["-c", "ulimit -v 4000000; exec \"$@\"", "sh"]).arg(built(words[0])).args(&words[1..]);
    let mut child = shell
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .current_dir(sandbox.home.parent().unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > BOUND => {
                let waits = fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
                child.kill().unwrap();
                child.wait().unwrap();
                return Err(format!("{words:?} did not end within {BOUND:?} ({waits})"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut said = Vec::new();
    File::open(output).unwrap().take(MOST_OUTPUT).read_to_end(&mut said).unwrap();
    if said.len() as u64 == MOST_OUTPUT {
        return Err(format!("{words:?} does not stop printing"));
    }
    let text = String::from_utf8_lossy(&said);
    match status.code() {
        Some(0..=3) if !text.contains("panicked") => Ok(said),
        _ => Err(format!("{words:?} ended with {status}: {text}")),
    }
}

/// Files of ours in which the secret stands, in the home and in its archives.
fn leaks(home: &Path) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    let files = walkdir::WalkDir::new(home).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .map(walkdir::DirEntry::into_path)
        .filter(|path| {
            let Ok(file) = File::open(path) else { return false };
            let mut content = Vec::new();
            let _ = file.take(1 << 22).read_to_end(&mut content);
            let mut inflated = Vec::new();
            let _ = MultiGzDecoder::new(&content[..]).take(1 << 24).read_to_end(&mut inflated);
            holds(&content) || holds(&inflated)
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn give(folder: &Path) {
    for entry in walkdir::WalkDir::new(folder).into_iter().flatten() {
        let _ = lchown(entry.path(), Some(NOBODY), Some(NOBODY));
    }
}

#[test]
fn hostile_homes_lead_nowhere_and_hold_nobody_up() {
    as_root();
    let number =
        |name: &str, usual: u64| -> u64 { std::env::var(name).map_or(usual, |text| text.parse().unwrap()) };
    let (runs, seed) = (number("OPS_TEST_HOSTILE", 300), number("OPS_TEST_SEED", 1));
    let template = Sandbox::new();
    good(&template);
    let first: u64 = number("OPS_TEST_CASE", 1);
    let (mut done, mut case, mut wrong, mut slowest) = (0, first - 1, Vec::new(), Duration::ZERO);
    while done < runs && wrong.len() < 10 {
        case += 1;
        let mut random = Random(seed << 32 | case);
        let sandbox = Sandbox::new();
        let outside = outside(&sandbox);
        fs::remove_dir(&sandbox.home).unwrap();
        copy(&template.home, &sandbox.home);
        let of_another = random.below(2) == 0;
        let mut told: Vec<String> = (0..1 + random.below(4))
            .map(|_| spoil(&mut random, &sandbox.home, &outside, of_another))
            .collect();
        if of_another {
            give(&sandbox.home);
            fs::set_permissions(&outside, Permissions::from_mode(0o700)).unwrap();
        }
        fs::set_permissions(sandbox.home.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
        let swapped = (random.below(2) == 0).then(|| sandbox.home.join(random.one(&FOLDERS)));
        // Below a link it would be we who change what is outside.
        let swapped = swapped.filter(|folder| !folder.parent().is_some_and(Path::is_symlink));
        told.push(format!("swapped {swapped:?}, home of another: {of_another}"));
        let before = witness(&outside);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if let Some(folder) = &swapped {
                let (over, link) = (&over, sandbox.home.with_file_name("link"));
                symlink(&outside, &link).unwrap();
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let _ = renameat_with(CWD, folder, CWD, &link, RenameFlags::EXCHANGE);
                        std::thread::yield_now();
                    }
                    // What is swapped in last is not searched for leaks.
                    if folder.is_symlink() {
                        let _ = renameat_with(CWD, folder, CWD, &link, RenameFlags::EXCHANGE);
                    }
                });
            }
            for _ in 0..3 {
                let words = random.one(&PROGRAMS);
                if std::env::var_os("OPS_TEST_LOUD").is_some() {
                    println!("case {case} {told:?} {words:?}");
                }
                told.push(words.join(" "));
                let begun = Instant::now();
                match run(&sandbox, words, &sandbox.home.with_file_name("output")) {
                    Ok(said) if !String::from_utf8_lossy(&said).contains(SECRET) => {}
                    Ok(said) => {
                        wrong.push(format!("case {case} {told:?} shows: {}", String::from_utf8_lossy(&said)));
                    }
                    Err(why) => wrong.push(format!("case {case} {told:?}: {why}")),
                }
                slowest = slowest.max(begun.elapsed());
                if std::env::var_os("OPS_TEST_LOUD").is_some() {
                    println!("  took {:?}", begun.elapsed());
                }
                done += 1;
            }
            over.store(true, Ordering::Relaxed);
        });
        let after = witness(&outside);
        if after != before {
            let changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
            let changed: Vec<&PathBuf> = before.keys().chain(after.keys()).filter(changed).collect();
            wrong.push(format!("case {case} {told:?} changed outside: {changed:?}"));
        }
        let leaked = leaks(&sandbox.home);
        if !leaked.is_empty() {
            wrong.push(format!("case {case} {told:?} leaked into {leaked:?}"));
        }
    }
    println!("{done} runs on {case} homes, the slowest took {slowest:?}");
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}
