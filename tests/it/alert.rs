//! `alert`: who is told, how often, and what is restarted.

use crate::sandbox::{Said, Sandbox, said, wait_until};
use agent_ops::base::process::{Identity, Process, Signal};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// A web hook that notes what it is sent.
struct Hook {
    url: String,
    got: Arc<Mutex<Vec<Value>>>,
    status: Arc<AtomicU16>,
}

/// A status that never comes.
const SILENCE: u16 = 0;

impl Hook {
    fn new() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(AtomicU16::new(200));
        let hook = Hook { url, got: got.clone(), status: status.clone() };
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let body = read_request(&mut stream);
                got.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                match status.load(Ordering::SeqCst) {
                    SILENCE => kept.push(stream),
                    status => {
                        let answer =
                            format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            }
        });
        hook
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What came since it was last asked.
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }

    /// The kinds of what came, in order.
    fn kinds(&self) -> Vec<String> {
        self.take().iter().map(|message| message["kind"].as_str().unwrap().to_owned()).collect()
    }
}

fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

/// The built-in agent, and where its alerts go. No checks but those of its process and heart.
fn with_agent(hook: &Hook) -> Sandbox {
    let sandbox = Sandbox::new();
    let off: String = ["disk", "log_size", "log_errors", "backup", "memory"]
        .map(|check| format!("[check.{check}]\nenabled = false\n"))
        .concat();
    let url = &hook.url;
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mama\"\npreset = \"builtin\"\n[alerts.desktop]\nenabled = false\n\
             [alerts.webhook]\nurl = \"{url}\"\n[builtin_agent]\nheartbeat = \"1s\"\n{off}"
        ),
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox
}

/// No agent at all, but `checks` checks of the size of `data/*.log`, and where alerts go.
fn with_checks(checks: usize, alerts: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let checks: String = (0..checks)
        .map(|number| {
            format!(
                "[check.size{number}]\nkind = \"log_size\"\nwarn = \"1KB\"\ncrit = \"10KB\"\n\
                 alert_warning = \"disk_low\"\nalert_critical = \"disk_critical\"\n"
            )
        })
        .collect();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mama\"\npreset = \"none\"\n[logs]\ninclude = [\"data/*.log\"]\n\
             {checks}[alerts.desktop]\nenabled = false\n{alerts}"
        ),
    );
    sandbox
}

fn webhook(hook: &Hook) -> String {
    format!("[alerts.webhook]\nurl = \"{}\"\n", hook.url)
}

fn warn(sandbox: &Sandbox) {
    sandbox.write("data/a.log", [b'x'; 2000]);
}

fn crit(sandbox: &Sandbox) {
    sandbox.write("data/a.log", [b'x'; 20_000]);
}

fn good(sandbox: &Sandbox) {
    sandbox.write("data/a.log", "");
}

/// A run of `alert` at a time of day, such as `12:05`, on one certain day.
#[track_caller]
fn at(code: i32, sandbox: &Sandbox, time: &str) -> Said {
    let now = format!("2026-11-20T{time}:00Z");
    let said = said(sandbox.program("alert").env("OPS_NOW", now).output().unwrap());
    assert_eq!(said.code, code, "at {time}\n{}\n{}", said.stdout, said.stderr);
    said
}

fn agent(sandbox: &Sandbox) -> Process {
    let record: Value = serde_json::from_str(&sandbox.read(".ops/service/daemon.json")).unwrap();
    let identity: Identity = serde_json::from_value(record["identity"].clone()).unwrap();
    identity.find().unwrap().expect("the service runs")
}

fn kill_agent(sandbox: &Sandbox) {
    let identity = agent(sandbox).identity;
    assert!(identity.signal(Signal::KILL).unwrap());
    wait_until("the service is dead", || identity.find().unwrap().is_none());
}

fn log_lines(sandbox: &Sandbox) -> Vec<String> {
    sandbox.read("logs/alerts.log").lines().map(str::to_owned).collect()
}

