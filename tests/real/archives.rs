//! Archives of a busy agent, read by the ordinary tools.

use crate::peers::{output, peer, sqlite};
use crate::sandbox::{Sandbox, wait_until};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const BUSY: &str = r#"
[agent]
preset = "builtin"
[service.daemon]
command = ["{ops}", "agent", "--config", "{config}", "--home", "{home}", "--rows-per-second", "1000", "--heartbeat", "1s"]
[check.disk]
warn = "1MB"
crit = "1KB"
[alerts.desktop]
enabled = false
"#;

/// The number of the last row that is committed.
fn last_row(database: &std::path::Path) -> u64 {
    sqlite(database, "SELECT coalesce(max(id), 0) FROM episodes").parse().unwrap()
}

#[test]
fn ten_archives_of_an_agent_that_writes_are_whole() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", BUSY);
    sandbox.expect(0, "ops", &["start"]);
    let memory = sandbox.path("memory/agent.db");
    wait_until("the agent writes", || last_row(&memory) > 500);

    let mut archives: Vec<(PathBuf, u64)> = Vec::new();
    for _ in 0..10 {
        let mut before = 0;
        wait_until("the agent has gone on", || {
            before = last_row(&memory);
            archives.last().is_none_or(|(_, last)| before > last + 100)
        });
        let made = sandbox.json(0, "backup", &[]);
        archives.push((PathBuf::from(made["archive"].as_str().unwrap()), before));
    }
    sandbox.expect(0, "ops", &["stop"]);

    let mut names: Vec<_> = archives.iter().map(|(archive, _)| archive.clone()).collect();
    names.dedup();
    assert_eq!(names.len(), 10, "each has a name of its own: {names:?}");
    for (archive, before) in &archives {
        let unpacked = sandbox.outside("unpacked");
        output(Command::new(peer("tar", "tar")).arg("xzf").arg(archive).arg("-C").arg(&unpacked));
        // All of it is in one folder, named as the agent is: without a name it is `agent`.
        let folder = unpacked.join("agent");
        output(
            Command::new(peer("sha256sum", "coreutils"))
                .args(["--check", "--strict", "--quiet", "checksums.sha256"])
                .current_dir(&folder),
        );
        let database = folder.join("memory/agent.db");
        assert!(!folder.join("memory/agent.db-wal").exists(), "a database is whole without its sidecars");
        assert_eq!(sqlite(&database, "PRAGMA integrity_check"), "ok", "{}", archive.display());
        let rows = sqlite(&database, "SELECT count(*) || ' ' || max(id) FROM episodes");
        let (count, last) = rows.split_once(' ').unwrap();
        assert_eq!(count, last, "no row is missing in between: {}", archive.display());
        let last: u64 = last.parse().unwrap();
        assert!(last >= *before, "{}: {last} of {before} rows", archive.display());
        let journal = fs::read_to_string(folder.join("memory/journal.jsonl")).unwrap();
        assert!(journal.ends_with('\n'), "the journal ends with a whole line");
        for line in journal.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        fs::remove_dir_all(&unpacked).unwrap();
    }
    let latest = fs::canonicalize(sandbox.path("backups/latest")).unwrap();
    assert_eq!(latest, fs::canonicalize(&archives[9].0).unwrap());
}

#[test]
fn an_archive_restored_by_hand_with_tar_alone_is_an_agent() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", BUSY);
    sandbox.write("config/settings.json", "{\"mood\": \"good\"}");
    sandbox.expect(0, "ops", &["start"]);
    let memory = sandbox.path("memory/agent.db");
    wait_until("the agent writes", || last_row(&memory) > 100);
    let made = sandbox.json(0, "backup", &[]);
    sandbox.expect(0, "ops", &["stop"]);

    let other = Sandbox::new();
    other.write("ops.toml", BUSY);
    let archive = made["archive"].as_str().unwrap();
    output(
        Command::new(peer("tar", "tar"))
            .args(["xzf", archive, "--strip-components=1", "-C"])
            .arg(&other.home),
    );
    assert_eq!(other.read("config/settings.json"), "{\"mood\": \"good\"}");
    let kept = last_row(&other.path("memory/agent.db"));
    other.expect(0, "ops", &["start"]);
    wait_until("it goes on where it was", || last_row(&other.path("memory/agent.db")) > kept);
    other.expect(0, "ops", &["stop"]);
}
