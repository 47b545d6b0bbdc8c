//! Start, stop, restart: by proof of identity, against the built-in agent.

use crate::sandbox::{Sandbox, wait_until};
use agent_ops::base::process::{Process, Signal};
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};

/// A sandbox with the built-in agent, its command extended by some words.
pub fn with_agent(words: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let words: String = words.iter().map(|word| format!(", \"{word}\"")).collect();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"builtin\"\n[service.daemon]\nstop_grace = \"2s\"\n\
             command = [\"{{ops}}\", \"agent\", \"--config\", \"{{config}}\", \"--home\", \"{{home}}\"{words}]\n\
             [alerts.desktop]\nenabled = false\n"
        ),
    );
    sandbox
}

/// The pid that the service's status file states.
pub fn agent_pid(sandbox: &Sandbox) -> u32 {
    let status: Value = serde_json::from_str(&sandbox.read("logs/daemon_status.json")).unwrap();
    status["pid"].as_u64().unwrap() as u32
}

pub fn alive(pid: u32) -> bool {
    Process::find(pid).unwrap().is_some_and(|process| process.alive())
}

/// Ends a process as a crash would.
pub fn kill(pid: u32) {
    let process = Process::find(pid).unwrap().unwrap();
    assert!(process.identity.signal(Signal::KILL).unwrap());
    wait_until("it is dead", || !alive(pid));
}

/// A process of somebody else, ended and reaped with the test.
pub struct Bystander(pub Child);

