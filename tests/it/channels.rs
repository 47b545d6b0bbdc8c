//! What each channel is sent, and what becomes of its answers.

use crate::receiver::{Receiver, at, crit, email, good, mail_server, warn, with_checks};
use crate::sandbox::{Sandbox, wait_until};
use std::net::TcpListener;

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

/// A Telegram bot's server: numbers its messages, and knows which there are.
fn telegram() -> Receiver {
    let server = Receiver::new();
    let mut last = 100;
    server.answer(move |request| {
        let document = request.json();
        let method = request.path.rsplit('/').next().unwrap();
        let number = match method {
            "sendMessage" => {
                last += 1;
                last
            }
            _ => document["message_id"].as_i64().unwrap(),
        };
        let body = serde_json::json!({"ok": true, "result": {"message_id": number}});
        Some(("200 OK".to_owned(), body.to_string()))
    });
    server
}

fn telegram_table(server: &Receiver) -> String {
    format!(
        "[alerts.telegram]\napi = \"{}\"\ntoken = \"123:T0P53CR3T\"\nchat = \"-42\"\ntopic = 7\n",
        server.url
    )
}

#[test]
fn a_telegram_message_becomes_its_resolved() {
    let server = telegram();
    let sandbox = with_checks(1, &telegram_table(&server));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    let sent = server.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].path, "/bot123:T0P53CR3T/sendMessage");
    let document = sent[0].json();
    assert_eq!((&document["chat_id"], &document["message_thread_id"]), (&"-42".into(), &7.into()));
    let text = document["text"].as_str().unwrap();
    assert!(text.starts_with("[mama] CRITICAL Disk Critical") && text.contains("runbooks/"), "{text}");
    good(&sandbox);
    at(0, &sandbox, "12:05");
    let edited = server.take();
    assert_eq!(edited.len(), 1, "written into the message, and no other beside it");
    assert!(edited[0].path.ends_with("/editMessageText"));
    assert_eq!(edited[0].json()["message_id"], 101);
    assert!(edited[0].json()["text"].as_str().unwrap().contains("Recovered: Disk Critical"));

    // With a reminder below it, the end is said below that too: as an answer to the first.
    crit(&sandbox);
    at(0, &sandbox, "13:30");
    at(0, &sandbox, "14:00");
    good(&sandbox);
    at(0, &sandbox, "14:05");
    let sent = server.take();
    let methods: Vec<_> = sent.iter().map(|request| request.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(methods, ["sendMessage", "sendMessage", "editMessageText", "sendMessage"]);
    assert_eq!(sent[2].json()["message_id"], 102);
    for answer in [1, 3] {
        assert_eq!(sent[answer].json()["reply_parameters"]["message_id"], 102);
    }
}

