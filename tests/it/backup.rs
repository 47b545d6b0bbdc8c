//! Backups of a home that lives: consistent, readable by ordinary tools, never at the cost of an
//! older one.

mod keeping;
mod opaque;
mod unchanged;

use crate::sandbox::{Said, Sandbox, said, wait_until};
use crate::service::with_agent;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A sandbox without services: only files.
pub fn with_files() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\", \"config/**\"]\n",
    );
    sandbox.write("memory/journal.jsonl", "{\"n\":1}\n{\"n\":2}\n");
    sandbox.write("memory/notes/today.md", "a note\n");
    sandbox.write("config/settings.json", "{}\n");
    let db = database(&sandbox.path("memory/agent.db"));
    db.execute_batch("CREATE TABLE rows(n INTEGER PRIMARY KEY); INSERT INTO rows VALUES(1),(2),(3);")
        .unwrap();
    sandbox
}

pub fn database(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db
}

pub fn number(path: &Path, query: &str) -> i64 {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    db.query_row(query, [], |row| row.get(0)).unwrap()
}

/// Bytes like those of an encrypted file, the same for the same seed.
pub fn rubbish_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

/// The archives there are, oldest first.
pub fn archives(sandbox: &Sandbox) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(sandbox.path("backups")) else { return Vec::new() };
    let mut archives: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".tar.gz"))
        .collect();
    archives.sort();
    archives
}

/// What lies about in the backup folder that is neither an archive nor `latest` nor a pin.
pub fn rubbish(sandbox: &Sandbox) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sandbox.path("backups")) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "latest" && !name.ends_with(".tar.gz") && !name.ends_with(".pinned"))
        .collect()
}

/// Every file below a folder with its content, every link with its target, every folder.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path();
            let content = if entry.path_is_symlink() {
                fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
            } else if path.is_dir() {
                b"folder".to_vec()
            } else {
                fs::read(path).unwrap()
            };
            (path.strip_prefix(root).unwrap().to_owned(), content)
        })
        .collect()
}

/// Bytes that do not compress, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// The one thing in a folder.
pub fn only_entry(folder: &Path) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    entry.clone()
}

/// Unpacks with the ordinary `tar` and checks with the ordinary `sha256sum` (or `shasum`). Gives
/// the folder that came out.
pub fn unpack_by_hand(sandbox: &Sandbox, archive: &Path) -> PathBuf {
    let stem = archive.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap();
    let into = sandbox.outside(&format!("by-hand-{stem}"));
    let tar = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(&into).output().unwrap();
    assert!(tar.status.success(), "{tar:?}");
    let folder = only_entry(&into);
    let sums = ["sha256sum", "shasum"].iter().find_map(|program| {
        let mut command = Command::new(program);
        if *program == "shasum" {
            command.args(["-a", "256"]);
        }
        command.args(["-c", "checksums.sha256"]).current_dir(&folder).output().ok()
    });
    let sums = sums.unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    folder
}

#[test]
fn while_the_agent_writes_ten_archives_in_a_row_hold_every_row_committed_before() {
    let sandbox = with_agent(&["--rows-per-second", "1000"]);
    sandbox.expect(0, "ops", &["start"]);
    let live = sandbox.path("memory/agent.db");
    wait_until("the agent writes", || number(&live, "SELECT count(*) FROM episodes") > 100);
    let mut befores = Vec::new();
    for _ in 0..10 {
        befores.push(number(&live, "SELECT max(id) FROM episodes"));
        sandbox.expect(0, "backup", &[]);
    }
    assert!(befores.windows(2).all(|pair| pair[0] < pair[1]), "the agent went on writing: {befores:?}");
    let archives = archives(&sandbox);
    assert_eq!(archives.len(), 10);
    let mut ordered = archives.clone();
    ordered.sort_by_key(|path| fs::metadata(path).map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap());
    for (archive, before) in ordered.iter().zip(befores) {
        let folder = unpack_by_hand(&sandbox, archive);
        let copy = folder.join("memory/agent.db");
        let db = Connection::open(&copy).unwrap();
        let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        let (rows, most) =
            (number(&copy, "SELECT count(*) FROM episodes"), number(&copy, "SELECT max(id) FROM episodes"));
        assert!(
            most >= before && rows == most,
            "{archive:?}: {rows} rows up to {most}, {before} were committed"
        );
        let journal = fs::read(folder.join("memory/journal.jsonl")).unwrap();
        assert!(journal.is_empty() || journal.ends_with(b"\n"));
        for line in String::from_utf8(journal).unwrap().lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
    }
}

