//! A JSON document by HTTP POST: our own, or one that a chat understands.

use super::document::Document;
use crate::alert::http::{Post, reveal};
use crate::alert::message::Message;
use crate::alert::outcome::Outcome;
use crate::base::State;
use crate::base::text::hex;
use crate::base::units::rfc3339;
use crate::config::channels::{Format, Webhook};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::Instant;

/// Posts a message.
pub(super) fn send(webhook: &Webhook, message: &Message, deadline: Instant) -> Outcome {
    post(webhook, message, deadline).unwrap_or_else(|outcome| outcome)
}

fn post(webhook: &Webhook, message: &Message, deadline: Instant) -> Result<Outcome, Outcome> {
    let body = body(webhook, message).map_err(|error| Outcome::Failed(error.to_string()))?;
    let mut post = Post::to(&webhook.url)?.header("Content-Type", "application/json");
    if let Some(secret) = &webhook.secret {
        let secret = reveal(secret)?;
        post = post.header("X-Signature-256", signature(&secret, body.as_bytes())).hide(secret);
    }
    for (name, value) in &webhook.headers {
        post = post.secret_header(name, "", value)?;
    }
    Ok(post.send(body.as_bytes(), deadline).outcome())
}

fn body(webhook: &Webhook, message: &Message) -> serde_json::Result<String> {
    if let Some(template) = &webhook.template {
        return Ok(template.fill(|name| value(message, name)));
    }
    match webhook.format {
        Format::Generic => serde_json::to_string(&Document::of(message)),
        Format::Slack => serde_json::to_string(&slack(message)),
        Format::Discord => serde_json::to_string(&discord(message)),
        Format::Teams => serde_json::to_string(&teams(message)),
    }
}

/// What stands for a placeholder; the config was checked for others.
fn value(message: &Message, name: &str) -> String {
    match name {
        "uid" => message.uid.clone(),
        "kind" => message.kind.word().to_owned(),
        "severity" => message.level().to_owned(),
        "type" => message.alert.clone(),
        "check" => message.check.clone(),
        "title" => message.title(),
        "message" => message.line(),
        "body" => message.body(),
        "agent" => message.agent.clone(),
        "host" => message.host.clone(),
        "run" => message.run.clone(),
        "since" => rfc3339(message.since),
        "runbook" => message.runbook().unwrap_or_default(),
        _ => String::new(),
    }
}

/// `sha256=…`: the HMAC-SHA256 (RFC 2104) of the body, as GitHub signs its webhooks.
fn signature(secret: &str, body: &[u8]) -> String {
    // Of a key of any length: longer ones are hashed first.
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mac| mac.chain_update(body));
    mac.map(|mac| format!("sha256={}", hex(&mac.finalize().into_bytes()))).unwrap_or_default()
}

/// Red, amber, green: what chats draw beside a message.
fn colour(message: &Message) -> u32 {
    match message.severity {
        State::Critical => 0x00d0_2020,
        State::Warning | State::Unknown => 0x00e0_a000,
        State::Ok => 0x0020_a040,
    }
}

/// https://api.slack.com/reference/messaging/attachments; three signs are written as entities.
fn slack(message: &Message) -> Value {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({
        "text": escape(&message.headline()),
        "attachments": [{
            "color": format!("#{:06x}", colour(message)),
            "fallback": escape(&message.line()),
            "text": escape(&cut(&message.details(), 3000)),
        }],
    })
}

/// https://discord.com/developers/docs/resources/webhook; nobody is mentioned, whatever a log says.
fn discord(message: &Message) -> Value {
    json!({
        "username": "agent-ops",
        "allowed_mentions": {"parse": []},
        "embeds": [{
            "title": cut(&message.headline(), 250),
            "description": format!("```\n{}\n```", cut(&message.details(), 3500).replace("```", "'''")),
            "color": colour(message),
            "timestamp": rfc3339(message.at),
        }],
    })
}

/// An adaptive card, as the workflows of Teams take it.
fn teams(message: &Message) -> Value {
    let colour = match message.severity {
        State::Critical => "Attention",
        State::Warning | State::Unknown => "Warning",
        State::Ok => "Good",
    };
    let facts: Vec<Value> =
        message.rows().into_iter().map(|(title, value)| json!({"title": title, "value": value})).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true, "color": colour,
                     "text": message.headline()},
                    {"type": "TextBlock", "wrap": true, "text": message.line()},
                    {"type": "FactSet", "facts": facts},
                ],
            },
        }],
    })
}

/// At most so many characters: a chat refuses what is longer.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Run;
    use crate::base::secret::Secret;

    fn webhook(format: Format) -> Webhook {
        Webhook {
            url: Secret::new("http://x"),
            headers: Default::default(),
            format,
            template: None,
            secret: None,
        }
    }

    #[test]
    fn the_signature_is_that_of_the_rfc() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn every_format_says_it_and_mentions_nobody() {
        let mut message = Message::test("mama", &Run::begin("alert"));
        message.summary = "<!channel> @everyone ``` \"quoted\" & so on".repeat(200);
        for format in [Format::Generic, Format::Slack, Format::Discord, Format::Teams] {
            let text = body(&webhook(format), &message).unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            assert!(text.contains("so on") && text.contains("mama"), "{format:?}: {document}");
            match format {
                Format::Slack => assert!(!text.contains("<!channel>"), "{text}"),
                Format::Discord => {
                    assert_eq!(document["allowed_mentions"]["parse"], json!([]));
                    let description = document["embeds"][0]["description"].as_str().unwrap();
                    assert!(description.len() < 4096 && description.matches("```").count() == 2);
                }
                Format::Generic | Format::Teams => {}
            }
        }
    }
}
