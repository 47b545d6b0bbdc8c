//! What each channel is sent, and what becomes of its answers.

use crate::receiver::{at, crit, email, good, mail_server, with_checks};
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