#[test]
fn the_archive_is_private_named_by_its_time_and_latest_points_to_it() {
    let sandbox = with_files();
    let run = |sandbox: &Sandbox| {
        let output = sandbox.program("backup").env("OPS_NOW", "2026-11-20T10:30:01+01:00").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    run(&sandbox);
    run(&sandbox);
    let names: Vec<_> = archives(&sandbox)
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["20261120_093001.tar.gz", "20261120_093001_1.tar.gz"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&archives(&sandbox)[0]), mode(&sandbox.path("backups"))), (0o600, 0o700));
    assert_eq!(fs::read_link(sandbox.path("backups/latest")).unwrap(), Path::new("20261120_093001_1.tar.gz"));
    assert!(sandbox.read("logs/backup.log").contains("] [OK] Backup made - 4 files,"));
    assert_eq!(unpack_by_hand(&sandbox, &archives(&sandbox)[1]).file_name().unwrap(), "quiet");
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(list["archives"][0]["sequence"], 2);
    assert_eq!(list["archives"][0]["verified"], true);
}

#[test]
fn a_whole_home_of_odd_files_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"**\"]\nexclude = [\"logs/**\"]\n",
    );
    drop(database(&sandbox.path("agent.db")).execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)"));
    sandbox.write("manifest.json", "mine");
    sandbox.write("checksums.sha256", "mine too");
    sandbox.write("line\nbreak \\ and ü", "odd");
    sandbox.write(&format!("deep/{}/leaf", "x".repeat(200)), "far down");
    sandbox.write("empty", "");
    sandbox.write("zeros", vec![0; 3_000_000]);
    sandbox.write("torn.jsonl", "{\"whole\":1}\n{\"tor");
    sandbox.write("poetry.lock", "# this is data, not a lock\n".repeat(20));
    sandbox.write("fake.db", "no database at all");
    fs::write(sandbox.home.join(OsStr::from_bytes(b"not\xffutf8")), "bytes").unwrap();
    fs::create_dir_all(sandbox.path("an/empty/folder")).unwrap();
    symlink("deep", sandbox.path("inward")).unwrap();
    symlink("./nowhere", sandbox.path("dangling")).unwrap();
    fs::set_permissions(sandbox.path("empty"), fs::Permissions::from_mode(0o751)).unwrap();
    // What stays out.
    sandbox.write("daemon.pid", "123\n");
    sandbox.write("work.lock", "");
    sandbox.write("agent.db-wal", "");
    sandbox.write(".pre-restore.20200101_000000/old", "old");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(sandbox.path("pipe")).status().unwrap().success());

    sandbox.expect(0, "backup", &[]);
    let expected = tree_of_known(&sandbox);
    let target = sandbox.outside("elsewhere").join("new");
    sandbox.expect(0, "restore", &["--to", target.to_str().unwrap()]);
    let restored = tree(&target);
    assert_eq!(restored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, content) in &restored {
        assert!(path == Path::new("agent.db") || *content == expected[path], "{path:?} differs");
    }
    assert_eq!(number(&target.join("agent.db"), "SELECT count(*) FROM t"), 1);
    assert_eq!(fs::metadata(target.join("empty")).unwrap().permissions().mode() & 0o7777, 0o751);
    let (old, new) =
        (fs::metadata(sandbox.path("zeros")).unwrap(), fs::metadata(target.join("zeros")).unwrap());
    assert_eq!((old.mtime(), old.mtime_nsec()), (new.mtime(), new.mtime_nsec()));
    unpack_by_hand(&sandbox, &archives(&sandbox)[0]);
    sandbox.expect(0, "backup", &["verify"]);
}

/// The tree of the home without what never goes in.
fn tree_of_known(sandbox: &Sandbox) -> BTreeMap<PathBuf, Vec<u8>> {
    let out = [
        "daemon.pid",
        "work.lock",
        "agent.db-wal",
        "agent.db-shm",
        "socket",
        "pipe",
        ".ops",
        "logs",
        "backups",
    ];
    // Pipes and sockets cannot be read as files.
    fs::remove_file(sandbox.path("pipe")).unwrap();
    fs::remove_file(sandbox.path("socket")).unwrap();
    let mut tree = tree(&sandbox.home);
    tree.retain(|path, _| {
        let top = path.iter().next().unwrap().to_string_lossy();
        !out.contains(&&*top) && !top.starts_with(".pre-restore")
    });
    tree
}

