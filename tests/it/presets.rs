//! Each preset against a stand-in of its agent (`agents/`) that behaves, and misbehaves, as the real one:
//! recognised, started, healthy, each way of failing found, stopped.

use crate::sandbox::{Said, Sandbox, built, said, wait_until};
use crate::service::{alive, finding, kill};
use chrono::{TimeDelta, Utc};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program of all stand-ins. `cargo test` has built it already, `cargo test --test it` has not.
fn agents() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let ops = built("ops");
        let folder = ops.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "agents", "--target-dir"]);
        cargo.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let said = said(cargo.output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
        folder.join("examples/agents")
    })
}

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that always says the same, until the test ends.
fn says(status: &'static str, body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    port
}

/// One agent in its home, and the environment of its operator.
struct Agent {
    sandbox: Sandbox,
    environment: Vec<(&'static str, String)>,
}

impl Agent {
    /// In a home of this name, under the user's home folder.
    fn new(home: &str) -> Agent {
        let mut sandbox = Sandbox::new();
        sandbox.home = sandbox.outside(home);
        Agent { sandbox, environment: Vec::new() }
    }

    fn set(&mut self, name: &'static str, value: impl ToString) {
        self.environment.push((name, value.to_string()));
    }

    /// Makes a program of this path under the user's home folder a stand-in.
    fn program(&self, path: &str) -> PathBuf {
        let link = self.sandbox.outside("").join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(agents(), &link).unwrap();
        link
    }

    fn run(&self, program: &str, args: &[&str]) -> Said {
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        said(self.sandbox.program(program).envs(environment).args(args).output().unwrap())
    }

    #[track_caller]
    fn ops(&self, code: i32, args: &[&str]) -> Said {
        let said = self.run("ops", args);
        assert_eq!(said.code, code, "ops {args:?}: {said:?}");
        said
    }

    /// Adds to `ops.toml`.
    fn config(&self, lines: &str) {
        let text = self.sandbox.read("ops.toml");
        self.sandbox.write("ops.toml", format!("{text}\n{lines}\n"));
    }

    /// A finding, as if it were so many seconds later.
    fn look(&self, check: &str, later: i64) -> Value {
        let now = (Utc::now() + TimeDelta::seconds(later)).to_rfc3339();
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let mut program = self.sandbox.program("health-check");
        program.envs(environment).env("OPS_NOW", now).args(["--json", "--only", check]);
        let said = said(program.output().unwrap());
        let report = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        finding(&report, check).clone()
    }

    #[track_caller]
    fn expect_at(&self, later: i64, check: &str, state: &str, part: &str) {
        let found = self.look(check, later);
        let summary = found["summary"].as_str().unwrap();
        assert!(found["state"] == state && summary.contains(part), "{state} {part}: {found}");
    }

    #[track_caller]
    fn expect(&self, check: &str, state: &str, part: &str) {
        self.expect_at(0, check, state, part);
    }

    /// Waits until a check says that.
    #[track_caller]
    fn until(&self, check: &str, state: &str, part: &str) {
        wait_until(&format!("{check} is {state}: {part}"), || {
            let found = self.look(check, 0);
            found["state"] == state && found["summary"].as_str().unwrap().contains(part)
        });
    }

