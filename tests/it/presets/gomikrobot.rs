//! The preset `gomikrobot`.

use super::{Agent, free_port};
use crate::service::alive;
use std::fs;
use std::net::TcpListener;

/// GoMikroBot, with ports of its own.
fn gomikrobot() -> Agent {
    let mut agent = Agent::new(".gomikrobot");
    agent.program("gomikrobot/gomikrobot");
    agent.set("GOMIKROBOT_DIR", agent.sandbox.outside("gomikrobot").display());
    agent.set("MIKROBOT_GATEWAY_PORT", free_port());
    agent.set("MIKROBOT_GATEWAY_DASHBOARD_PORT", free_port());
    // What its library would take for its own.
    agent.set("PORT", "1");
    let config = agent.sandbox.write("config.json", "{\"providers\":{\"openai\":{\"apiKey\":\"x\"}}}");
    fs::set_permissions(config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    agent.sandbox.write("timeline.db", "");
    let said = agent.ops(0, &["init"]);
    assert!(said.stdout.contains("(gomikrobot, recognised by timeline.db)"), "{said:?}");
    agent
}

#[test]
fn gomikrobot_and_how_it_fails() {
    let agent = gomikrobot();
    agent.ops(0, &["start"]);
    agent.expect_all_well();
    let database = agent.database("timeline.db");
    let run = |sql: &str| database.execute_batch(sql).unwrap();
    run("INSERT INTO timeline(timestamp, authorized) VALUES('2026-11-20 09:46:01.5 +0000 UTC', 1)");
    agent.expect("last_event", "ok", "");
    run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
         INSERT INTO timeline(timestamp, authorized) SELECT strftime('%Y-%m-%d %H:%M:%S +0000 UTC', 'now'), 0 FROM n");
    agent.expect("unauthorized", "warning", "unauthorized_events in timeline.db is 60");
    // The schema of a later revision.
    run("CREATE TABLE tasks(status, created_at DATETIME, updated_at DATETIME, delivery_status, delivery_attempts, total_tokens);
         INSERT INTO settings VALUES('daily_token_limit', '1000', NULL);
         INSERT INTO tasks VALUES('completed', datetime('now'), datetime('now'), 'sent', 1, 850),
           ('processing', datetime('now', '-1 hour'), datetime('now', '-1 hour'), 'pending', 3, 0)");
    agent.expect("tokens", "warning", "85");
    agent.expect("stuck_tasks", "warning", "stuck_tasks in timeline.db is 1");
    agent.expect("undelivered", "warning", "undelivered_tasks in timeline.db is 1");
    agent.expect("failed_tasks", "ok", "is 0");
    drop(database);
    agent.sandbox.write("whatsapp-qr.png", "");
    agent.sandbox.write("workspace/SOUL.md", "x");
    agent.sandbox.write("sessions/a.jsonl", "{}\n");
    let copy = agent.backed_up();
    let tasks = rusqlite::Connection::open(copy.join("timeline.db")).unwrap();
    assert_eq!(tasks.query_row("SELECT count(*) FROM tasks", [], |row| row.get::<_, u32>(0)).unwrap(), 2);
    assert!(copy.join("workspace/SOUL.md").exists() && copy.join("sessions/a.jsonl").exists());
    assert!(!copy.join("whatsapp-qr.png").exists());
    agent.expect("secrets", "critical", "whatsapp-qr.png");
    let pid = agent.pid("gateway");
    assert_eq!(agent.sandbox.read("logs/gateway.pid").trim(), pid.to_string());
    agent.ops(0, &["stop"]);
    assert!(!alive(pid) && !agent.sandbox.path("timeline.db-wal").exists());

    // 200 with nothing is none.
    agent.config("[service.gateway]\nenv = { MISBEHAVE = \"no-routes,hung-chat\" }");
    agent.ops(0, &["start"]);
    agent.expect("api", "critical", "the body");
    agent.expect("dashboard", "critical", "");
    agent.ops(0, &["stop"]);
}

#[test]
fn gomikrobot_ends_with_0_when_it_cannot_bind() {
    let agent = gomikrobot();
    let port = agent.get("MIKROBOT_GATEWAY_DASHBOARD_PORT").to_owned();
    let _blocker = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let said = agent.ops(2, &["start"]);
    assert!(said.stderr.contains(&format!("its port {port} is taken")), "{said:?}");
    agent.config("[service.gateway]\nports = []\nready = \"alive\"");
    let said = agent.ops(2, &["start"]);
    assert!(said.stderr.contains("ended at once (exit status: 0)"), "{said:?}");
    assert!(said.stderr.contains("address already in use"), "{said:?}");
    agent.expect("process", "critical", "is not running");
    agent.expect("api", "critical", "refused");

    agent.sandbox.write("config.json", "{}");
    let said = agent.ops(2, &["start"]);
    assert!(said.stderr.contains("no API key found"), "{said:?}");
}
