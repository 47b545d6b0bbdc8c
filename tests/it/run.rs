//! `ops run`: crashes and pauses, signals, orphans, and operators who come from elsewhere.

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
struct Supervisor<'a> {
    sandbox: &'a Sandbox,
    child: Option<Child>,
}

impl<'a> Supervisor<'a> {
    fn begin(sandbox: &'a Sandbox, words: &[&str]) -> Supervisor<'a> {
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
    fn stop(self) -> Said {
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

fn identity(sandbox: &Sandbox, name: &str) -> Option<Identity> {
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
fn operators_reach_it_from_elsewhere() {
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let first = supervisor.runs("bot", None);
    let parent = |identity: &Identity| Process::find(identity.pid).unwrap().unwrap().parent;
    assert_eq!(sandbox.json(0, "ops", &["start"])["services"][0]["outcome"], "already running");

    let restarted = sandbox.json(0, "ops", &["restart", "bot"]);
    let second = supervisor.runs("bot", Some(&first));
    assert_eq!(restarted["services"][0]["pid"], second.pid);
    assert_eq!(parent(&second), supervisor.pid(), "it was handed to the supervisor");

    sandbox.expect(0, "ops", &["stop", "bot"]);
    assert!(second.find().unwrap().is_none());
    wait_until("it is told", || log(&sandbox).contains("bot, by its operator"));
    // Longer than the first pause.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(identity(&sandbox, "bot"), Some(second.clone()), "it was not started again");
    let run = sandbox.run("alert", &[]);
    assert!(!run.stdout.contains("restarted"), "{}", run.stdout);

    let started = sandbox.json(0, "ops", &["start"]);
    let third = supervisor.runs("bot", Some(&second));
    assert_eq!(started["services"][0]["pid"], third.pid);
    assert_eq!(started["services"][0]["outcome"], "started");
    assert_eq!(parent(&third), supervisor.pid());
    assert!(!log(&sandbox).contains("Crashed"), "{}", log(&sandbox));

    // What cannot be started is told to whoever asked.
    sandbox.expect(0, "ops", &["stop", "bot"]);
    let text = sandbox
        .read("ops.toml")
        .replace("[service.bot]", "[service.bot]\nenv_remove = []\ncwd = \"not-there\"");
    sandbox.write("ops.toml", &text);
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(
        said.stderr.contains("bot was not started: cannot")
            && said.stderr.contains("not-there")
            && said.stderr.contains("hint:"),
        "{}",
        said.stderr
    );
    let text = text.replace("cwd = \"not-there\"", "");
    sandbox.write("ops.toml", text);
    sandbox.expect(0, "ops", &["start"]);
    let fourth = supervisor.runs("bot", Some(&third));
    supervisor.stop();
    assert!(fourth.find().unwrap().is_none());
}

#[test]
fn what_its_operator_stopped_stays_so_unless_it_is_named() {
    let sleeper = "while :; do sleep 0.05; done";
    let sandbox = with_scripts(&[("bot", sleeper), ("web", sleeper)], "");
    sandbox.expect(0, "ops", &["stop", "bot"]);
    let supervisor = Supervisor::begin(&sandbox, &[]);
    supervisor.runs("web", None);
    wait_until("it is told", || log(&sandbox).contains("bot, by its operator"));
    assert!(identity(&sandbox, "bot").is_none());
    supervisor.stop();
    let supervisor = Supervisor::begin(&sandbox, &["bot"]);
    supervisor.runs("bot", None);
    supervisor.stop();
}

#[test]
fn recovery_leaves_it_to_its_supervisor() {
    let script = "echo run >> runs; [ $(wc -l < runs) = 2 ] && exit 3; while :; do sleep 0.05; done";
    let sandbox = with_scripts(&[("bot", script)], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let first = supervisor.runs("bot", None);
    ran(&sandbox, 1);
    kill(first.pid);
    wait_until("the second crash", || log(&sandbox).contains("started again in 2s"));
    let run = sandbox.run("alert", &[]);
    assert!(!run.stdout.contains("restarted as pid"), "{}{}", run.stdout, run.stderr);
    ran(&sandbox, 3);
    let third = supervisor.runs("bot", Some(&first));
    assert_eq!(Process::find(third.pid).unwrap().unwrap().parent, supervisor.pid());
    supervisor.stop();
}

#[test]
fn a_restore_stops_and_starts_it_through_its_supervisor() {
    let script = "echo run >> runs; while :; do sleep 0.05; done";
    let sandbox = with_scripts(&[("bot", script)], "[backup]\ninclude = [\"memory/**\"]\n");
    sandbox.write("memory/a", "saved");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let first = supervisor.runs("bot", None);
    ran(&sandbox, 1);
    sandbox.expect(0, "backup", &[]);
    sandbox.write("memory/a", "changed");
    sandbox.expect(0, "restore", &["--yes"]);
    let second = supervisor.runs("bot", Some(&first));
    assert_eq!(Process::find(second.pid).unwrap().unwrap().parent, supervisor.pid());
    assert_eq!(sandbox.read("memory/a"), "saved");
    ran(&sandbox, 2);
    assert_eq!(sandbox.read("runs"), "run\nrun\n", "nobody started it behind the restore's back");
    assert!(!log(&sandbox).contains("Crashed"), "{}", log(&sandbox));
    supervisor.stop();
}

#[test]
fn an_upgrade_goes_through_its_supervisor_and_so_does_the_way_back() {
    let script = "echo run >> runs; while :; do sleep 0.05; done";
    let sandbox =
        with_scripts(&[("bot", script)], "[backup]\ninclude = [\"memory/**\"]\n[upgrade]\nsettle = \"1s\"\n");
    sandbox.write("memory/a", "old");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let first = supervisor.runs("bot", None);
    ran(&sandbox, 1);
    let supervised =
        |identity: &Identity| Process::find(identity.pid).unwrap().unwrap().parent == supervisor.pid();
    // Longer than the supervisor waits before it looks again.
    let upgrade = |script: &str| ["upgrade", "--yes", "--", "sh", "-c", script].map(str::to_owned);
    let run = |code, script: &str| {
        let words = upgrade(script);
        sandbox.expect(code, "ops", &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(0, "sleep 3; echo new > memory/a");
    let second = supervisor.runs("bot", Some(&first));
    assert!(supervised(&second));
    ran(&sandbox, 2);
    assert_eq!(sandbox.read("runs"), "run\nrun\n", "nobody started it behind the upgrade's back");
    run(2, "echo bad > memory/a; exit 1");
    let third = supervisor.runs("bot", Some(&second));
    assert!(supervised(&third));
    assert_eq!(sandbox.read("memory/a"), "new\n");
    ran(&sandbox, 3);
    assert_eq!(sandbox.read("runs"), "run\nrun\nrun\n");
    let said = supervisor.stop();
    assert!(!said.stderr.contains("Crashed"), "{}", said.stderr);
}

#[test]
fn a_second_supervisor_is_refused_and_so_is_what_runs_by_itself() {
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], "");
    let supervisor = Supervisor::begin(&sandbox, &[]);
    let bot = supervisor.runs("bot", None);
    let said = Supervisor::begin(&sandbox, &["bot"]).ends(3);
    assert!(
        said.stderr.contains("is supervised already") && said.stderr.contains("hint:"),
        "{}",
        said.stderr
    );
    assert!(bot.find().unwrap().is_some());
    supervisor.stop();

    sandbox.expect(0, "ops", &["start"]);
    let said = Supervisor::begin(&sandbox, &[]).ends(3);
    assert!(
        said.stderr.contains("started by something else") && said.stderr.contains("ops stop bot"),
        "{}",
        said.stderr
    );
    sandbox.expect(3, "ops", &["run", "nobody"]);
    sandbox.expect(0, "ops", &["stop"]);
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
fn the_schedule_runs_what_is_due_once_at_a_time() {
    let schedule = "[schedule]\nbackup = \"30 9 * * *\"\nalert = \"\"\nrotate_logs = \"@reboot\"\ndrill = \"\"\n\
                    dashboard = \"31 9 * * *\"\n[backup]\ninclude = [\"memory/**\"]\n";
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], schedule);
    sandbox.write("memory/a", "saved");
    let supervisor = Supervisor::begin_at(&sandbox, &["--schedule"], Some("2026-11-21T09:29:58.500Z"));
    wait_until("the backup is made", || sandbox.path("backups/latest").exists());
    wait_until("the logs were rotated", || sandbox.path("logs/rotation.log").exists());
    assert!(!sandbox.path("logs/dashboard.html").exists(), "it is not due");
    supervisor.stop();

    // A time that cron would not understand.
    let text = sandbox.read("ops.toml").replace("30 9 * * *", "30 25 * * *");
    sandbox.write("ops.toml", text);
    let said = Supervisor::begin(&sandbox, &["--schedule"]).ends(3);
    assert!(said.stderr.contains("schedule.backup"), "{}", said.stderr);
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

#[test]
fn people_are_told_that_it_gave_up_although_the_schedule_ends_with_it() {
    let quiet = "[schedule]\nbackup = \"\"\nalert = \"0 0 1 1 *\"\nrotate_logs = \"\"\ndrill = \"\"\ndashboard = \"\"\n\
                 report = \"\"\n[alerts.command]\nrun = [\"true\"]\n[alerts]\nmax_restarts_per_hour = 1\n\
                 [check.process]\nkind = \"process\"\nservice = \"bot\"\n";
    let sandbox = with_scripts(&[("bot", "echo run >> runs; exit 7")], quiet);
    let text = sandbox.read("ops.toml").replace("[alerts.desktop]\nenabled = false\n", "");
    sandbox.write("ops.toml", text);
    Supervisor::begin(&sandbox, &["--schedule"]).ends(2);
    let told = fs::read_to_string(sandbox.path("logs/alerts.log")).unwrap_or_default();
    assert!(told.contains("[CRITICAL]"), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn jobs_that_cron_has_as_well_are_told_of() {
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], "");
    crate::managers::crontab_stand_in(&sandbox);
    sandbox.expect(0, "ops", &["cron-install"]);
    let supervisor = Supervisor::begin(&sandbox, &["--schedule"]);
    supervisor.runs("bot", None);
    assert!(supervisor.stop().stderr.contains("ops cron-uninstall"));
    sandbox.expect(0, "ops", &["cron-uninstall"]);
    let supervisor = Supervisor::begin(&sandbox, &["--schedule"]);
    supervisor.runs("bot", None);
    assert!(!supervisor.stop().stderr.contains("cron-uninstall"));
}
