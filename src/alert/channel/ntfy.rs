//! A notification by an ntfy server: <https://docs.ntfy.sh/publish/#publish-as-json>.

use super::webhook::cut;
use crate::alert::http::{Post, reveal};
use crate::alert::message::Message;
use crate::alert::outcome::Outcome;
use crate::base::State;
use crate::base::secret::Secret;
use crate::config::channels::Ntfy;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::time::Instant;

/// Longer texts become attachments; in bytes, of which a character has four at most.
const MOST: usize = 1000;

/// Publishes a message. As JSON, for a title in a header would have to be ASCII.
pub(super) fn send(ntfy: &Ntfy, message: &Message, deadline: Instant) -> Outcome {
    publish(ntfy, message, deadline).unwrap_or_else(|outcome| outcome)
}

fn publish(ntfy: &Ntfy, message: &Message, deadline: Instant) -> Result<Outcome, Outcome> {
    let url = reveal(&ntfy.url)?;
    let (server, topic) = url
        .trim_end_matches('/')
        .rsplit_once('/')
        .filter(|(server, _)| server.contains("://") && !server.ends_with('/'))
        .ok_or_else(|| Outcome::Failed("the url of [alerts.ntfy] names no topic".to_owned()))?;
    let (priority, tag) = match message.severity {
        State::Critical => (5, "rotating_light"),
        State::Warning | State::Unknown => (4, "warning"),
        State::Ok => (3, "white_check_mark"),
    };
    let mut document = json!({
        "topic": topic,
        "title": message.headline(),
        "message": cut(&message.details(), MOST),
        "priority": priority,
        "tags": std::iter::once(tag).chain(ntfy.tags.iter().map(String::as_str)).collect::<Vec<_>>(),
    });
    if let Some(page) = message.runbook().filter(|page| page.starts_with("http")) {
        document["click"] = page.into();
    }
    let mut post = Post::to(&Secret::new(server))?.hide(topic).hide(url.as_str());
    if let Some(token) = &ntfy.token {
        post = post.secret_header("Authorization", "Bearer ", token)?;
    } else if let (Some(user), Some(password)) = (&ntfy.user, &ntfy.password) {
        let password = reveal(password)?;
        let login = STANDARD.encode(format!("{user}:{password}"));
        post = post.header("Authorization", format!("Basic {login}")).hide(login).hide(password);
    }
    Ok(post.json(&document, deadline).outcome())
}
