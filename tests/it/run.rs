//! `ops run`: crashes and pauses, signals, orphans, and operators who come from elsewhere.

mod operators;
mod schedule;

use crate::sandbox::{Said, Sandbox, said, wait_until};
use crate::service::{alive, kill};
use agent_ops::base::process::{Identity, Process, Signal};
use serde_json::Value;
use std::fs;
use std::process::{Child, Stdio};

/// A home with services, each a script of the shell.
fn with_scripts(scripts: &[(&str, &str)], more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut config =
        "[agent]\nname = \"bot\"\npreset = \"none\"\n[alerts.desktop]\nenabled = false\n".to_owned();
    for (name, script) in scripts {
        sandbox.write(&format!("{name}.sh"), script);
        config.push_str(&format!(
            "[service.{name}]\ncommand = [\"sh\", \"{name}.sh\"]\nstop_grace = \"2s\"\nready_timeout = \"10s\"\n"
        ));
    }
    sandbox.write("ops.toml", config + more);
    sandbox
}

/// A supervisor, ended with the test.
pub struct Supervisor<'a> {
    sandbox: &'a Sandbox,
    child: Option<Child>,
}

impl<'a> Supervisor<'a> {
    pub fn begin(sandbox: &'a Sandbox, words: &[&str]) -> Supervisor<'a> {
        Supervisor::begin_at(sandbox, words, None)
    }

    fn begin_at(sandbox: &'a Sandbox, words: &[&str], now: Option<&str>) -> Supervisor<'a> {
        let mut command = sandbox.program("ops");
        command.arg("run").args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(now.map(|now| ("OPS_NOW", now)));
        Supervisor { sandbox, child: Some(command.spawn().unwrap()) }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        assert!(Process::find(pid).unwrap().unwrap().identity.signal(signal).unwrap());
    }

    /// Waits for its end.
    #[track_caller]
    fn ends(mut self, code: i32) -> Said {
        let said = said(self.child.take().unwrap().wait_with_output().unwrap());
        assert_eq!(said.code, code, "{}\n{}", said.stdout, said.stderr);
        said
    }

    /// Ends it as a container runtime does.
    #[track_caller]
    pub fn stop(self) -> Said {
        self.signal(Signal::TERM);
        self.ends(0)
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Until a service runs, as another process than `before`.
    #[track_caller]
    fn runs(&self, name: &str, before: Option<&Identity>) -> Identity {
        let mut found = None;
        wait_until(&format!("{name} runs"), || {
            found = identity(self.sandbox, name).filter(|identity| {
                Some(identity) != before && command(identity).is_some_and(|words| words.starts_with("sh "))
            });
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn record(sandbox: &Sandbox, name: &str) -> Value {
    let text = fs::read_to_string(sandbox.path(&format!(".ops/service/{name}.json"))).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

pub fn identity(sandbox: &Sandbox, name: &str) -> Option<Identity> {
    serde_json::from_value(record(sandbox, name)["identity"].clone()).ok()
}

/// The command line of a process that runs.
fn command(identity: &Identity) -> Option<String> {
    let process = identity.find().unwrap()?;
    Some(
        process
            .arguments()
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// Until its script noted so many runs.
#[track_caller]
fn ran(sandbox: &Sandbox, times: usize) {
    wait_until("it ran so often", || {
        fs::read_to_string(sandbox.path("runs")).unwrap_or_default().lines().count() >= times
    });
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("logs/restart.log")).unwrap_or_default()
}

#[test]
fn what_crashes_is_started_again_with_growing_pauses_and_then_given_up() {
    let sandbox = with_scripts(&[("bot", "echo run >> runs; echo last words >&2; exit 7")], "");
    let said = Supervisor::begin(&sandbox, &[]).ends(2);
    assert_eq!(sandbox.read("runs"), "run\n".repeat(4), "more than three crashes are too many");
    for words in [
        "exit status: 7); started again in 1s",
        "again in 2s",
        "again in 4s",
        "it crashed 4 times within an hour",
    ] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
        assert!(log(&sandbox).contains(words), "{words}: {}", log(&sandbox));
    }
    assert_eq!(sandbox.read("logs/bot_stderr.log"), "last words\n".repeat(4));
    // Recovery counts the same crashes, and does not begin again.
    let run = sandbox.run("alert", &[]);
    assert!(!run.stdout.contains("restarted as pid"), "{}", run.stdout);
    assert_eq!(sandbox.read("runs"), "run\n".repeat(4));
    let why = sandbox.expect(0, "alert", &["list"]).stdout;
    assert!(why.contains("Restart Loop"), "{why}");
}

#[test]
fn a_service_that_is_not_to_be_recovered_is_given_up_at_once() {
    let sandbox = with_scripts(&[("bot", "echo run >> runs; exit 7")], "recover = false\n");
    Supervisor::begin(&sandbox, &["--quiet"]).ends(2);
    assert_eq!(sandbox.read("runs"), "run\n");
}

#[test]
fn what_ends_well_is_done_unless_always() {
    let sandbox = with_scripts(&[("bot", "echo run >> runs; exit 0"), ("web", "exit 0")], "");
    let said = Supervisor::begin(&sandbox, &[]).ends(0);
    assert!(said.stderr.contains("everything has ended well"), "{}", said.stderr);
    assert_eq!(sandbox.read("runs"), "run\n");
    let supervisor = Supervisor::begin(&sandbox, &["--always", "bot"]);
    ran(&sandbox, 3);
    let said = supervisor.stop();
    assert!(!said.stderr.contains("web"), "{}", said.stderr);
    assert!(!said.stderr.contains("Crashed"), "{}", said.stderr);
}

#[test]
fn what_ends_well_and_what_then_are_the_config_s_to_say() {
    let sandbox = with_scripts(&[("bot", "echo run >> runs; exit 143")], "");
    Supervisor::begin(&sandbox, &[]).ends(0);
    assert_eq!(sandbox.read("runs"), "run\n", "143 is a good end unless said otherwise");
    let sandbox =
        with_scripts(&[("bot", "echo run >> runs; exit 3")], "success_exit = [3]\nrestart = \"always\"\n");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    ran(&sandbox, 2);
    let said = supervisor.stop();
    assert!(!said.stderr.contains("Crashed") && said.stderr.contains("Ended"), "{}", said.stderr);
}

#[test]
fn a_crash_by_a_signal_is_one_and_the_others_run_on() {
    let sleeper = "while :; do sleep 0.05; done";
    let sandbox = with_scripts(&[("bot", sleeper), ("web", sleeper)], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let (bot, web) = (supervisor.runs("bot", None), supervisor.runs("web", None));
    assert_eq!(Process::find(bot.pid).unwrap().unwrap().parent, supervisor.pid(), "it is its own child");
    assert_eq!(Process::find(bot.pid).unwrap().unwrap().session, bot.pid, "in a session of its own");
    kill(bot.pid);
    let again = supervisor.runs("bot", Some(&bot));
    assert!(web.find().unwrap().is_some());
    let history = sandbox.json(0, "ops", &["dashboard", "json"]);
    assert_eq!(history["services"][0]["condition"], "running", "{history}");
    assert_eq!(history["services"][0]["manager"], "ops run", "{history}");
    let trouble = sandbox.run("ops", &["troubleshoot"]);
    assert!(!trouble.stdout.contains("nothing starts the agent when"), "{}", trouble.stdout);
    let said = supervisor.stop();
    assert!(said.stderr.contains("signal: 9 (SIGKILL)"), "{}", said.stderr);
    assert!(again.find().unwrap().is_none() && web.find().unwrap().is_none());
}

#[test]
fn signals_are_passed_on() {
    let script = "for s in HUP USR1 USR2; do trap \"echo $s >> signals\" $s; done\necho ready > ready\n\
                  while :; do sleep 0.05; done";
    let sandbox = with_scripts(&[("bot", script)], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    wait_until("it is ready", || sandbox.path("ready").exists());
    let before = supervisor.runs("bot", None);
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2")] {
        supervisor.signal(signal);
        let heard = || fs::read_to_string(sandbox.path("signals")).unwrap_or_default();
        wait_until(name, || heard().lines().any(|line| line == name));
    }
    assert!(before.find().unwrap().is_some());
    supervisor.stop();
}

#[test]
fn told_to_end_it_leaves_nothing_however_hard_that_is() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let good = "trap 'echo bye >> bye; exit 0' TERM; echo ready > good; while :; do sleep 0.05; done";
        let deaf =
            "trap '' TERM; sleep 1007 & echo $! > child; echo ready > deaf; while :; do sleep 0.05; done";
        let sandbox = with_scripts(&[("deaf", deaf), ("good", good)], "");
        let supervisor = Supervisor::begin(&sandbox, &[]);
        let (deaf, good) = (supervisor.runs("deaf", None), supervisor.runs("good", None));
        wait_until("both are ready", || sandbox.path("deaf").exists() && sandbox.path("good").exists());
        let child: u32 = sandbox.read("child").trim().parse().unwrap();
        supervisor.signal(signal);
        supervisor.ends(0);
        assert!(deaf.find().unwrap().is_none() && good.find().unwrap().is_none() && !alive(child));
        assert_eq!(sandbox.read("bye"), "bye\n", "it was asked first");
        // No operator's stop: a container that starts again has it run again.
        assert!(record(&sandbox, "good")["stopped_by_operator"].is_null());
    }
}

#[test]
fn a_config_that_broke_meanwhile_does_not_keep_it_from_ending() {
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let bot = supervisor.runs("bot", None);
    sandbox.write("ops.toml", "[agent\n");
    supervisor.stop();
    assert!(bot.find().unwrap().is_none());
}

#[test]
fn what_a_supervisor_that_was_killed_left_is_ended_by_the_next() {
    let sandbox = with_scripts(&[("bot", "sleep 1011 & while :; do sleep 0.05; done")], "");
    let mut supervisor = Supervisor::begin(&sandbox, &[]);
    let first = supervisor.runs("bot", None);
    let mut child = supervisor.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.find().unwrap().is_some(), "it was left behind");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let second = supervisor.runs("bot", Some(&first));
    assert!(first.find().unwrap().is_none(), "it was ended, and is not there twice");
    assert_eq!(Process::find(second.pid).unwrap().unwrap().parent, supervisor.pid());
    supervisor.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn orphans_are_waited_for() {
    // The shell in between ends at once: its child is an orphan, and ends a little later.
    let script = "while [ ! -e enough ]; do (sleep 0.2 & echo $! >> orphans); sleep 0.3; done; sleep 1000";
    let sandbox = with_scripts(&[("bot", script)], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let orphans = || -> Vec<u32> {
        let text = fs::read_to_string(sandbox.path("orphans")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    wait_until("an orphan became its child", || {
        orphans()
            .iter()
            .any(|pid| Process::find(*pid).unwrap().is_some_and(|process| process.parent == supervisor.pid()))
    });
    wait_until("there were some", || orphans().len() > 2);
    sandbox.write("enough", "");
    wait_until("none is left, not even as a zombie", || {
        orphans().iter().all(|pid| Process::find(*pid).unwrap().is_none())
    });
    supervisor.stop();
}

#[test]
fn its_output_goes_to_the_logs_or_through() {
    let script = "echo out of the bot; echo words of woe >&2; echo > said; while :; do sleep 0.05; done";
    let sandbox = with_scripts(&[("bot", script)], "");
    let supervisor = Supervisor::begin(&sandbox, &["--output", "inherit"]);
    wait_until("it has said it", || sandbox.path("said").exists());
    let said = supervisor.stop();
    assert_eq!(said.stdout, "out of the bot\n");
    assert!(said.stderr.contains("words of woe\n"), "{}", said.stderr);
    assert!(!sandbox.path("logs/bot_stdout.log").exists());

    let supervisor = Supervisor::begin(&sandbox, &["--quiet"]);
    wait_until("it is in the log", || {
        fs::read_to_string(sandbox.path("logs/bot_stdout.log")).is_ok_and(|text| text == "out of the bot\n")
    });
    let said = supervisor.stop();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
}

#[test]
fn ops_alone_supervises_as_well() {
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], "");
    let alone = sandbox.outside("alone").join("ops");
    fs::hard_link(crate::sandbox::built("ops"), &alone)
        .or_else(|_| fs::copy(crate::sandbox::built("ops"), &alone).map(drop))
        .unwrap();
    let words = |supervisor: &Supervisor<'_>| {
        let process = Process::find(supervisor.pid()).unwrap().unwrap();
        process.arguments().iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let supervisor = Supervisor::begin(&sandbox, &[]);
    supervisor.runs("bot", None);
    assert!(words(&supervisor)[0].ends_with("/ops-supervise"), "{:?}", words(&supervisor));
    supervisor.stop();

    let command = sandbox.program("ops");
    let mut child = std::process::Command::new(&alone);
    child.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child =
        child.arg("run").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let supervisor = Supervisor { sandbox: &sandbox, child: Some(child) };
    let bot = supervisor.runs("bot", None);
    assert_eq!(words(&supervisor)[1], "__supervise");
    supervisor.stop();
    assert!(bot.find().unwrap().is_none());
}

#[test]
fn its_parts_are_not_to_be_called_by_themselves() {
    let sandbox = with_scripts(&[("bot", "exit 0")], "");
    for words in [&["__supervise"] as &[&str], &["__supervise", "{}"], &["__launch"], &["__end", "x"]] {
        let said = sandbox.run("ops", words);
        assert!(said.code != 0 && said.stderr.contains("not to be called by itself"), "{}", said.stderr);
    }
}

#[test]
fn a_pipe_in_the_place_of_a_log_holds_nobody_up() {
    let sandbox = with_scripts(&[("bot", "echo run >> runs; while :; do sleep 0.05; done")], "");
    fs::create_dir_all(sandbox.path("logs")).unwrap();
    let fifo = |name: &str| {
        let path = sandbox.path("logs").join(name);
        let _ = fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    fifo("restart.log");
    let supervisor = Supervisor::begin(&sandbox, &["--output", "inherit"]);
    let bot = supervisor.runs("bot", None);
    ran(&sandbox, 1);
    kill(bot.pid);
    ran(&sandbox, 2);
    supervisor.stop();
    // Where its own output goes it is not started, and that is said.
    fifo("bot_stdout.log");
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains("cannot open") && said.stderr.contains("bot_stdout.log"), "{}", said.stderr);
}

#[test]
fn what_a_crashed_service_left_ends_with_its_supervisor() {
    let sandbox = with_scripts(&[("bot", "sleep 1021 & echo $! > child; exit 7")], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    wait_until("it crashed thrice", || log(&sandbox).contains("started again in 4s"));
    let child: u32 = sandbox.read("child").trim().parse().unwrap();
    let was_left = alive(child);
    supervisor.stop();
    assert!(was_left && !alive(child));
}
