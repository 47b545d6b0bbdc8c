//! A JSON document by HTTP POST.

use super::Outcome;
use crate::alert::incident::Kind;
use crate::alert::message::Message;
use crate::base::State;
use crate::base::secret::redact;
use crate::base::text::one_line;
use crate::base::units::rfc3339;
use crate::config::Webhook;
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct Document<'a> {
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
    runbook: Option<String>,
    also: &'a [String],
}

/// Posts a message. 4xx is for good (but 408 and 429), everything else may pass.
pub(super) fn send(webhook: &Webhook, message: &Message, deadline: Instant) -> Outcome {
    let mut secrets = Vec::new();
    let outcome = post(webhook, message, deadline, &mut secrets);
    // An error of the client may quote the address, and with it a key.
    let hide =
        |why: String| one_line(&secrets.iter().fold(why, |why, secret: &String| redact(&why, secret)), 300);
    match outcome {
        Ok(200..=299) => Outcome::Delivered,
        Ok(status @ (408 | 429)) => Outcome::Failed(format!("the server answered {status}")),
        Ok(status @ 300..=399) => {
            Outcome::Refused(format!("the server answered {status}; redirects are not followed"))
        }
        Ok(status @ 400..=499) => Outcome::Refused(format!("the server answered {status}")),
        Ok(status) => Outcome::Failed(format!("the server answered {status}")),
        Err(error) => Outcome::Failed(hide(error)),
    }
}

fn post(
    webhook: &Webhook,
    message: &Message,
    deadline: Instant,
    secrets: &mut Vec<String>,
) -> Result<u16, String> {
    let url = webhook.url.reveal().map_err(|error| format!("{error:#}"))?;
    secrets.push(url.clone());
    secrets.extend(address(&url).map(str::to_owned));
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(deadline.saturating_duration_since(Instant::now())))
        .http_status_as_error(false)
        // A redirected POST becomes a GET: the message would be lost and count as delivered.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("agent-ops/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.post(&url);
    for (name, value) in &webhook.headers {
        let value = value.reveal().map_err(|error| format!("{error:#}"))?;
        secrets.push(value.clone());
        request = request.header(name, value);
    }
    let document = Document {
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
        runbook: message.runbook(),
        also: &message.digest,
    };
    let answer = request.send_json(&document).map_err(|error| error.to_string())?;
    Ok(answer.status().as_u16())
}

/// What follows the host in a URL: where the keys are.
fn address(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.find('/').map(|slash| &rest[slash..])
}
