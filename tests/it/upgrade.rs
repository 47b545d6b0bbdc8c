//! `ops upgrade`: a new program that lives, or everything as it was before.

use crate::sandbox::{Said, Sandbox, said, wait_until};
use crate::service::{Bystander, alive};
use agent_ops::base::durable::Lock;
use agent_ops::base::process::{Identity, Signal};
use agent_ops::base::{Home, Run};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The agent before: it notes in its memory that it runs.
const OLD: &str = "echo old >> memory/notes; exec sleep 1000";

/// An agent whose program is `daemon.sh`, which no backup holds, and whose memory is in every one.
pub fn with_daemon(settings: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("daemon.sh", OLD);
    sandbox.write("old/daemon.sh", OLD);
    sandbox.write("memory/notes", "");
    sandbox.write("memory/journal.jsonl", "{\"n\":1}\n");
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"bot\"\npreset = \"none\"\n[service.daemon]\ncommand = [\"sh\", \"daemon.sh\"]\n\
             stop_grace = \"2s\"\n[check.process]\nkind = \"process\"\nservice = \"daemon\"\n\
             [check.status]\nkind = \"json\"\nfile = \"status.json\"\nvalue = \"\"\nmissing = \"ok\"\nequals = \"good\"\n\
             [backup]\ninclude = [\"memory/**\"]\n[alerts.desktop]\nenabled = false\n\
             [upgrade]\nsettle = \"300ms\"\nrollback = [\"sh\", \"-c\", \"echo rolled; cp old/daemon.sh daemon.sh\"]\n{settings}"
        ),
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox
}

pub fn identity(sandbox: &Sandbox) -> Identity {
    let record: Value = serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap();
    serde_json::from_value(record["identity"].clone()).unwrap()
}

pub fn runs(sandbox: &Sandbox) -> bool {
    identity(sandbox).find().unwrap().is_some()
}

/// `ops upgrade --yes WORDS -- sh -c SCRIPT`
pub fn upgrade(sandbox: &Sandbox, words: &[&str], script: &str) -> Command {
    let mut command = sandbox.program("ops");
    command.args(["upgrade", "--yes"]).args(words).args(["--", "sh", "-c", script]);
    command
}

#[track_caller]
pub fn expect(code: i32, mut command: Command) -> Said {
    let said = said(command.output().unwrap());
    assert_eq!(said.code, code, "{}\n{}", said.stdout, said.stderr);
    said
}

#[track_caller]
pub fn document(code: i32, sandbox: &Sandbox, words: &[&str], script: &str) -> (Value, String) {
    let said = expect(code, upgrade(sandbox, &[words, &["--json"]].concat(), script));
    let document = serde_json::from_str(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", said.stdout, said.stderr));
    (document, said.stderr)
}

pub fn step<'a>(document: &'a Value, name: &str) -> &'a Value {
    let steps = document["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no step {name}: {document}"))
}

/// `ops status` of an agent that is not well, lines joined.
#[track_caller]
fn status(sandbox: &Sandbox) -> String {
    let said = sandbox.run("ops", &["status"]);
    assert!([1, 2].contains(&said.code), "{said:?}");
    said.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The agent runs its old program on its old memory, and nothing is under way.
#[track_caller]
pub fn as_before(sandbox: &Sandbox) {
    assert!(runs(sandbox), "the agent runs again");
    assert_eq!(sandbox.read("daemon.sh"), OLD);
    assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"n\":1}\n");
    assert!(!sandbox.path(".ops/upgrade.json").exists());
    assert_eq!(fs::read_dir(sandbox.path(".ops/maintenance")).unwrap().count(), 0);
}

