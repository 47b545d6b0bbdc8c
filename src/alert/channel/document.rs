//! A message as a document for machines: of a webhook, and on a command's standard input.

use crate::alert::kind::Kind;
use crate::alert::message::Message;
use crate::base::State;
use crate::base::units::rfc3339;
use serde::Serialize;

/// Everything there is to say.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: u32,
    uid: &'a str,
    kind: Kind,
    severity: State,
    r#type: &'a str,
    check: &'a str,
    title: String,
    message: String,
    agent: &'a str,
    host: &'a str,
    run: &'a str,
    since: String,
    until: Option<String>,
    tried: Option<&'a str>,
    remedy: Option<&'a str>,
    runbook: Option<String>,
    held: u32,
    flapping: bool,
    /// The uid of the first message of the same incident.
    thread: Option<&'a str>,
    also: &'a [String],
}

impl Document<'_> {
    pub(super) fn of(message: &Message) -> Document<'_> {
        Document {
            schema: 1,
            uid: &message.uid,
            kind: message.kind,
            severity: message.severity,
            r#type: &message.alert,
            check: &message.check,
            title: message.title(),
            message: message.line(),
            agent: &message.agent,
            host: &message.host,
            run: &message.run,
            since: rfc3339(message.since),
            until: message.until.map(rfc3339),
            tried: message.tried.as_deref(),
            remedy: message.remedy.as_deref(),
            runbook: message.runbook(),
            held: message.held,
            flapping: message.flapping,
            thread: message.thread.as_deref(),
            also: &message.digest,
        }
    }
}
