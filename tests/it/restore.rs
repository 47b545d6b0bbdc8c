//! Restores: exactly what was saved, or everything as it was.

use crate::backup::{archives, database, number, tree, with_files};
use crate::crash::changed;
use crate::sandbox::{Sandbox, said, wait_until};
use crate::service::{agent_pid, alive, kill, with_agent};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
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
fn one_file_alone_and_the_list() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    sandbox.write("config/settings.json", "changed");
    sandbox.write("memory/notes/today.md", "changed");
    sandbox.expect(0, "restore", &["--only", "memory/notes", "--yes"]);
    assert_eq!(sandbox.read("memory/notes/today.md"), "a note\n");
    assert_eq!(sandbox.read("config/settings.json"), "changed");
    sandbox.expect(3, "restore", &["--only", "memory/no-such", "--yes"]);
    let list = sandbox.json(0, "restore", &["--list"]);
    assert_eq!(list["origin"], "ours");
    let db = list["files"].as_array().unwrap().iter().find(|file| file["path"] == "memory/agent.db").unwrap();
    assert_eq!(db["kind"], "database");
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
fn an_archive_of_the_old_scripts_goes_into_memory() {
    let sandbox = with_files();
    let old = sandbox.outside("old/20250101_020000");
    drop(database(&old.join("agent.db")).execute_batch("CREATE TABLE rows(n); INSERT INTO rows VALUES(42);"));
    fs::write(old.join("journal.jsonl"), "{\"old\":1}\n").unwrap();
    fs::write(old.join("identity_core.json"), "{}").unwrap();
    let sums = Command::new("sh")
        .args(["-c", "(sha256sum * 2>/dev/null || shasum -a 256 *) > ../sums && mv ../sums checksums.sha256"])
        .current_dir(&old)
        .status()
        .unwrap();
    assert!(sums.success());
    let archive = sandbox.outside("archives").join("20250101_020000.tar.gz");
    tar(old.parent().unwrap(), &archive, &["20250101_020000"]);
    sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
    let list = sandbox.json(0, "restore", &[archive.to_str().unwrap(), "--list"]);
    assert_eq!(list["origin"], "shell");
    sandbox.expect(0, "restore", &[archive.to_str().unwrap(), "--yes"]);
    assert_eq!(number(&sandbox.path("memory/agent.db"), "SELECT n FROM rows"), 42);
    assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"old\":1}\n");
    assert!(!sandbox.path("memory/checksums.sha256").exists());
    assert_eq!(sandbox.read("memory/notes/today.md"), "a note\n", "what it does not cover stays");

    // Without the folder, and with a file that is not what the checksums say.
    fs::write(old.join("journal.jsonl"), "{\"old\":2}\n").unwrap();
    tar(&old, &archive, &["."]);
    let said = sandbox.expect(2, "restore", &[archive.to_str().unwrap(), "--yes"]);
    assert!(said.stderr.contains("journal.jsonl is not what"), "{said:?}");
    assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"old\":1}\n");
}

#[test]
fn an_archive_made_by_tar_goes_into_the_home_without_our_own_state() {
    let sandbox = with_files();
    let archive = sandbox.outside("archives").join("home.tar.gz");
    sandbox.expect(0, "backup", &[]);
    tar(&sandbox.home, &archive, &["."]);
    sandbox.write("memory/journal.jsonl", "changed");
    let journal = fs::metadata(sandbox.path(".ops/ops.db")).unwrap();
    let said = sandbox.expect(1, "restore", &[archive.to_str().unwrap(), "--yes"]);
    assert!(said.stderr.contains("no checksums"), "{said:?}");
    assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"n\":1}\n{\"n\":2}\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(sandbox.path(".ops/ops.db")).unwrap().ino(), journal.ino());
}

