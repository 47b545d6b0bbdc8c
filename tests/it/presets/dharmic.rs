//! The preset `dharmic`.

use super::Agent;
use crate::service::{alive, kill};
use std::fs;

/// Dharmic, in a zone that is not UTC.
fn dharmic(heartbeat: &str) -> Agent {
    let mut agent = Agent::new("DHARMIC_GODEL_CLAW");
    agent.program("DHARMIC_GODEL_CLAW/.venv/bin/python3");
    agent.set("TZ", "EST5");
    agent.set("DHARMIC_HEARTBEAT", heartbeat);
    for file in ["src/core/daemon.py", "src/core/email_daemon.py", "scripts/start_daemon.sh"] {
        agent.sandbox.write(file, "");
    }
    let said = agent.ops(0, &["init"]);
    assert!(said.stdout.contains("(dharmic, recognised by src/core/daemon.py and"), "{said:?}");
    agent
}

#[test]
fn dharmic_and_how_it_fails() {
    let agent = dharmic("3600");
    agent.sandbox.write("memory/meta.jsonl", "{}\n");
    let council = agent.sandbox.write("memory/council_bridge.db", "");
    let database = rusqlite::Connection::open(council).unwrap();
    database.execute_batch("CREATE TABLE spawn_requests(id, status TEXT)").unwrap();
    agent.ops(0, &["start"]);
    agent.expect_all_well();
    // The details are empty, and its times are of a place five hours away.
    assert!(agent.sandbox.read("logs/daemon_status.json").contains("\"details\": {}"));
    agent.expect_at(5400, "heartbeat", "ok", "1h 30m");
    agent.expect_at(7300, "heartbeat", "warning", "2h");
    agent.expect_at(14500, "heartbeat", "critical", "4h");
    for _ in 0..60 {
        database.execute("INSERT INTO spawn_requests VALUES(1, 'pending')", []).unwrap();
    }
    agent.expect("spawn_requests", "warning", "pending_requests in memory/council_bridge.db is 60");
    let secrets = agent.sandbox.write(".env", "KEY=x\n");
    fs::set_permissions(secrets, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    agent.expect("secrets", "warning", ".env is 0640");

    agent.sandbox.write("memory/sessions/2026-11-20.jsonl", "{}\n");
    agent.sandbox.write("memory.pre-restore.1/x", "x");
    let copy = agent.backed_up();
    for file in ["memory/council_bridge.db", "memory/sessions/2026-11-20.jsonl", ".env"] {
        assert!(copy.join(file).exists(), "{file}");
    }
    assert!(!copy.join(".venv").exists() && !copy.join("memory.pre-restore.1").exists());

    // Killed, its file says running for ever.
    kill(agent.pid("daemon"));
    agent.expect("process", "critical", "is not running");
    agent.expect("heartbeat", "critical", "its process is gone");
    agent.ops(0, &["start"]);
    agent.expect("heartbeat", "ok", "");
    agent.ops(0, &["stop"]);
    assert!(!agent.sandbox.path("logs/daemon.pid").exists());
}

#[test]
fn dharmic_s_own_checks_its_errors_and_its_mail() {
    let agent = dharmic("1");
    agent.config("[service.daemon]\nenv = { MISBEHAVE = \"failing-checks,errors\" }\n[service.email]\nenabled = true\nenv = { MISBEHAVE = \"errors\" }");
    agent.ops(0, &["start"]);
    agent.until("heartbeat", "warning", "1 of 2 of its own checks passed");
    agent.expect("email", "ok", "email runs");
    agent.until("email_errors", "warning", "ERROR cannot connect");
    agent.until("log_errors", "warning", "Heartbeat error");
    let pid = agent.pid("email");
    agent.ops(0, &["stop"]);
    assert!(!alive(pid));

    // It waits for a model and does not stop in time.
    agent.sandbox.write("ops.toml", agent.sandbox.read("ops.toml").replace("failing-checks", "slow-stop"));
    let text = agent
        .sandbox
        .read("ops.toml")
        .replace("[service.daemon]\nenv", "[service.daemon]\nstop_grace = \"100ms\"\nenv");
    agent.sandbox.write("ops.toml", text);
    agent.ops(0, &["start", "daemon"]);
    let said = agent.ops(2, &["stop", "daemon"]);
    assert!(said.stderr.contains("still runs") && said.stderr.contains("--force"), "{said:?}");
    agent.ops(0, &["stop", "daemon", "--force"]);
}
