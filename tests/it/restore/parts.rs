//! Some files out of an archive, and the list of them.

use super::*;
use std::os::unix::fs::symlink;

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
