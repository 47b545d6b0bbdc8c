//! The ways to reach people: one file each. All are tried side by side, each within its time.

mod desktop;
mod email;
mod webhook;

use super::message::Message;
use crate::base::units::Span;
use crate::config::{self, Alerts};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What became of one message on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Somebody can read it now.
    Delivered,
    /// There is nothing to deliver to here (no desktop session): neither success nor failure.
    Unavailable(String),
    /// Not this time; a later run tries again.
    Failed(String),
    /// The other side will never take it: trying again is of no use.
    Refused(String),
}

impl Outcome {
    /// The word in the journal and in documents.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Unavailable(_) => "unavailable",
            Outcome::Failed(_) => "failed",
            Outcome::Refused(_) => "refused",
        }
    }

    /// Why it was not delivered.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Outcome::Delivered => None,
            Outcome::Unavailable(why) | Outcome::Failed(why) | Outcome::Refused(why) => Some(why),
        }
    }
}

/// One way to reach people, set up.
#[derive(Clone, Debug)]
pub enum Channel {
    /// A notification on this machine's screen.
    Desktop,
    /// A mail.
    Email(Box<config::Email>),
    /// An HTTP request.
    Webhook(Box<config::Webhook>),
}

impl Channel {
    /// Every channel that is set up, in the order in which one stands in for another.
    pub fn all(alerts: &Alerts) -> Vec<Channel> {
        let desktop = alerts.desktop.enabled.then_some(Channel::Desktop);
        let email = alerts.email.clone().map(|email| Channel::Email(Box::new(email)));
        let webhook = alerts.webhook.clone().map(|webhook| Channel::Webhook(Box::new(webhook)));
        desktop.into_iter().chain(email).chain(webhook).collect()
    }

    /// Its name in the config.
    pub fn name(&self) -> &'static str {
        match self {
            Channel::Desktop => "desktop",
            Channel::Email(_) => "email",
            Channel::Webhook(_) => "webhook",
        }
    }

    /// How long it may take in all, for every message of a run together.
    fn limit(&self) -> Duration {
        match self {
            Channel::Desktop => Duration::from_secs(2),
            Channel::Email(_) | Channel::Webhook(_) => Duration::from_secs(10),
        }
    }

    fn send(&self, message: &Message, deadline: Instant) -> Outcome {
        match self {
            Channel::Desktop => desktop::send(message),
            Channel::Email(email) => email::send(email, message, deadline),
            Channel::Webhook(webhook) => webhook::send(webhook, message, deadline),
        }
    }
}

/// Sends messages, each channel's in their order, all channels side by side. `record` hears of
/// each outcome as it comes: (index of the message, channel, outcome).
///
/// A library's own timeout may be one for each read, so a peer that answers a byte a second
/// would hold us for ever: each channel has a thread, and who is not done in time has failed.
pub(super) fn send_all(
    work: Vec<(Channel, Vec<(usize, Message)>)>,
    record: impl FnMut(usize, &'static str, Outcome),
) {
    send_within(work.into_iter().map(|(channel, messages)| (channel.limit(), channel, messages)), record);
}

fn send_within(
    work: impl Iterator<Item = (Duration, Channel, Vec<(usize, Message)>)>,
    mut record: impl FnMut(usize, &'static str, Outcome),
) {
    let begun = Instant::now();
    let (send, receive) = mpsc::channel();
    let mut open: Vec<(Duration, &'static str, usize)> = Vec::new();
    for (limit, channel, messages) in work {
        open.extend(messages.iter().map(|(index, _)| (limit, channel.name(), *index)));
        let send = send.clone();
        std::thread::spawn(move || {
            for (index, message) in messages {
                let outcome = channel.send(&message, begun + limit);
                if send.send((index, channel.name(), outcome)).is_err() {
                    return;
                }
            }
        });
    }
    drop(send);
    while let Some(limit) = open.iter().map(|(limit, ..)| *limit).min() {
        match receive.recv_timeout((begun + limit).saturating_duration_since(Instant::now())) {
            Ok((index, name, outcome)) => {
                let before = open.len();
                open.retain(|&(_, other, message)| (other, message) != (name, index));
                // What came after its time was counted as failed already.
                if open.len() < before {
                    record(index, name, outcome);
                }
            }
            Err(error) => {
                // Threads that ended without an answer have panicked: that is a failure too.
                let ended = error == mpsc::RecvTimeoutError::Disconnected;
                for (of, name, index) in open.extract_if(.., |(of, ..)| ended || *of == limit) {
                    record(index, name, Outcome::Failed(format!("not done within {}", Span(of))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Run;
    use crate::base::secret::Secret;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn webhook(url: String) -> Channel {
        Channel::Webhook(Box::new(config::Webhook {
            url: Secret::new(url),
            headers: [("X-Token".to_owned(), Secret::new("s3cr3t-token"))].into(),
        }))
    }

    fn send_one(channel: Channel) -> Outcome {
        let message = Message::test("agent", &Run::begin("alert"));
        let mut outcomes = Vec::new();
        send_all(vec![(channel, vec![(0, message)])], |_, _, outcome| outcomes.push(outcome));
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    /// A server that answers every request with these bytes.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = [0; 4096];
                let _ = stream.read(&mut bytes);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        format!("http://{address}/hook/s3cr3t")
    }

    #[test]
    fn an_answer_decides_whether_to_try_again() {
        for (status, word) in [
            ("200 OK", "delivered"),
            ("204 No Content", "delivered"),
            ("302 Found\r\nlocation: http://127.0.0.1:1/", "refused"),
            ("404 Not Found", "refused"),
            ("429 Too Many Requests", "failed"),
            ("500 Oops", "failed"),
        ] {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let outcome = send_one(webhook(server(answer.leak())));
            assert_eq!(outcome.word(), word, "{status}: {outcome:?}");
        }
        assert_eq!(send_one(webhook(server("this is not HTTP"))).word(), "failed");
    }

    #[test]
    fn a_failure_names_no_secret() {
        for url in ["http://127.0.0.1:1/hook/s3cr3t", "http://no such host/s3cr3t", "s3cr3t"] {
            let outcome = send_one(webhook(url.to_owned()));
            assert_ne!(outcome, Outcome::Delivered);
            assert!(!format!("{outcome:?}").contains("s3cr3t"), "{outcome:?}");
        }
    }

    #[test]
    fn a_channel_that_never_answers_holds_nobody_up() {
        // Connects, and then silence: the kernel accepts for a listener that does not.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mute = webhook(format!("http://{}/", listener.local_addr().unwrap()));
        let good = webhook(server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        let message = Message::test("agent", &Run::begin("alert"));
        let mut outcomes = Vec::new();
        let limit = Duration::from_millis(1500);
        let work = [(limit, mute, vec![(0, message.clone())]), (limit, good, vec![(1, message)])];
        send_within(work.into_iter(), |index, _, outcome| outcomes.push((index, outcome.word())));
        assert_eq!(outcomes, [(1, "delivered"), (0, "failed")]);
    }
}
