//! Many more databases than files may be open.

use crate::sandbox::{Sandbox, said};
use rusqlite::Connection;
use std::fs;
use std::process::Command;

/// Half of them in use, with a WAL, half at rest.
#[test]
fn fifteen_hundred_databases_with_1024_open_files() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"many\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n",
    );
    let seed = sandbox.write("seed.db", "");
    let db = Connection::open(&seed).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    fs::create_dir(sandbox.path("memory")).unwrap();
    for number in 0..1500 {
        let target = sandbox.path(&format!("memory/{number}.db"));
        fs::copy(&seed, &target).unwrap();
        if number % 2 == 0 {
            fs::copy(seed.with_extension("db-wal"), target.with_extension("db-wal")).unwrap();
        }
    }
    let limited = |program: &str, args: &[&str]| {
        let like = sandbox.program(program);
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 1024; exec \"$@\"", "sh"]).arg(like.get_program()).args(args);
        shell.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        said(shell.current_dir(&sandbox.home).output().unwrap())
    };
    let made = limited("backup", &["--json"]);
    assert_eq!(made.code, 0, "{made:?}");
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!((&made["databases"], made["problems"].as_array().map(Vec::len)), (&1500.into(), Some(0)));
    let drilled = limited("restore", &["--drill"]);
    assert_eq!(drilled.code, 0, "{drilled:?}");
}