#[test]
fn a_killed_agent_is_told_once_restarted_and_its_recovery_told_once() {
    let hook = Hook::new();
    let sandbox = with_agent(&hook);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);
    kill_agent(&sandbox);

    sandbox.expect(0, "alert", &[]);
    let told = hook.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["schema"], 1);
    assert_eq!(told[0]["kind"], "new");
    assert_eq!(told[0]["severity"], "critical");
    assert_eq!(told[0]["type"], "daemon_critical");
    assert_eq!(told[0]["title"], "Daemon Critical");
    assert_eq!(told[0]["agent"], "mama");
    assert_eq!(told[0]["runbook"], "runbooks/daemon_critical.md");
    let restarted = format!("restarted as pid {}", agent(&sandbox).identity.pid);
    assert!(told[0]["message"].as_str().unwrap().contains(&restarted), "{told:?}");

    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0, "the first good look after our restart proves nothing");
    sandbox.expect(0, "alert", &[]);
    let told = hook.take();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["kind"], &told[0]["severity"]), (&"recovered".into(), &"ok".into()));
    assert_eq!(told[0]["title"], "Recovered: Daemon Critical");
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);

    let lines = log_lines(&sandbox);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("] [CRITICAL] Daemon Critical - "));
    assert!(lines[1].contains("] [OK] Recovered: Daemon Critical - "));
}

#[test]
fn ten_alerts_at_once_tell_once_and_start_once() {
    let hook = Hook::new();
    let sandbox = with_agent(&hook);
    kill_agent(&sandbox);
    let children: Vec<_> = (0..10)
        .map(|_| sandbox.program("alert").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in children {
        let said = said(child.wait_with_output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
    }
    assert_eq!(hook.kinds(), ["new"]);
    assert_eq!(log_lines(&sandbox).len(), 1);
    let started = sandbox.read("logs/restart.log").matches("Started - daemon").count();
    assert_eq!(started, 2, "by the operator, and by one of the ten");
}

#[test]
fn an_operator_s_stop_is_no_alert_and_is_not_undone() {
    let hook = Hook::new();
    let sandbox = with_agent(&hook);
    let identity = agent(&sandbox).identity;
    sandbox.expect(0, "ops", &["stop"]);
    for _ in 0..3 {
        sandbox.expect(0, "alert", &[]);
    }
    assert!(identity.find().unwrap().is_none());
    assert_eq!(hook.take().len(), 0);

    // Stopped while it was a problem: the problem is closed, and nobody hears of it.
    sandbox.expect(0, "ops", &["start"]);
    kill_agent(&sandbox);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.kinds(), ["new"]);
    sandbox.expect(0, "ops", &["stop"]);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);
    assert_eq!(sandbox.json(0, "alert", &["list"])["open"], Value::Array(Vec::new()));
    let why = sandbox.expect(0, "alert", &["why", "process"]);
    assert!(why.stdout.contains("stopped by its operator"), "{}", why.stdout);
}

#[test]
fn a_crash_loop_is_given_up_and_said_once() {
    let hook = Hook::new();
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[service.daemon]\ncommand = [\"sleep\", \"1000\"]\n\
             [alerts]\nmax_per_hour = 0\n[alerts.desktop]\nenabled = false\n{}",
            webhook(&hook)
        ),
    );
    sandbox.expect(0, "ops", &["start"]);
    let mut said = Vec::new();
    for time in ["12:00", "12:10", "12:20"] {
        kill_agent(&sandbox);
        at(0, &sandbox, time);
        agent(&sandbox);
        said.extend(hook.take());
    }
    assert_eq!(said.len(), 1, "the first CRITICAL passes any cap: {said:?}");
    kill_agent(&sandbox);
    at(0, &sandbox, "12:30");
    let told = hook.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["type"], &told[0]["severity"]), (&"restart_loop".into(), &"critical".into()));
    // Not even when the hour is over; and not said again.
    for time in ["12:35", "13:50", "14:50"] {
        let run = at(0, &sandbox, time);
        assert!(!run.stdout.contains("restarted"), "{}", run.stdout);
    }
    assert_eq!(hook.take().len(), 0);
    // The operator starts it: it is over, and told so once.
    sandbox.expect(0, "ops", &["start"]);
    at(0, &sandbox, "15:00");
    at(0, &sandbox, "15:05");
    assert_eq!(hook.kinds(), ["recovered"]);
}

#[test]
fn a_restart_that_fails_is_part_of_what_is_told() {
    let hook = Hook::new();
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[service.daemon]\ncommand = [\"false\"]\n\
             [alerts.desktop]\nenabled = false\n{}",
            webhook(&hook)
        ),
    );
    at(1, &sandbox, "12:00");
    let told = hook.take();
    assert!(told[0]["message"].as_str().unwrap().contains("could not be restarted"), "{told:?}");
    let again = at(0, &sandbox, "12:00");
    assert!(!again.stdout.contains("could not be"), "the pause is not over: {}", again.stdout);
}