#[test]
fn a_new_program_that_lives_stays() {
    let sandbox = with_daemon("");
    let before = identity(&sandbox);
    let script = "cat .ops/maintenance/*.json > seen; pwd >> seen; echo hello from the command\n\
                  echo 'echo new >> memory/notes; exec sleep 1001' > daemon.sh";
    let said = expect(0, upgrade(&sandbox, &[], script));
    assert!(said.stdout.contains("hello from the command"), "its output is shown: {}", said.stdout);
    assert!(said.stdout.contains("upgraded by sh -c"), "{}", said.stdout);
    let seen = sandbox.read("seen");
    assert!(seen.contains("ops upgrade") && seen.contains(&sandbox.home.display().to_string()), "{seen}");
    assert_ne!(identity(&sandbox), before);
    assert!(runs(&sandbox) && before.find().unwrap().is_none());
    assert_eq!(sandbox.read("memory/notes"), "old\nnew\n");
    assert!(!sandbox.path(".ops/upgrade.json").exists());
    assert!(sandbox.read("logs/restart.log").contains("[OK] Upgrade - upgraded by"));
    assert_eq!(sandbox.json(0, "backup", &["list"])["archives"].as_array().unwrap().len(), 1);
}

#[test]
fn a_command_that_fails_is_undone_state_and_program() {
    let sandbox = with_daemon("");
    let script = "echo broken > daemon.sh; echo gone > memory/journal.jsonl; echo half done; exit 3";
    let (document, stderr) = document(2, &sandbox, &[], script);
    assert_eq!(document["outcome"], "put_back");
    assert!(stderr.contains("half done") && stderr.contains("rolled"), "{stderr}");
    assert_eq!(step(&document, "command")["good"], false);
    assert!(step(&document, "command")["text"].as_str().unwrap().contains("exit status: 3"), "{document}");
    assert_eq!(step(&document, "restore")["good"], true);
    assert_eq!(step(&document, "start again")["good"], true);
    as_before(&sandbox);
}

#[test]
fn what_no_rollback_command_puts_back_is_not_said_to_be() {
    let sandbox = with_daemon("");
    let text = sandbox.read("ops.toml");
    let without = text.lines().filter(|line| !line.starts_with("rollback")).collect::<Vec<_>>().join("\n");
    sandbox.write("ops.toml", without);
    let script = "printf '\\n# new\\n' >> daemon.sh; echo gone > memory/journal.jsonl; exit 3";
    let (document, _) = document(2, &sandbox, &[], script);
    let told = document["text"].as_str().unwrap();
    assert!(
        told.contains("the state in the backup was put back; nothing was done about the program"),
        "{told}"
    );
    assert!(told.contains("rollback in [upgrade]") && !told.contains("everything"), "{told}");
    assert_eq!((document["outcome"].as_str(), runs(&sandbox)), (Some("put_back"), true));
    assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"n\":1}\n");
    assert!(sandbox.read("daemon.sh").ends_with("# new\n"), "that is what it says");
}

#[test]
fn a_rollback_command_that_is_not_there_is_no_way_back() {
    let sandbox = with_daemon("");
    let text = sandbox.read("ops.toml").replace("rollback = [\"sh\"", "rollback = [\"./no-such\"");
    sandbox.write("ops.toml", text);
    let said = expect(3, upgrade(&sandbox, &[], "touch ran"));
    assert!(said.stderr.contains("no way back: there is no program ./no-such"), "{}", said.stderr);
    assert!(!sandbox.path("ran").exists() && !sandbox.path("backups").exists());
    expect(0, upgrade(&sandbox, &["--force"], "touch ran"));
}

#[test]
fn an_agent_that_does_not_come_up_or_does_not_stay_up_is_put_back() {
    for (program, settle, words) in [
        ("echo no module named agno >&2; exit 1", "300ms", "no module named agno"),
        ("sleep 1.4; exit 1", "10s", "ended"),
        ("echo '\"bad\"' > status.json; exec sleep 1000", "300ms", "critical, and not so before: status"),
    ] {
        let sandbox = with_daemon("");
        let script = format!("cat > daemon.sh <<'X'\n{program}\nX");
        let (document, _) = document(2, &sandbox, &["--settle", settle], &script);
        let text = document["text"].as_str().unwrap();
        assert!(text.contains(words) && text.contains("everything was put back"), "{text}");
        as_before(&sandbox);
    }
}

