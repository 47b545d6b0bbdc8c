//! What lies beside a file that a restore replaces: a database that nobody recognises has it too.

use super::*;
use crate::backup::rubbish_bytes;

/// What SQLite begins a WAL with.
const WAL: [u8; 4] = [0x37, 0x7f, 0x06, 0x82];

fn wal(content: &str) -> Vec<u8> {
    [&WAL[..], content.as_bytes()].concat()
}

#[test]
fn the_wal_of_a_database_that_nobody_recognises_goes_aside_with_it_and_comes_back() {
    for name in ["memory/keys.db", "memory/store.bin", "memory/plain.txt"] {
        let sandbox = with_files();
        let beside = |suffix: &str| sandbox.path(&format!("{name}{suffix}"));
        sandbox.write(name, rubbish_bytes(1, 8192));
        sandbox.expect(0, "backup", &[]);
        sandbox.write(name, rubbish_bytes(2, 8192));
        for suffix in ["-wal", "-shm", "-journal"] {
            fs::write(beside(suffix), wal(suffix)).unwrap();
        }
        let before = tree(&sandbox.path("memory"));
        sandbox.expect(0, "restore", &["--only", name, "--yes"]);
        assert_eq!(fs::read(beside("")).unwrap(), rubbish_bytes(1, 8192), "{name}");
        for suffix in ["-wal", "-shm", "-journal"] {
            assert!(!beside(suffix).exists(), "{name}{suffix} would be read as part of the restored file");
        }
        // What is written beside the restored one is not the old one's.
        fs::write(beside("-wal"), wal("of the restored one")).unwrap();
        sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
        assert_eq!(tree(&sandbox.path("memory")), before, "{name}");
        sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
        assert_eq!(fs::read(beside("")).unwrap(), rubbish_bytes(1, 8192), "{name}");
        assert_eq!(fs::read(beside("-wal")).unwrap(), wal("of the restored one"), "{name}");
        assert!(!beside("-journal").exists(), "{name}");
    }
}

#[test]
fn one_that_the_restore_brought_goes_with_what_was_written_beside_it() {
    let sandbox = with_files();
    sandbox.write("memory/store.bin", rubbish_bytes(1, 8192));
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(sandbox.path("memory/store.bin")).unwrap();
    // Left by one that was removed.
    sandbox.write("memory/store.bin-wal", wal("left"));
    let before = tree(&sandbox.path("memory"));
    sandbox.expect(0, "restore", &["--yes"]);
    assert!(!sandbox.path("memory/store.bin-wal").exists());
    sandbox.write("memory/store.bin-journal", "new");
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(tree(&sandbox.path("memory")), before);
}

#[test]
fn what_is_named_like_a_sidecar_and_is_in_the_archive_stays_what_it_is() {
    let sandbox = with_files();
    sandbox.write("memory/berlin", "a wall");
    sandbox.write("memory/berlin-wal", "fell");
    sandbox.write("memory/lone-wal", "not saved");
    std::os::unix::fs::symlink("berlin", sandbox.path("memory/lone")).unwrap();
    let before = tree(&sandbox.path("memory"));
    sandbox.expect(0, "backup", &[]);
    for only in [&["--only", "memory"][..], &["--only", "memory/berlin"], &[]] {
        sandbox.write("memory/berlin-wal", "stands");
        sandbox.expect(0, "restore", &[only, &["--yes"]].concat());
        let mut after = tree(&sandbox.path("memory"));
        after.retain(|path, _| !path.to_string_lossy().starts_with("agent.db"));
        let mut before = before.clone();
        before.retain(|path, _| !path.to_string_lossy().starts_with("agent.db"));
        assert_eq!(after, before, "{only:?}");
    }
}