#[test]
fn nothing_stays_out_without_a_word() {
    let sandbox = with_files();
    fs::create_dir(sandbox.outside("elsewhere").join("state")).unwrap();
    let elsewhere = sandbox.outside("elsewhere").join("state");
    for name in ["memory/.part-x", "memory/work.lock", "memory/small.pid", "memory/.part-dir/inside"] {
        sandbox.write(name, "1");
    }
    sandbox.write("memory/data.lock", vec![b'x'; 129]);
    sandbox.write("data/not_included", "x");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("memory/socket")).unwrap();
    assert!(Command::new("mkfifo").arg(sandbox.path("memory/pipe")).status().unwrap().success());
    let odd = OsStr::from_bytes(b"memory/\xff.db");
    let db = database(&sandbox.home.join(odd));
    db.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
    for (link, target) in [
        ("memory/outside", elsewhere.to_str().unwrap()),
        ("memory/not_included", "../data/not_included"),
        ("memory/dangling", "nothing-here"),
        ("memory/python", "/usr/bin/python3"),
        ("memory/inside", "notes/today.md"),
        ("memory/folder", "../memory/notes"),
    ] {
        symlink(target, sandbox.path(link)).unwrap();
    }

    let plan = sandbox.json(0, "backup", &["--dry-run"]);
    let left_out: Vec<(String, &str)> = plan["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (one["path"].as_str().map_or("odd".to_owned(), str::to_owned), one["reason"].as_str().unwrap())
        })
        .collect();
    let expected = [
        ("memory/.part-dir", "part_file"),
        ("memory/.part-x", "part_file"),
        ("memory/pipe", "fifo"),
        ("memory/small.pid", "lock_file"),
        ("memory/socket", "socket"),
        ("memory/work.lock", "lock_file"),
        ("odd", "database_sidecar"),
        ("odd", "database_sidecar"),
    ];
    assert_eq!(left_out, expected.map(|(path, reason)| (path.to_owned(), reason)));
    let leads = |links: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        links.as_array().unwrap().iter().map(|link| (text(&link["path"]), text(&link["leads"]))).collect()
    };
    let expected = [
        ("memory/dangling", "nowhere"),
        ("memory/not_included", "not_included"),
        ("memory/outside", "outside"),
        ("memory/python", "system"),
    ]
    .map(|(path, leads)| (path.to_owned(), leads.to_owned()));
    assert_eq!(leads(&plan["links_out"]), expected);

    let said = sandbox.expect(0, "backup", &[]);
    for link in ["memory/outside", "memory/not_included", elsewhere.to_str().unwrap()] {
        assert!(said.stderr.contains(link), "{said:?}");
    }
    assert!(!said.stderr.contains("python") && !said.stderr.contains("dangling"), "{said:?}");
    let folder = unpack_by_hand(&sandbox, &archives(&sandbox)[0]);
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(leads(&manifest["links_out"]), expected);
    let unkept: Vec<_> =
        manifest["unkept"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(unkept, ["fifo", "socket"]);
    let names = tree(&folder.join("memory"));
    assert!(!names.keys().any(|path| path.as_os_str().as_bytes().ends_with(b"-wal")), "{names:?}");
    assert_eq!(number(&folder.join(odd), "SELECT count(*) FROM t"), 1);
    sandbox.expect(0, "restore", &["--drill"]);
}

