//! What did not change since the last archive is taken from it, and nothing that did.

use super::*;

/// Makes a backup at a time that is long after the files were written.
fn backup_in(sandbox: &Sandbox, days: i64, args: &[&str], fail_at: Option<&str>) -> Said {
    let now = chrono::Utc::now() + chrono::TimeDelta::days(days);
    let mut program = sandbox.program("backup");
    program.arg("--json").args(args).env("OPS_NOW", now.to_rfc3339());
    if let Some(step) = fail_at {
        program.env("OPS_FAIL_AT", step);
    }
    said(program.output().unwrap())
}

/// A home of large files and databases only, and one small file.
fn with_large_files() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n");
    sandbox.write("memory/a.bin", noise(1_000_000));
    sandbox.write("memory/b.jsonl", "{\"n\":1}\n".repeat(100_000) + "{\"torn");
    let db = database(&sandbox.path("memory/c.db"));
    db.execute_batch(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
         WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<5000)
         INSERT INTO t SELECT x, hex(randomblob(40)) FROM n;",
    )
    .unwrap();
    sandbox
}

#[test]
fn what_did_not_change_is_not_read_and_the_paranoid_reads_it() {
    let sandbox = with_large_files();
    let document = |said: &Said| serde_json::from_str::<Value>(&said.stdout).unwrap();
    // Written just now: it may be written again without its times changing.
    assert_eq!(document(&backup_in(&sandbox, 0, &[], None))["unread"], 0);
    assert_eq!(document(&backup_in(&sandbox, 0, &[], None))["unread"], 0);
    assert_eq!(document(&backup_in(&sandbox, 1, &[], None))["unread"], 0);
    let said = backup_in(&sandbox, 2, &[], Some("file"));
    assert_eq!((said.code, &document(&said)["unread"]), (0, &Value::from(3)), "{said:?}");
    assert_eq!(document(&said)["databases"], 1);
    let said = backup_in(&sandbox, 3, &["--paranoid"], Some("file"));
    assert_eq!((said.code, &document(&said)["unread"]), (1, &Value::from(0)), "{said:?}");

    // What could not be read then is read now; the database is as it was.
    assert_eq!(document(&backup_in(&sandbox, 4, &[], None))["unread"], 1);
    let db = Connection::open(sandbox.path("memory/c.db")).unwrap();
    db.execute("INSERT INTO t(b) VALUES('one more')", []).unwrap();
    assert_eq!(document(&backup_in(&sandbox, 5, &[], None))["unread"], 2);
    let last = backup_in(&sandbox, 6, &[], None);
    assert_eq!(document(&last)["unread"], 3);
    for archive in archives(&sandbox) {
        sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
    }
    let folder = unpack_by_hand(&sandbox, Path::new(document(&last)["archive"].as_str().unwrap()));
    assert_eq!(fs::read(folder.join("memory/a.bin")).unwrap(), noise(1_000_000));
    assert_eq!(
        fs::read_to_string(folder.join("memory/b.jsonl")).unwrap(),
        "{\"n\":1}\n".repeat(100_000) + "{\"torn"
    );
    assert_eq!(number(&folder.join("memory/c.db"), "SELECT count(*) FROM t"), 5001);
}

#[test]
fn a_file_of_the_same_size_and_time_but_other_content_is_read() {
    let sandbox = with_large_files();
    for day in [1, 2] {
        assert_eq!(backup_in(&sandbox, day, &[], None).code, 0);
    }
    let path = sandbox.path("memory/a.bin");
    let mut content = noise(1_000_000);
    content[500_000] ^= 1;
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, &content).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(backup_in(&sandbox, 3, &[], None).code, 0);
    let folder = unpack_by_hand(&sandbox, archives(&sandbox).last().unwrap());
    assert_eq!(fs::read(folder.join("memory/a.bin")).unwrap(), content);
}

#[test]
fn nothing_is_taken_from_an_archive_that_is_not_whole() {
    for days in [[0, 0], [1, 2]] {
        let sandbox = with_large_files();
        assert_eq!(backup_in(&sandbox, days[0], &[], None).code, 0);
        let damaged = archives(&sandbox).pop().unwrap();
        let mut bytes = fs::read(&damaged).unwrap();
        // In the content of a block: its header still tells the old hash.
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&damaged, &bytes).unwrap();
        let said = backup_in(&sandbox, days[1], &[], None);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stdout.contains("the archive before this one is damaged"), "{said:?}");
        let document: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((&document["unread"], &document["reused"]), (&Value::from(0), &Value::from(0)));
        sandbox.expect(0, "backup", &["verify", document["archive"].as_str().unwrap()]);
        let list = sandbox.json(0, "backup", &["list"]);
        let verified = |archive: &Value| archive["verified"] == true;
        assert_eq!(list["archives"].as_array().unwrap().iter().filter(|one| verified(one)).count(), 1);
        assert_eq!(rubbish(&sandbox), [""; 0]);
    }
}

#[test]
fn an_archive_of_the_first_format_is_read_and_added_to() {
    let sandbox = with_files();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/archive-schema-1.tar.gz");
    fs::create_dir_all(sandbox.path("backups")).unwrap();
    let archive = sandbox.path("backups/20261120_093001.tar.gz");
    fs::copy(golden, &archive).unwrap();
    sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
    let target = sandbox.outside("elsewhere").join("old");
    sandbox.expect(0, "restore", &["20261120_093001", "--to", target.to_str().unwrap()]);
    assert_eq!(number(&target.join("memory/agent.db"), "SELECT count(*) FROM t"), 50);
    assert_eq!(fs::read(target.join("memory/zeros")).unwrap(), vec![0; 3_000_000]);
    sandbox.expect(0, "backup", &[]);
    sandbox.expect(0, "backup", &["verify"]);
}

#[test]
fn small_files_that_did_not_change_are_copied_from_the_archive_before_it() {
    let sandbox = with_files();
    for number in 0..400 {
        // Neither alike nor compressible, so that bytes tell of files.
        sandbox.write(&format!("memory/notes/{number:03}.bin"), &noise(40_000 + number)[number..]);
    }
    sandbox.json(0, "backup", &[]);
    sandbox.write("memory/notes/150.bin", "another");
    sandbox.write("memory/notes/150a.bin", noise(9000));
    fs::remove_file(sandbox.path("memory/notes/300.bin")).unwrap();
    let made = sandbox.json(0, "backup", &[]);
    let (reused, bytes) = (made["reused"].as_u64().unwrap(), made["bytes"].as_u64().unwrap());
    assert!(reused * 10 > bytes * 7, "{reused} of {bytes}");
    unpack_by_hand(&sandbox, Path::new(made["archive"].as_str().unwrap()));
}
