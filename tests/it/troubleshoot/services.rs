//! Causes in services and what they stand on.

use super::*;
use crate::sandbox::wait_until;
use crate::service::{Bystander, agent_pid, with_agent};
use agent_ops::base::process::{Process, Signal};
use std::os::unix::fs::symlink;

#[test]
fn pid_files_that_lie_and_what_became_of_a_service() {
    let sandbox = well("");
    let pid = pid_of(&sandbox);
    kill(pid);
    let found = expect(&sandbox, "stale_pid_file", "critical");
    assert!(found["cause"].as_str().unwrap().contains(&format!("process {pid} ")), "{found}");
    assert_eq!(found["remedy"][0], "ops start bot");
    assert!(found["evidence"].to_string().contains("last words in logs/bot_stdout.log: begun"), "{found}");
    let stranger = Bystander::new("sleep", &["6021"]);
    sandbox.write("bot.pid", stranger.0.id().to_string());
    let found = expect(&sandbox, "stale_pid_file", "critical");
    assert!(found["evidence"].to_string().contains("sleep 6021"), "{found}");
    fs::remove_file(sandbox.path("bot.pid")).unwrap();
    expect(&sandbox, "crashed", "critical");
    // The machine was booted since.
    let mut record: Value = serde_json::from_str(&sandbox.read(".ops/service/bot.json")).unwrap();
    record["identity"]["boot"] = "another".into();
    sandbox.write(".ops/service/bot.json", record.to_string());
    expect(&sandbox, "not_started_after_boot", "critical");
    fs::remove_file(sandbox.path(".ops/service/bot.json")).unwrap();
    expect(&sandbox, "not_started", "critical");
    // It runs, and its pid file names another.
    sandbox.expect(0, "ops", &["start"]);
    sandbox.write("bot.pid", stranger.0.id().to_string());
    expect(&sandbox, "stale_pid_file", "warning");
}

#[test]
fn a_second_instance_and_what_a_crash_left() {
    let sandbox = home("");
    let script = sandbox.write("run.sh", "#!/bin/sh\nif [ -n \"$AGENT_OPS_SERVICE\" ]; then sleep 6031 & echo $! > child; exec sleep 6032; fi\nread line\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.expect(0, "ops", &["start"]);
    let first = pid_of(&sandbox);
    let word = sandbox.read("ops.toml").split("\"./").nth(2).unwrap().split('"').next().unwrap().to_owned();
    let second = Bystander::new(script.to_str().unwrap(), &[&format!("./{word}")]);
    wait_until("it is itself", || {
        Process::find(second.0.id())
            .unwrap()
            .unwrap()
            .arguments()
            .iter()
            .any(|part| part.to_string_lossy().ends_with(".conf"))
    });
    let found = expect(&sandbox, "second_instance", "warning");
    assert_eq!(found["remedy"][0], format!("kill {}", second.0.id()));
    let child = sandbox.read("child").trim().parse().unwrap();
    kill(first);
    let found = expect(&sandbox, "leftovers", "warning");
    assert!(found["evidence"].to_string().contains(&format!("{child} 'sleep 6031'")), "{found}");
    assert_eq!(found["remedy"][0], "ops stop bot --force");
    kill(child);
    drop(second);
}

#[test]
fn a_job_of_the_agent_is_no_second_instance() {
    let sandbox = home("");
    let script =
        sandbox.write("run.sh", "#!/bin/sh\nif [ \"$2\" = --once ]; then read line; fi\nexec sleep 6034\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let text = sandbox.read("ops.toml");
    let word = text.split("\"./").nth(2).unwrap().split('"').next().unwrap().to_owned();
    sandbox.write("ops.toml", text.replace(".conf\"]", ".conf\", \"--serve\"]"));
    sandbox.expect(0, "ops", &["start"]);
    let job = Bystander::new(script.to_str().unwrap(), &[&format!("./{word}"), "--once"]);
    wait_until("it is itself", || {
        Process::find(job.0.id())
            .unwrap()
            .unwrap()
            .arguments()
            .iter()
            .any(|part| part.to_string_lossy() == "--once")
    });
    let said = sandbox.run("ops", &["troubleshoot", "--json"]);
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    let told = |text: &str| document["notes"].to_string().contains(text);
    assert!(told(&format!("{} '", job.0.id())) && told("look at it before you end it"), "{document:#}");
    assert!(!said.stdout.contains("second_instance") && !said.stdout.contains("kill "), "{document:#}");
    sandbox.expect(0, "ops", &["stop", "--force"]);
    fs::remove_file(sandbox.path(".ops/service/bot.json")).unwrap();
    let found = expect(&sandbox, "runs_elsewhere", "critical");
    assert_eq!(found["remedy"][0], format!("ps -f -p {}", job.0.id()));
    drop(job);
}

#[cfg(target_os = "linux")]
#[test]
fn a_start_that_is_refused_after_a_stop_is_no_stop_any_more() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let second = "[service.zweite]\ncommand = [\"sleep\", \"6033\"]\nready = \"alive\"\n";
    let sandbox = home(&format!("ports = [{port}]\nrecover = true\n{second}"));
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["stop", "--force"]);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    // Not asked to run, it is not missed, and nobody says that a start would do.
    let said = sandbox.run("ops", &["troubleshoot"]);
    assert!(said.stdout.contains("and stays so until `ops start bot`"), "{said:?}");
    cause(&sandbox.run("ops", &["troubleshoot", "--json"]), "port_taken", "warning");
    for verb in ["start", "restart"] {
        let said = sandbox.expect(2, "ops", &[verb]);
        assert!(said.stderr.contains("is taken") && said.stdout.contains("zweite: "), "{said:?}");
        expect(&sandbox, "port_taken", "critical");
        expect(&sandbox, "crashed", "critical");
        sandbox.expect(0, "ops", &["stop", "--force"]);
    }
    sandbox.expect(2, "ops", &["start"]);
    let said = sandbox.run("ops", &["alert"]);
    assert!(
        said.stdout.contains("could not be restarted") && said.stdout.contains("Daemon Critical"),
        "{said:?}"
    );
    drop(listener);
    let later = (Utc::now() + TimeDelta::minutes(20)).to_rfc3339();
    let said =
        crate::sandbox::said(sandbox.program("ops").env("OPS_NOW", later).arg("alert").output().unwrap());
    assert!(said.stdout.contains("restarted as pid"), "{said:?}");
}