#[test]
fn an_access_list_comes_back_and_its_loss_gives_nobody_more() {
    let sandbox = with_files();
    sandbox.write("memory/secret", "for two");
    let path = sandbox.path("memory/secret");
    // What `setfacl -m u:4711:rw` makes of 0600: the mode shows the mask, 0660.
    let entries =
        [(1u16, 6u16, u32::MAX), (2, 6, 4711), (4, 0, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        list.extend([tag.to_le_bytes(), perm.to_le_bytes()].as_flattened());
        list.extend(id.to_le_bytes());
    }
    let acl = "system.posix_acl_access";
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, acl, &list, flags).is_err() {
        println!("no access control lists here");
        return;
    }
    rustix::fs::setxattr(&path, "user.note", b"kept", flags).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o660);
    sandbox.expect(0, "backup", &[]);
    let folder = unpack_by_hand(&sandbox, &archives(&sandbox)[0]);
    assert_eq!(mode(&folder.join("memory/secret")), 0o600);

    // Neither what is there now nor what its folder hands down stays.
    fs::remove_file(&path).unwrap();
    sandbox.write("memory/secret", "other");
    rustix::fs::setxattr(sandbox.path("memory"), "system.posix_acl_default", &list, flags).unwrap();
    sandbox.expect(0, "restore", &["latest", "--yes"]);
    let read = |path: &Path, name: &str| {
        let mut value = vec![0; 1000];
        rustix::fs::getxattr(path, name, &mut value).map(|length| value[..length].to_vec())
    };
    assert_eq!(mode(&path), 0o660);
    assert_eq!(read(&path, acl).unwrap(), list);
    assert_eq!(read(&path, "user.note").unwrap(), b"kept");
    assert!(read(&sandbox.path("memory/journal.jsonl"), acl).is_err());
}