#[test]
fn a_dead_hook_gets_it_in_the_next_run_once_and_under_the_same_name() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    warn(&sandbox);
    hook.answer(503);
    let run = at(2, &sandbox, "12:00");
    assert!(run.stderr.contains("nobody could be told"), "{}", run.stderr);
    let first = hook.take();
    hook.answer(200);
    at(0, &sandbox, "12:05");
    let second = hook.take();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0], second[0]);
    at(0, &sandbox, "12:10");
    assert_eq!(hook.take().len(), 0);
    assert_eq!(log_lines(&sandbox).len(), 1, "one message, one line");
}

#[test]
fn a_refusal_for_good_is_not_tried_again() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    warn(&sandbox);
    hook.answer(404);
    at(2, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    at(0, &sandbox, "12:05");
    assert_eq!(hook.take().len(), 0);
    at(2, &sandbox, "12:30");
    assert_eq!(hook.kinds(), ["reminder"], "but what is new is tried");
}

#[test]
fn an_end_that_nobody_was_told_is_told_later() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    hook.answer(500);
    at(2, &sandbox, "12:00");
    good(&sandbox);
    at(2, &sandbox, "12:05");
    hook.take();
    hook.answer(200);
    at(0, &sandbox, "12:10");
    assert_eq!(hook.kinds(), ["recovered"], "which says it all");
    at(0, &sandbox, "12:15");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn killed_while_delivering_it_is_sent_again_under_the_same_name() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    hook.answer(SILENCE);
    let mut child = sandbox.program("alert").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the message is under way", || !hook.got.lock().unwrap().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let first = hook.take();
    hook.answer(200);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take(), first);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn the_same_is_silent_until_the_cooldown_is_over() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    warn(&sandbox);
    let mut said = Vec::new();
    for time in ["12:00", "12:05", "12:29", "12:30", "12:35", "13:29", "13:30"] {
        at(0, &sandbox, time);
        said.extend(hook.take().into_iter().map(|message| (time, message["kind"].clone())));
    }
    assert_eq!(said, [("12:00", "new".into()), ("12:30", "reminder".into()), ("13:30", "reminder".into())]);
    crit(&sandbox);
    at(0, &sandbox, "13:35");
    assert_eq!(hook.kinds(), ["worse"], "worse is told at once");
    // The clock goes back by hours: nothing waits for a time that is not to come again.
    at(0, &sandbox, "03:00");
    assert_eq!(hook.kinds(), ["reminder"]);
    at(0, &sandbox, "03:05");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn the_hourly_cap_holds_warnings_but_no_first_critical() {
    let hook = Hook::new();
    let sandbox = with_checks(8, &webhook(&hook));
    warn(&sandbox);
    at(0, &sandbox, "12:00");
    let told = hook.take();
    assert_eq!(told.len(), 5, "max_per_hour");
    let digest = told.iter().map(|message| message["also"].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(digest, 3, "the others are summed up");
    at(0, &sandbox, "12:31");
    assert_eq!(hook.take().len(), 0, "reminders wait for room");
    crit(&sandbox);
    at(0, &sandbox, "12:36");
    assert_eq!(hook.kinds(), ["worse"; 8], "all are critical for the first time");
    good(&sandbox);
    at(0, &sandbox, "12:41");
    assert_eq!(hook.kinds(), ["recovered"; 8]);
}

#[test]
fn a_damaged_journal_keeps_no_alert_back() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    for sidecar in ["-wal", "-shm"] {
        let _ = fs::remove_file(sandbox.path(&format!(".ops/ops.db{sidecar}")));
    }
    fs::write(sandbox.path(".ops/ops.db"), [0x5a; 9000]).unwrap();
    let run = at(0, &sandbox, "12:05");
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    assert_eq!(hook.kinds(), ["new"], "what was told is not known any more");
    at(0, &sandbox, "12:10");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn damage_deep_in_the_journal_keeps_no_alert_back() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    // All of it in one file; its first page, with the header and the tables' names, stays whole.
    let connection = rusqlite::Connection::open(sandbox.path(".ops/ops.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let mut bytes = fs::read(sandbox.path(".ops/ops.db")).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(sandbox.path(".ops/ops.db"), bytes).unwrap();
    let run = at(0, &sandbox, "12:05");
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    assert_eq!(hook.kinds(), ["new"]);
    at(0, &sandbox, "12:10");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn a_home_that_takes_no_state_keeps_no_alert_back() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    sandbox.write(".ops", "a file where a folder should be");
    let run = at(0, &sandbox, "12:00");
    assert!(run.stderr.contains("people are told all the same"), "{}", run.stderr);
    assert_eq!(hook.kinds(), ["new"]);
    // And yet it is told once.
    at(0, &sandbox, "12:05");
    assert_eq!(hook.take().len(), 0);
    hook.answer(500);
    at(2, &sandbox, "12:30");
    hook.answer(200);
    hook.take();
    at(0, &sandbox, "12:35");
    assert_eq!(hook.kinds(), ["reminder"], "what reached nobody is told again");
    fs::remove_file(sandbox.path(".ops")).unwrap();
    at(0, &sandbox, "12:40");
    assert_eq!(hook.take().len(), 0, "the journal takes over what was remembered");
    assert_eq!(sandbox.json(0, "alert", &["list"])["open"][0]["check"], "size0");
    good(&sandbox);
    at(0, &sandbox, "12:45");
    assert_eq!(hook.kinds(), ["recovered"]);
}

#[test]
fn without_a_channel_it_says_that_nobody_was_told_and_what_to_set_up() {
    let sandbox = with_checks(1, "");
    crit(&sandbox);
    let run = at(1, &sandbox, "12:00");
    assert!(run.stderr.contains("nobody could be told"), "{}", run.stderr);
    assert!(run.stderr.contains("[alerts.email]") && run.stderr.contains("ops.toml"), "{}", run.stderr);
    assert_eq!(log_lines(&sandbox).len(), 1);
    assert_eq!(sandbox.run("alert", &["test"]).code, 2);
}

#[test]
fn no_desktop_session_is_neither_success_nor_failure() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    let config = sandbox.read("ops.toml").replace("enabled = false", "enabled = true");
    sandbox.write("ops.toml", config);
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    assert_eq!(hook.take().len(), 1);
    at(0, &sandbox, "12:05");
    assert_eq!(hook.take().len(), 0);
}

#[test]
fn the_key_in_an_address_is_shown_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let alerts = format!("[alerts.webhook]\nurl = \"http://127.0.0.1:{port}/T0P53CR3T\"\n");
    let sandbox = with_checks(1, &alerts);
    crit(&sandbox);
    let run = at(2, &sandbox, "12:00");
    for text in [&run.stdout, &run.stderr, &sandbox.read("logs/alerts.log")] {
        assert!(!text.contains("T0P53CR3T"), "{text}");
    }
    let list = sandbox.json(0, "alert", &["list"]).to_string();
    assert!(list.contains("\"failed\"") && !list.contains("T0P53CR3T"), "{list}");
}

