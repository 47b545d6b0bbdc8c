//! Whose a process is: `ops detect`, and stops that end exactly the service's own.

use crate::sandbox::{Sandbox, wait_until};
use crate::service::{Bystander, agent_pid, alive, kill, with_agent};
use agent_ops::base::process;
use serde_json::{Value, json};
#[cfg(target_os = "linux")]
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

/// A service with a child in its session, one that left it, and one that took off the mark as well.
struct Family {
    sandbox: Sandbox,
    /// A word of its command line, in no other on this machine.
    word: String,
    first: u32,
    child: u32,
    away: u32,
    bare: u32,
}

impl Family {
    fn start() -> Family {
        let sandbox = Sandbox::new();
        let script = sandbox.write(
            "run.sh",
            "#!/bin/sh\nsleep 6001 & echo $! > child\nsetsid sleep 6002 & echo $! > away\n\
             env -i setsid sleep 6003 & echo $! > bare\nwait\n",
        );
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let word = word(&sandbox);
        sandbox.write(
            "ops.toml",
            format!("[service.bot]\ncommand = [\"./run.sh\", \"{word}\"]\nready = \"alive\"\n"),
        );
        let first = sandbox.json(0, "ops", &["start"])["services"][0]["pid"].as_u64().unwrap() as u32;
        let pid = |name: &str| sandbox.read(name).trim().parse().unwrap();
        let (child, away, bare) = (pid("child"), pid("away"), pid("bare"));
        wait_until("each is what it will be", || {
            [child, away, bare].iter().all(|&pid| {
                let process = process::Process::find(pid).unwrap().unwrap();
                process.arguments().first().is_some_and(|word| word == "sleep")
            })
        });
        Family { sandbox, word, first, child, away, bare }
    }
}

fn word(sandbox: &Sandbox) -> String {
    let folder = sandbox.home.parent().unwrap().file_name().unwrap();
    format!("./{}.conf", folder.to_str().unwrap())
}

/// Kind and reasons of a process in the list.
fn listed(detection: &Value, pid: u32) -> Option<(String, String)> {
    let found = detection["processes"].as_array().unwrap().iter().find(|found| found["pid"] == pid)?;
    Some((found["kind"].as_str().unwrap().to_owned(), found["why"].to_string()))
}

#[track_caller]
fn is_listed(detection: &Value, pid: u32, kind: &str, why: &str) {
    let (found, reasons) = listed(detection, pid).unwrap_or_else(|| panic!("no {pid}: {detection}"));
    assert!(found == kind && reasons.contains(why), "{pid}: {found}, {reasons}");
}

#[test]
fn a_service_and_all_that_belongs_to_it() {
    let family = Family::start();
    let detection = family.sandbox.json(0, "ops", &["detect"]);
    assert_eq!(detection["state"], "ok");
    is_listed(&detection, family.first, "service", "recorded when bot was started");
    is_listed(&detection, family.child, "service", "carries the mark of bot");
    is_listed(&detection, family.away, "service", "carries the mark of bot");
    is_listed(&detection, family.bare, "service", "child of");
    assert_eq!(detection["processes"].as_array().unwrap().len(), 4);
    let said = family.sandbox.expect(0, "ops", &["detect"]);
    assert!(said.stdout.contains("sleep 6002") && said.stderr.is_empty(), "{said:?}");

    family.sandbox.expect(0, "ops", &["stop", "--force"]);
    for pid in [family.first, family.child, family.away, family.bare] {
        assert!(!alive(pid), "{pid}");
    }
    assert_eq!(family.sandbox.json(0, "ops", &["detect"])["processes"], json!([]));
}

#[test]
fn what_a_crash_leaves_is_found_and_ended() {
    let family = Family::start();
    kill(family.first);
    let detection = family.sandbox.json(1, "ops", &["detect"]);
    for pid in [family.child, family.away] {
        is_listed(&detection, pid, "leftover", "mark of an earlier run of bot");
    }
    assert!(listed(&detection, family.bare).is_none(), "nothing proves whose it was");
    let said = family.sandbox.expect(1, "ops", &["detect"]);
    assert!(said.stdout.contains("leftover of bot") && said.stderr.contains("ops stop --force"), "{said:?}");
    assert!(alive(family.child), "nothing is ended by looking");

    let stopped = family.sandbox.json(0, "ops", &["stop", "--force"]);
    assert_eq!(stopped["services"][0]["outcome"], "stopped");
    assert!(!alive(family.child) && !alive(family.away) && alive(family.bare));
    kill(family.bare);
}