#[test]
fn a_last_line_is_left_out_only_while_it_is_being_written() {
    let sandbox = with_files();
    let long = "{\"n\":1}\n".repeat(20_000);
    for (name, content) in [
        ("memory/rest.jsonl", "{\"n\":1}\n{\"n\":2}".to_owned()),
        ("memory/half.jsonl", "{\"n\":1}\n{\"n".to_owned()),
        ("memory/long.jsonl", long.clone() + "{\"n"),
    ] {
        sandbox.write(name, content);
    }
    let busy = [("memory/small_busy.jsonl", "{\"n\":1}\n".to_owned()), ("memory/busy.jsonl", long.clone())];
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        for (name, content) in &busy {
            sandbox.write(name, content.clone() + "{\"endless\":\"");
            let mut file = fs::File::options().append(true).open(sandbox.path(name)).unwrap();
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    file.write_all(b"x").unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let outcome = sandbox.json(0, "backup", &[]);
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    let cut: BTreeMap<&str, u64> = outcome["cut"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cut| (cut["path"].as_str().unwrap(), cut["bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(cut.keys().copied().collect::<Vec<_>>(), ["memory/busy.jsonl", "memory/small_busy.jsonl"]);
    assert!(cut.values().all(|&bytes| bytes >= 12), "{cut:?}");
    let folder = unpack_by_hand(&sandbox, &archives(&sandbox)[0]);
    for (name, content) in &busy {
        assert!(fs::read_to_string(folder.join(name)).unwrap() == *content, "{name}");
    }
    for name in ["memory/rest.jsonl", "memory/half.jsonl", "memory/long.jsonl"] {
        assert!(fs::read(folder.join(name)).unwrap() == fs::read(sandbox.path(name)).unwrap(), "{name}");
    }
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    let items = manifest["files"].as_array().unwrap();
    let marked: Vec<_> = items.iter().filter(|item| item["cut"].is_u64()).collect();
    assert_eq!(marked.len(), 2, "{marked:?}");

    // Now nobody writes: nothing is missing, and nobody says so.
    let said = sandbox.expect(0, "backup", &[]);
    assert!(!said.stderr.contains("last line"), "{said:?}");
    let folder = unpack_by_hand(&sandbox, &archives(&sandbox)[1]);
    for (name, _) in &busy {
        assert!(fs::read(folder.join(name)).unwrap() == fs::read(sandbox.path(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_damaged_database_is_saved_as_it_is_and_said_so() {
    let sandbox = with_files();
    let path = sandbox.path("memory/broken.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX i ON t(b);
         WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<2000)
         INSERT INTO t SELECT x, hex(randomblob(40)) FROM n;",
    )
    .unwrap();
    drop(db);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let made = sandbox.json(1, "backup", &[]);
    assert!(made["problems"][0].as_str().unwrap().contains("memory/broken.db is damaged"), "{made}");
    let folder = unpack_by_hand(&sandbox, &archives(&sandbox)[0]);
    assert_eq!(fs::read(folder.join(".damaged/memory/broken.db")).unwrap(), bytes);
    sandbox.expect(2, "backup", &["verify"]);
    sandbox.expect(2, "restore", &["--drill"]);
}

#[test]
fn two_at_once_make_two_whole_archives_or_say_who_is_at_it() {
    let sandbox = with_files();
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut program = sandbox.program("backup");
            program.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            program.spawn().unwrap()
        })
        .collect();
    let said: Vec<Said> = children.into_iter().map(|child| said(child.wait_with_output().unwrap())).collect();
    let made = said.iter().filter(|said| said.code == 0).count();
    assert!(
        said.iter().all(|said| said.code == 0 || (said.code == 3 && said.stderr.contains("has been at it")))
    );
    assert!(made >= 1, "{said:?}");
    assert_eq!(archives(&sandbox).len(), made);
    assert_eq!(rubbish(&sandbox), [""; 0]);
    for archive in archives(&sandbox) {
        sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
    }
}

#[test]
fn a_disk_full_at_any_step_costs_nothing_that_was_there() {
    let sandbox = with_files();
    sandbox.write("memory/big.bin", noise(700_000));
    // A policy that would prune everything but the newest, were it let.
    let config = sandbox.read("ops.toml") + "keep = { all = \"1s\", weekly = \"1s\", monthly = \"1s\" }\n";
    sandbox.expect(0, "backup", &[]);
    sandbox.write("ops.toml", config);
    for step in 1.. {
        let before = archives(&sandbox);
        let output = sandbox.program("backup").env("OPS_FAIL_AT", step.to_string()).output().unwrap();
        assert!(step < 500);
        assert_eq!(rubbish(&sandbox), [""; 0], "step {step}");
        match output.status.code() {
            Some(0) => break,
            Some(2) => {
                assert_eq!(archives(&sandbox), before, "step {step}: an archive came or went");
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(
                    text.contains("no space") && text.contains("nothing was pruned"),
                    "step {step}: {text}"
                );
            }
            Some(1) => {
                sandbox.expect(0, "backup", &["verify", "latest"]);
                sandbox.expect(0, "backup", &["prune", "--yes"]);
            }
            other => panic!("step {step}: {other:?}"),
        }
        sandbox.expect(0, "backup", &["verify", "latest"]);
    }
}

#[test]
fn an_unreadable_file_is_told_and_the_rest_is_saved() {
    let sandbox = with_files();
    let output = sandbox.program("backup").env("OPS_FAIL_AT", "file").output().unwrap();
    let said = said(output);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("cannot read memory/journal.jsonl"), "{said:?}");
    let list = sandbox.json(0, "restore", &["--list"]);
    assert!(list["files"].as_array().unwrap().iter().any(|file| file["path"] == "memory/agent.db"));
}

#[test]
fn a_dry_run_writes_nothing_and_bad_usage_is_state_3() {
    let sandbox = with_files();
    let said = sandbox.expect(0, "backup", &["--dry-run"]);
    assert!(said.stdout.contains("database  memory/agent.db") && said.stdout.contains("4 files"), "{said:?}");
    assert!(!sandbox.path("backups").exists());
    sandbox.expect(0, "backup", &["--help"]);
    sandbox.expect(3, "backup", &["--no-such-option"]);
    sandbox.expect(3, "backup", &["verify", "20990101_000000"]);
    sandbox.expect(3, "backup", &["verify"]);
    sandbox.write("ops.toml", "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"nothing/**\"]\n");
    let said = sandbox.expect(2, "backup", &[]);
    assert!(said.stderr.contains("nothing to back up"), "{said:?}");
    sandbox.write("ops.toml", "[agent]\npreset = \"none\"\n[backup]\ninclud = []\n");
    let said = sandbox.expect(3, "backup", &[]);
    assert!(said.stderr.contains("ops.toml:4:1") && said.stderr.contains("include"), "{said:?}");
}

#[test]
fn a_folder_that_cannot_be_written_and_a_home_that_is_not_there_are_told() {
    let sandbox = with_files();
    let file = sandbox.write("in-the-way", "a file");
    let config = sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\ndir = \"{}/backups\"\n",
            file.display()
        ),
    );
    let said = sandbox.expect(2, "backup", &[]);
    assert!(said.stderr.contains("in-the-way/backups"), "{said:?}");
    let gone = sandbox.path("no-such-home");
    for program in ["backup", "restore"] {
        let said = sandbox.expect(
            3,
            program,
            &["--config", config.to_str().unwrap(), "--home", gone.to_str().unwrap()],
        );
        assert!(said.stderr.contains("no-such-home"), "{said:?}");
    }
    assert!(!gone.exists(), "a missing home is not made up");
}

#[test]
fn writers_at_full_speed_are_saved_as_they_are() {
    crate::torture::writers_at_full_speed(std::time::Duration::from_secs(10));
}
