//! The preset `machina`.

use super::{Agent, free_port};
use crate::service::{alive, finding, kill};
use chrono::Utc;
use serde_json::Value;
use std::fs;

/// Machina, with its server on a port of its own.
fn machina() -> Agent {
    let mut agent = Agent::new("machina");
    agent.program("machina/build/machina_cli");
    agent.program("bin/python3");
    agent.set("MACHINA_PORT", free_port());
    agent.sandbox.write("telegram_bot.py", "");
    fs::create_dir(agent.sandbox.path("toolpacks")).unwrap();
    let said = agent.ops(0, &["init"]);
    assert!(said.stdout.contains("(machina, recognised by telegram_bot.py and toolpacks)"), "{said:?}");
    agent
}

#[test]
fn machina_and_how_it_fails() {
    let agent = machina();
    agent.ops(0, &["start"]);
    agent.until("heartbeat", "ok", "");
    agent.until("autonomic_heartbeat", "ok", "");
    agent.expect_all_well();

    // Polled once an hour only, as long as it is the same server that answered.
    let api = || {
        let said = agent.run("health-check", &["--json"]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        finding(&report, "api").clone()
    };
    let kept = api();
    assert!(kept["looked_at"].is_string(), "{kept}");
    assert!(kept["summary"].as_str().unwrap().ends_with(" ago"), "{kept}");
    kill(agent.pid("serve"));
    agent.expect("process", "critical", "is not running");
    assert_eq!(api()["state"], "critical", "no answer of one that is gone");
    agent.expect("api", "critical", "refused");
    agent.expect_at(20, "heartbeat", "warning", "");
    agent.expect_at(90, "heartbeat", "critical", "");
    agent.ops(0, &["start", "serve"]);
    assert_eq!(api()["state"], "ok", "and another one is asked at once");

    agent.sandbox.write("work/queue/dlq/job.json", "{}");
    agent.expect("dead_letters", "warning", "1 file");
    agent.sandbox.write("work/queue/inbox/job.json", "{}");
    agent.expect("waiting", "ok", "");
    agent.expect_at(1200, "waiting", "warning", "job.json is 20m");
    agent.sandbox.write(
        "work/memory/autonomic_audit.jsonl",
        "{\"ts_ms\":1,\"success\":true}\n{\"ts_ms\":2,\"success\":false}\n".repeat(20),
    );
    agent.expect("failures", "warning", "20");
    agent.sandbox.write("work/memory/skills.jsonl", "{\"a\":1}\n{\"a\":");
    agent.expect_at(3600, "streams", "warning", "skills.jsonl");

    agent.sandbox.write("work/queue/tmp/half", "x");
    agent.sandbox.write("build/big.o", "x");
    let copy = agent.backed_up();
    assert!(
        copy.join("work/queue/dlq/job.json").exists()
            && copy.join("work/memory/autonomic_state.json").exists()
    );
    assert!(!copy.join("work/queue/tmp/half").exists() && !copy.join("build").exists());

    // No handler for TERM; the engine removes its own pid file.
    let pids = [agent.pid("serve"), agent.pid("autonomic")];
    agent.ops(0, &["stop"]);
    assert!(!pids.iter().any(|&pid| alive(pid)));
    assert!(!agent.sandbox.path("autonomic.pid").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn machina_s_leak_is_seen_before_it_ends_it() {
    let agent = machina();
    // The limits of a week, for a hundred requests: the part of 65530 mappings that these take.
    agent.config("[check.leak]\nmaps = { warn = \"0.25%\", crit = \"50%\" }");
    agent.ops(0, &["start", "serve"]);
    agent.expect("leak", "ok", "");
    for _ in 0..100 {
        agent_get(&agent, "/health");
    }
    agent.until("leak", "warning", "maps");
    agent.ops(0, &["restart", "serve"]);
    agent.expect("leak", "ok", "");
    agent.ops(0, &["stop"]);
}

#[cfg(target_os = "linux")]
fn agent_get(agent: &Agent, path: &str) {
    use std::io::{Read, Write};
    let port: u16 = agent.get("MACHINA_PORT").parse().unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn machina_without_workers_ill_or_hung_and_its_bot() {
    let mut agent = machina();
    agent.set("MACHINA_WORKERS", "0");
    agent.config("[service.serve]\nenv = { MISBEHAVE = \"ill\" }\n[service.autonomic]\nenabled = false");
    agent.ops(0, &["start"]);
    agent.expect("heartbeat", "critical", "");
    agent.expect("api", "critical", "");
    let report: Value = serde_json::from_str(&agent.run("health-check", &["--json"]).stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(
        findings.iter().all(|found| !found["check"].as_str().unwrap().starts_with("autonomic")),
        "{report}"
    );
    agent.ops(0, &["stop"]);

    let text = agent.sandbox.read("ops.toml").replace("enabled = false", "env = { MISBEHAVE = \"hang\" }");
    agent.sandbox.write("ops.toml", text);
    agent.config("[service.bot]\nenabled = true\nready_timeout = \"20s\"");
    let said = agent.ops(2, &["start", "bot"]);
    assert!(said.stderr.contains("TELEGRAM_BOT_TOKEN is not set"), "{said:?}");
    agent.sandbox.write(".env", "TELEGRAM_BOT_TOKEN=x\n");
    let text = agent.sandbox.read("ops.toml").replace("# env_file", "env_file");
    agent.sandbox.write("ops.toml", text);
    agent.ops(0, &["start", "bot"]);
    agent.expect("bot", "ok", "bot runs");
    agent.ops(0, &["start", "autonomic"]);
    agent.expect("autonomic_heartbeat", "warning", "");
    agent
        .sandbox
        .write("work/memory/autonomic_state.json", format!("{{\"saved_ts\":{}}}", Utc::now().timestamp()));
    agent.expect("autonomic_heartbeat", "ok", "");
    agent.expect_at(300, "autonomic_heartbeat", "warning", "5m");
    agent.expect_at(1200, "autonomic_heartbeat", "critical", "20m");
    agent.ops(0, &["stop"]);
}