#[test]
fn a_service_whose_record_is_lost_is_known_by_its_mark() {
    let family = Family::start();
    std::fs::remove_dir_all(family.sandbox.path(".ops/service")).unwrap();
    let detection = family.sandbox.json(1, "ops", &["detect"]);
    is_listed(&detection, family.first, "leftover", "carries the mark");
    is_listed(&detection, family.bare, "leftover", "child of");
    // A service of that name is no longer in the config.
    family.sandbox.write("ops.toml", "");
    let detection = family.sandbox.json(1, "ops", &["detect"]);
    is_listed(&detection, family.first, "leftover", "which the config no longer has");
    family.sandbox.write("ops.toml", "[service.bot]\ncommand = [\"./run.sh\"]\n");
    family.sandbox.expect(0, "ops", &["stop", "--force"]);
    assert!(!alive(family.first) && !alive(family.away) && !alive(family.bare));
}

#[test]
fn look_alikes_survive_every_stop() {
    let family = Family::start();
    let other = family.sandbox.path("run.sh").display().to_string();
    // The same words, the same name, the same script under the same interpreter.
    let words = Bystander::new("sh", &["-c", "read line", &family.word]);
    let name = Bystander::new("sleep", &["6001"]);
    let script = Bystander::new("sh", &["-c", "read line", &other, &family.word]);
    let bystanders = [words.0.id(), name.0.id(), script.0.id()];

    let detection = family.sandbox.json(1, "ops", &["detect"]);
    is_listed(&detection, bystanders[0], "stranger", "has the arguments of bot");
    is_listed(&detection, bystanders[2], "stranger", "has the arguments of bot");
    assert!(listed(&detection, bystanders[1]).is_none(), "a name alone is nothing");
    is_listed(&detection, family.first, "service", "recorded");

    // The record names a number that went to another since, and so does a pid file.
    kill(family.first);
    let mut record: Value = serde_json::from_str(&family.sandbox.read(".ops/service/bot.json")).unwrap();
    for pid in bystanders {
        record["identity"]["pid"] = json!(pid);
        family.sandbox.write(".ops/service/bot.json", record.to_string());
        family.sandbox.expect(0, "ops", &["stop", "--force"]);
        assert!(alive(pid), "{pid}");
    }
    let toml = family.sandbox.read("ops.toml");
    family.sandbox.write("ops.toml", format!("{toml}pid_file = \"bot.pid\"\n"));
    for pid in bystanders {
        family.sandbox.write("bot.pid", format!("{pid}\n"));
        family.sandbox.expect(0, "ops", &["stop", "--force"]);
        assert!(alive(pid), "{pid}");
    }
    let detection = family.sandbox.json(1, "ops", &["detect"]);
    is_listed(&detection, bystanders[2], "stranger", "bot.pid names it");
    assert!(!alive(family.child) && !alive(family.away));
    kill(family.bare);
}

#[test]
fn two_agents_of_one_kind_do_not_see_each_other() {
    let (one, two) = (with_agent(&[]), with_agent(&[]));
    one.expect(0, "ops", &["start"]);
    two.expect(0, "ops", &["start"]);
    // Not the exit code: an agent that another test runs by hand may look like this one.
    let detection: Value = serde_json::from_str(&one.run("ops", &["detect", "--json"]).stdout).unwrap();
    is_listed(&detection, agent_pid(&one), "service", "logs/daemon.pid names it");
    assert!(listed(&detection, agent_pid(&two)).is_none());
    one.expect(0, "ops", &["stop", "--force"]);
    assert!(alive(agent_pid(&two)));
    two.expect(0, "ops", &["stop"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_of_ours_in_other_hands_is_told() {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", format!("[service.web]\ncommand = [\"sleep\", \"6011\"]\nports = [{port}]\n"));
    let detection = sandbox.json(1, "ops", &["detect"]);
    is_listed(&detection, std::process::id(), "stranger", &format!("listens at port {port} of web"));

    let said = sandbox.expect(2, "ops", &["start"]);
    assert!(said.stderr.contains(&format!("pid {} has it", std::process::id())), "{}", said.stderr);
    drop(listener);
    sandbox.expect(0, "ops", &["start"]);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said = sandbox.expect(2, "ops", &["stop"]);
    let expected = format!("port {port} is not free");
    assert!(said.stderr.contains(&expected), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("pid {} has it", std::process::id())), "{}", said.stderr);
    drop(listener);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn secrets_in_a_command_line_are_not_shown() {
    let sandbox = Sandbox::new();
    let word = word(&sandbox);
    sandbox.write("ops.toml", format!("[service.bot]\ncommand = [\"./bot\", \"{word}\"]\n"));
    let other =
        Bystander::new("sh", &["-c", "read line", "\u{1b}[2J", &word, "--token", "hunter2", "KEY=hunter2"]);
    let said = sandbox.expect(1, "ops", &["detect"]);
    assert!(said.stdout.contains(&other.0.id().to_string()), "{}", said.stdout);
    let document = sandbox.json(1, "ops", &["detect"]).to_string();
    for shown in [said.stdout, document] {
        assert!(!shown.contains("hunter2") && !shown.contains('\u{1b}'), "{shown}");
    }
}
