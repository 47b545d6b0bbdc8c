//! The preset `dharmic`.

use super::Agent;
use crate::sandbox::wait_until;
use crate::service::{Bystander, alive, kill};
use crate::troubleshoot::surroundings;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

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

/// The table of its guide: daemon not starting, no heartbeats, mail, disk full, alerts, backups.
#[test]
fn each_symptom_of_its_guide_has_its_cause_and_remedy() {
    let mut agent = dharmic("3600");
    surroundings(&agent.sandbox);
    agent.ops(0, &["start"]);
    agent.troubled(14_500, "hung", "4h", "ops restart daemon --force");
    kill(agent.pid("daemon"));
    agent.troubled(0, "stale_pid_file", "logs/daemon.pid is left of a run", "ops start daemon");
    agent.troubled(0, "stale_pid_file", "its status file still says running", "ops start daemon");
    fs::rename(agent.sandbox.path(".venv"), agent.sandbox.path("venv-that-was")).unwrap();
    agent.troubled(0, "program_missing", ".venv is not there", "python3 -m venv --clear");
    fs::rename(agent.sandbox.path("venv-that-was"), agent.sandbox.path(".venv")).unwrap();
    agent.set("MISBEHAVE", "old-runtime");
    agent.troubled(0, "runtime_version", "Python 3.7.3; it must be at least 3.8", "install such a version");
    agent.set("MISBEHAVE", "");

    let bridge = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    agent.config(&format!(
        "[service.email]\nenabled = true\n[check.bridge]\nkind = \"tcp\"\nafter = [\"email\"]\naddress = \"127.0.0.1:{bridge}\"\n\
         [check.disk]\nwarn = \"900000TB\"\n[alerts.email]\nhost = \"127.0.0.1\"\nport = {bridge}\ntls = \"none\"\nfrom = \"a@b.example\"\nto = []"
    ));
    agent.ops(0, &["start", "email"]);
    agent.troubled(0, "check", "the check bridge says", "ops health --explain bridge");
    agent.troubled(0, "mail_server", &bridge.to_string(), "is a bridge on this machine");
    agent.troubled(0, "disk_full", "the logs take", "ops rotate-logs");
    agent.sandbox.write(".ops/ops.db", [0_u8; 100]);
    agent.troubled(0, "journal_damaged", "alerts may repeat", "ops alert");
    agent.sandbox.write("backups", "");
    agent.troubled(0, "no_backup", "", "ops backup");
}

/// The agent as its own script starts it: options are what people vary.
fn by_hand(agent: &Agent, words: &[&str]) -> Bystander {
    let mut command = Command::new(agent.sandbox.path(".venv/bin/python3"));
    command.arg0("python3").args(words).current_dir(&agent.sandbox.home).env("TZ", "EST5");
    let child = Bystander(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("it writes its status file", || {
        let status = fs::read_to_string(agent.sandbox.path("logs/daemon_status.json")).unwrap_or_default();
        status.contains("\"running\"") && status.contains(&child.0.id().to_string())
    });
    child
}

#[test]
fn dharmic_started_by_its_own_script_is_the_agent_and_not_doubled() {
    let agent = dharmic("3600");
    let child = by_hand(&agent, &["src/core/daemon.py", "--heartbeat", "300", "--verbose"]);
    let pid = child.0.id();
    assert!(agent.ops(0, &["start"]).stdout.contains(&format!("daemon: already running (pid {pid})")));
    agent.expect("process", "ok", &format!("daemon runs as pid {pid}"));
    agent.run("alert", &[]);
    assert!(agent.ops(0, &["start"]).stdout.contains(&format!("already running (pid {pid})")));
    let listed = agent.run("ops", &["detect"]).stdout;
    assert!(listed.contains(&format!("{pid}  daemon ")) && !listed.contains("stranger"), "{listed}");
    agent.ops(0, &["restart"]);
    assert!(!alive(pid) && alive(agent.pid("daemon")));
    agent.ops(0, &["stop"]);

    // Nobody's number stands in a file: it is not taken for the agent, and none is started beside it.
    let child = by_hand(&agent, &["src/core/daemon.py", "--heartbeat", "300"]);
    fs::remove_file(agent.sandbox.path("logs/daemon.pid")).unwrap();
    let pid = child.0.id();
    for verb in ["start", "restart", "up"] {
        let said = agent.ops(3, &[verb]);
        let (what, remedy) = (format!("may run already: process {pid}"), format!("kill {pid}"));
        assert!(said.stderr.contains(&what) && said.stderr.contains(&remedy), "{said:?}");
    }
    let listed = agent.run("ops", &["detect"]).stdout;
    assert!(listed.contains("but for its options"), "{listed}");
    assert!(alive(pid));
    // As the hint says.
    agent.sandbox.write("logs/daemon.pid", format!("{pid}\n"));
    assert!(agent.ops(0, &["start"]).stdout.contains(&format!("already running (pid {pid})")));
}

#[test]
fn the_daemon_of_another_home_is_another() {
    let (alpha, beta) = (dharmic("3600"), dharmic("3600"));
    let child = by_hand(&alpha, &["src/core/daemon.py", "--heartbeat", "3600", "--verbose"]);
    beta.ops(0, &["start"]);
    let listed = beta.ops(0, &["detect"]).stdout;
    assert!(!listed.contains(&child.0.id().to_string()), "{listed}");
    let found = beta.run("ops", &["troubleshoot"]).stdout;
    assert!(!found.contains(&format!("kill {}", child.0.id())), "{found}");
    beta.sandbox.write("logs/daemon.pid", child.0.id().to_string());
    beta.ops(0, &["stop"]);
    assert!(alive(child.0.id()) && !alive(beta.pid("daemon")));
}
