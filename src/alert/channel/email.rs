//! A mail by SMTP.

use super::smtp::{Encryption, Failure, Server};
use crate::alert::message::Message;
use crate::alert::outcome::Outcome;
use crate::base::State;
use crate::base::secret::redact;
use crate::base::text::one_line;
use crate::base::tls;
use crate::config::channels::{Email, Tls};
use anyhow::{Context, Result};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use std::time::{Duration, Instant, SystemTime};

/// The most one answer of the server may take; the whole is bounded by the caller.
const READ: Duration = Duration::from_secs(5);

/// Sends a message. 5xx is for good, everything else may pass.
pub(super) fn send(email: &Email, message: &Message, deadline: Instant) -> Outcome {
    let password = match email.password.as_ref().map(|password| password.reveal()).transpose() {
        Ok(password) => password,
        Err(error) => return Outcome::Failed(one_line(&format!("{error:#}"), 300)),
    };
    let hide = |why: String| one_line(&redact(&why, password.as_deref().unwrap_or_default()), 300);
    let prepared =
        mail(email, message).and_then(|mail| Ok((mail, server(email, password.as_deref(), deadline)?)));
    let (mail, server) = match prepared {
        Ok(prepared) => prepared,
        // Wrong settings: the next message may find them mended.
        Err(error) => return Outcome::Failed(hide(format!("{error:#}"))),
    };
    match server.send(&mail) {
        Ok(()) => Outcome::Delivered(None),
        Err(Failure { permanent: true, why }) => Outcome::Refused(hide(why)),
        Err(Failure { permanent: false, why }) => Outcome::Failed(hide(why)),
    }
}

/// Sends a text that is no alert: at most this much later it was sent, or why not.
pub(in crate::alert) fn send_text(
    email: &Email,
    agent: &str,
    subject: &str,
    body: &str,
    limit: Duration,
) -> Result<(), String> {
    let work = || -> Result<()> {
        let password = email.password.as_ref().map(|password| password.reveal()).transpose()?;
        let hide = |why: String| one_line(&redact(&why, password.as_deref().unwrap_or_default()), 300);
        let uid = format!("{}.{}", std::process::id(), chrono::Utc::now().timestamp_micros());
        let mail = envelope(email, agent, &uid, subject, SystemTime::now())?
            .singlepart(SinglePart::plain(body.to_owned()))
            .context("cannot write the mail")?;
        let server = server(email, password.as_deref(), Instant::now() + limit)?;
        server.send(&mail).map_err(|failure| anyhow::anyhow!(hide(failure.why)))
    };
    work().map_err(|error| one_line(&format!("{error:#}"), 300))
}

fn mail(email: &Email, message: &Message) -> Result<lettre::Message> {
    let subject = format!("[{}] {} {} - {}", message.agent, message.level(), message.title(), message.line());
    let mut builder = envelope(email, &message.agent, &message.uid, &subject, SystemTime::from(message.at))?;
    if let Some(thread) = message.thread.as_deref().filter(|thread| *thread != message.uid) {
        builder = builder
            .in_reply_to(message_id(thread, &message.agent))
            .references(message_id(thread, &message.agent));
    }
    let body = MultiPart::alternative_plain_html(message.body(), html(message));
    builder.multipart(body).context("cannot write the mail")
}

fn message_id(uid: &str, agent: &str) -> String {
    format!("<{uid}@{}.agent-ops>", domain(agent))
}

/// What every mail of ours begins with.
fn envelope(email: &Email, agent: &str, uid: &str, subject: &str, at: SystemTime) -> Result<MessageBuilder> {
    let mailbox = |text: &str| -> Result<Mailbox> {
        text.parse().with_context(|| format!("'{text}' is not a mail address"))
    };
    let mut builder = lettre::Message::builder()
        .from(mailbox(&email.from)?)
        .subject(one_line(subject, 180))
        .date(at)
        .message_id(Some(message_id(uid, agent)))
        // So that nobody's absence note answers.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for to in &email.to {
        builder = builder.to(mailbox(to)?);
    }
    Ok(builder)
}

/// The same as the plain text, for those who look at pages: no picture, no link but the runbook's.
fn html(message: &Message) -> String {
    let colour = match message.severity {
        State::Critical => "#b00020",
        State::Warning | State::Unknown => "#8a5a00",
        State::Ok => "#1b6e35",
    };
    let page = maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            body style="font-family: sans-serif" {
                h2 style={ "color: " (colour) } { (message.title()) }
                p { (message.line()) }
                table {
                    @for (name, value) in message.rows() {
                        tr {
                            th style="text-align: left; vertical-align: top; padding-right: 1em" { (name) }
                            td {
                                @if name == "runbook" && value.starts_with("https://") { a href=(value) { (value) } }
                                @else { (value) }
                            }
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn server<'a>(email: &'a Email, password: Option<&str>, deadline: Instant) -> Result<Server<'a>> {
    let (encryption, port) = match email.tls {
        Tls::Starttls => (Encryption::Starttls(tls::with_authority(email.ca_file.as_deref())?), 587),
        Tls::Tls => (Encryption::Wrapped(tls::with_authority(email.ca_file.as_deref())?), 465),
        Tls::None => (Encryption::None, 25),
    };
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    let password = password.unwrap_or_default();
    Ok(Server {
        host: &email.host,
        port: email.port.unwrap_or(port),
        encryption,
        login: email.user.as_ref().map(|user| Credentials::new(user.clone(), password.to_owned())),
        patience: left.min(READ),
        deadline,
    })
}

/// An agent's name as part of a Message-ID.
fn domain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect()
}