impl Bystander {
    pub fn new(program: &str, args: &[&str]) -> Bystander {
        let mut command = Command::new(program);
        // Its standard input stays open: a shell that reads it waits without a child.
        Bystander(command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn start_stop_restart_and_again() {
    let sandbox = with_agent(&[]);
    assert_eq!(sandbox.json(0, "ops", &["start"])["services"][0]["outcome"], "started");
    let first = agent_pid(&sandbox);
    let again = sandbox.json(0, "ops", &["start"]);
    assert_eq!(again["services"][0]["outcome"], "already running");
    assert_eq!(again["services"][0]["pid"], first);

    let process = Process::find(first).unwrap().unwrap();
    assert_eq!(process.session, first, "it has a session of its own");

    sandbox.expect(0, "ops", &["restart"]);
    let second = agent_pid(&sandbox);
    assert_ne!(first, second);
    assert!(!alive(first) && alive(second));

    sandbox.expect(0, "ops", &["stop"]);
    assert!(!alive(second));
    assert!(!sandbox.path("logs/daemon.pid").exists());
    assert!(!sandbox.path("memory/agent.db-wal").exists(), "a clean stop folds the WAL");
    assert_eq!(sandbox.json(0, "ops", &["stop"])["services"][0]["outcome"], "not running");
    let log = sandbox.read("logs/restart.log");
    assert!(log.contains("[INFO] Started - daemon as pid"), "{log}");
}

#[test]
fn a_pid_file_that_names_a_stranger_is_no_licence_to_kill() {
    let stranger = Bystander::new("sleep", &["600"]);
    let pid = stranger.0.id();
    let sandbox = with_agent(&[]);
    sandbox.write("logs/daemon.pid", format!("{pid}\n"));

    let report = sandbox.json(2, "health-check", &[]);
    let process = finding(&report, "process");
    assert_eq!(process["state"], "critical");
    assert!(process["summary"].as_str().unwrap().contains("sleep 600"), "{process}");

    sandbox.expect(0, "ops", &["stop"]);
    assert!(alive(pid));
    sandbox.write("logs/daemon.pid", format!("{pid}\n"));
    sandbox.expect(0, "ops", &["restart", "--force"]);
    assert!(alive(pid));
    assert_ne!(agent_pid(&sandbox), pid);

    // While the agent lives: still critical, for whoever trusts the file.
    let ours = agent_pid(&sandbox);
    sandbox.write("logs/daemon.pid", format!("{pid}\n"));
    let report = sandbox.json(2, "health-check", &[]);
    assert!(finding(&report, "process")["summary"].as_str().unwrap().contains(&pid.to_string()));
    sandbox.expect(0, "ops", &["stop"]);
    assert!(alive(pid) && !alive(ours));

    sandbox.write("logs/daemon.pid", format!("{pid}\n"));
    sandbox.expect(0, "ops", &["start"]);
    assert!(alive(pid) && alive(agent_pid(&sandbox)));
}

#[test]
fn look_alikes_are_not_the_agent() {
    let sandbox = with_agent(&[]);
    let home = sandbox.home.display().to_string();
    // The words of the command line, in a process that is something else.
    let words = format!("read line; : ops agent --home {home}");
    let look_alike = Bystander::new("sh", &["-c", &words]);
    sandbox.write("logs/daemon.pid", look_alike.0.id().to_string());
    sandbox.expect(0, "ops", &["stop", "--force"]);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["stop", "--force"]);
    assert!(alive(look_alike.0.id()));
}

#[test]
fn a_pipe_or_a_huge_file_in_place_of_a_pid_file_holds_nobody_up() {
    let sandbox = with_agent(&[]);
    let path = sandbox.write("logs/daemon.pid", "");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(sandbox.json(0, "ops", &["stop"])["services"][0]["outcome"], "not running");
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["stop"]);
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    sandbox.expect(0, "ops", &["start"]);
}

#[test]
fn a_zombie_is_reported_dead() {
    let sandbox = with_agent(&[]);
    // Our own child that is never waited for: what a container without an init makes of a dead
    // agent.
    let mut child =
        sandbox.program("ops").args(["agent", "--crash-after", "0.2"]).stderr(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    wait_until("the agent is a zombie", || Process::find(pid).unwrap().is_some_and(|process| process.zombie));
    assert_eq!(sandbox.read("logs/daemon.pid").trim(), pid.to_string());
    let report = sandbox.json(2, "health-check", &[]);
    let process = finding(&report, "process");
    assert_eq!(process["state"], "critical");
    assert!(process["summary"].as_str().unwrap().contains("zombie"), "{process}");
    assert_eq!(sandbox.json(0, "ops", &["stop"])["services"][0]["outcome"], "not running");
    sandbox.expect(0, "ops", &["start"]);
    child.wait().unwrap();
}

#[test]
fn an_agent_with_a_zombie_child_is_alive() {
    let sandbox = with_agent(&["--leave-zombie"]);
    sandbox.expect(0, "ops", &["start"]);
    let report = sandbox.json(1, "health-check", &[]);
    assert_eq!(finding(&report, "process")["state"], "ok");
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn term_is_ignored_until_forced() {
    let sandbox = with_agent(&["--ignore-term"]);
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    let said = sandbox.expect(2, "ops", &["stop"]);
    assert!(said.stderr.contains("still runs") && said.stderr.contains("--force"), "{}", said.stderr);
    assert!(alive(pid));
    sandbox.expect(0, "ops", &["stop", "--force"]);
    assert!(!alive(pid));
    assert!(!sandbox.path("logs/daemon.pid").exists(), "what it left behind is removed");
}

#[test]
fn whoever_waits_is_told_for_what() {
    let sandbox = Sandbox::new();
    let config = |ready: &str| {
        format!(
            "[service.bot]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 0.1; done\"]\nstop_grace = \"3500ms\"\n{ready}"
        )
    };
    sandbox.write("ops.toml", config("ready = \"tcp:127.0.0.1:1\"\nready_timeout = \"3500ms\"\n"));
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains("bot was started; waiting up to 3s"), "{said:?}");
    sandbox.write("ops.toml", config(""));
    let pid = sandbox.json(0, "ops", &["start"])["services"][0]["pid"].to_string();
    let said = sandbox.expect(2, "ops", &["stop"]);
    assert!(said.stderr.contains(&format!("bot (pid {pid}) was told to stop; waiting up to 3s")), "{said:?}");
    let said = sandbox.expect(2, "ops", &["stop", "--quiet"]);
    assert!(!said.stderr.contains("waiting"), "{said:?}");
    sandbox.expect(0, "ops", &["stop", "--force", "--quiet"]);
}

#[test]
fn children_do_not_outlive_a_stop() {
    let sandbox = with_agent(&["--leave-child"]);
    sandbox.expect(0, "ops", &["start"]);
    let session = agent_pid(&sandbox);
    let children = || {
        let all = agent_ops::base::process::all().unwrap();
        all.into_iter().filter(|p| p.alive() && p.session == session && p.identity.pid != session).count()
    };
    assert_eq!(children(), 1);
    kill(session);
    assert_eq!(children(), 1, "a crash leaves it");
    sandbox.expect(0, "ops", &["stop"]);
    assert_eq!(children(), 0);
    assert!(!sandbox.path("logs/daemon.pid").exists(), "the stale pid file is gone");
}

#[test]
fn what_may_be_the_service_is_neither_signalled_nor_doubled() {
    let sandbox = Sandbox::new();
    sandbox.write("agent.py", "");
    sandbox.write(
        "ops.toml",
        "[service.bot]\ncommand = [\"sleep\", \"./agent.py\", \"--fast\"]\npid_file = \"bot.pid\"\n",
    );
    // The same script under another interpreter: started by hand, perhaps.
    let other = Bystander::new("sh", &["-c", "read line", "./agent.py", "--fast"]);
    sandbox.write("bot.pid", other.0.id().to_string());
    let said = sandbox.expect(3, "ops", &["start"]);
    assert!(said.stderr.contains("may run already"), "{}", said.stderr);
    assert_eq!(sandbox.read("bot.pid"), other.0.id().to_string(), "nothing was changed");
    sandbox.expect(0, "ops", &["stop", "--force"]);
    assert!(alive(other.0.id()));
}

#[test]
fn what_could_not_be_started_again_is_not_stopped() {
    let sandbox = Sandbox::new();
    sandbox.write("bot.sh", "while :; do sleep 1; done\n");
    let config = "[service.bot]\ncommand = [\"sh\", \"bot.sh\"]\npid_file = \"bot.pid\"\nready = \"alive\"\n";
    sandbox.write("ops.toml", format!("{config}[check.bot]\nkind = \"process\"\nservice = \"bot\"\n"));
    sandbox.expect(0, "ops", &["start"]);
    let pid: u32 = sandbox.read("bot.pid").trim().parse().unwrap();
    let mut once = Command::new("sh");
    once.args(["bot.sh", "--once"]).current_dir(&sandbox.home).stdin(Stdio::null());
    let once = Bystander(once.spawn().unwrap());
    for words in [&["restart"][..], &["upgrade", "--yes", "--", "true"]] {
        let said = sandbox.expect(3, "ops", words);
        assert!(said.stderr.contains(&format!("may run already: process {}", once.0.id())), "{said:?}");
        assert!(alive(pid), "{words:?}");
    }
    drop(once);
    sandbox.expect(0, "ops", &["restart"]);
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn what_its_starter_ignores_the_service_heeds() {
    let sandbox = Sandbox::new();
    sandbox
        .write("bot.sh", "trap 'echo told > told' HUP\necho ready > ready\nwhile :; do sleep 0.05; done\n");
    sandbox.write(
        "ops.toml",
        "[service.bot]\ncommand = [\"sh\", \"bot.sh\"]\npid_file = \"bot.pid\"\nready = \"alive\"\n",
    );
    let mut start = Command::new("sh");
    start.args(["-c", "trap '' HUP INT; exec \"$0\" start"]).arg(crate::sandbox::built("ops"));
    let bare = sandbox.program("ops");
    start.env_clear().envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(start.status().unwrap().code(), Some(0));
    wait_until("it is ready", || sandbox.path("ready").exists());
    let pid: u32 = sandbox.read("bot.pid").trim().parse().unwrap();
    let process = Process::find(pid).unwrap().unwrap();
    assert!(process.identity.signal(Signal::HUP).unwrap());
    wait_until("it was told", || sandbox.path("told").exists());
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn the_memory_has_one_agent_whatever_became_of_the_pid_file() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    fs::remove_file(sandbox.path("logs/daemon.pid")).unwrap();
    fs::remove_dir_all(sandbox.path(".ops/service")).unwrap();
    let said = sandbox.expect(3, "ops", &["start"]);
    assert!(said.stderr.contains(&format!("may run already: process {pid}")), "{}", said.stderr);
    let said = sandbox.expect(3, "ops", &["agent"]);
    assert!(said.stderr.contains("already runs"), "{}", said.stderr);
    assert!(alive(pid));
    // As the hint says.
    sandbox.expect(0, "ops", &["stop"]);
    assert!(!alive(pid));
    sandbox.expect(0, "ops", &["start"]);
}

#[test]
fn a_start_that_fails_shows_the_last_words() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[service.bot]\ncommand = [\"sh\", \"-c\", \"echo starting; echo 'no module named agno' >&2; exit 3\"]\n",
    );
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(
        said.stderr.contains("ended at once") && said.stderr.contains("no module named agno"),
        "{}",
        said.stderr
    );

    sandbox.write("ops.toml", "[service.bot]\ncommand = [\"./not-there\"]\n");
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains("cannot run ./not-there"), "{}", said.stderr);
    assert!(said.stderr.contains("hint: is it installed? See [service.bot] command"), "{}", said.stderr);
    sandbox.write("ops.toml", "[service.new]\ncommand = [\"sleep\", \"9\"]\ncwd = \"not/there\"\n");
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains("not/there is not there") && said.stderr.contains("set cwd in"), "{said:?}");
    let status = sandbox.run("ops", &["status"]).stdout;
    assert!(status.contains("it could not be started") && !status.contains("never started"), "{status}");

