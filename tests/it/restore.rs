//! Restores: exactly what was saved, or everything as it was.

mod back;
mod beneath;
mod folders;
mod foreign;
mod parts;
mod sidecars;

use crate::backup::{archives, database, number, tree, with_files};
use crate::crash::changed;
use crate::sandbox::{Sandbox, said, wait_until};
use crate::service::{agent_pid, alive, kill, with_agent};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a restore may and must change, by path; large content only by its hash. A `-shm` is no
/// state: readers make it anew.
pub type State = BTreeMap<PathBuf, u64>;

pub fn state(sandbox: &Sandbox) -> State {
    let mut state = digest(tree(&sandbox.path("memory")), "memory");
    state.extend(digest(tree(&sandbox.path("config")), "config"));
    state
}

pub fn digest(tree: BTreeMap<PathBuf, Vec<u8>>, below: &str) -> State {
    let hash = |content: Vec<u8>| {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        hasher.finish()
    };
    tree.into_iter()
        .filter(|(path, _)| !path.to_string_lossy().ends_with("-shm"))
        .map(|(path, content)| (Path::new(below).join(path), hash(content)))
        .collect()
}

#[test]
fn after_a_crash_with_a_hot_wal_exactly_the_rows_of_the_backup_come_back() {
    let sandbox = with_agent(&["--rows-per-second", "500"]);
    sandbox.expect(0, "ops", &["start"]);
    let live = sandbox.path("memory/agent.db");
    wait_until("the agent writes", || number(&live, "SELECT count(*) FROM episodes") > 100);
    sandbox.expect(0, "backup", &[]);
    let check = sandbox.outside("check");
    sandbox.expect(0, "restore", &["--to", check.to_str().unwrap()]);
    let rows = number(&check.join("memory/agent.db"), "SELECT max(id) FROM episodes");
    wait_until("it wrote more", || number(&live, "SELECT max(id) FROM episodes") > rows + 200);
    sandbox.write("memory/not-in-the-backup.txt", "stays");
    sandbox.write("elsewhere.txt", "stays too");
    let before = agent_pid(&sandbox);
    kill(before);
    assert!(fs::metadata(sandbox.path("memory/agent.db-wal")).unwrap().len() > 0, "a hot WAL is left");

    // Dead, it is not started by a restore. So nothing but the restore touches the rows.
    let said = sandbox.expect(0, "restore", &["latest", "--yes"]);
    assert!(said.stdout.contains("what was replaced is in .pre-restore."), "{said:?}");
    assert!(!sandbox.path("memory/agent.db-wal").exists());
    assert_eq!(number(&live, "SELECT max(id) FROM episodes"), rows);
    assert_eq!(number(&live, "SELECT count(*) FROM episodes"), rows);
    assert_eq!(sandbox.read("memory/not-in-the-backup.txt"), "stays");
    assert_eq!(sandbox.read("elsewhere.txt"), "stays too");
    sandbox.expect(0, "ops", &["start"]);
    assert!(alive(agent_pid(&sandbox)));
}

#[test]
fn a_running_agent_is_stopped_and_runs_again_on_the_old_rows() {
    let sandbox = with_agent(&["--rows-per-second", "500"]);
    sandbox.expect(0, "ops", &["start"]);
    let live = sandbox.path("memory/agent.db");
    let mark = |what: &str| {
        let db = database(&live);
        db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        db.execute("INSERT INTO episodes(at, kind, content) VALUES('', 'mark', ?1)", [what]).unwrap();
    };
    let marks =
        |what: &str| number(&live, &format!("SELECT count(*) FROM episodes WHERE content = '{what}'"));
    mark("before");
    sandbox.expect(0, "backup", &[]);
    mark("after");
    let before = agent_pid(&sandbox);
    let restored = sandbox.json(0, "restore", &["--yes"]);
    assert_eq!(restored["restarted"][0], "daemon");
    let after = agent_pid(&sandbox);
    assert!(after != before && alive(after) && !alive(before));
    assert_eq!((marks("before"), marks("after")), (1, 0));
    // What was replaced is still there to be looked at.
    let aside = PathBuf::from(restored["aside"].as_str().unwrap());
    assert_eq!(
        number(&aside.join("memory/agent.db"), "SELECT count(*) FROM episodes WHERE content = 'after'"),
        1
    );

    // A person's stop stays a stop.
    sandbox.expect(0, "ops", &["stop"]);
    sandbox.expect(0, "restore", &["--yes"]);
    assert!(!alive(after));
    assert_eq!(marks("after"), 0);
}

