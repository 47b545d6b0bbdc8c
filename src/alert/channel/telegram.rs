//! A message by a Telegram bot. The first message of an incident becomes its "resolved".
//!
//! <https://core.telegram.org/bots/api>: `sendMessage`, `editMessageText`.

use super::webhook::cut;
use crate::alert::http::{Answer, Post, reveal};
use crate::alert::kind::Kind;
use crate::alert::message::Message;
use crate::alert::outcome::Outcome;
use crate::base::secret::Secret;
use crate::config::channels::Telegram;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A text may have 4096 UTF-16 units; an emoji is two of them.
const MOST: usize = 2000;

/// Sends a message; `earlier` are the numbers of those of the same incident in this chat, the first
/// one first. A recovery is written into the first one, and where others came after it, said below
/// them as well: who looks there should not have to search.
pub(super) fn send(telegram: &Telegram, message: &Message, earlier: &[String], deadline: Instant) -> Outcome {
    deliver(telegram, message, earlier, deadline).unwrap_or_else(|outcome| outcome)
}

fn deliver(
    telegram: &Telegram,
    message: &Message,
    earlier: &[String],
    deadline: Instant,
) -> Result<Outcome, Outcome> {
    let bot = Bot { telegram, token: reveal(&telegram.token)?, deadline };
    let text = cut(&format!("{}\n\n{}", message.headline(), message.details()), MOST);
    let mut document = json!({
        "chat_id": telegram.chat,
        "text": text,
        "link_preview_options": {"is_disabled": true},
    });
    let number = |reference: &String| reference.parse::<i64>().ok();
    let first = earlier.first().and_then(number);
    if let (Kind::Recovered, Some(first)) = (message.kind, first) {
        let mut edit = document.clone();
        edit["message_id"] = first.into();
        let answer = bot.call("editMessageText", &edit)?;
        // A second try after an answer that was lost changes nothing: it says so itself.
        let done = answer.is_good() || answer.text.contains("message is not modified");
        if done && earlier.len() == 1 {
            return Ok(Outcome::Delivered(Some(first.to_string())));
        }
        if !done && !matches!(outcome(&answer), Outcome::Refused(_)) {
            return Ok(outcome(&answer));
        }
        // Somebody deleted it, or it is too old to be edited: said anew.
    }
    if let Some(topic) = telegram.topic {
        document["message_thread_id"] = topic.into();
    }
    if let Some(first) = first {
        document["reply_parameters"] = json!({"message_id": first, "allow_sending_without_reply": true});
    }
    let answer = bot.call("sendMessage", &document)?;
    if !answer.is_good() {
        return Ok(outcome(&answer));
    }
    let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    Ok(Outcome::Delivered(said["result"]["message_id"].as_i64().map(|number| number.to_string())))
}

struct Bot<'a> {
    telegram: &'a Telegram,
    token: String,
    deadline: Instant,
}

impl Bot<'_> {
    fn call(&self, method: &str, document: &Value) -> Result<Answer, Outcome> {
        let base = self.telegram.api.trim_end_matches('/');
        let url = Secret::new(format!("{base}/bot{}/{method}", self.token));
        Ok(Post::to(&url)?.hide(self.token.as_str()).json(document, self.deadline))
    }
}

/// The API says in its document how long to wait.
fn outcome(answer: &Answer) -> Outcome {
    let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match (answer.outcome(), said["parameters"]["retry_after"].as_u64()) {
        (Outcome::Failed(why), Some(seconds)) => Outcome::Later(why, Duration::from_secs(seconds)),
        (outcome, _) => outcome,
    }
}
