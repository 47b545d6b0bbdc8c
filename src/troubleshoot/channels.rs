//! Does anybody hear of it? The channels, what they did not take, and whether the mail server answers.

use super::cause::{Cause, Found};
use super::view::View;
use crate::alert;
use crate::base::{State, units};
use crate::config::Alerts;
use crate::config::channels::{Email, Tls};
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// So long the mail server may take, its name and its greeting included.
const LIMIT: Duration = Duration::from_secs(3);

/// So many messages are looked at.
const MESSAGES: usize = 100;

struct Facts {
    /// Those that are set up, the desktop aside.
    channels: Vec<&'static str>,
    desktop: bool,
    /// Whether somebody's desktop can be reached.
    session: bool,
    /// By channel: how often, when last, and why.
    failed: BTreeMap<String, (usize, DateTime<Utc>, String)>,
    /// Messages that wait, and since when.
    waiting: Option<(usize, DateTime<Utc>)>,
    /// The mail server, and why it cannot be reached.
    mail: Option<(String, String)>,
    silent: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.whole() else { return Ok(Found::default()) };
    let alerts = &loaded.config.alerts;
    let now = view.run.now;
    let mut facts = Facts {
        channels: set_up(alerts),
        desktop: alerts.desktop.enabled,
        session: has_session(),
        failed: BTreeMap::new(),
        waiting: None,
        mail: alerts.email.as_ref().and_then(unreachable),
        silent: None,
        now,
    };
    if let Some(journal) = view.journal() {
        let messages = alert::messages(&journal, MESSAGES)?;
        let recent = |at: DateTime<Utc>| now - at < TimeDelta::days(2);
        for listed in messages.iter().filter(|listed| recent(listed.message.at)) {
            for (channel, outcome, error) in &listed.deliveries {
                if outcome != "failed" && outcome != "refused" {
                    continue;
                }
                let why = error.clone().unwrap_or_else(|| outcome.clone());
                let known = facts.failed.entry(channel.clone()).or_insert((0, listed.message.at, why));
                known.0 += 1;
            }
        }
        let open: Vec<DateTime<Utc>> =
            messages.iter().filter(|listed| !listed.settled).map(|listed| listed.message.at).collect();
        facts.waiting = open.iter().min().map(|since| (open.len(), *since));
        facts.silent = alert::silence(&journal, now)?.map(|silence| silence.until);
    }
    Ok(judge(&facts))
}

fn set_up(alerts: &Alerts) -> Vec<&'static str> {
    [
        ("email", alerts.email.is_some()),
        ("webhook", alerts.webhook.is_some()),
        ("telegram", alerts.telegram.is_some()),
        ("ntfy", alerts.ntfy.is_some()),
        ("gotify", alerts.gotify.is_some()),
        ("command", alerts.command.is_some()),
        ("alertmanager", alerts.alertmanager.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

/// As notifications are sent under cron: by the bus of the session, or that of the user.
fn has_session() -> bool {
    let user = rustix::process::geteuid().as_raw();
    cfg!(target_os = "macos")
        || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|bus| !bus.is_empty())
        || Path::new(&format!("/run/user/{user}/bus")).exists()
}

/// Whether the server's name is known, somebody answers there, and greets as a mail server does.
fn unreachable(email: &Email) -> Option<(String, String)> {
    let usual = match email.tls {
        Tls::Starttls => 587,
        Tls::Tls => 465,
        Tls::None => 25,
    };
    let (host, port) = (email.host.clone(), email.port.unwrap_or(usual));
    let server = format!("{host}:{port}");
    let greets = email.tls != Tls::Tls;
    let (send, receive) = mpsc::channel();
    // A name server that does not answer knows no deadline.
    let ask = move || {
        let _ = send.send(greeting(&host, port, greets));
    };
    let hired = std::thread::Builder::new().spawn(ask).is_ok();
    let answer = match hired {
        true => receive
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| Err(format!("no answer within {}", units::Span(LIMIT)))),
        false => return None,
    };
    answer.err().map(|why| (server, why))
}