    sandbox.write("ops.toml", "[service.bot]\ncommand = [\"sleep\", \"60\"]\nready = \"tcp:127.0.0.1:1\"\nready_timeout = \"300ms\"\n");
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains("not ready after"), "{}", said.stderr);
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn a_service_that_cannot_be_noted_is_not_left_running() {
    let sandbox = Sandbox::new();
    let seconds = format!("{}", 100_000 + std::process::id());
    sandbox.write("ops.toml", format!("[service.bot]\ncommand = [\"sleep\", \"{seconds}\"]\n"));
    // Where the record should go is a file.
    sandbox.write(".ops/service", "");
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains("was not started"), "{}", said.stderr);
    let all = agent_ops::base::process::all().unwrap();
    let left = all
        .iter()
        .filter(|process| process.alive() && process.arguments().iter().any(|word| *word == *seconds));
    assert_eq!(left.count(), 0);
}

#[test]
fn several_services_each_by_name() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[service.one]\ncommand = [\"sleep\", \"601\"]\npid_file = \"one.pid\"\n\
         [service.two]\ncommand = [\"sleep\", \"602\"]\n[service.two.env]\nX = \"y\"\n",
    );
    let started = sandbox.json(0, "ops", &["start"]);
    assert_eq!(started["services"].as_array().unwrap().len(), 2);
    let one = started["services"][0]["pid"].as_u64().unwrap() as u32;
    let two = started["services"][1]["pid"].as_u64().unwrap() as u32;
    assert_eq!(sandbox.read("one.pid").trim(), one.to_string(), "owner = ops: we write the pid file");
    sandbox.expect(0, "ops", &["stop", "two"]);
    assert!(alive(one) && !alive(two));
    sandbox.expect(0, "ops", &["stop"]);
    assert!(!alive(one) && !sandbox.path("one.pid").exists());
    let said = sandbox.expect(3, "ops", &["stop", "oen"]);
    assert!(said.stderr.contains("did you mean 'one'?"), "{}", said.stderr);
}

