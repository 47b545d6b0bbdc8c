//! Databases that are encrypted with their header: nobody but their owner can open them.

use super::*;

fn wal(seed: u64) -> Vec<u8> {
    [&[0x37, 0x7f, 0x06, 0x82][..], &rubbish_bytes(seed, 4116)].concat()
}

#[test]
fn an_encrypted_database_is_saved_with_its_wal_as_one_said_at_every_step_and_comes_back() {
    let sandbox = with_files();
    for name in ["memory/store.bin", "memory/keys.db"] {
        sandbox.write(name, rubbish_bytes(1, 8192));
        sandbox.write(&format!("{name}-wal"), wal(2));
        sandbox.write(&format!("{name}-shm"), "shared memory");
    }
    sandbox.write("memory/alone.sqlite3", rubbish_bytes(3, 8192));
    // What is none: a text, a file of another form, and what has no such name.
    sandbox.write("memory/list.db", "a text\n".repeat(1024));
    sandbox.write("memory/odd.db", rubbish_bytes(4, 8191));
    sandbox.write("memory/photo", rubbish_bytes(5, 8192));
    sandbox.expect(0, "backup", &[]);
    let list = sandbox.json(0, "backup", &["list"]);
    let unjudged = list["archives"][0]["unjudged"].as_array().unwrap();
    let paths: Vec<_> = unjudged.iter().map(|database| database["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["memory/alone.sqlite3", "memory/keys.db", "memory/store.bin"], "{list}");
    assert!(unjudged.iter().all(|database| database["reason"] == "encrypted"), "{list}");
    let wanted = "the database memory/keys.db could not be judged (it is encrypted";
    for (program, words) in [("backup", &["verify", "latest"][..]), ("restore", &["--drill"])] {
        let said = sandbox.expect(0, program, words);
        assert!(
            said.stdout.contains(wanted) || said.stderr.contains(wanted),
            "{program} {words:?}: {said:?}"
        );
    }
    sandbox.write("memory/keys.db", rubbish_bytes(6, 12288));
    sandbox.write("memory/keys.db-wal", wal(7));
    sandbox.write("memory/keys.db-journal", "newer");
    sandbox.expect(0, "restore", &["--only", "memory/keys.db", "--yes"]);
    assert_eq!(fs::read(sandbox.path("memory/keys.db")).unwrap(), rubbish_bytes(1, 8192));
    assert_eq!(fs::read(sandbox.path("memory/keys.db-wal")).unwrap(), wal(2));
    assert!(!sandbox.path("memory/keys.db-shm").exists());
    assert!(!sandbox.path("memory/keys.db-journal").exists());
}