#[test]
fn a_bad_archive_is_refused_before_anything_is_touched() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.write(
        "memory/large.bin",
        (0..600_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect::<Vec<_>>(),
    );
    sandbox.expect(0, "backup", &[]);
    let archive = archives(&sandbox).remove(0);
    let whole = fs::read(&archive).unwrap();
    let pid = agent_pid(&sandbox);
    let large = fs::read(sandbox.path("memory/large.bin")).unwrap();
    let bad = sandbox.outside("bad").join("x.tar.gz");
    let refused = |content: &[u8], what: &str| {
        fs::write(&bad, content).unwrap();
        let said = sandbox.run("restore", &[bad.to_str().unwrap(), "--yes"]);
        assert!(said.code == 2 || said.code == 3, "{what}: {said:?}");
        assert!(said.stderr.contains("x.tar.gz") && said.stderr.contains("hint"), "{what}: {said:?}");
    };
    for length in [0, 1, 100, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length], &format!("cut to {length}"));
    }
    // At the seam of two members nothing but the missing index tells.
    let seams: Vec<usize> =
        (1..whole.len() - 4).filter(|at| whole[*at..].starts_with(&[0x1f, 0x8b, 8, 4])).collect();
    assert!(seams.len() >= 3);
    for seam in seams {
        refused(&whole[..seam], &format!("cut at the seam {seam}"));
    }
    for part in 1..12 {
        let mut flipped = whole.clone();
        flipped[whole.len() * part / 12] ^= 0x10;
        refused(&flipped, &format!("a flip at {part}/12"));
    }
    refused(&[&whole[..], b"rubbish"].concat(), "rubbish at the end");
    sandbox.expect(3, "restore", &["no-such-archive", "--yes"]);
    // Damaged where it lies, it is not `latest` any more.
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    sandbox.expect(3, "restore", &["latest", "--yes"]);

    assert_eq!(agent_pid(&sandbox), pid);
    assert!(alive(pid));
    assert_eq!(fs::read(sandbox.path("memory/large.bin")).unwrap(), large);
    let names: Vec<_> =
        fs::read_dir(&sandbox.home).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with(".pre-restore")), "{names:?}");
}

#[test]
fn without_a_terminal_and_a_yes_nothing_happens() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    sandbox.write("config/settings.json", "changed");
    let before = state(&sandbox);
    let said = sandbox.expect(3, "restore", &[]);
    assert!(said.stderr.contains("--yes") && said.stderr.contains("nothing was changed"), "{said:?}");
    let said = sandbox.expect(0, "restore", &["--dry-run"]);
    assert!(said.stdout.contains("4 files are replaced"), "{said:?}");
    assert_eq!(state(&sandbox), before);
}

#[test]
fn an_agent_that_does_not_start_on_the_restored_files_gets_its_old_ones_back() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\npreset = \"none\"\n[service.main]\ncommand = [\"sh\", \"config/run.sh\"]\nready_timeout = \"5s\"\n\
         [backup]\ninclude = [\"config/**\", \"memory/**\"]\n",
    );
    sandbox.write("config/run.sh", "exit 7\n");
    sandbox.write("memory/a.txt", "saved");
    sandbox.write("memory/only-saved.txt", "saved");
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(sandbox.path("memory/only-saved.txt")).unwrap();
    sandbox.write("config/run.sh", "exec sleep 600\n");
    sandbox.write("memory/a.txt", "newer");
    sandbox.expect(0, "ops", &["start"]);
    let before = state(&sandbox);
    let said = sandbox.expect(2, "restore", &["--yes"]);
    assert!(
        said.stderr.contains("everything was put back") && said.stderr.contains("main runs again"),
        "{said:?}"
    );
    assert_eq!(state(&sandbox), before);
    assert!(!sandbox.path(".ops/restore.json").exists());
    let started = sandbox.json(0, "ops", &["start"]);
    assert_eq!(started["services"][0]["outcome"], "already running");
    let names: Vec<_> =
        fs::read_dir(&sandbox.home).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with(".pre-restore")), "nothing is left aside: {names:?}");
}