fn greeting(host: &str, port: u16, greets: bool) -> Result<(), String> {
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("its name is not known: {error}"))?;
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(stream) if greets => return greeted(stream),
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn greeted(mut stream: TcpStream) -> Result<(), String> {
    let mut line = [0; 3];
    let read = stream.set_read_timeout(Some(LIMIT)).and_then(|()| stream.read_exact(&mut line));
    match (read, &line) {
        (Ok(()), b"220") => Ok(()),
        (Ok(()), _) => Err("what answers there is no mail server".to_owned()),
        (Err(_), _) => Err("it takes the connection and says nothing".to_owned()),
    }
}

fn judge(facts: &Facts) -> Found {
    let mut found = Found::default();
    let warning = |id, rank, text: String| Cause::new(id, State::Warning, rank, text);
    if facts.channels.is_empty() {
        let cause = match (facts.desktop, facts.session) {
            (false, _) => Some("no channel is set up: nobody is told when something is wrong"),
            (true, false) => Some("alerts go to a desktop only, and there is none here: nobody is told"),
            (true, true) => None,
        };
        found.causes.extend(cause.map(|text| {
            warning("no_channel", 130, text.to_owned()).advise("set up [alerts.email], telegram, ntfy, webhook or another; docs/config.md has the keys of each")
        }));
    }
    if let Some((server, why)) = &facts.mail {
        found.causes.push(
            warning("mail_server", 125, format!("mail cannot be delivered: the server {server} cannot be reached"))
                .seen(why)
                .run("ops alert test")
                .advise("is a bridge on this machine (Proton, Postfix) running? are host, port and tls in [alerts.email] right? is the network there?"),
        );
    }
    for (channel, (times, at, why)) in &facts.failed {
        let times = crate::base::text::count(*times, "message");
        found.causes.push(
            warning("delivery_failed", 126, format!("{channel} did not take {times} of the last two days"))
                .seen(format!("the last one, of {}: {why}", units::local(*at)))
                .run("ops alert test")
                .run("ops alert list"),
        );
    }
    if let Some((number, since)) = facts.waiting
        && facts.failed.is_empty()
        && facts.now - since > TimeDelta::minutes(30)
        && facts.silent.is_none()
    {
        let text = format!(
            "{} waiting to be sent since {}",
            crate::base::text::count(number, "message"),
            units::local(since)
        );
        found.causes.push(warning("unsent", 127, text).run("ops alert").advise(
            "each run of alert tries again: does cron run it? quiet hours hold warnings back until they end",
        ));
    }
    found
        .notes
        .extend(facts.silent.map(|until| format!("alerts are silenced until {}", units::local(until))));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn facts() -> Facts {
        Facts {
            channels: vec!["email"],
            desktop: false,
            session: false,
            failed: BTreeMap::new(),
            waiting: None,
            mail: None,
            silent: None,
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        }
    }

    #[test]
    fn whom_nobody_tells() {
        let now = facts().now;
        let failed = BTreeMap::from([("email".to_owned(), (2, now, "550 no".to_owned()))]);
        let waiting = Some((2, now - TimeDelta::hours(1)));
        for (facts, expected) in [
            (facts(), &[][..]),
            (Facts { channels: Vec::new(), ..facts() }, &["no_channel"]),
            (Facts { channels: Vec::new(), desktop: true, ..facts() }, &["no_channel"]),
            (Facts { channels: Vec::new(), desktop: true, session: true, ..facts() }, &[]),
            (Facts { mail: Some(("h:25".to_owned(), "refused".to_owned())), ..facts() }, &["mail_server"]),
            (Facts { failed: failed.clone(), waiting, ..facts() }, &["delivery_failed"]),
            (Facts { waiting, ..facts() }, &["unsent"]),
            (Facts { waiting: Some((1, now)), ..facts() }, &[]),
            (Facts { waiting, silent: Some(now), ..facts() }, &[]),
        ] {
            let ids: Vec<_> = judge(&facts).causes.iter().map(|cause| cause.id).collect();
            assert_eq!(ids, expected);
        }
    }

    #[test]
    fn a_mail_server_greets() {
        let ask = |said: &'static [u8]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            std::thread::spawn(move || listener.accept().unwrap().0.write_all(said).unwrap());
            greeting("127.0.0.1", port, true)
        };
        assert_eq!(ask(b"220 hello\r\n"), Ok(()));
        assert!(ask(b"HTTP/1.1 400\r\n").unwrap_err().contains("no mail server"));
        assert!(ask(b"").unwrap_err().contains("says nothing"));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(greeting("127.0.0.1", nobody, true).is_err());
    }
}