#[test]
fn under_a_supervisor_a_start_that_is_refused_is_tried_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let sandbox = home(&format!("ports = [{port}]\n"));
    let mut supervisor = sandbox.program("ops").args(["run", "-q"]).spawn().unwrap();
    let runs = || sandbox.path("bot.pid").exists();
    wait_until("it runs", runs);
    sandbox.expect(0, "ops", &["stop", "--force"]);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said = sandbox.expect(2, "ops", &["start"]);
    assert_eq!(said.stderr.matches("was not started").count(), 1, "{said:?}");
    assert!(said.stderr.contains("is taken") && !runs(), "{said:?}");
    drop(listener);
    wait_until("its supervisor started it again", runs);
    let pid = rustix::process::Pid::from_child(&supervisor);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    supervisor.wait().unwrap();
}

#[test]
fn a_program_that_is_not_there_is_missed_once_a_start_was_asked_for() {
    let sandbox = well("");
    sandbox.expect(0, "ops", &["stop", "--force"]);
    fs::remove_file(sandbox.path("run.sh")).unwrap();
    expect(&sandbox, "program_missing", "warning");
    sandbox.expect(2, "ops", &["start"]);
    expect(&sandbox, "program_missing", "critical");
    let said = sandbox.run("ops", &["alert"]);
    assert!(said.stdout.contains("could not be restarted"), "{said:?}");
}

// The managers' stand-ins are of Linux.
#[cfg(target_os = "linux")]
#[test]
fn its_manager_starts_it_at_the_next_boot_as_well_after_a_start_that_was_refused() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for manager in ["systemd", "launchd"] {
        let sandbox = home(&format!("ports = [{port}]\n"));
        crate::managers::stand_in(&sandbox);
        sandbox.expect(0, "ops", &["install", "--user", "--manager", manager]);
        sandbox.expect(0, "ops", &["stop", "--force"]);
        let enabled = || {
            let noted = fs::read_dir(sandbox.outside("manager")).unwrap();
            let mut names = noted.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
            match manager {
                "systemd" => names.any(|name| name.ends_with("bot.service.enabled")),
                _ => !names.any(|name| name.ends_with(".disabled")),
            }
        };
        assert!(!enabled(), "{manager}");
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        sandbox.expect(2, "ops", &["start"]);
        assert!(enabled(), "{manager}");
        drop(listener);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_in_other_hands() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = home(&format!("ports = [{port}]\n"));
    let found = expect(&sandbox, "port_taken", "critical");
    assert!(
        found["evidence"].to_string().contains(&format!("pid {} listens", std::process::id())),
        "{found}"
    );
    assert!(found["cause"].as_str().unwrap().contains("cannot start"), "{found}");
    // Started without its port, and another took it.
    drop(listener);
    sandbox.expect(0, "ops", &["start"]);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let found = expect(&sandbox, "port_taken", "critical");
    assert!(found["cause"].as_str().unwrap().contains("runs without its port"), "{found}");
    drop(listener);
}