#[test]
fn a_time_means_the_newest_archive_before_it() {
    let sandbox = with_files();
    for (now, content) in [
        ("2026-05-10T03:00:00Z", "tenth"),
        ("2026-05-11T03:00:00Z", "eleventh"),
        ("2026-05-12T03:00:00Z", "twelfth"),
    ] {
        sandbox.write("config/settings.json", content);
        assert!(sandbox.program("backup").env("OPS_NOW", now).output().unwrap().status.success());
    }
    for (when, content) in [
        ("2026-05-11", "eleventh"),
        ("2026-05-11 02:59", "tenth"),
        ("yesterday", "eleventh"),
        ("20260510_030000", "tenth"),
        ("latest", "twelfth"),
    ] {
        let output = sandbox
            .program("restore")
            .args([when, "--yes"])
            .env("OPS_NOW", "2026-05-12T09:00:00Z")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(sandbox.read("config/settings.json"), content, "{when}");
    }
    sandbox.expect(3, "restore", &["2026-05-09", "--yes"]);
}

#[test]
fn a_drill_proves_it_and_leaves_nothing() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let before = state(&sandbox);
    sandbox.expect(0, "restore", &["--drill"]);
    assert_eq!(state(&sandbox), before);
    let list = sandbox.json(0, "backup", &["list"]);
    assert!(list["archives"][0]["drilled"].is_string(), "{list}");
    assert_eq!(fs::read_dir(sandbox.path(".ops/restore")).unwrap().count(), 0);
}

fn tar(folder: &Path, archive: &Path, args: &[&str]) {
    let output =
        Command::new("tar").arg("czf").arg(archive).arg("-C").arg(folder).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_folder_where_a_file_should_go_stops_it_before_anything_moves() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(sandbox.path("config/settings.json")).unwrap();
    sandbox.write("config/settings.json/inside", "mine");
    sandbox.write("memory/journal.jsonl", "changed");
    let said = sandbox.expect(3, "restore", &["--yes"]);
    assert!(said.stderr.contains("config/settings.json is a folder"), "{said:?}");
    assert_eq!(sandbox.read("memory/journal.jsonl"), "changed");
}

#[test]
fn modes_come_back_without_setuid() {
    let sandbox = with_files();
    let path = sandbox.write("memory/tool.sh", "#!/bin/sh\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(&path).unwrap();
    sandbox.expect(0, "restore", &["--yes"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
#[cfg(target_os = "linux")]
fn files_are_not_taken_away_from_under_a_process_that_has_them_open() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let before = state(&sandbox);
    // This test is the process: it is no service of the agent.
    let held = fs::File::open(sandbox.path("memory/journal.jsonl")).unwrap();
    let said = sandbox.expect(2, "restore", &["--yes"]);
    assert!(said.stderr.contains(&format!("process {} ", std::process::id())), "{said:?}");
    assert_eq!(state(&sandbox), before);
    drop(held);
    sandbox.expect(0, "restore", &["--yes"]);
}

#[test]
fn drills_have_an_age_that_is_checked() {
    let sandbox = with_files();
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", format!("{config}[check.drill]\nkind = \"drill_age\"\n"));
    let drill = |code: i32, now: &str| {
        let output = sandbox.program("health-check").env("OPS_NOW", now).output().unwrap();
        let said = said(output);
        assert_eq!(said.code, code, "{said:?}");
        said.stdout
    };
    let at = |now: &str, program: &str, args: &[&str]| {
        said(sandbox.program(program).args(args).env("OPS_NOW", now).output().unwrap()).code
    };
    assert!(drill(0, "2026-05-01T00:00:00Z").contains("no drill yet, and no backup"));
    assert_eq!(at("2026-05-01T03:00:00Z", "backup", &[]), 0);
    assert!(drill(0, "2026-05-08T00:00:00Z").contains("no drill yet, the first backup is 6d 21h old"));
    assert!(drill(1, "2026-05-10T00:00:00Z").contains("no drill yet"));
    assert_eq!(at("2026-05-10T04:00:00Z", "restore", &["latest", "--drill"]), 0);
    assert!(drill(0, "2026-05-18T00:00:00Z").contains("ago a backup was restored on trial"));
    drill(1, "2026-05-19T00:00:00Z");
    drill(2, "2026-06-20T00:00:00Z");
    // One that fails is worse than an old one.
    let archive = archives(&sandbox).remove(0);
    let whole = fs::read(&archive).unwrap();
    let mut bad = whole.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    fs::write(&archive, bad).unwrap();
    assert_eq!(at("2026-05-11T04:00:00Z", "restore", &[archive.to_str().unwrap(), "--drill"]), 2);
    assert!(drill(2, "2026-05-11T05:00:00Z").contains("the last drill, 1h ago, failed"));
    fs::write(&archive, whole).unwrap();
    assert_eq!(at("2026-05-11T06:00:00Z", "restore", &[archive.to_str().unwrap(), "--drill"]), 0);
    drill(0, "2026-05-11T07:00:00Z");
}

#[test]
fn zeros_come_back_as_holes() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = with_files();
    let file = fs::File::create(sandbox.path("memory/sparse.bin")).unwrap();
    file.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 20 << 20).unwrap();
    sandbox.expect(0, "backup", &[]);
    let target = sandbox.outside("target");
    sandbox.expect(0, "restore", &["--to", target.to_str().unwrap()]);
    let (here, there) = (sandbox.path("memory/sparse.bin"), target.join("memory/sparse.bin"));
    assert!(fs::read(here).unwrap() == fs::read(&there).unwrap());
    assert!(fs::metadata(there).unwrap().blocks() * 512 < 1 << 20, "its zeros were written");
}