#[test]
fn an_agent_that_is_not_well_is_not_upgraded() {
    let sandbox = with_daemon("");
    sandbox.write("status.json", "\"bad\"");
    let before = identity(&sandbox);
    for words in [&[] as &[&str], &["--dry-run"]] {
        let said = expect(2, upgrade(&sandbox, words, "touch ran"));
        assert!(said.stderr.contains("nothing was changed: status:"), "{}", said.stderr);
    }
    assert!(!sandbox.path("ran").exists() && !sandbox.path("backups").exists());
    assert_eq!(identity(&sandbox), before);
    expect(0, upgrade(&sandbox, &["--force"], "touch ran"));
    assert!(sandbox.path("ran").exists());

    // No room for a backup, as far as the backup can tell.
    let mut command = upgrade(&sandbox, &["--force"], "touch ran again");
    command.env("OPS_FAIL_AT", "begun");
    let before = identity(&sandbox);
    let said = expect(2, command);
    assert!(said.stderr.contains("nothing was changed: there is no backup"), "{}", said.stderr);
    assert_eq!(identity(&sandbox), before);
}

#[test]
fn what_was_stopped_stays_stopped() {
    let sandbox = with_daemon("");
    sandbox.expect(0, "ops", &["stop"]);
    let record = sandbox.read(".ops/service/daemon.json");
    let said = expect(0, upgrade(&sandbox, &[], "touch ran"));
    assert!(said.stdout.contains("nothing ran before"), "{}", said.stdout);
    assert!(sandbox.path("ran").exists() && !runs(&sandbox));
    assert_eq!(sandbox.read(".ops/service/daemon.json"), record, "and its operator's word stands");
    expect(2, upgrade(&sandbox, &[], "exit 1"));
    assert!(!runs(&sandbox));
}

#[test]
fn told_to_stop_it_puts_back_and_leaves_nothing_of_the_command() {
    for signal in [Signal::TERM, Signal::INT] {
        let sandbox = with_daemon("");
        let script = "echo gone > memory/journal.jsonl; sleep 1002 & echo $! > child; setsid sleep 1003 & echo $! > far; wait";
        let mut command = upgrade(&sandbox, &[], script);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = |name: &str| fs::read_to_string(sandbox.path(name)).ok()?.trim().parse::<u32>().ok();
        wait_until("the command runs", || pid("child").is_some() && pid("far").is_some());
        let us = agent_ops::base::process::Process::find(child.id()).unwrap().unwrap().identity;
        // Not in a terminal: the command does not get it by itself.
        assert!(us.signal(signal).unwrap());
        let said = said(child.wait_with_output().unwrap());
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stdout.contains("it was interrupted; everything was put back"), "{said:?}");
        assert!(!alive(pid("child").unwrap()) && !alive(pid("far").unwrap()));
        as_before(&sandbox);
    }
}