#[test]
fn links_that_lead_out_are_not_made_and_are_told() {
    let sandbox = with_files();
    symlink("/etc/hostname", sandbox.path("memory/out")).unwrap();
    sandbox.expect(0, "backup", &[]);
    // Still there, it is no loss.
    sandbox.expect(0, "restore", &["--yes"]);
    fs::remove_file(sandbox.path("memory/out")).unwrap();
    let said = sandbox.expect(1, "restore", &["--yes"]);
    assert!(said.stderr.contains("memory/out leads out of the home, to /etc/hostname"), "{said:?}");
    assert!(fs::symlink_metadata(sandbox.path("memory/out")).is_err());
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

/// Everything in the home that an agent would see, for comparing before and after.
fn visible(sandbox: &Sandbox) -> State {
    let mut all = state(sandbox);
    all.retain(|path, _| !path.to_string_lossy().ends_with("-wal"));
    all
}

#[test]
fn what_a_restore_replaced_can_be_put_back_and_that_too() {
    let (sandbox, new) = changed();
    // One that the archive has and the home has not, and folders that come with it.
    sandbox.write("memory/only-now.txt", "mine");
    let old = state(&sandbox);
    let rows = number(&sandbox.path("memory/agent.db"), "SELECT n FROM rows");
    let said = sandbox.expect(0, "restore", &["--aside"]);
    assert!(said.stdout.contains("no restore has set anything aside"), "{said:?}");
    sandbox.expect(0, "restore", &["--yes"]);
    let list = sandbox.json(0, "restore", &["--aside"]);
    let aside = &list["asides"][0];
    let name = aside["name"].as_str().unwrap().to_owned();
    assert!(aside["archive"].as_str().unwrap().ends_with(".tar.gz"), "{list}");
    assert!(aside["files"].as_u64().unwrap() >= 4 && aside["bytes"].as_u64().unwrap() > 4096, "{list}");
    assert!(aside["until"].is_null(), "the newest is kept: {list}");

    let said = sandbox.expect(3, "restore", &[&name]);
    assert!(said.stderr.contains("--yes"), "{said:?}");
    sandbox.expect(0, "restore", &[&name, "--dry-run"]);
    let said = sandbox.expect(0, "restore", &[&name, "--yes"]);
    assert!(said.stdout.contains("what was replaced is in .pre-restore."), "{said:?}");
    assert_eq!(state(&sandbox), old, "exactly as before the restore, hot WAL and all");
    assert_eq!(number(&sandbox.path("memory/agent.db"), "SELECT n FROM rows"), rows);
    assert!(!sandbox.path("memory/notes").exists(), "what came with the restore went again");

    // What was put back is no longer aside; what it replaced is, and can be had again.
    let list = sandbox.json(0, "restore", &["--aside"]);
    assert_eq!(list["asides"].as_array().unwrap().len(), 1, "{list}");
    assert_ne!(list["asides"][0]["name"], name.as_str());
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    let mut expected = new;
    let mine = Path::new("memory/only-now.txt");
    expected.insert(mine.to_owned(), old[mine]);
    assert_eq!(visible(&sandbox), expected);
    sandbox.expect(3, "restore", &["pre-restore:nothing", "--yes"]);
    sandbox.expect(3, "restore", &["pre-restore:latest", "--drill"]);
}

#[test]
fn one_file_alone_can_be_put_back() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    sandbox.write("config/settings.json", "newer");
    sandbox.write("memory/notes/today.md", "newer");
    sandbox.expect(0, "restore", &["--yes"]);
    sandbox.expect(3, "restore", &["pre-restore:latest", "--only", "no/such", "--yes"]);
    sandbox.expect(0, "restore", &["pre-restore:latest", "--only", "config", "--yes"]);
    assert_eq!(sandbox.read("config/settings.json"), "newer");
    assert_eq!(sandbox.read("memory/notes/today.md"), "a note\n");
    let list = sandbox.json(0, "restore", &["--aside"]);
    let asides = list["asides"].as_array().unwrap();
    assert_eq!(asides.len(), 2, "the rest of the first is there still: {list}");
    let first = asides.last().unwrap()["name"].as_str().unwrap();
    sandbox.expect(0, "restore", &[first, "--yes"]);
    assert_eq!(sandbox.read("memory/notes/today.md"), "newer");
}

