//! State outside the home: absolute includes, and what commands dump.

use crate::backup::{archives, database, number, rubbish, tree, with_files};
use crate::crash::walk;
use crate::restore::{State, digest, state};
use crate::sandbox::{Sandbox, said};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A home that keeps a store beside it, and one that a command dumps. Gives where the store is.
fn with_store(more: &str) -> (Sandbox, PathBuf) {
    let sandbox = with_files();
    let store = sandbox.outside("store");
    let text = format!(
        "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\n\
         include = [\"memory/**\", \"config/**\", \"{0}/**\", \"~/single.txt\"]\noptional = [\"~/single.txt\"]\n{more}",
        store.display()
    );
    sandbox.write("ops.toml", text);
    fs::create_dir(store.join("index")).unwrap();
    fs::write(store.join("index/one.bin"), "first").unwrap();
    fs::write(store.join("index/two.bin"), "second").unwrap();
    fs::set_permissions(store.join("index"), fs::Permissions::from_mode(0o710)).unwrap();
    symlink("index/one.bin", store.join("current")).unwrap();
    let db = database(&store.join("chroma.sqlite3"));
    db.execute_batch("CREATE TABLE rows(n INTEGER PRIMARY KEY); INSERT INTO rows VALUES(1),(2);").unwrap();
    (sandbox, store)
}

const DUMP: &str = "[backup.dump.pg]\ncommand = [\"sh\", \"-c\", \"cat ../server\"]\n\
                    restore = [\"sh\", \"-c\", \"cat > ../server\"]\n";

fn outside(store: &Path) -> State {
    digest(tree(store), "store")
}

