//! What a restore replaced, put back, and how long it is kept.

use super::*;

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