#[test]
fn a_telegram_message_that_is_gone_is_said_anew() {
    let server = telegram();
    let sandbox = with_checks(1, &telegram_table(&server));
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    server.take();
    server.answer(|request| {
        let edit = request.path.ends_with("/editMessageText");
        let refused = r#"{"ok":false,"description":"Bad Request: message to edit not found"}"#;
        let good = r#"{"ok":true,"result":{"message_id":7}}"#;
        Some(if edit { ("400 X".into(), refused.into()) } else { ("200 OK".into(), good.into()) })
    });
    good(&sandbox);
    at(0, &sandbox, "12:05");
    let sent = server.take();
    assert_eq!(sent.len(), 2);
    assert!(sent[1].path.ends_with("/sendMessage"));
    at(0, &sandbox, "12:10");
    assert!(server.is_empty());
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_left_alone() {
    let server = Receiver::new();
    let wait = |seconds: u32| {
        let body = format!(r#"{{"ok":false,"error_code":429,"parameters":{{"retry_after":{seconds}}}}}"#);
        Some(("429 Too Many Requests".to_owned(), body))
    };
    server.answer(move |_| wait(600));
    let sandbox = with_checks(1, &telegram_table(&server));
    crit(&sandbox);
    at(2, &sandbox, "12:00");
    assert_eq!(server.take().len(), 1);
    server.answer(|_| Some(("200 OK".into(), r#"{"ok":true,"result":{"message_id":7}}"#.into())));
    let said = at(2, &sandbox, "12:05");
    assert!(
        server.is_empty() && said.stdout.contains("left alone until 2026-11-20 12:10:00"),
        "{}",
        said.stdout
    );
    at(0, &sandbox, "12:10");
    assert_eq!(server.take().len(), 1);

    // A second can be waited for.
    let mut asked = 0;
    server.answer(move |_| {
        asked += 1;
        if asked == 1 { wait(1) } else { Some(("200 OK".into(), "{}".into())) }
    });
    good(&sandbox);
    at(0, &sandbox, "12:15");
    assert_eq!(server.take().len(), 2);
}

#[test]
fn ntfy_and_gotify_say_how_bad_it_is() {
    let server = Receiver::new();
    let url = &server.url;
    let sandbox = with_checks(
        1,
        &format!(
            "[alerts.ntfy]\nurl = \"{url}/T0P53CR3T\"\nuser = \"me\"\npassword = \"pass\"\ntags = [\"robot\"]\n\
             [alerts.gotify]\nurl = \"{url}/gotify/\"\ntoken = \"AppT0P53CR3T\"\n"
        ),
    );
    let mut priorities = Vec::new();
    for (time, set) in [("12:00", warn as fn(&Sandbox)), ("12:05", crit), ("12:10", good)] {
        set(&sandbox);
        at(0, &sandbox, time);
        let mut sent = server.take();
        sent.sort_by_key(|request| request.path.len());
        assert_eq!(sent.len(), 2);
        let (ntfy, gotify) = (&sent[0], &sent[1]);
        assert_eq!((ntfy.path.as_str(), gotify.path.as_str()), ("/", "/gotify/message"));
        assert_eq!(ntfy.headers["authorization"], "Basic bWU6cGFzcw==");
        assert_eq!(gotify.headers["x-gotify-key"], "AppT0P53CR3T");
        let (ntfy, gotify) = (ntfy.json(), gotify.json());
        assert_eq!((&ntfy["topic"], &ntfy["tags"][1]), (&"T0P53CR3T".into(), &"robot".into()));
        assert!(ntfy["title"].as_str().unwrap().starts_with("[mama] "));
        assert_eq!(ntfy["title"], gotify["title"]);
        priorities.push((ntfy["priority"].as_i64().unwrap(), gotify["priority"].as_i64().unwrap()));
    }
    assert_eq!(priorities, [(4, 5), (5, 8), (3, 3)]);
}

#[test]
fn a_webhook_is_signed_and_filled_in() {
    let server = Receiver::new();
    let sandbox = with_checks(
        1,
        &format!(
            "[alerts.webhook]\nurl = \"{}/x\"\nsecret = \"Jefe\"\nheaders = {{ X-Token = \"t\" }}\n\
             template = '{{\"text\": \"{{severity}} {{title}}: {{message}}\", \"id\": \"{{uid}}\"}}'\n",
            server.url
        ),
    );
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    let sent = server.take();
    assert_eq!(sent[0].headers["x-token"], "t");
    assert_eq!(sent[0].headers["content-type"], "application/json");
    let document = sent[0].json();
    assert!(document["text"].as_str().unwrap().starts_with("CRITICAL Disk Critical: "), "{document}");
    use hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha2::Sha256>::new_from_slice(b"Jefe").unwrap().chain_update(&sent[0].body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sent[0].headers["x-signature-256"], format!("sha256={hex}"));

    for (format, key) in [("slack", "text"), ("discord", "embeds"), ("teams", "attachments")] {
        let sandbox =
            with_checks(1, &format!("[alerts.webhook]\nurl = \"{}/x\"\nformat = \"{format}\"\n", server.url));
        crit(&sandbox);
        at(0, &sandbox, "12:00");
        assert!(server.take()[0].json().get(key).is_some(), "{format}");
    }
}

#[test]
fn a_command_gets_the_message_and_ends_in_its_time_with_all_it_started() {
    let sandbox = with_checks(1, "[alerts.command]\nrun = [\"bin/tell\", \"a b\"]\ntimeout = \"1s\"\n");
    let script = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = sandbox.write("bin/tell", format!("#!/bin/sh\n{text}"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("cat > \"$OPS_HOME/told\"; echo \"$1\" > \"$OPS_HOME/argument\"");
    crit(&sandbox);
    at(0, &sandbox, "12:00");
    let told: serde_json::Value = serde_json::from_str(&sandbox.read("told")).unwrap();
    assert_eq!((&told["kind"], &told["severity"]), (&"new".into(), &"critical".into()));
    assert_eq!(sandbox.read("argument"), "a b\n", "no shell has read it");

    script("echo 'no such user' >&2; exit 4");
    good(&sandbox);
    let said = at(2, &sandbox, "12:05");
    assert!(said.stdout.contains("no such user"), "{}", said.stdout);
    script("sleep 300 & echo $! > \"$OPS_HOME/child\"; wait");
    let said = at(2, &sandbox, "12:10");
    assert!(said.stdout.contains("not done within"), "{}", said.stdout);
    let child: u32 = sandbox.read("child").trim().parse().unwrap();
    wait_until("what it started is gone", || {
        agent_ops::base::process::Process::find(child).unwrap().is_none_or(|process| process.zombie)
    });
    script("true");
    at(0, &sandbox, "12:15");
}

#[test]
fn an_alertmanager_hears_of_what_is_open_in_every_run() {
    let server = Receiver::new();
    let sandbox = with_checks(
        1,
        &format!(
            "runbooks = \"https://wiki.example/ops\"\n[alerts.alertmanager]\nurl = \"{}\"\n\
             headers = {{ Authorization = \"Bearer T0P53CR3T\" }}\nlabels = {{ team = \"agents\" }}\n",
            server.url
        )
        .replace("runbooks", "[alerts]\nrunbooks"),
    );
    let told = |time: &str| -> Vec<(String, String, String)> {
        let said = at(0, &sandbox, time);
        assert!(!said.stderr.contains("nobody"), "{}", said.stderr);
        let sent = server.take();
        assert!(sent.len() <= 1);
        let Some(request) = sent.first() else { return Vec::new() };
        assert_eq!(request.path, "/api/v2/alerts");
        assert_eq!(request.headers["authorization"], "Bearer T0P53CR3T");
        let alerts = request.json();
        let alerts = alerts.as_array().unwrap().iter().map(|alert| {
            let labels = &alert["labels"];
            assert_eq!((&labels["agent"], &labels["check"]), (&"mama".into(), &"size0".into()));
            assert_eq!(labels["team"], "agents");
            assert!(alert["startsAt"].as_str().unwrap().starts_with("2026-11-20T12:00:00"));
            let page = format!("https://wiki.example/ops/{}.md", labels["alertname"].as_str().unwrap());
            assert_eq!(alert["annotations"]["runbook_url"], page);
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&labels["alertname"]), text(&labels["severity"]), text(&alert["endsAt"])[11..16].to_owned())
        });
        alerts.collect()
    };
    let alert =
        |name: &str, severity: &str, ends: &str| (name.to_owned(), severity.to_owned(), ends.to_owned());
    warn(&sandbox);
    assert_eq!(told("12:00"), [alert("disk_low", "warning", "12:15")]);
    assert_eq!(told("12:05"), [alert("disk_low", "warning", "12:20")], "state, not a message: no cooldown");
    // Under another name now: the old one ends.
    crit(&sandbox);
    assert_eq!(
        told("12:10"),
        [alert("disk_critical", "critical", "12:25"), alert("disk_low", "warning", "12:10")]
    );
    good(&sandbox);
    assert_eq!(
        told("12:15"),
        [alert("disk_critical", "critical", "12:15"), alert("disk_low", "warning", "12:10")]
    );
    assert_eq!(
        told("12:20"),
        [alert("disk_critical", "critical", "12:15"), alert("disk_low", "warning", "12:10")]
    );
    assert_eq!(told("12:30"), []);
    // One that is away is a warning of the run, and the next run tells it all.
    warn(&sandbox);
    server.answer(|_| Some(("503 X".to_owned(), String::new())));
    let said = at(2, &sandbox, "13:00");
    assert!(said.stderr.contains("alertmanager: the server answered 503"), "{}", said.stderr);
    assert!(!said.stderr.contains("T0P53CR3T"));
}

#[test]
fn no_secret_of_any_channel_is_shown_anywhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let sandbox = with_checks(
        1,
        &format!(
            "[alerts.deadman]\nalert = \"{url}/T0P53CR3T\"\n\
             [alerts.webhook]\nurl = \"{url}/T0P53CR3T\"\nsecret = \"T0P53CR3T\"\nheaders = {{ A = \"T0P53CR3T\" }}\n\
             [alerts.telegram]\napi = \"{url}\"\ntoken = \"T0P53CR3T\"\nchat = \"1\"\n\
             [alerts.ntfy]\nurl = \"{url}/T0P53CR3T\"\ntoken = \"T0P53CR3T\"\n\
             [alerts.gotify]\nurl = \"{url}\"\ntoken = \"T0P53CR3T\"\n\
             [alerts.alertmanager]\nurl = \"{url}/T0P53CR3T\"\n"
        ),
    );
    crit(&sandbox);
    let run = at(2, &sandbox, "12:00");
    let list = sandbox.json(0, "alert", &["list"]).to_string();
    assert_eq!(list.matches("\"failed\"").count(), 4, "{list}");
    let shown = sandbox.expect(0, "ops", &["config", "show"]).stdout;
    let test = sandbox.run("alert", &["test"]);
    let log = sandbox.read("logs/alerts.log");
    for text in [&run.stdout, &run.stderr, &list, &shown, &test.stdout, &test.stderr, &log] {
        assert!(!text.contains("T0P53CR3T"), "{text}");
    }
}
