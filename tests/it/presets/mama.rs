//! The preset `mama`.

use super::{Agent, append, free_port};
use crate::service::{alive, kill};
use std::fs;
use std::net::TcpListener;
use std::process::Command;

/// Mama, with its API on a port of its own.
fn mama() -> Agent {
    let mut agent = Agent::new(".mama");
    let port = free_port();
    agent.program("bin/node");
    agent.program("mama/dist/index.js");
    agent.set("MAMA_DIR", agent.sandbox.outside("mama").display());
    agent.set("MAMA_API_PORT", port);
    agent.set("MAMA_API_TOKEN", "s3cr3t");
    // Would move its home.
    agent.set("XDG_DATA_HOME", agent.sandbox.outside("data").display());
    agent.sandbox.write(
        "config.yaml",
        format!("channels:\n  api:\n    enabled: true\n    port: {port}\n    token: s3cr3t\n"),
    );
    let config = agent.sandbox.path("config.yaml");
    fs::set_permissions(config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    agent.sandbox.write("soul.md", "I am Mama\n");
    let said = agent.ops(0, &["init"]);
    assert!(said.stdout.contains("(mama, recognised by config.yaml and soul.md)"), "{said:?}");
    assert!(!said.stdout.contains("not found"), "{said:?}");
    agent
}

#[test]
fn mama_and_how_it_fails() {
    let agent = mama();
    agent.ops(0, &["start"]);
    agent.expect_all_well();
    assert!(!agent.sandbox.read("logs/mama.log").contains("default soul"), "its soul is in its folder");
    agent.config("[check.api_status]\nenabled = true");
    agent.expect("api_status", "ok", "running");

    // The database is all in the WAL, and is read all the same.
    assert_eq!(fs::metadata(agent.sandbox.path("mama.db")).unwrap().len(), 4096);
    let database = agent.database("mama.db");
    let insert = |sql: &str| _ = database.execute(sql, []).unwrap();
    insert("INSERT INTO jobs VALUES('a', 'news', 1, NULL, '{\"success\":false}')");
    let copy = agent.backed_up();
    let jobs = rusqlite::Connection::open(copy.join("mama.db")).unwrap();
    assert_eq!(jobs.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, u32>(0)).unwrap(), 1);
    assert!(copy.join("soul.md").exists() && !copy.join("mama.pid").exists() && !copy.join("logs").exists());
    agent.expect("failed_jobs", "warning", "failed_jobs in mama.db is 1");
    insert(
        "UPDATE jobs SET last_result = '{\"success\":true}', next_run = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-10 minutes')",
    );
    agent.expect("failed_jobs", "ok", "is 0");
    agent.expect("overdue_jobs", "warning", "10m");
    agent.expect_at(1800, "overdue_jobs", "critical", "40m");
    insert(
        "INSERT INTO episodes(id, timestamp, channel, role, content) VALUES('e', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-5 minutes'), 'api', 'user', 'Review these heartbeat items: …')",
    );
    agent.expect("heartbeat", "ok", "5m");
    agent.expect_at(3600, "heartbeat", "warning", "1h");
    agent.expect_at(7200, "heartbeat", "critical", "2h");
    insert("INSERT INTO llm_usage VALUES('u', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 1, 1, 45.5)");
    agent.expect("cost", "warning", "dollars_this_month in mama.db is 45.5");
    drop(database);
    fs::set_permissions(
        agent.sandbox.path("config.yaml"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    agent.expect("secrets", "critical", "config.yaml is 0644");
    append(&agent.sandbox.path("logs/mama.log"), &"{\"level\":\"error\",\"message\":\"x\"}\n".repeat(9));
    agent.expect("log_errors", "warning", "9 errors");

    // Killed, it leaves its pid file, and starts again.
    kill(agent.pid("daemon"));
    agent.expect("process", "critical", "is not running");
    agent.expect("api", "critical", "refused");
    agent.ops(0, &["start"]);
    agent.expect("process", "ok", "");
    agent.ops(0, &["stop"]);
    assert!(!agent.sandbox.path("mama.pid").exists() && !agent.sandbox.path("mama.db-wal").exists());
}

#[test]
fn mama_lives_on_without_its_api_when_its_port_is_taken() {
    let agent = mama();
    let port = agent.get("MAMA_API_PORT").to_owned();
    let blocker = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let said = agent.ops(2, &["start"]);
    assert!(said.stderr.contains(&format!("its port {port} is taken")), "{said:?}");
    assert!(!agent.sandbox.path("mama.pid").exists(), "it was not started");
    // Taken behind our back: it lives, its API does not.
    agent.config("[service.daemon]\nports = []");
    agent.ops(0, &["start"]);
    drop(blocker);
    agent.expect("process", "ok", "runs as pid");
    agent.expect("api", "critical", "refused");
    let pid = agent.pid("daemon");
    agent.ops(0, &["stop"]);
    assert!(!alive(pid) && !agent.sandbox.path("mama.pid").exists(), "no handler removed its pid file");
}

#[test]
fn mama_is_not_asked_for_an_api_that_is_off() {
    for (config, asked) in [
        ("channels:\n  terminal:\n    enabled: true\n  api:\n    enabled: false\n", false),
        ("channels:\n  terminal:\n    enabled: true\n", false),
        ("channels:\n  api:\n    port: 1\n    host: x\n    enabled: true\n", true),
        ("channels:\n  api:\n    port: 1\n  telegram:\n    enabled: true\n", false),
        ("channels:\n  api: # mine\n    # yes\n    enabled: true\n    port: 3377\n", true),
    ] {
        let agent = Agent::new(".mama");
        agent.sandbox.write("config.yaml", config);
        agent.ops(0, &["init", "--preset", "mama"]);
        let list = agent.ops(0, &["health", "--list"]).stdout;
        let line = list.lines().find(|line| line.starts_with("api ")).unwrap();
        assert_eq!(!line.ends_with("(off)"), asked, "{config}{list}");
    }
}

#[test]
fn mama_started_by_somebody_else_is_known_by_its_pid_file() {
    let agent = mama();
    let command = agent.sandbox.program("ops");
    let environment: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    let mut child = Command::new(agent.sandbox.outside("bin").join("node"))
        .args(["/elsewhere/dist/index.js", "daemon", "--foreground"])
        .env_clear()
        .envs(environment)
        .env("MAMA_HOME", &agent.sandbox.home)
        .current_dir(&agent.sandbox.home)
        .spawn()
        .unwrap();
    agent.until("api", "ok", "401");
    agent.expect("process", "ok", &format!("runs as pid {}", child.id()));
    // Reaped while it is stopped: a zombie would be waited for.
    let reaper = std::thread::spawn(move || child.wait());
    agent.ops(0, &["stop"]);
    assert!(reaper.join().unwrap().unwrap().success());
}