#[test]
fn what_a_service_is_started_with() {
    let sandbox = home("");
    let toml = sandbox.read("ops.toml");
    let with = |command: &str| {
        let rest = toml.split("ready =").nth(1).unwrap();
        let start = toml.split("command =").next().unwrap();
        // The second one is the service's; the first is a channel.
        let start =
            if start.contains("[service.bot]") { start } else { toml.split("[service.bot]").next().unwrap() };
        let start = if start.contains("[service.bot]") {
            start.to_owned()
        } else {
            format!("{start}[service.bot]\n")
        };
        sandbox.write("ops.toml", format!("{start}command = {command}\nready ={rest}"));
    };
    with("[\".venv/bin/python3\", \"main.py\"]");
    sandbox.write("main.py", "");
    let found = expect(&sandbox, "program_missing", "critical");
    assert!(found["remedy"][0].as_str().unwrap().starts_with("python3 -m venv"), "{found}");
    fs::create_dir_all(sandbox.path(".venv/bin")).unwrap();
    symlink(sandbox.path("python-that-went"), sandbox.path(".venv/bin/python3")).unwrap();
    expect(&sandbox, "program_dangling", "critical");
    with("[\"sh\", \"./gone.sh\"]");
    expect(&sandbox, "script_missing", "critical");
    with("[\"./plain\"]");
    let plain = sandbox.write("plain", "#!/nowhere/python3\n");
    expect(&sandbox, "program_not_executable", "critical");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    expect(&sandbox, "interpreter_missing", "critical");
    with("[\"no-such-program-anywhere\"]");
    expect(&sandbox, "program_missing", "critical");
    sandbox.fake("only-here", "sleep 60\n");
    with("[\"only-here\"]");
    expect(&sandbox, "program_not_for_cron", "warning");
    with("[\"./run.sh\"]\ncwd = \"elsewhere\"");
    expect(&sandbox, "cwd_missing", "critical");
}

#[test]
fn a_runtime_of_another_version() {
    let sandbox = home("runtime = { command = [\"node\", \"--version\"], min = \"22\", below = \"25\" }\n");
    sandbox.fake("node", "echo v18.20.4\n");
    let found = expect(&sandbox, "runtime_version", "critical");
    assert!(found["evidence"].to_string().contains("at least 22, below 25"), "{found}");
    sandbox.fake("node", "echo v25.0.1\n");
    expect(&sandbox, "runtime_version", "critical");
    sandbox.fake("node", "echo v22.0.0\n");
    assert!(!ids(&sandbox).contains(&"runtime_version".to_owned()));
    sandbox.fake("node", "sleep 60\n");
    let found = expect(&sandbox, "could_not_tell", "unknown");
    assert!(found["cause"].as_str().unwrap().contains("not done within 3s"), "{found}");
    for wrong in
        ["{ command = [], min = \"1\" }", "{ command = [\"x\"] }", "{ command = [\"x\"], min = \"two\" }"]
    {
        let toml = sandbox.read("ops.toml");
        let line = toml.lines().find(|line| line.starts_with("runtime")).unwrap().to_owned();
        sandbox.write("ops.toml", toml.replace(&line, &format!("runtime = {wrong}")));
        sandbox.expect(3, "ops", &["config", "check"]);
    }
}

#[test]
fn a_service_that_hangs_or_is_held() {
    let sandbox = with_agent(&[]);
    surroundings(&sandbox);
    sandbox.expect(0, "ops", &["start"]);
    let process = Process::find(agent_pid(&sandbox)).unwrap().unwrap();
    process.identity.signal(Signal::STOP).unwrap();
    wait_until("it stands still", || Process::find(process.identity.pid).unwrap().unwrap().stopped);
    let found = expect(&sandbox, "stopped_by_signal", "critical");
    assert_eq!(found["remedy"][0], format!("kill -CONT {}", process.identity.pid));
    process.identity.signal(Signal::CONT).unwrap();
    let found = at(&sandbox, TimeDelta::minutes(30), "hung", "critical");
    assert_eq!(found["remedy"][0], "ops restart daemon --force");
    #[cfg(target_os = "linux")]
    assert!(found["evidence"].to_string().contains("it waits"), "{found}");
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn a_status_file_that_is_torn_or_of_another() {
    let sandbox = well("status_file = \"status.json\"\n");
    sandbox.write("status.json", "{\"status\": \"runn");
    expect(&sandbox, "status_file_torn", "warning");
    let old = (Local::now() - TimeDelta::hours(1)).to_rfc3339();
    sandbox
        .write("status.json", format!("{{\"status\": \"running\", \"timestamp\": \"{old}\", \"pid\": 1}}"));
    expect(&sandbox, "status_file_of_another", "warning");
    // What it says of a run that is over.
    kill(pid_of(&sandbox));
    let found = expect(&sandbox, "stale_pid_file", "critical");
    assert!(found["evidence"].to_string().contains("still says running"), "{found}");
}

#[test]
fn a_restart_loop_shows_the_last_words() {
    let sandbox = home("[check.process]\nkind = \"process\"\nservice = \"bot\"\n");
    sandbox.write("run.sh", "#!/bin/sh\necho KeyError: no such model >&2\nexit 1\n");
    let mut now = Utc::now();
    for _ in 0..4 {
        sandbox.program("alert").env("OPS_NOW", now.to_rfc3339()).output().unwrap();
        now += TimeDelta::minutes(8);
    }
    let found = at(&sandbox, now - Utc::now(), "restart_loop", "critical");
    assert!(found["evidence"].to_string().contains("KeyError: no such model"), "{found}");
}
