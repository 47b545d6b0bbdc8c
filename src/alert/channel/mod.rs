//! The ways to reach people: one file each. All are tried side by side, each within its time.

pub(super) mod alertmanager;
mod command;
mod desktop;
mod document;
pub(super) mod email;
mod gotify;
mod ntfy;
mod smtp;
mod telegram;
mod webhook;

use super::message::Message;
use super::outcome::Outcome;
use crate::base::units::Span;
use crate::config::alerts::{Alerts, ChannelName};
use crate::config::channels as settings;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// One way to reach people, set up.
#[derive(Clone, Debug)]
pub enum Channel {
    /// A notification on this machine's screen.
    Desktop,
    /// A mail.
    Email(Box<settings::Email>),
    /// An HTTP request.
    Webhook(Box<settings::Webhook>),
    /// A message by a Telegram bot.
    Telegram(Box<settings::Telegram>),
    /// A notification by an ntfy server.
    Ntfy(Box<settings::Ntfy>),
    /// A notification by a Gotify server.
    Gotify(Box<settings::Gotify>),
    /// A program of the operator's own.
    Command(Box<settings::Command>),
}

impl Channel {
    /// Every channel that is set up, in the order in which one stands in for another.
    pub fn all(alerts: &Alerts) -> Vec<Channel> {
        ChannelName::ALL.into_iter().filter_map(|name| Channel::of(alerts, name)).collect()
    }

    fn of(alerts: &Alerts, name: ChannelName) -> Option<Channel> {
        match name {
            ChannelName::Desktop => alerts.desktop.enabled.then_some(Channel::Desktop),
            ChannelName::Email => alerts.email.clone().map(|email| Channel::Email(Box::new(email))),
            ChannelName::Webhook => alerts.webhook.clone().map(|hook| Channel::Webhook(Box::new(hook))),
            ChannelName::Telegram => alerts.telegram.clone().map(|bot| Channel::Telegram(Box::new(bot))),
            ChannelName::Ntfy => alerts.ntfy.clone().map(|ntfy| Channel::Ntfy(Box::new(ntfy))),
            ChannelName::Gotify => alerts.gotify.clone().map(|gotify| Channel::Gotify(Box::new(gotify))),
            ChannelName::Command => alerts.command.clone().map(|own| Channel::Command(Box::new(own))),
        }
    }

    /// Its name in the config.
    pub fn name(&self) -> ChannelName {
        match self {
            Channel::Desktop => ChannelName::Desktop,
            Channel::Email(_) => ChannelName::Email,
            Channel::Webhook(_) => ChannelName::Webhook,
            Channel::Telegram(_) => ChannelName::Telegram,
            Channel::Ntfy(_) => ChannelName::Ntfy,
            Channel::Gotify(_) => ChannelName::Gotify,
            Channel::Command(_) => ChannelName::Command,
        }
    }

    /// How long it may take in all, for every message of a run together.
    fn limit(&self) -> Duration {
        match self {
            Channel::Desktop => Duration::from_secs(2),
            _ => Duration::from_secs(10),
        }
    }

    /// Sends one message; one that is to wait for less than the time there is, waits.
    fn send(&self, letter: &Letter, deadline: Instant) -> Outcome {
        match self.try_once(letter, deadline) {
            Outcome::Later(_, wait) if Instant::now() + wait + Duration::from_secs(1) < deadline => {
                std::thread::sleep(wait);
                self.try_once(letter, deadline)
            }
            outcome => outcome,
        }
    }

    fn try_once(&self, Letter { message, earlier, .. }: &Letter, deadline: Instant) -> Outcome {
        match self {
            Channel::Desktop => desktop::send(message),
            Channel::Email(email) => email::send(email, message, deadline),
            Channel::Webhook(webhook) => webhook::send(webhook, message, deadline),
            Channel::Telegram(telegram) => telegram::send(telegram, message, earlier, deadline),
            Channel::Ntfy(ntfy) => ntfy::send(ntfy, message, deadline),
            Channel::Gotify(gotify) => gotify::send(gotify, message, deadline),
            Channel::Command(command) => command::send(command, message, deadline),
        }
    }
}

/// A message on its way to one channel.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Which message of the run.
    pub(super) index: usize,
    /// What it says.
    pub(super) message: Message,
    /// By what the earlier ones of its incident are found there, the first one first.
    pub(super) earlier: Vec<String>,
}

/// Sends messages, each channel's in their order, all channels side by side, and none beyond
/// `until`. `record` hears of each outcome as it comes: (index of the message, channel, outcome).
///
/// A library's own timeout may be one for each read, so a peer that answers a byte a second
/// would hold us for ever: each channel has a thread, and who is not done in time has failed.
pub(super) fn send_all(
    work: Vec<(Channel, Vec<Letter>)>,
    until: Instant,
    record: impl FnMut(usize, ChannelName, Outcome),
) {
    let left = until.saturating_duration_since(Instant::now());
    let within = |channel: &Channel| channel.limit().min(left);
    send_within(work.into_iter().map(|(channel, letters)| (within(&channel), channel, letters)), record);
}

fn send_within(
    work: impl Iterator<Item = (Duration, Channel, Vec<Letter>)>,
    mut record: impl FnMut(usize, ChannelName, Outcome),
) {
    let begun = Instant::now();
    let (send, receive) = mpsc::channel();
    let mut open: Vec<(Duration, ChannelName, usize)> = Vec::new();
    for (limit, channel, letters) in work {
        open.extend(letters.iter().map(|letter| (limit, channel.name(), letter.index)));
        let send = send.clone();
        std::thread::spawn(move || {
            for letter in letters {
                let outcome = channel.send(&letter, begun + limit);
                if send.send((letter.index, channel.name(), outcome)).is_err() {
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
        Channel::Webhook(Box::new(settings::Webhook {
            url: Secret::new(url),
            headers: [("X-Token".to_owned(), Secret::new("s3cr3t-token"))].into(),
            format: settings::Format::Generic,
            template: None,
            secret: Some(Secret::new("s3cr3t-key")),
        }))
    }

    fn letter(index: usize) -> Letter {
        Letter { index, message: Message::test("agent", &Run::begin("alert")), earlier: Vec::new() }
    }

    fn send_one(channel: Channel) -> Outcome {
        let mut outcomes = Vec::new();
        let until = Instant::now() + Duration::from_secs(15);
        send_all(vec![(channel, vec![letter(0)])], until, |_, _, outcome| outcomes.push(outcome));
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
            assert_ne!(outcome.word(), "delivered");
            assert!(!format!("{outcome:?}").contains("s3cr3t"), "{outcome:?}");
        }
    }

    #[test]
    fn a_channel_that_never_answers_holds_nobody_up() {
        // Connects, and then silence: the kernel accepts for a listener that does not.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mute = webhook(format!("http://{}/", listener.local_addr().unwrap()));
        let good = webhook(server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        let mut outcomes = Vec::new();
        let limit = Duration::from_millis(1500);
        let work = [(limit, mute, vec![letter(0)]), (limit, good, vec![letter(1)])];
        send_within(work.into_iter(), |index, _, outcome| outcomes.push((index, outcome.word())));
        assert_eq!(outcomes, [(1, "delivered"), (0, "failed")]);
    }
}