#[test]
fn archives_that_went_away_with_their_disk_are_missed() {
    let sandbox = with_files();
    // At another second than the next one, which would have its name.
    assert!(
        sandbox.program("backup").env("OPS_NOW", "2026-05-01T03:00:00Z").output().unwrap().status.success()
    );
    let away = sandbox.outside("disk").join("backups");
    fs::rename(sandbox.path("backups"), &away).unwrap();
    for there in [false, true] {
        if there {
            fs::create_dir(sandbox.path("backups")).unwrap();
        }
        let said = sandbox.expect(3, "restore", &["--yes"]);
        assert!(said.stderr.contains("none of 1 archive made before is in"), "{said:?}");
        assert_eq!(said.stderr.contains("which is not there"), !there, "{said:?}");
        assert!(said.stderr.contains("is a disk not mounted?"), "{said:?}");
    }
    // A backup is made all the same: the better of two evils. It says so, once.
    let said = sandbox.expect(1, "backup", &[]);
    assert!(
        said.stderr.contains("none of 1 archive made before") && said.stderr.contains("mounted?"),
        "{said:?}"
    );
    sandbox.expect(0, "backup", &[]);
    fs::remove_dir_all(sandbox.path("backups")).unwrap();
    fs::rename(&away, sandbox.path("backups")).unwrap();
    sandbox.expect(0, "restore", &["--yes"]);
}

#[test]
fn elsewhere_is_a_folder_of_its_own() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let before = tree(&sandbox.home);
    let full = sandbox.outside("full");
    fs::write(full.join("other"), "theirs").unwrap();
    for to in [sandbox.path("memory"), sandbox.path("memory/new"), sandbox.path("config"), full.clone()] {
        for more in [&[][..], &["--only", "memory/notes"]] {
            let said = sandbox.expect(3, "restore", &[&["--to", to.to_str().unwrap()][..], more].concat());
            assert!(said.stderr.contains("nothing was changed") && said.stderr.contains("--to"), "{said:?}");
        }
    }
    assert_eq!(tree(&full).len(), 1);
    let now = tree(&sandbox.home);
    let live = |tree: &BTreeMap<PathBuf, Vec<u8>>| {
        let own = |path: &&PathBuf| path.starts_with("memory") || path.starts_with("config");
        tree.keys().filter(own).cloned().collect::<Vec<_>>()
    };
    assert_eq!(live(&now), live(&before));
    // Beside what backups take, and on a new file system, all is well.
    sandbox.expect(0, "restore", &["--to", sandbox.path("looked-at").to_str().unwrap()]);
    let disk = sandbox.outside("disk");
    fs::create_dir(disk.join("lost+found")).unwrap();
    sandbox.expect(0, "restore", &["--to", disk.to_str().unwrap()]);
}