#[test]
fn a_dry_run_says_what_would_be_sent_and_changes_nothing() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    crit(&sandbox);
    let before = files(&sandbox);
    let run = sandbox.expect(0, "alert", &["--dry-run"]);
    assert!(run.stdout.contains("would be sent: [CRITICAL] Disk Critical"), "{}", run.stdout);
    assert_eq!(files(&sandbox), before);
    assert_eq!(hook.take().len(), 0);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(hook.kinds(), ["new"]);
}

fn files(sandbox: &Sandbox) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&sandbox.home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn silence_ack_list_why_and_test() {
    let hook = Hook::new();
    let sandbox = with_checks(1, &webhook(&hook));
    let tell = |args: &[&str], time: &str| {
        let now = format!("2026-11-20T{time}:00Z");
        said(sandbox.program("alert").env("OPS_NOW", now).args(args).output().unwrap())
    };
    assert_eq!(tell(&["silence", "2h", "--reason", "new disk"], "12:00").code, 0);
    crit(&sandbox);
    let run = at(0, &sandbox, "12:05");
    assert!(run.stderr.contains("silenced until 2026-11-20 14:00:00: new disk"), "{}", run.stderr);
    assert_eq!(hook.take().len(), 0);
    at(0, &sandbox, "14:00");
    assert_eq!(hook.kinds(), ["new"], "it is told when the silence is over");

    assert_eq!(tell(&["ack", "nothing"], "14:01").code, 3);
    assert_eq!(tell(&["ack", "size0"], "14:01").code, 0);
    at(0, &sandbox, "19:00");
    assert_eq!(hook.take().len(), 0, "acknowledged");

    let list = sandbox.json(0, "alert", &["list"]);
    assert_eq!(list["open"][0]["check"], "size0");
    assert_eq!(list["messages"][0]["channels"][0]["outcome"], "delivered");
    let why = tell(&["why", "disk_critical"], "19:05").stdout;
    for part in ["told: new", "held back as long as alerts are silenced", "acknowledged", "# Disk Critical"] {
        assert!(why.contains(part), "{part}\n{why}");
    }
    assert_eq!(sandbox.json(0, "alert", &["why", "size0"])["incidents"][0]["check"], "size0");
    assert_eq!(tell(&["why", "no_such_thing"], "19:05").code, 3);

    assert_eq!(tell(&["test"], "19:05").code, 0);
    assert_eq!(hook.kinds(), ["test"]);
    assert_eq!(tell(&["test", "--channel", "email"], "19:05").code, 3, "it is not set up");
    hook.answer(500);
    assert_eq!(tell(&["test"], "19:05").code, 2);
    for wrong in [&["silence", "soon"][..], &["frobnicate"], &["--dry-run", "list"]] {
        assert_eq!(tell(wrong, "19:05").code, 3, "{wrong:?}");
    }
}