#[test]
fn one_service_that_fails_does_not_keep_the_others() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[service.a]\ncommand = [\"sleep\", \"6031\"]\n[service.b]\ncommand = [\"./not-there\"]\n\
         [service.c]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo > c; while :; do sleep 0.1; done\"]\nstop_grace = \"200ms\"\n\
         [service.d]\ncommand = [\"sleep\", \"6032\"]\n",
    );
    let said = sandbox.expect(2, "ops", &["start"]);
    let started = |name: &str| said.stdout.contains(&format!("{name}: started (pid "));
    assert!(started("a") && started("c") && started("d") && said.stdout.contains("b: failed"), "{said:?}");
    assert!(said.stderr.contains("./not-there"), "{said:?}");
    let document = sandbox.json(2, "ops", &["start"]);
    assert_eq!(document["services"][3]["outcome"], "already running");
    assert!(document["services"][1]["error"].as_str().unwrap().contains("./not-there"), "{document}");
    assert_eq!(document["state"], "critical");
    let said = sandbox.expect(2, "ops", &["up"]);
    assert!(said.stderr.contains("d: runs already") && said.stderr.contains("./not-there"), "{said:?}");
    let document = sandbox.json(2, "ops", &["stop"]);
    let outcomes: Vec<_> =
        document["services"].as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["stopped", "not running", "failed", "stopped"]);
    assert!(document["services"][2]["hint"].as_str().unwrap().contains("--force"), "{document}");
    sandbox.expect(0, "ops", &["stop", "--force"]);
    // Alone it is the error of the run.
    assert!(sandbox.json(2, "ops", &["start", "b"])["error"].is_string());
}