#[test]
fn what_cannot_be_put_back_is_said_with_the_commands() {
    let sandbox = with_daemon("");
    let text = sandbox.read("ops.toml").replace("echo rolled; cp old/daemon.sh daemon.sh", "exit 7");
    sandbox.write("ops.toml", text);
    let script = "echo exit 1 > daemon.sh; echo gone > memory/journal.jsonl; exit 3";
    let (document, _) = document(2, &sandbox, &[], script);
    assert_eq!(document["outcome"], "not_put_back");
    let remedies: Vec<&str> =
        document["remedies"].as_array().unwrap().iter().map(|remedy| remedy.as_str().unwrap()).collect();
    let cd = format!("cd {} && sh -c 'exit 7'", sandbox.home.display());
    assert_eq!(remedies, [cd.as_str(), "ops start daemon"]);
    assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"n\":1}\n", "the rest is put back all the same");

    // It stays known until somebody mends it.
    assert!(status(&sandbox).contains("was cut short"), "{}", status(&sandbox));
    let said = expect(3, upgrade(&sandbox, &[], "true"));
    assert!(
        said.stderr.contains("ops upgrade --back") && said.stderr.contains("backups/"),
        "{}",
        said.stderr
    );
    sandbox.write("daemon.sh", OLD);
    let text = sandbox.read("ops.toml").replace("exit 7", "cp old/daemon.sh daemon.sh");
    sandbox.write("ops.toml", text);
    sandbox.expect(0, "ops", &["upgrade", "--back", "--yes"]);
    as_before(&sandbox);
    sandbox.expect(3, "ops", &["upgrade", "--back", "--yes"]);
    sandbox.expect(3, "ops", &["upgrade", "--keep"]);
}

#[test]
fn killed_at_any_step_it_is_known_and_can_be_put_back() {
    let good = "cp old/daemon.sh daemon.sh";
    let bad = "echo exit 1 > daemon.sh; echo gone > memory/journal.jsonl; exit 3";
    let walks = [
        (good, &["pre-flight", "backed up", "published"] as &[&str], false),
        (good, &["noted", "stopped", "command begins", "command done", "started", "settled"], true),
        (bad, &["put back: stopped", "put back: rolled back", "staged", "aside", "put back: started"], true),
    ];
    for (script, steps, known) in walks {
        for at in steps {
            let sandbox = with_daemon("");
            let mut command = upgrade(&sandbox, &[], script);
            let output = command.env("OPS_ABORT_AT", at).output().unwrap();
            assert_eq!(output.status.code(), None, "{at}: {output:?}");
            assert_eq!(sandbox.path(".ops/upgrade.json").exists(), known, "{at}");
            if known {
                assert!(status(&sandbox).contains("ops upgrade --back"), "{at}: {}", status(&sandbox));
                let said = expect(3, upgrade(&sandbox, &[], "true"));
                assert!(said.stderr.contains("was cut short"), "{at}: {}", said.stderr);
                sandbox.expect(0, "ops", &["upgrade", "--back", "--yes"]);
            }
            assert!(runs(&sandbox), "{at}");
            assert_eq!(sandbox.read("daemon.sh"), OLD, "{at}");
            assert_eq!(sandbox.read("memory/journal.jsonl"), "{\"n\":1}\n", "{at}");
            expect(0, upgrade(&sandbox, &[], "true"));
            as_before(&sandbox);
        }
    }
}

#[test]
fn an_upgrade_that_was_cut_short_may_be_kept() {
    let sandbox = with_daemon("");
    let mut command = upgrade(&sandbox, &[], "echo new > memory/journal.jsonl");
    assert_eq!(command.env("OPS_ABORT_AT", "command done").output().unwrap().status.code(), None);
    let looked = sandbox.run("ops", &["troubleshoot"]).stdout;
    assert!(looked.contains("ops upgrade --back"), "{looked}");
    let said = sandbox.expect(3, "ops", &["upgrade", "--back"]);
    assert!(said.stderr.contains("no terminal"), "{}", said.stderr);
    let said = sandbox.expect(0, "ops", &["upgrade", "--keep"]);
    assert!(said.stdout.contains("it is forgotten"), "{}", said.stdout);
    assert_eq!(sandbox.read("memory/journal.jsonl"), "new\n");
    sandbox.expect(0, "ops", &["start"]);
    expect(0, upgrade(&sandbox, &[], "true"));
}

