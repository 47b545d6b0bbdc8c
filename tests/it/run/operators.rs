//! Operators, recovery, restores and upgrades that meet a supervisor.

use super::*;

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
    let text = sandbox.read("ops.toml");
    sandbox.write("ops.toml", text.replace("[\"sh\", \"bot.sh\"]", "[\"not-there\", \"bot.sh\"]"));
    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(
        said.stderr.contains("bot was not started: cannot")
            && said.stderr.contains("not-there")
            && said.stderr.contains("hint:"),
        "{}",
        said.stderr
    );
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
