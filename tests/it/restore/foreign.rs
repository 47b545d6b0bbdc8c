//! Archives that other programs made.

use super::*;
use crate::sandbox::Said;
use std::os::unix::fs::symlink;

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
    // Still there, it is no loss. Elsewhere it is missing.
    sandbox.expect(0, "restore", &["--yes"]);
    sandbox.expect(0, "restore", &["--drill"]);
    let says = |said: Said| said.stderr.matches("memory/out leads out of the home, to /etc/hostname").count();
    let elsewhere = sandbox.outside("elsewhere");
    let to = elsewhere.to_str().unwrap();
    assert_eq!(says(sandbox.expect(0, "restore", &["--to", to, "-n"])), 1);
    assert_eq!(says(sandbox.expect(1, "restore", &["--to", to])), 1);
    assert!(fs::symlink_metadata(elsewhere.join("memory/out")).is_err());
    assert_eq!(says(sandbox.expect(0, "restore", &["--list"])), 1);
    fs::remove_file(sandbox.path("memory/out")).unwrap();
    let said = sandbox.expect(1, "restore", &["--yes"]);
    assert!(said.stderr.contains("memory/out leads out of the home, to /etc/hostname"), "{said:?}");
    assert!(fs::symlink_metadata(sandbox.path("memory/out")).is_err());
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