#[test]
fn bad_usage_changes_nothing() {
    let sandbox = with_daemon("");
    let before = identity(&sandbox);
    let said = sandbox.expect(3, "ops", &["upgrade", "--yes"]);
    assert!(
        said.stderr.contains("there is no command") && said.stderr.contains("[upgrade]"),
        "{}",
        said.stderr
    );
    let said = sandbox.expect(3, "ops", &["upgrade", "--", "touch", "ran"]);
    assert!(said.stderr.contains("no terminal") && said.stderr.contains("--yes"), "{}", said.stderr);
    sandbox.expect(3, "ops", &["upgrade", "--back", "--keep"]);
    sandbox.write("plain-file", "");
    for (word, place) in
        [("gti", "on PATH"), ("./gti", "from /"), ("./plain-file", "from /"), ("memory", "on PATH")]
    {
        for words in [&["--yes"][..], &["--yes", "--force"], &["--dry-run"]] {
            let said = sandbox.expect(3, "ops", &[&["upgrade"], words, &["--", word, "pull"]].concat());
            let told = format!("there is no program {word} {place}");
            assert!(said.stderr.contains(&told) && said.stderr.contains("nothing was changed"), "{said:?}");
        }
    }
    assert!(!sandbox.path("backups").exists());
    let said = sandbox.expect(0, "ops", &["upgrade", "-n", "--", "touch", "ran"]);
    assert!(
        said.stdout.contains("daemon will be stopped") && said.stdout.contains("Nothing was done"),
        "{}",
        said.stdout
    );
    assert!(!sandbox.path("ran").exists());
    assert_eq!(identity(&sandbox), before);

    // The command of the config; and only one at a time.
    let text = sandbox.read("ops.toml")
        + "command = [\"sh\", \"-c\", \"touch begun; while [ ! -e go ]; do sleep 0.02; done\"]\n";
    sandbox.write("ops.toml", text);
    let mut first = sandbox.program("ops");
    let first = first.args(["upgrade", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = Bystander(first);
    wait_until("the command runs", || sandbox.path("begun").exists());
    let said = expect(3, upgrade(&sandbox, &[], "touch ran"));
    assert!(said.stderr.contains("the upgrade of this home is busy: ops upgrade"), "{}", said.stderr);
    assert!(!sandbox.run("ops", &["troubleshoot"]).stdout.contains("--back"), "it is no broken one");
    sandbox.write("go", "");
    assert!(first.0.wait().unwrap().success());
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn the_way_back_waits_for_a_backup_that_is_at_it() {
    let sandbox = with_daemon("");
    let script =
        "echo gone > memory/journal.jsonl; touch begun; while [ ! -e go ]; do sleep 0.02; done; exit 3";
    let child = upgrade(&sandbox, &[], script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the command runs", || sandbox.path("begun").exists());
    let home = Home::new(sandbox.home.clone());
    let backup = Lock::take(&home, "backup", &Run::begin("backup"), Duration::ZERO).unwrap();
    sandbox.write("go", "");
    // Longer than a second backup would wait.
    std::thread::sleep(agent_ops::base::durable::PATIENCE + Duration::from_secs(2));
    drop(backup);
    let said = said(child.wait_with_output().unwrap());
    assert!(said.stdout.contains("everything was put back"), "{said:?}");
    as_before(&sandbox);
}

#[test]
fn a_secret_in_the_command_is_told_to_nobody() {
    let sandbox = with_daemon("");
    let words = ["upgrade", "--yes", "--", "sh", "-c", "exit $1", "deploy"];
    for (end, code) in [("0", 0), ("3", 2)] {
        let said = sandbox.expect(code, "ops", &[&words[..], &[end, "--token", "hunter2hunter2"]].concat());
        let log = sandbox.read("logs/restart.log");
        for text in [&said.stdout, &said.stderr, &log] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(said.stderr.contains("command: sh -c exit $1 deploy"), "{}", said.stderr);
    }
    sandbox.fake("deploy", "");
    let said = sandbox.expect(0, "ops", &["upgrade", "-n", "--", "deploy", "--token", "hunter2hunter2"]);
    assert!(!said.stdout.contains("hunter2") && said.stdout.contains("deploy --token"), "{}", said.stdout);
}

#[test]
fn a_disk_that_is_full_before_the_command_begins_costs_nothing_but_a_restart() {
    let sandbox = with_daemon("");
    let mut command = upgrade(&sandbox, &["--json"], "touch ran");
    let said = expect(2, {
        command.env("OPS_FAIL_AT", "command noted");
        command
    });
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["outcome"], "put_back", "{document}");
    let steps: Vec<&str> =
        document["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["backup", "stop", "start again"], "nothing was changed, so nothing is restored");
    assert!(!sandbox.path("ran").exists());
    as_before(&sandbox);
}

#[test]
fn an_agent_that_dies_while_it_is_backed_up_is_not_upgraded() {
    let sandbox = with_daemon("[check.seen]\nkind = \"command\"\ncommand = [\"touch\", \"looked\"]\n");
    let home = Home::new(sandbox.home.clone());
    let backup = Lock::take(&home, "backup", &Run::begin("backup"), Duration::ZERO).unwrap();
    let mut command = upgrade(&sandbox, &[], "touch ran");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it was looked at", || sandbox.path("looked").exists());
    // The other checks are done, and the backup waits.
    std::thread::sleep(Duration::from_secs(1));
    crate::service::kill(identity(&sandbox).pid);
    drop(backup);
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("daemon ended while the backup was made; nothing was changed"), "{said:?}");
    assert!(!sandbox.path("ran").exists() && !sandbox.path(".ops/upgrade.json").exists());
}

#[test]
fn nothing_is_started_under_an_upgrade_but_by_itself() {
    let sandbox = with_daemon("");
    let ops = crate::sandbox::built("ops").display().to_string();
    let home = sandbox.home.display();
    let script = format!(
        "for verb in start restart up status; do echo \"== $verb\"; {ops} $verb --home {home} 2>&1; echo \"rc $?\"; done > seen"
    );
    let before = identity(&sandbox);
    expect(0, upgrade(&sandbox, &[], &script));
    let seen = sandbox.read("seen");
    let parts: Vec<&str> = seen.split("== ").skip(1).collect();
    for (part, verb) in parts.iter().zip(["start", "restart", "up"]) {
        assert!(part.contains("an upgrade is under way since") && part.contains("rc 3"), "{verb}: {seen}");
    }
    assert!(parts[3].contains("an upgrade is under way since"), "{seen}");
    assert!(runs(&sandbox) && identity(&sandbox) != before);
    assert!(!sandbox.expect(0, "ops", &["status"]).stdout.contains("under way"));
}

#[test]
fn a_start_that_an_upgrade_refuses_is_remembered() {
    let sandbox = with_daemon("");
    sandbox.expect(0, "ops", &["stop"]);
    let ops = crate::sandbox::built("ops").display().to_string();
    let home = sandbox.home.display();
    expect(0, upgrade(&sandbox, &[], &format!("{ops} start --home {home}; [ $? = 3 ]")));
    assert!(!runs(&sandbox));
    // Its operator wants it to run by now: so `alert` has it run.
    sandbox.run("alert", &[]);
    assert!(runs(&sandbox));
}

#[test]
fn upgrades_and_restarts_are_no_crash_loop() {
    let sandbox = with_daemon(
        "[check.loop]\nkind = \"restarts\"\nservice = \"daemon\"\nafter = [\"process\"]\nwarn = 1\ncrit = 2\n",
    );
    for _ in 0..3 {
        expect(2, upgrade(&sandbox, &[], "false"));
        sandbox.expect(0, "ops", &["restart"]);
        let report = sandbox.json(0, "ops", &["health"]);
        let found = crate::service::finding(&report, "loop");
        assert_eq!(found["summary"], "0 restarts of daemon within 1d", "{found}");
    }
}
