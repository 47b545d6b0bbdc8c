//! Which archives stay, and what is nobody's business.

use super::*;

#[test]
fn the_rule_keeps_what_it_says_and_pins_stay() {
    let sandbox = with_files();
    let at = |day: i64, args: &[&str]| {
        let now = chrono::DateTime::parse_from_rfc3339("2026-01-01T03:00:00Z").unwrap()
            + chrono::TimeDelta::days(day);
        let output = sandbox.program("backup").args(args).env("OPS_NOW", now.to_rfc3339()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    at(0, &[]);
    at(0, &["pin", "latest"]);
    for day in 1..45 {
        at(day, &[]);
    }
    let names: Vec<_> = archives(&sandbox)
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap()[..8].to_owned())
        .collect();
    // The pin, the end of January, the ends of the weeks of 30 days, the last 7 days.
    let expected = [
        "20260101", "20260118", "20260125", "20260131", "20260201", "20260208", "20260209", "20260210",
        "20260211", "20260212", "20260213", "20260214",
    ];
    assert_eq!(names, expected);
    at(44, &["pin", "20260101_030000", "--off"]);
    let dry: Value = serde_json::from_str(&at(44, &["prune", "--dry-run", "--json"])).unwrap();
    assert_eq!(dry["deleted"].as_array().unwrap().len(), 0);
    assert_eq!(archives(&sandbox).len(), 12);
    at(44, &["prune"]);
    assert_eq!(archives(&sandbox).len(), 11);
}

#[test]
fn nothing_is_pruned_on_the_word_of_a_damaged_archive() {
    let sandbox = with_files();
    for day in 10..17 {
        let now = format!("2026-05-{day}T03:00:00Z");
        assert!(sandbox.program("backup").env("OPS_NOW", now).output().unwrap().status.success());
    }
    let config = sandbox.read("ops.toml") + "keep = { all = \"1s\", weekly = \"1s\", monthly = \"1s\" }\n";
    sandbox.write("ops.toml", config);
    // So much at once needs a word.
    let said = sandbox.expect(3, "backup", &["prune"]);
    assert!(said.stderr.contains("6 of 7"), "{said:?}");
    let newest = archives(&sandbox).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    // In the content of the first block: only reading it back can tell.
    bytes[70] ^= 1;
    fs::write(&newest, &bytes).unwrap();
    sandbox.expect(2, "backup", &["prune", "--yes"]);
    assert_eq!(archives(&sandbox).len(), 7);
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(list["archives"][0]["verified"], false);
    assert_eq!(list["archives"][1]["verified"], true);
    // The next one relies on the one before it, and leaves the damaged one alone.
    sandbox.expect(0, "backup", &["prune", "--yes"]);
    assert_eq!(archives(&sandbox).len(), 2);
    assert!(newest.exists());
}

#[test]
fn foreign_files_in_the_backup_folder_are_left_alone() {
    let sandbox = with_files();
    let config = sandbox.read("ops.toml") + "keep = { all = \"1s\", weekly = \"1s\", monthly = \"1s\" }\n";
    sandbox.write("ops.toml", config);
    sandbox.write("backups/20200101_000000.tar.gz", "somebody else's");
    sandbox.write("backups/notes.txt", "mine");
    symlink("/etc/passwd", sandbox.path("backups/20200102_000000.tar.gz")).unwrap();
    for day in 10..13 {
        let output =
            sandbox.program("backup").env("OPS_NOW", format!("2026-05-{day}T03:00:00Z")).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(sandbox.read("backups/20200101_000000.tar.gz"), "somebody else's");
    assert!(sandbox.path("backups/notes.txt").exists());
    assert!(fs::symlink_metadata(sandbox.path("backups/20200102_000000.tar.gz")).is_ok());
    assert_eq!(archives(&sandbox).len(), 3, "one of ours, two that are not");
}