#[test]
fn two_restarts_at_once_start_one_agent() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let restarts: Vec<_> = (0..2)
        .map(|_| {
            sandbox.program("ops").arg("restart").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut restart in restarts {
        assert_eq!(restart.wait().unwrap().code(), Some(0));
    }
    let pid = agent_pid(&sandbox);
    assert!(alive(pid));
    let home = sandbox.home.display().to_string();
    let agents = agent_ops::base::process::all().unwrap().into_iter().filter(|process| {
        let words = process.arguments();
        process.alive() && words.iter().any(|word| word == "agent") && words.iter().any(|word| *word == *home)
    });
    assert_eq!(agents.count(), 1);
}

#[test]
fn a_second_agent_in_one_home_is_refused() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    // Whatever the pid file says: the lock tells.
    sandbox.write("logs/daemon.pid", "1\n");
    let said = sandbox.expect(3, "ops", &["agent"]);
    assert!(said.stderr.contains("already runs"), "{}", said.stderr);
    assert!(alive(pid));
}

#[test]
fn the_agent_reloads_its_interval_on_hangup() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let interval = || {
        let status: Value = serde_json::from_str(&sandbox.read("logs/daemon_status.json")).unwrap();
        status["heartbeat_interval"].as_f64().unwrap()
    };
    assert_eq!(interval(), 60.0);
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", format!("{config}[builtin_agent]\nheartbeat = \"7s\"\n"));
    let process = Process::find(agent_pid(&sandbox)).unwrap().unwrap();
    process.identity.signal(Signal::HUP).unwrap();
    wait_until("the interval is the new one", || interval() == 7.0);
    // A broken config keeps the old settings and the agent.
    sandbox.write("ops.toml", "[agnet]\n");
    process.identity.signal(Signal::HUP).unwrap();
    let log = || {
        fs::read_dir(sandbox.path("logs"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("daemon_2"))
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect::<String>()
    };
    wait_until("it says so", || log().contains("kept the old settings"));
    assert!(alive(agent_pid(&sandbox)));
}

#[test]
fn an_operator_s_stop_is_remembered() {
    // An operator's stop is remembered across runs, a start forgets it.
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["stop"]);
    let record = || -> Value { serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap() };
    assert!(record()["stopped_by_operator"].is_string());
    let report = sandbox.json(2, "health-check", &[]);
    assert!(finding(&report, "process")["summary"].as_str().unwrap().contains("stopped by its operator"));
    sandbox.expect(0, "ops", &["start"]);
    assert!(record()["stopped_by_operator"].is_null());
}

/// One finding of a report.
pub fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {report}"))
}