#[test]
fn old_files_that_cannot_be_put_back_leave_everything_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\npreset = \"none\"\n[service.main]\ncommand = [\"sh\", \"config/run.sh\"]\nready_timeout = \"5s\"\n\
         [backup]\ninclude = [\"config/**\"]\n",
    );
    sandbox.write("config/run.sh", "exec sleep 600\n");
    sandbox.expect(0, "backup", &[]);
    sandbox.write("config/run.sh", "exit 7\n");
    sandbox.expect(0, "restore", &["--yes"]);
    sandbox.expect(0, "ops", &["start"]);
    let said = sandbox.expect(2, "restore", &["pre-restore:latest", "--yes"]);
    assert!(
        said.stderr.contains("everything was put back") && said.stderr.contains("main runs again"),
        "{said:?}"
    );
    assert_eq!(sandbox.read("config/run.sh"), "exec sleep 600\n");
    let list = sandbox.json(0, "restore", &["--aside"]);
    assert_eq!(list["asides"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["asides"][0]["files"], 1);
}

#[test]
fn old_files_go_after_two_weeks_with_the_next_good_backup() {
    let sandbox = with_files();
    let at = |now: &str, program: &str, args: &[&str]| {
        let said = said(sandbox.program(program).args(args).env("OPS_NOW", now).output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    at("2026-05-01T03:00:00Z", "backup", &[]);
    at("2026-05-02T03:00:00Z", "restore", &["--yes"]);
    at("2026-05-10T03:00:00Z", "restore", &["--yes"]);
    sandbox.write(".pre-restore.mine/file", "not ours");
    at("2026-05-16T02:00:00Z", "backup", &[]);
    assert!(sandbox.path(".pre-restore.20260502_030000").exists());
    let said = at("2026-05-16T04:00:00Z", "backup", &[]);
    assert!(said.stderr.contains("deleted: pre-restore:20260502_030000"), "{said:?}");
    assert!(!sandbox.path(".pre-restore.20260502_030000").exists());
    at("2027-05-16T04:00:00Z", "backup", &[]);
    assert!(sandbox.path(".pre-restore.20260510_030000").exists(), "the newest stays");
    assert!(sandbox.path(".pre-restore.mine/file").exists());
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
fn the_list_is_read_where_nothing_can_be_written() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let foreign = sandbox.outside("archives").join("home.tar.gz");
    tar(&sandbox.home, &foreign, &["memory"]);
    // Somebody is at work, and the home is as it was afterwards.
    let lock = fs::File::open(sandbox.path(".ops/locks/backup.lock")).unwrap();
    lock.lock().unwrap();
    let all = || digest(tree(&sandbox.home), "");
    let before = all();
    let list = sandbox.json(0, "restore", &["--list"]);
    assert_eq!(list["files"].as_array().unwrap().len(), 7, "{list}");
    let list = sandbox.json(0, "restore", &["--list", "--only", "memory/notes"]);
    assert_eq!(list["files"].as_array().unwrap().len(), 2, "{list}");
    sandbox.expect(3, "restore", &["--list", "--only", "no/such"]);
    let list = sandbox.json(0, "restore", &[foreign.to_str().unwrap(), "--list"]);
    assert_eq!(list["origin"], "plain");
    let db = list["files"].as_array().unwrap().iter().find(|file| file["path"] == "memory/agent.db").unwrap();
    assert_eq!(db["kind"], "database");
    assert_eq!(all(), before, "a list wrote something");
    // No home of ours yet: the list makes none of it.
    let other = Sandbox::new();
    other.write("ops.toml", "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n");
    other.expect(0, "restore", &[archives(&sandbox)[0].to_str().unwrap(), "--list"]);
    assert!(!other.path(".ops").exists());
}

/// Bytes that take several blocks of an archive.
fn large() -> Vec<u8> {
    (0..1_200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[test]
fn of_one_file_only_its_own_part_of_the_archive_is_read() {
    let sandbox = with_files();
    sandbox.write("memory/large.bin", large());
    sandbox.expect(0, "backup", &[]);
    let archive = archives(&sandbox).remove(0);
    // The middle of the large file is damaged.
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&archive, bytes).unwrap();
    for path in ["config/settings.json", "memory/notes/today.md", "memory/agent.db"] {
        fs::remove_file(sandbox.path(path)).unwrap();
        let restored = sandbox.json(0, "restore", &["--only", path, "--yes"]);
        assert_eq!(
            (&restored["verified"], &restored["files"]),
            (&"restored".into(), &1.into()),
            "{restored}"
        );
    }
    assert_eq!(sandbox.read("memory/notes/today.md"), "a note\n");
    assert_eq!(number(&sandbox.path("memory/agent.db"), "SELECT count(*) FROM rows"), 3);
    let target = sandbox.outside("target");
    let said =
        sandbox.expect(0, "restore", &["--only", "config", "--to", target.join("a").to_str().unwrap()]);
    assert!(said.stdout.contains("these verified"), "{said:?}");
    assert_eq!(fs::read_to_string(target.join("a/config/settings.json")).unwrap(), "{}\n");
    let before = state(&sandbox);
    for args in [
        &["--only", "memory/large.bin", "--yes"][..],
        &["--only", "memory", "--yes"],
        &["--yes"],
        &["--dry-run"],
        &["--drill"],
    ] {
        let archive = [archive.to_str().unwrap()];
        let said = sandbox.expect(2, "restore", &[&archive[..], args].concat());
        assert!(said.stderr.contains("is refused"), "{args:?}: {said:?}");
    }
    assert_eq!(state(&sandbox), before);
    assert_eq!(fs::read_dir(sandbox.path(".ops/restore")).unwrap().count(), 0, "nothing lies about");
}

#[test]
fn many_files_out_of_few_blocks_and_databases_among_them() {
    let sandbox = with_files();
    sandbox.write("memory/large.bin", large());
    for n in 0..300 {
        sandbox.write(&format!("memory/notes/{n}.md"), format!("note {n} ").repeat(n));
    }
    sandbox.write("memory/notes/empty", "");
    symlink("1.md", sandbox.path("memory/notes/link")).unwrap();
    sandbox.expect(0, "backup", &[]);
    let saved = tree(&sandbox.path("memory/notes"));
    fs::remove_dir_all(sandbox.path("memory/notes")).unwrap();
    sandbox.write("memory/large.bin", "newer");
    sandbox.expect(0, "restore", &["--only", "memory/notes", "--only", "memory/agent.db", "--yes"]);
    assert!(tree(&sandbox.path("memory/notes")) == saved);
    assert_eq!(sandbox.read("memory/large.bin"), "newer");
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
fn hard_links_of_a_foreign_archive_come_back_as_files() {
    let sandbox = with_files();
    let folder = sandbox.outside("foreign");
    fs::create_dir_all(folder.join("memory/a")).unwrap();
    fs::write(folder.join("memory/a/first.txt"), "the same").unwrap();
    drop(
        database(&folder.join("memory/a/one.db")).execute_batch("CREATE TABLE t(n); INSERT INTO t VALUES(9)"),
    );
    for (first, second) in [("a/first.txt", "b.txt"), ("a/first.txt", "c.txt"), ("a/one.db", "two.db")] {
        fs::hard_link(folder.join("memory").join(first), folder.join("memory").join(second)).unwrap();
    }
    let archive = sandbox.outside("archives").join("links.tar.gz");
    let members = ["memory/a", "memory/b.txt", "memory/c.txt", "memory/two.db"];
    tar(&folder, &archive, &members);
    let archive = archive.to_str().unwrap();
    let list = sandbox.json(0, "restore", &[archive, "--list"]);
    let line = |path: &str| {
        let files = list["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path} in {list}")).clone()
    };
    assert_eq!(line("memory/b.txt")["sha256"], line("memory/a/first.txt")["sha256"]);
    assert_eq!(line("memory/two.db")["kind"], "database");
    sandbox.expect(1, "restore", &[archive, "--yes"]);
    for name in ["a/first.txt", "b.txt", "c.txt"] {
        assert_eq!(sandbox.read(&format!("memory/{name}")), "the same");
    }
    // Copies: a change of one is not one of the others.
    sandbox.write("memory/b.txt", "another");
    assert_eq!(sandbox.read("memory/a/first.txt"), "the same");
    assert_eq!(number(&sandbox.path("memory/two.db"), "SELECT n FROM t"), 9);
    // Without the file it is a link to.
    sandbox.expect(1, "restore", &[archive, "--only", "memory/c.txt", "--yes"]);
    let target = sandbox.outside("target");
    sandbox.expect(1, "restore", &[archive, "--only", "memory/b.txt", "--to", target.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(target.join("memory/b.txt")).unwrap(), "the same");
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