/// A mail server that takes one mail a connection, and answers RCPT as it is told.
fn mail_server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let kept = mails.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
            say("220 mail.test");
            let mut mail: Option<String> = None;
            while let Some(Ok(line)) = lines.next() {
                match &mut mail {
                    Some(_) if line == "." => {
                        kept.lock().unwrap().extend(mail.take());
                        say("250 taken");
                    }
                    Some(mail) => {
                        mail.push_str(&line);
                        mail.push('\n');
                    }
                    None if line.starts_with("RCPT") => drop(say(answer)),
                    None if line == "DATA" => {
                        mail = Some(String::new());
                        say("354 go on");
                    }
                    None if line == "QUIT" => {
                        say("221 bye");
                        break;
                    }
                    None => drop(say("250 fine")),
                }
            }
        }
    });
    (port, mails)
}

fn email(port: u16) -> String {
    format!(
        "[alerts.email]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         from = \"Mama <mama@example.org>\"\nto = [\"me@example.org\"]\n"
    )
}

#[test]
fn a_mail_goes_out_and_answers_to_its_first() {
    let (port, mails) = mail_server("250 fine");
    let sandbox = with_checks(1, &email(port));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    good(&sandbox);
    at(0, &sandbox, "12:05");
    let mails = mails.lock().unwrap();
    assert_eq!(mails.len(), 2);
    let header = |mail: &str, name: &str| {
        let start = format!("{name}: ");
        mail.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
    };
    assert!(header(&mails[0], "Subject").starts_with("[mama] CRITICAL Disk Critical - "), "{}", mails[0]);
    let kinds: Vec<&str> = mails[0].lines().filter_map(|line| line.strip_prefix("Content-Type: ")).collect();
    assert_eq!(kinds.len(), 3, "{}", mails[0]);
    assert!(kinds[0].starts_with("multipart/alternative") && kinds[1].starts_with("text/plain"));
    assert!(kinds[2].starts_with("text/html"), "{kinds:?}");
    assert!(mails[0].contains("runbooks/disk_critical.md") && mails[0].contains("ops rotate-logs"));
    let id = header(&mails[0], "Message-ID");
    assert!(id.len() > 10);
    assert_eq!(header(&mails[1], "In-Reply-To"), id);
    assert_eq!(header(&mails[1], "References"), id);
    assert!(header(&mails[1], "Subject").contains("Recovered: Disk Critical"), "{}", mails[1]);
}

#[test]
fn a_mail_server_s_no_is_told_from_its_not_now() {
    for (answer, tried_again) in [("550 no such user", false), ("451 come back later", true)] {
        let (port, _) = mail_server(answer);
        let sandbox = with_checks(1, &email(port));
        crit(&sandbox);
        at(2, &sandbox, "12:00");
        let said = at(if tried_again { 2 } else { 0 }, &sandbox, "12:05");
        assert_eq!(said.stdout.contains("email"), tried_again, "{answer}: {}", said.stdout);
    }
}

#[test]
fn where_one_channel_fails_another_stands_in() {
    let (port, mails) = mail_server("250 fine");
    let hook = Hook::new();
    hook.answer(500);
    let sandbox = with_checks(1, &format!("{}{}", email(port), webhook(&hook)));
    warn(&sandbox);
    // A warning goes to the hook; mail is for what is critical, but better than nobody.
    at(1, &sandbox, "12:00");
    assert_eq!(mails.lock().unwrap().len(), 1);
    hook.answer(200);
    hook.take();
    at(0, &sandbox, "12:05");
    assert_eq!((hook.take().len(), mails.lock().unwrap().len()), (1, 1));
    at(0, &sandbox, "12:10");
    assert_eq!((hook.take().len(), mails.lock().unwrap().len()), (0, 1));
}