#[test]
fn a_copy_of_a_home_has_no_hand_on_the_agent_of_the_first() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    let pid = agent_pid(&sandbox);
    let copy = sandbox.outside("copy").join("home");
    let copied = Command::new("cp").arg("-a").arg(&sandbox.home).arg(&copy).status().unwrap();
    assert!(copied.success());
    let home = copy.to_str().unwrap();
    let said = sandbox.json(0, "ops", &["stop", "--force", "--home", home]);
    assert_eq!(said["services"][0]["outcome"], "not running");
    assert!(alive(pid), "it was the other's");
    let said = sandbox.json(0, "ops", &["start", "--home", home]);
    assert_eq!(said["services"][0]["outcome"], "started", "it has an agent of its own");
    assert!(alive(pid));
    sandbox.expect(0, "ops", &["stop", "--home", home]);
    assert!(alive(pid));
    assert_eq!(sandbox.json(0, "ops", &["stop"])["services"][0]["outcome"], "stopped");
    assert!(!alive(pid));
}

/// The agent hangs in a call when it is told to stop: it may still obey at any time, and everybody is to know.
#[test]
fn a_stop_that_took_too_long_is_known_until_it_is_over() {
    let sandbox = Sandbox::new();
    // Takes TERM note of only when `go` is there.
    sandbox.write(
        "run.sh",
        "trap '' TERM\necho up >up\nwhile [ ! -e go ]; do sleep 0.05; done\ntrap - TERM\nkill -TERM $$\n",
    );
    sandbox.write("memory/state.json", "{}\n");
    sandbox.write(
        "ops.toml",
        "[alerts.desktop]\nenabled = false\n[backup]\ninclude = [\"memory/**\"]\n[service.bot]\ncommand = [\"sh\", \"run.sh\"]\nready = \"alive\"\n\
         stop_grace = \"200ms\"\n[check.bot]\nkind = \"process\"\nservice = \"bot\"\n[upgrade]\nsettle = \"0s\"\n",
    );
    let start = || {
        sandbox.expect(0, "ops", &["start"]);
        wait_until("its trap is set", || sandbox.path("up").exists());
    };
    let known = || {
        let health = sandbox.expect(1, "health-check", &[]);
        assert!(health.stdout.contains("was told to stop"), "{health:?}");
        let status = sandbox.run("ops", &["status"]);
        assert!(status.stdout.contains("stopping"), "{status:?}");
        let causes = sandbox.json(1, "ops", &["troubleshoot"]);
        assert!(causes["causes"].to_string().contains("stop_pending"), "{causes}");
    };
    let obeys = || {
        let pid = agent_ops_pid(&sandbox);
        sandbox.write("go", "");
        wait_until("it obeyed", || !Process::find(pid).unwrap().is_some_and(|process| process.alive()));
        for file in ["go", "up"] {
            std::fs::remove_file(sandbox.path(file)).unwrap();
        }
        let health = sandbox.run("health-check", &[]);
        assert!(!health.stdout.contains("was told to stop"), "{health:?}");
    };
    start();
    sandbox.expect(0, "backup", &[]);
    for words in [&["upgrade", "--yes", "--", "true"][..], &["restore", "latest", "--yes"], &["restart"]] {
        let said = sandbox.expect(2, "ops", words);
        assert!(
            !said.stderr.contains("put back as it was") && !said.stdout.contains("put back as it was"),
            "{said:?}"
        );
        if words[0] != "restart" {
            let all = format!("{}{}", said.stdout, said.stderr);
            assert!(all.contains("was told to stop") && all.contains("has not ended yet"), "{all}");
        }
        known();
        obeys();
        // It did not crash: recovery starts it again. Not three times in a row without a pause.
        if words[0] == "upgrade" {
            let alert = sandbox.run("alert", &[]);
            assert!(alert.stdout.contains("bot"), "{alert:?}");
        } else {
            sandbox.expect(0, "ops", &["start"]);
        }
        wait_until("it runs again", || sandbox.path("up").exists());
    }
    // With --force the stop is over at once.
    sandbox.expect(2, "ops", &["stop"]);
    known();
    sandbox.expect(0, "ops", &["stop", "--force"]);
    let status = sandbox.run("ops", &["status"]);
    assert!(!status.stdout.contains("stopping"), "{status:?}");
}

fn agent_ops_pid(sandbox: &Sandbox) -> u32 {
    let record: serde_json::Value = serde_json::from_str(&sandbox.read(".ops/service/bot.json")).unwrap();
    record["identity"]["pid"].as_u64().unwrap() as u32
}