    /// Every check is well but those of this machine and of backups: there is none yet.
    #[track_caller]
    fn expect_all_well(&self) {
        let said = self.run("health-check", &["--json"]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let findings = report["findings"].as_array().unwrap();
        let ours = |found: &&Value| {
            !["disk", "backup", "drill", "schedule"].contains(&found["check"].as_str().unwrap())
        };
        let bad: Vec<_> = findings.iter().filter(ours).filter(|found| found["state"] != "ok").collect();
        assert!(findings.len() > 6 && bad.is_empty(), "{bad:#?}");
    }

    fn pid(&self, service: &str) -> u32 {
        let record: Value =
            serde_json::from_str(&self.sandbox.read(&format!(".ops/service/{service}.json"))).unwrap();
        record["identity"]["pid"].as_u64().unwrap() as u32
    }

    /// Makes a backup and unpacks it: where its files are.
    #[track_caller]
    fn backed_up(&self) -> PathBuf {
        self.ops(0, &["backup"]);
        let into = self.sandbox.outside("unpacked");
        let latest = self.sandbox.path("backups/latest");
        let tar = Command::new("tar").arg("xzf").arg(latest).arg("-C").arg(&into).output().unwrap();
        assert!(tar.status.success(), "{tar:?}");
        fs::read_dir(into).unwrap().next().unwrap().unwrap().path()
    }

    /// The value of a variable of the environment.
    fn get(&self, name: &str) -> &str {
        &self.environment.iter().rfind(|(known, _)| *known == name).unwrap().1
    }

    fn database(&self, name: &str) -> rusqlite::Connection {
        rusqlite::Connection::open(self.sandbox.path(name)).unwrap()
    }
}

#[test]
fn ops_init_lists_recognises_and_says_so() {
    let sandbox = Sandbox::new();
    let list = sandbox.expect(0, "ops", &["init", "--list"]).stdout;
    for name in ["builtin", "dharmic", "mama", "machina", "gomikrobot", "macha"] {
        assert!(list.lines().any(|line| line.starts_with(name) && line.len() > 30), "{list}");
        let home = sandbox.outside(&format!("of-{name}"));
        let home = home.to_str().unwrap();
        let written = sandbox.json(0, "ops", &["init", "--preset", name, "--home", home]);
        assert_eq!(written["preset"], name);
        sandbox.expect(0, "ops", &["config", "check", "--home", home]);
    }
    // Nothing that is known: said so.
    let said = sandbox.expect(0, "ops", &["init"]);
    assert!(said.stdout.contains("no agent that is known lies there: the built-in one"), "{said:?}");
    let said = sandbox.expect(3, "ops", &["init"]);
    assert!(said.stderr.contains("it was not touched"), "{said:?}");
    // Two that could be meant.
    let both = sandbox.outside("both");
    fs::write(both.join("mama.db"), "").unwrap();
    fs::write(both.join("timeline.db"), "").unwrap();
    let said = sandbox.expect(3, "ops", &["init", "--home", both.to_str().unwrap()]);
    assert!(said.stderr.contains("mama by mama.db; gomikrobot by timeline.db"), "{said:?}");
    assert!(said.stderr.contains("--preset"), "{said:?}");
    sandbox.expect(3, "ops", &["init", "--preset", "nobody", "--home", both.to_str().unwrap()]);
    assert!(!both.join("ops.toml").exists());
}

#[test]
fn a_preset_of_one_s_own_takes_ten_lines() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "bot.toml",
        "[preset]\nabout = \"my bot\"\nstarter = '''\n# [service.bot]\n# stop_grace = \"5s\"\n'''\n\
         [service.bot]\ncommand = [\"sleep\", \"${BOT_NAP:-600}\"]\n\
         [service.web]\nenabled = false\ncommand = [\"sleep\", \"601\"]\n\
         [check.process]\nkind = \"process\"\nservice = \"bot\"\n\
         [check.web]\nkind = \"process\"\nservice = \"web\"\n\
         [check.page]\nkind = \"tcp\"\nafter = [\"web\"]\naddress = \"localhost:1\"\n",
    );
    let preset = sandbox.path("bot.toml");
    let written = sandbox.json(0, "ops", &["init", "--preset", preset.to_str().unwrap()]);
    assert_eq!((&written["preset"], &written["agent"]), (&"bot.toml".into(), &"bot".into()));
    assert!(sandbox.read("ops.toml").contains("# stop_grace = \"5s\""));
    sandbox.expect(0, "ops", &["start"]);
    let report = sandbox.json(0, "health-check", &[]);
    assert_eq!(report["findings"].as_array().unwrap().len(), 1, "what is not enabled is not asked: {report}");
    let said = sandbox.expect(3, "ops", &["start", "web"]);
    assert!(said.stderr.contains("not enabled") && said.stderr.contains("[service.web]"), "{said:?}");
    sandbox.expect(0, "ops", &["stop"]);
    let origin = sandbox.expect(0, "health-check", &["--explain", "process"]).stdout;
    assert!(origin.contains("bot.toml"), "{origin}");

    // What is wrong in it is told with its own place.
    sandbox.write("bot.toml", "[agent]\nname = \"x\"\n");
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("bot.toml:1:2: [agent] is for ops.toml"), "{said:?}");
    sandbox
        .write("bot.toml", "[service.bot]\ncommand = [\"sleep\"]\n[check.disk]\nkind = \"disk\"\nwarm = 1\n");
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("bot.toml:5:1: unknown key 'warm'"), "{said:?}");
    fs::remove_file(preset).unwrap();
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("ops.toml:7:") && said.stderr.contains("bot.toml"), "{said:?}");
}

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

