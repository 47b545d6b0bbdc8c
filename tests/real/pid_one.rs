//! `ops run` as the first process of a container: a pid namespace with nothing else in it.

use crate::peers::peer;
use crate::sandbox::{Sandbox, built, said, wait_until};
use agent_ops::base::process::{self, Process, Signal};
use std::fs;
use std::process::{Command, Stdio};

/// Those below a process, however deep.
fn below(pid: u32) -> Vec<Process> {
    let all = process::all().unwrap();
    let mut line = vec![pid];
    let mut found: Vec<Process> = Vec::new();
    while let Some(parent) = line.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            line.push(child.identity.pid);
            found.push(child.clone());
        }
    }
    found
}

#[test]
fn as_pid_one_it_waits_for_orphans_takes_orders_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    // A daemon's way to detach: the orphan of an orphan, in a session of its own, which ends at once.
    sandbox.write(
        "bot.sh",
        "trap 'echo bye > bye; exit 0' TERM\n\
         for n in 1 2 3; do (setsid sh -c '(echo orphan >> orphans) &' &); done\n\
         setsid sleep 1013 & echo ready > ready\nwhile :; do sleep 0.05; done\n",
    );
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\npreset = \"none\"\n[service.bot]\ncommand = [\"sh\", \"bot.sh\"]\nstop_grace = \"5s\"\n\
         [alerts.desktop]\nenabled = false\n",
    );
    let mut command = Command::new(peer("unshare", "util-linux"));
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(built("ops"));
    command.arg("run").arg("--home").arg(&sandbox.home);
    command.env("TZ", "UTC").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let container = command.spawn().unwrap();
    let first = || below(container.id()).into_iter().find(|process| process.parent == container.id());
    wait_until("the service is ready", || sandbox.path("ready").exists());
    wait_until("the orphans ended", || {
        fs::read_to_string(sandbox.path("orphans")).unwrap_or_default().lines().count() == 3
    });
    let init = first().unwrap();
    wait_until("no zombie is left", || below(init.identity.pid).iter().all(Process::alive));

    // As `docker exec` does.
    let inside = |words: &[&str]| {
        let mut command = Command::new(peer("nsenter", "util-linux"));
        command.args(["--target", &init.identity.pid.to_string(), "--pid", "--mount"]).arg(built("ops"));
        said(command.args(words).arg("--home").arg(&sandbox.home).env("TZ", "UTC").output().unwrap())
    };
    let stopped = inside(&["stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(sandbox.read("bye"), "bye\n");
    assert_eq!(below(init.identity.pid).len(), 0, "and what left its session");
    fs::remove_file(sandbox.path("ready")).unwrap();
    let started = inside(&["start"]);
    assert_eq!(started.code, 0, "{started:?}");
    wait_until("it is ready again", || sandbox.path("ready").exists());
    assert!(below(init.identity.pid).iter().any(|process| process.parent == init.identity.pid));

    // As `docker stop` does.
    assert!(init.identity.signal(Signal::TERM).unwrap());
    let ended = said(container.wait_with_output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("everything is stopped"), "{ended:?}");
    assert!(init.identity.find().unwrap().is_none());
}