#[test]
fn what_is_outside_the_home_is_archived_listed_verified_and_comes_back() {
    let (sandbox, store) = with_store("");
    fs::write(sandbox.home.with_file_name("single.txt"), "single").unwrap();
    let noise = (0..350_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    fs::write(store.join("index/large.bin"), noise.collect::<Vec<u8>>()).unwrap();
    let made = sandbox.json(0, "backup", &[]);
    assert!(made["files"].as_u64().unwrap() >= 8 && made["databases"] == 2, "{made}");
    sandbox.expect(0, "backup", &["verify", "latest"]);
    sandbox.expect(0, "restore", &["--drill"]);
    let path = store.join("index/one.bin");
    let list = sandbox.json(0, "restore", &["--list"]);
    let listed = list["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap());
    assert!(listed.clone().any(|listed| Path::new(listed) == path), "{list}");

    // For anybody with tar, under a name of their own.
    let plain = sandbox.outside("plain");
    let tar =
        Command::new("tar").arg("xzf").arg(&archives(&sandbox)[0]).arg("-C").arg(&plain).output().unwrap();
    assert!(tar.status.success(), "{tar:?}");
    let inside = |below: &Path| below.join(".outside").join(path.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(inside(&plain.join("quiet"))).unwrap(), "first");
    let checked = Command::new("sha256sum")
        .args(["-c", "--quiet", "checksums.sha256"])
        .current_dir(plain.join("quiet"))
        .output();
    assert!(checked.unwrap().status.success());

    // Unchanged, it is not compressed again.
    assert!(sandbox.json(0, "backup", &["--paranoid"])["reused"].as_u64().unwrap() > 500_000);

    let target = sandbox.outside("target");
    sandbox.expect(0, "restore", &["--to", target.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(inside(&target)).unwrap(), "first");

    // Gone altogether, and to its place.
    let saved = outside(&store);
    fs::remove_dir_all(&store).unwrap();
    fs::remove_file(sandbox.home.with_file_name("single.txt")).unwrap();
    let said = sandbox.expect(0, "restore", &["-n"]);
    assert!(said.stderr.contains("outside the home, such as"), "{said:?}");
    assert!(!store.exists());
    let said = sandbox.expect(0, "restore", &["--yes"]);
    assert!(said.stderr.contains("outside the home, such as"), "{said:?}");
    assert_eq!(outside(&store).keys().collect::<Vec<_>>().len(), saved.len());
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    assert_eq!(fs::read_link(store.join("current")).unwrap(), Path::new("index/one.bin"));
    assert_eq!(fs::metadata(store.join("index")).unwrap().permissions().mode() & 0o777, 0o710);
    assert_eq!(number(&store.join("chroma.sqlite3"), "SELECT count(*) FROM rows"), 2);
    assert_eq!(fs::read_to_string(sandbox.home.with_file_name("single.txt")).unwrap(), "single");

    // What it replaces is set aside, and comes back from there.
    fs::write(&path, "newer").unwrap();
    sandbox.expect(0, "restore", &["--only", path.to_str().unwrap(), "--yes"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
}

#[test]
fn excludes_and_what_never_goes_in_hold_outside_too() {
    let (sandbox, store) = with_store("exclude = [\"**/cache/**\", \"STORE/index/two.bin\"]\n");
    let text = sandbox.read("ops.toml").replace("STORE", store.to_str().unwrap());
    sandbox.write("ops.toml", text);
    fs::create_dir(store.join("cache")).unwrap();
    fs::write(store.join("cache/x"), "x").unwrap();
    fs::write(store.join(".part-x"), "x").unwrap();
    sandbox.expect(0, "backup", &[]);
    let list = sandbox.expect(0, "restore", &["--list"]).stdout;
    assert!(list.contains("index/one.bin"), "{list}");
    for out in ["two.bin", "cache/x", ".part-x", "-wal", "-shm"] {
        assert!(!list.contains(out), "{out}: {list}");
    }
    // A folder that is not there, as when its disk is not mounted.
    fs::rename(&store, store.with_file_name("away")).unwrap();
    let said = sandbox.expect(1, "backup", &[]);
    assert!(said.stderr.contains("cannot read") && said.stderr.contains("store"), "{said:?}");
}

#[test]
fn an_include_that_can_never_match_is_an_error_with_its_place() {
    let sandbox = with_files();
    let home = sandbox.home.display().to_string();
    for (include, exclude, word) in [
        ("../elsewhere/**", "", "absolute path"),
        ("memory/../../x", "", "absolute path"),
        ("/proc/self/**", "", "no place of files"),
        ("/dev/shm/**", "", "no place of files"),
        ("backups/**", "", "archives"),
        (&format!("{home}/backups"), "", "archives"),
        (".ops/ops.db", "", "our own state"),
        ("logs/*.jsonl", "logs/**", "exclude has all of it"),
        ("memory/a/b.txt", "**/a", "exclude has all of it"),
        ("/srv/x/cache/*", "/srv/x/**", "exclude has all of it"),
        ("", "", "empty"),
    ] {
        sandbox.write(
            "ops.toml",
            format!(
                "[agent]\npreset = \"none\"\n[backup]\nexclude = [\"{exclude}\"]\ninclude = [\"memory/**\", \"{include}\"]\n"
            )
            .replace("exclude = [\"\"]", "exclude = []"),
        );
        let said = sandbox.expect(3, "ops", &["config", "check"]);
        let place = said.stderr.contains("ops.toml:5:1:");
        assert!(
            place && said.stderr.contains("can never match") && said.stderr.contains(word),
            "{include}: {said:?}"
        );
    }
    for include in ["/srv/chroma/**", "~/.agent-collab/**", "/tmp/agent*.log", "memory", "logs/x.jsonl"] {
        sandbox.write(
            "ops.toml",
            format!("[agent]\npreset = \"none\"\n[backup]\nexclude = [\"logs/*.log\", \"**/*.tmp\"]\ninclude = [\"{include}\"]\n"),
        );
        sandbox.expect(0, "ops", &["config", "check"]);
    }
}

#[test]
fn an_archive_writes_nowhere_outside_but_where_an_include_says() {
    let (sandbox, store) = with_store("");
    sandbox.expect(0, "backup", &[]);
    fs::write(store.join("index/one.bin"), "newer").unwrap();
    // The config names it no more.
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n",
    );
    let said = sandbox.expect(1, "restore", &["--yes"]);
    assert!(said.stderr.contains("no include in [backup] names them"), "{said:?}");
    assert_eq!(fs::read_to_string(store.join("index/one.bin")).unwrap(), "newer");
    let path = store.join("index");
    sandbox.expect(3, "restore", &["--only", path.to_str().unwrap(), "--yes"]);
    assert_eq!(fs::read_to_string(store.join("index/one.bin")).unwrap(), "newer");
}

#[test]
fn dumps_are_in_the_archive_and_are_loaded_when_told() {
    let (sandbox, _) = with_store(DUMP);
    let server = sandbox.home.with_file_name("server");
    fs::write(&server, "rows of a server").unwrap();
    let would = sandbox.expect(0, "backup", &["--dry-run"]).stdout;
    assert!(would.contains("pg: what `sh -c"), "{would}");
    assert_eq!(sandbox.json(0, "backup", &["--dry-run"])["dumps"][0], "pg");
    sandbox.expect(0, "backup", &[]);
    let verified = sandbox.expect(0, "backup", &["verify", "latest"]);
    assert!(verified.stdout.contains("1 dump"), "{verified:?}");
    sandbox.expect(0, "restore", &["--drill"]);
    let list = sandbox.json(0, "restore", &["--list"]);
    let dump = &list["dumps"][0];
    assert!(dump["name"] == "pg" && dump["file"]["size"] == 16, "{list}");
    assert!(sandbox.expect(0, "restore", &["--list"]).stdout.contains("dump "));

    fs::write(&server, "newer").unwrap();
    let said = sandbox.expect(0, "restore", &["--yes"]);
    assert!(said.stderr.contains("restore") && said.stderr.contains("--dump pg"), "{said:?}");
    assert_eq!(fs::read_to_string(&server).unwrap(), "newer", "told, not loaded");
    assert_eq!(sandbox.expect(0, "restore", &["--dump", "pg"]).stdout, "rows of a server");
    sandbox.expect(3, "restore", &["--dump", "pg", "--load"]);
    sandbox.expect(0, "restore", &["--dump", "pg", "--load", "-n"]);
    assert_eq!(fs::read_to_string(&server).unwrap(), "newer", "nobody said yes");
    sandbox.expect(0, "restore", &["--dump", "pg", "--load", "--yes"]);
    assert_eq!(fs::read_to_string(&server).unwrap(), "rows of a server");
    sandbox.expect(3, "restore", &["--dump", "other"]);
    assert_eq!(rubbish(&sandbox), [""; 0]);

    // A byte of it that is wrong is found.
    let archive = archives(&sandbox).remove(0);
    let tampered = sandbox.read("ops.toml").replace("cat > ../server", "exit 4");
    sandbox.write("ops.toml", tampered);
    let said = sandbox.expect(2, "restore", &[archive.to_str().unwrap(), "--dump", "pg", "--load", "--yes"]);
    assert!(said.stderr.contains("not all, loaded"), "{said:?}");
}

#[test]
fn a_dump_that_fails_is_told_and_is_in_no_archive() {
    let (sandbox, _) = with_store("");
    let config = sandbox.read("ops.toml");
    for (command, more, why) in [
        ("sh\", \"-c\", \"echo half; echo no connection >&2; exit 3", "", "no connection"),
        ("sh\", \"-c\", \"echo half; kill -9 $$", "", "signal: 9"),
        ("no-such-program-anywhere", "", "no program"),
        ("sh\", \"-c\", \"echo half; sleep 600 & sleep 600", "timeout = \"300ms\"\n", "was killed"),
    ] {
        sandbox.write("ops.toml", format!("{config}[backup.dump.pg]\ncommand = [\"{command}\"]\n{more}"));
        let made = sandbox.json(1, "backup", &[]);
        let problems = made["problems"].to_string();
        assert!(problems.contains("the dump pg failed") && problems.contains(why), "{problems}");
        let list = sandbox.json(0, "restore", &["--list"]);
        assert!(list["dumps"].as_array().unwrap().is_empty(), "{list}");
        sandbox.expect(1, "backup", &["verify", "latest"]);
        sandbox.expect(3, "restore", &["--dump", "pg"]);
        assert_eq!(rubbish(&sandbox), [""; 0]);
    }
    let left = Command::new("sh").args(["-c", "ps -eo args | grep -c '^sleep 600$'"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "0", "what it started is gone too");
    for (bad, word) in [
        ("command = []", "no command"),
        ("timeout = \"1s\"", "command"),
        ("command = [\"a\"]\ntimeout = \"0s\"", "no time"),
    ] {
        sandbox.write("ops.toml", format!("{config}[backup.dump.pg]\n{bad}\n"));
        let said = sandbox.expect(3, "ops", &["config", "check"]);
        assert!(said.stderr.contains(word), "{said:?}");
    }
}

/// Without its dump an archive is incomplete, as without an include.
#[test]
fn an_archive_whose_dump_failed_is_incomplete_until_one_has_it() {
    let (sandbox, store) = with_store(DUMP);
    fs::write(store.with_file_name("server"), "rows").unwrap();
    let config = sandbox.read("ops.toml") + "[check.backup]\nkind = \"backup_age\"\n";
    sandbox.write("ops.toml", &config);
    sandbox.expect(0, "backup", &[]);
    let list = || sandbox.json(0, "backup", &["list"])["archives"].as_array().unwrap().clone();
    let good = list()[0]["name"].clone();
    for (command, why) in [("echo gone >&2; exit 3", "gone"), ("true", "wrote nothing")] {
        sandbox.write("ops.toml", config.replace("cat ../server", command));
        let made = sandbox.json(1, "backup", &[]);
        assert_eq!(made["flaws"][0]["kind"], "failed_dump", "{made}");
        assert!(made["flaws"][0]["why"].as_str().unwrap().contains(why), "{made}");
        let archives = list();
        assert!(archives[0]["standing"] == "incomplete" && archives[0]["latest"] == false, "{archives:?}");
        let latest = archives.iter().find(|archive| archive["latest"] == true).unwrap();
        assert_eq!(latest["name"], good);
        // What a restore takes has the dump.
        assert_eq!(sandbox.expect(0, "restore", &["--dump", "pg"]).stdout, "rows");
        let newest = archives[0]["name"].as_str().unwrap();
        let verified = sandbox.expect(1, "backup", &["verify", newest]);
        let said = format!("{}{}", verified.stdout, verified.stderr);
        assert!(said.contains("the dump pg failed") && said.contains(why), "{said}");
        let health = sandbox.json(1, "health-check", &[]);
        assert!(health.to_string().contains("the dump pg failed"), "{health}");
    }
    sandbox.write("ops.toml", &config);
    sandbox.expect(0, "backup", &[]);
    assert_eq!(list()[0]["latest"], true);
}

#[test]
fn work_that_waited_and_our_own_config_come_back_only_when_asked_for() {
    let sandbox = Sandbox::new();
    let config = "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"work/**\", \"ops.toml\"]\nqueues = [\"work/retry/**\"]\n";
    sandbox.write("ops.toml", config);
    sandbox.write("work/retry/1.json", "{}");
    sandbox.write("work/done.json", "saved");
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(sandbox.path("work/retry/1.json")).unwrap();
    sandbox.write("work/done.json", "newer");
    let newer = format!("{config}# mine\n");
    sandbox.write("ops.toml", &newer);
    for args in [&["-n"][..], &["--yes"]] {
        let said = sandbox.expect(0, "restore", args);
        assert!(said.stderr.contains("--queues") && said.stderr.contains("--only ops.toml"), "{said:?}");
    }
    assert_eq!((sandbox.read("work/done.json").as_str(), sandbox.read("ops.toml")), ("saved", newer));
    assert!(!sandbox.path("work/retry/1.json").exists());
    sandbox.expect(0, "restore", &["--queues", "--yes"]);
    assert_eq!(sandbox.read("work/retry/1.json"), "{}");
    sandbox.expect(0, "restore", &["--only", "ops.toml", "--yes"]);
    assert_eq!(sandbox.read("ops.toml"), config);
    fs::remove_file(sandbox.path("work/retry/1.json")).unwrap();
    sandbox.expect(0, "restore", &["--only", "work/retry", "--yes"]);
    assert_eq!(sandbox.read("work/retry/1.json"), "{}");
    // Elsewhere all of it lies.
    let target = sandbox.outside("target");
    sandbox.expect(0, "restore", &["--to", target.to_str().unwrap()]);
    assert!(target.join("work/retry/1.json").exists() && target.join("ops.toml").exists());
}

/// A store that differs from that of its archive, and the state of both.
fn changed() -> (Sandbox, PathBuf, [State; 2]) {
    let (sandbox, store) = with_store(DUMP);
    fs::write(sandbox.home.with_file_name("server"), "rows").unwrap();
    sandbox.expect(0, "backup", &[]);
    let whole = |sandbox: &Sandbox| both(sandbox, &store);
    sandbox.expect(0, "restore", &["--yes"]);
    let new = whole(&sandbox);
    fs::write(store.join("index/one.bin"), "changed").unwrap();
    fs::remove_file(store.join("index/two.bin")).unwrap();
    fs::remove_file(store.join("current")).unwrap();
    symlink("nowhere", store.join("current")).unwrap();
    fs::write(store.join("chroma.sqlite3-wal"), "stale").unwrap();
    sandbox.write("memory/journal.jsonl", "changed\n");
    let old = whole(&sandbox);
    (sandbox, store, [old, new])
}

fn both(sandbox: &Sandbox, store: &Path) -> State {
    let mut both = state(sandbox);
    both.extend(outside(store));
    both
}

/// The walks of `crash`, with files outside the home and a dump.
pub fn backups() -> usize {
    let (sandbox, store, [old, _]) = changed();
    let steps = walk(&sandbox, "backup", &[], |step| {
        sandbox.expect(0, "backup", &["verify", "latest"]);
        assert_eq!(both(&sandbox, &store), old, "step {step}");
    });
    for archive in archives(&sandbox) {
        sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
    }
    assert_eq!(rubbish(&sandbox), [""; 0]);
    steps
}

pub fn restores() -> usize {
    let (sandbox, store, [old, new]) = changed();
    let mut undone = 0;
    let steps = walk(&sandbox, "restore", &["--yes"], |step| {
        sandbox.expect(3, "restore", &["no-such-archive", "--yes"]);
        assert!(!sandbox.path(".ops/restore.json").exists());
        let now = both(&sandbox, &store);
        if now == new {
            sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
            assert_eq!(both(&sandbox, &store), old, "step {step}: put back");
        } else {
            assert_eq!(now, old, "step {step}: neither the old nor the new");
            undone += 1;
        }
    });
    assert!(undone >= 10 && both(&sandbox, &store) == new, "{steps} steps, {undone} undone");
    steps
}

pub fn put_backs() -> usize {
    let (sandbox, store, [old, new]) = changed();
    sandbox.expect(0, "restore", &["--yes"]);
    let steps = walk(&sandbox, "restore", &["pre-restore:latest", "--yes"], |step| {
        sandbox.expect(3, "restore", &["no-such-archive", "--yes"]);
        let now = both(&sandbox, &store);
        if now == old {
            sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
        } else {
            assert_eq!(now, new, "step {step}: neither the one nor the other");
        }
    });
    assert_eq!(both(&sandbox, &store), old);
    steps
}

pub fn loads() -> usize {
    let (sandbox, store, [old, _]) = changed();
    let server = sandbox.home.with_file_name("server");
    fs::write(&server, "newer").unwrap();
    let steps = walk(&sandbox, "restore", &["--dump", "pg", "--load", "--yes"], |_| {
        assert_eq!(fs::read_to_string(&server).unwrap(), "newer");
        assert_eq!(both(&sandbox, &store), old);
    });
    let left = said(sandbox.program("restore").args(["--dump", "pg"]).output().unwrap());
    assert_eq!(left.stdout, "rows");
    assert_eq!(fs::read_to_string(&server).unwrap(), "rows");
    steps
}
