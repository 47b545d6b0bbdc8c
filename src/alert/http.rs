//! HTTP as far as people are told by it: one POST with a deadline, an answer that says whether to
//! try again, and nothing secret in what is said of it.

use super::outcome::Outcome;
use crate::base::secret::{Secret, redact};
use crate::base::text::one_line;
use serde::Serialize;
use std::time::{Duration, Instant};

/// More of an answer than this is not read.
const MOST_BYTES: u64 = 1 << 16;

/// A POST that is being put together.
pub(super) struct Post {
    url: String,
    headers: Vec<(String, String)>,
    secrets: Vec<String>,
}

/// What came back.
pub(super) struct Answer {
    /// The status; none, if there was no answer.
    pub(super) status: Option<u16>,
    /// What it said; or why there is no answer.
    pub(super) text: String,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Post {
    /// To an address that is a secret itself, or holds one.
    pub(super) fn to(url: &Secret) -> Result<Post, Outcome> {
        let url = reveal(url)?;
        let mut post = Post { headers: Vec::new(), secrets: vec![url.clone()], url };
        post.secrets.extend(path(&post.url).map(str::to_owned));
        Ok(post)
    }

    /// To an address below that one: `/api/v2/alerts`. A query stays the last.
    pub(super) fn below(mut self, path: &str) -> Post {
        let (base, query) = match self.url.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (self.url.as_str(), String::new()),
        };
        self.url = format!("{}{path}{query}", base.trim_end_matches('/'));
        self
    }

    /// With a value in its query.
    pub(super) fn query(mut self, name: &str, value: &str) -> Post {
        let mark = if self.url.contains('?') { '&' } else { '?' };
        self.url = format!("{}{mark}{name}={value}", self.url);
        self
    }

    /// With a header.
    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Post {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a header whose value is a secret, behind a word such as `Bearer `.
    pub(super) fn secret_header(mut self, name: &str, word: &str, value: &Secret) -> Result<Post, Outcome> {
        let value = reveal(value)?;
        self.headers.push((name.to_owned(), format!("{word}{value}")));
        self.secrets.push(value);
        Ok(self)
    }

    /// A word that is to be seen nowhere.
    pub(super) fn hide(mut self, secret: impl Into<String>) -> Post {
        self.secrets.push(secret.into());
        self
    }

    /// Sends a JSON document.
    pub(super) fn json(self, document: &impl Serialize, deadline: Instant) -> Answer {
        match serde_json::to_vec(document) {
            Ok(body) => self.header("Content-Type", "application/json").send(&body, deadline),
            Err(error) => Answer::none(error.to_string()),
        }
    }

    /// Sends these bytes.
    pub(super) fn send(self, body: &[u8], deadline: Instant) -> Answer {
        let mut answer = self.ask(body, deadline).unwrap_or_else(|error| Answer::none(error.to_string()));
        // An error of the client may quote the address, and with it a key; and so may a server.
        answer.text = self.secrets.iter().fold(answer.text, |text, secret| redact(&text, secret));
        answer
    }

    fn ask(&self, body: &[u8], deadline: Instant) -> Result<Answer, ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(deadline.saturating_duration_since(Instant::now())))
            .http_status_as_error(false)
            // A redirected POST becomes a GET: the message would be lost and count as delivered.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("agent-ops/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.post(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send(body)?;
        let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        Ok(Answer {
            status: Some(answer.status().as_u16()),
            // It was taken or refused by its status, whatever became of the words.
            text: text.unwrap_or_default(),
            retry_after: seconds.map(Duration::from_secs),
        })
    }
}

impl Answer {
    fn none(why: String) -> Answer {
        Answer { status: None, text: why, retry_after: None }
    }

    /// Whether the other side took it.
    pub(super) fn is_good(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// What it means for a message: 4xx is for good (but 408 and 429), everything else may pass.
    pub(super) fn outcome(&self) -> Outcome {
        let Some(status) = self.status else { return Outcome::Failed(one_line(&self.text, 300)) };
        let mut said = format!("the server answered {status}");
        // Their own words name the cause; a page of HTML does not.
        let text = self.text.trim();
        if !text.is_empty() && !text.starts_with('<') && !self.is_good() {
            said = format!("{said}: {}", one_line(text, 200));
        }
        match (status, self.retry_after) {
            (200..=299, _) => Outcome::Delivered(None),
            (429 | 503, Some(wait)) => Outcome::Later(said, wait),
            (408 | 429, _) => Outcome::Failed(said),
            (300..=399, _) => {
                Outcome::Refused(format!("the server answered {status}; redirects are not followed"))
            }
            (400..=499, _) => Outcome::Refused(said),
            _ => Outcome::Failed(said),
        }
    }
}

/// The value of a secret; one that cannot be had now may be had later.
pub(super) fn reveal(secret: &Secret) -> Result<String, Outcome> {
    secret.reveal().map_err(|error| Outcome::Failed(one_line(&format!("{error:#}"), 300)))
}

/// What follows the host in a URL: where the keys are.
fn path(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    // `http://host/` has none: one stroke would be found in every text.
    rest.find('/').map(|slash| &rest[slash..]).filter(|path| path.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_stays_behind_the_path() {
        let to = |url: &str| Post::to(&Secret::new(url)).unwrap_or_else(|_| panic!("{url}"));
        assert_eq!(to("http://h/x/").below("/start").query("rid", "1").url, "http://h/x/start?rid=1");
        assert_eq!(
            to("http://h/x?create=1").below("/start").query("rid", "1").url,
            "http://h/x/start?create=1&rid=1"
        );
    }

    #[test]
    fn a_server_s_words_are_part_of_a_refusal_and_its_wish_to_wait_is_heard() {
        let answer = |status, text: &str, wait: Option<u64>| {
            Answer { status: Some(status), text: text.to_owned(), retry_after: wait.map(Duration::from_secs) }
                .outcome()
        };
        let Outcome::Refused(why) = answer(400, "{\"error\":\"chat not found\"}", None) else {
            panic!("400")
        };
        assert!(why.contains("400") && why.contains("chat not found"), "{why}");
        assert_eq!(
            answer(429, "", Some(7)),
            Outcome::Later("the server answered 429".to_owned(), Duration::from_secs(7))
        );
        assert_eq!(answer(502, "<html>", None), Outcome::Failed("the server answered 502".to_owned()));
    }
}
