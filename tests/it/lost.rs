//! What an agent loses must not be lost in its backups: databases that are gone or are none any more,
//! includes that find nothing any more, clocks that were wrong.

use crate::backup::{archives, number, with_files};
use crate::sandbox::{Said, Sandbox, said};
use serde_json::Value;
use std::fs;

fn at(sandbox: &Sandbox, now: &str, program: &str, args: &[&str]) -> Said {
    said(sandbox.program(program).env("OPS_NOW", now).args(args).output().unwrap())
}

fn listed(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.json(0, "backup", &["list"])["archives"].as_array().unwrap().clone()
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_database_that_is_none_any_more_comes_from_the_last_archive_that_has_it_as_one() {
    let sandbox = with_files();
    let config = sandbox.read("ops.toml").replace("[backup]", "[service.s]\ncommand = [\"sleep\", \"600\"]\n[check.memory]\nkind = \"sqlite\"\npaths = [\"memory/**/*.db\"]\n[backup]");
    sandbox.write("ops.toml", config);
    sandbox.expect(0, "backup", &[]);
    let good = name(&archives(&sandbox)[0]);
    let database = sandbox.path("memory/agent.db");
    let whole = fs::read(&database).unwrap();
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(sandbox.path(&format!("memory/agent.db{side}")));
    }
    for garbage in [vec![0xA7; whole.len()], b"SQLite".to_vec(), Vec::new()] {
        fs::write(&database, garbage).unwrap();
        let made = sandbox.json(1, "backup", &[]);
        let problems = made["problems"].to_string();
        assert!(problems.contains("memory/agent.db is no database any more"), "{problems}");
        let bad = name(archives(&sandbox).last().unwrap());
        assert_eq!(listed(&sandbox)[0]["standing"], "damaged");

        let trouble = sandbox.run("ops", &["troubleshoot"]);
        assert!(trouble.stdout.contains("--only memory/agent.db"), "{trouble:?}");
        assert!(!trouble.stdout.contains(&format!("restore {bad}")), "{trouble:?}");

        fs::write(&database, &whole).unwrap();
        for args in [&["--only", "memory/agent.db"][..], &[]] {
            let said = sandbox.run("restore", &[&[bad.as_str(), "--yes"], args].concat());
            assert!(said.code == 2 && said.stderr.contains(&good), "{said:?}");
        }
        assert_eq!(fs::read(&database).unwrap(), whole);
    }
    let config = sandbox.read("ops.toml") + "optional = [\"memory/agent.db\"]\n";
    sandbox.write("ops.toml", config);
    fs::write(&database, "of another kind").unwrap();
    sandbox.expect(0, "backup", &[]);
}

#[test]
fn the_last_archive_with_a_database_stays_until_that_is_given_up() {
    let sandbox = with_files();
    let day = |day: u32| format!("2027-{:02}-{:02}T03:00:00Z", 1 + day / 28, 1 + day % 28);
    for number in 0..3 {
        assert_eq!(at(&sandbox, &day(number), "backup", &[]).code, 0);
    }
    let last = name(archives(&sandbox).last().unwrap());
    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    let days = (3..12).chain([40, 80, 120, 250, 300, 301]);
    for number in days.clone() {
        let said = at(&sandbox, &day(number), "backup", &[]);
        assert!(said.code == 1 && said.stderr.contains("memory/agent.db is missing"), "{said:?}");
        let said = at(&sandbox, &day(number), "backup", &["prune", "--yes"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    assert!(archives(&sandbox).len() < 3 + days.count(), "they do not pile up: {:?}", archives(&sandbox));
    let list: Value =
        serde_json::from_str(&at(&sandbox, &day(301), "backup", &["list", "--json"]).stdout).unwrap();
    let mut listed = list["archives"].as_array().unwrap().iter();
    let kept = listed.find(|one| one["name"] == last.as_str()).unwrap();
    let because = kept["kept_because"].to_string();
    assert!(because.contains("the last one with memory/agent.db"), "{because}");
    let restore = at(&sandbox, &day(301), "restore", &["latest", "--only", "memory/agent.db", "--yes"]);
    assert_eq!(restore.code, 1, "{restore:?}");
    assert_eq!(number(&sandbox.path("memory/agent.db"), "SELECT count(*) FROM rows"), 3);

    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    sandbox.write("ops.toml", sandbox.read("ops.toml") + "optional = [\"memory/*.db\"]\n");
    assert_eq!(at(&sandbox, &day(302), "backup", &[]).code, 0);
    let list = at(&sandbox, &day(303), "backup", &["list"]).stdout;
    assert!(!list.contains("the last one with"), "{list}");
}

#[test]
fn a_quiet_run_says_why_it_ends_with_1() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    for args in [&["--quiet"][..], &["--quiet", "--paranoid"]] {
        let said = sandbox.run("backup", args);
        assert!(said.code == 1 && said.stderr.contains("memory/agent.db is missing"), "{said:?}");
    }
    let said = sandbox.run("restore", &["--drill", "--quiet"]);
    assert!(said.code == 1 && said.stderr.contains("memory/agent.db is missing"), "{said:?}");
}
