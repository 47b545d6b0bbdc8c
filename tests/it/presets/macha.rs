//! The preset `macha`.

use super::{Agent, free_port, says};
use crate::sandbox::wait_until;
use crate::service::{Bystander, alive};
use agent_ops::base::process::Process;
use std::process::Command;

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
fn macha_under_another_supervisor_is_not_doubled() {
    let agent = macha();
    let script = agent.sandbox.outside("macha").join("orchestrator.py").display().to_string();
    for interval in ["30", "45"] {
        let mut command = Command::new(agent.sandbox.outside("bin").join("python3"));
        command.args([
            &script,
            "--mode",
            "continuous",
            "--autonomy",
            "suggest",
            "--trigger-interval",
            interval,
        ]);
        command.args(["--review-interval", "60", "--context-size", "131072"]).env("PYTHONPATH", "/x");
        let child = Bystander(command.current_dir(&agent.sandbox.home).spawn().unwrap());
        let pid = child.0.id();
        wait_until("it is there", || {
            Process::find(pid).unwrap().unwrap().arguments().last().is_some_and(|word| word == "131072")
        });
        let said = agent.ops(3, &["start"]);
        assert!(said.stderr.contains(&format!("may run already: process {pid}")), "{said:?}");
        agent.expect("process", "critical", &format!("process {pid} ('"));
        agent.run("alert", &[]);
        let others = Process::find(pid).unwrap().into_iter().chain(agent_ops::base::process::all().unwrap());
        let words = |process: &Process| process.arguments().iter().any(|word| *word == *script);
        let pids: std::collections::BTreeSet<_> =
            others.filter(Process::alive).filter(words).map(|process| process.identity.pid).collect();
        assert_eq!(pids, [pid].into(), "nobody beside it");
        let listed = agent.run("ops", &["detect"]).stdout;
        assert!(
            listed.contains(&pid.to_string()) && listed.contains("its command line is that of"),
            "{listed}"
        );
    }
}