fn append(path: &Path, text: &str) {
    use std::io::Write;
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
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

    // Polled once an hour only.
    kill(agent.pid("serve"));
    agent.expect("process", "critical", "is not running");
    let said = agent.run("health-check", &["--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(finding(&report, "api")["state"], "ok");
    agent.expect("api", "critical", "refused");
    agent.expect_at(20, "heartbeat", "warning", "");
    agent.expect_at(90, "heartbeat", "critical", "");
    agent.ops(0, &["start", "serve"]);

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

/// Macha, with a ChromaDB that answers.
fn macha() -> Agent {
    let mut agent = Agent::new("ai-sysadmin");
    agent.program("bin/python3");
    agent.program("macha/orchestrator.py");
    agent.set("MACHA_DIR", agent.sandbox.outside("macha").display());
    agent.set("MACHA_CHROMA_DIR", agent.sandbox.outside("chromadb").display());
    agent.set("MACHA_CHROMA_PORT", says("200 OK", "{\"nanosecond heartbeat\":1763632000000000000}"));
    agent.set("MACHA_WEB_PORT", says("200 OK", "{\"error\":\"cannot read\"}"));
    agent.sandbox.write("orchestrator.log", "");
    agent.sandbox.write("approval_queue.json", "[]");
    let said = agent.ops(0, &["init"]);
    assert!(
        said.stdout.contains("(macha, recognised by orchestrator.log and approval_queue.json)"),
        "{said:?}"
    );
    agent
}

#[test]
fn macha_and_how_it_fails() {
    let agent = macha();
    agent.ops(0, &["start"]);
    agent.until("reviews", "ok", "");
    agent.expect_all_well();
    // The web pages tell of the host: 200 with an error is not well.
    agent.config("[check.web]\nenabled = true");
    agent.expect("web", "critical", "the body matches");
    agent.sandbox.write(
        "approval_queue.json",
        format!("[{}{{\"approved\":true}}]", "{\"approved\":null},".repeat(12)),
    );
    agent.expect("approvals", "warning", "12");
    agent.sandbox.write("actions.jsonl", "{\"success\":false}\n".repeat(8));
    agent.expect("failed_actions", "warning", "8");
    agent.sandbox.write("models/huge.gguf", "x");
    let copy = agent.backed_up();
    assert!(copy.join("approval_queue.json").exists() && copy.join("actions.jsonl").exists());
    assert!(!copy.join("models").exists() && !copy.join("orchestrator.log").exists());
    let pid = agent.pid("orchestrator");
    agent.ops(0, &["stop"]);
    assert!(!alive(pid));
    agent.expect_at(200, "heartbeat", "warning", "orchestrator.log is 3m");
    agent.expect_at(1000, "heartbeat", "critical", "orchestrator.log is 16m");
    agent.expect_at(1000, "reviews", "critical", "16m");
}

#[test]
fn macha_stops_only_after_a_while() {
    let mut agent = macha();
    agent.set("MACHA_CHROMA_PORT", free_port());
    agent.config("[service.orchestrator]\nenv = { MISBEHAVE = \"errors\" }");
    agent.expect("chroma", "critical", "refused");
    agent.expect("cycle_errors", "ok", "");
    agent.ops(0, &["start"]);
    agent.until("cycle_errors", "warning", "ERROR in orchestration cycle");
    // It sleeps, and the signal waits; the grace of the preset is longer than that.
    let pid = agent.pid("orchestrator");
    agent.ops(0, &["stop"]);
    assert!(!alive(pid));
    let text = agent
        .sandbox
        .read("ops.toml")
        .replace("[service.orchestrator]\nenv", "[service.orchestrator]\nstop_grace = \"10ms\"\nenv");
    agent.sandbox.write("ops.toml", text);
    agent.ops(0, &["start"]);
    let said = agent.ops(2, &["stop"]);
    assert!(said.stderr.contains("still runs 10ms after TERM"), "{said:?}");
    wait_until("it has slept", || !alive(agent.pid("orchestrator")));
}

#[test]
fn the_documents_about_presets_are_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/presets.md")).unwrap();
    let own = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(own.lines().filter(|line| !line.is_empty()).count() <= 10, "ten lines were promised");
    let sandbox = Sandbox::new();
    let preset = sandbox.write("bot.toml", own);
    sandbox.expect(0, "ops", &["init", "--preset", preset.to_str().unwrap()]);
    let about = text.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    sandbox.write("bot.toml", format!("{own}{about}"));
    sandbox.write("config.yaml", "web: off\n");
    let said = sandbox.expect(0, "ops", &["init", "--dry-run", "--preset", preset.to_str().unwrap()]);
    assert!(
        said.stdout.contains("# stop_grace") && said.stdout.contains("\n[service.web]\nenabled = false\n")
    );

    let mut seen = 0;
    for entry in fs::read_dir(root.join("presets")).unwrap() {
        let path = entry.unwrap().path();
        let preset = fs::read_to_string(&path).unwrap();
        let line = |stem: &str| format!("| `{stem}` |");
        let row =
            text.lines().rfind(|row| row.starts_with(&line(&path.file_stem().unwrap().to_string_lossy())));
        for variable in preset.split("${").skip(1).map(|rest| rest.split('}').next().unwrap()) {
            let (name, default) = variable.split_once(":-").expect("it may be left unset");
            let told =
                if default.is_empty() { format!("`{name}`") } else { format!("`{name}` (`{default}`)") };
            assert!(name == "HOME" || row.unwrap().contains(&told), "{variable} of {}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} variables were looked at");
}
