//! A notification by a Gotify server: <https://gotify.net/docs/pushmsg>.

use super::webhook::cut;
use crate::alert::http::Post;
use crate::alert::message::Message;
use crate::alert::outcome::Outcome;
use crate::base::State;
use crate::base::secret::Secret;
use crate::config::channels::Gotify;
use serde_json::json;
use std::time::Instant;

/// Sends a message. From priority 8 on, phones make a noise that is hard to miss.
pub(super) fn send(gotify: &Gotify, message: &Message, deadline: Instant) -> Outcome {
    let priority = match message.severity {
        State::Critical => 8,
        State::Warning | State::Unknown => 5,
        State::Ok => 3,
    };
    let document = json!({
        "title": message.headline(),
        "message": cut(&message.details(), 4000),
        "priority": priority,
    });
    // The token in a header: an address goes into the logs of proxies.
    Post::to(&Secret::new(gotify.url.as_str()))
        .and_then(|post| post.below("/message").secret_header("X-Gotify-Key", "", &gotify.token))
        .map_or_else(|outcome| outcome, |post| post.json(&document, deadline).outcome())
}
