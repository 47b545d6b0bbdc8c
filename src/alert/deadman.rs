//! Pings to somebody who misses them when they stop coming: a job that does not run cannot tell.
//!
//! The protocol of <https://healthchecks.io/docs/http_api/>: `/start`, the bare address for a success,
//! the exit status for a failure, `rid` to tell overlapping runs apart, and a few words as the body.

use super::http::Post;
use crate::base::secret::Secret;
use crate::base::text::hex;
use crate::base::{Run, State};
use sha2::{Digest, Sha256};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long one ping may take: the job matters more.
const LIMIT: Duration = Duration::from_secs(5);

/// More than this is cut off there.
const MOST_BYTES: usize = 10_000;

/// A job that is being watched.
pub struct Deadman {
    url: Secret,
    rid: String,
    started: mpsc::Receiver<Option<String>>,
    deadline: Instant,
}

impl Deadman {
    /// Says that a job begins, while it does.
    pub fn start(url: &Secret, run: &Run) -> Deadman {
        let (send, started) = mpsc::channel();
        let (address, rid) = (url.clone(), rid(run));
        let deadline = Instant::now() + LIMIT;
        let name = rid.clone();
        std::thread::spawn(move || {
            let _ = send.send(ping(&address, "/start", &name, "", deadline));
        });
        Deadman { url: url.clone(), rid, started, deadline }
    }

    /// Says how it ended. A job that was done with something to look at (Warning) was done.
    /// Gives why somebody was not reached, if so.
    pub fn end(self, state: State, words: &str) -> Option<String> {
        // In their order: a start that comes after the end would be one without an end.
        let left = self.deadline.saturating_duration_since(Instant::now());
        let late = || Some(format!("not done within {}", crate::base::units::Span(LIMIT)));
        let started = self.started.recv_timeout(left).unwrap_or_else(|_| late());
        let path = match state {
            State::Ok | State::Warning => String::new(),
            State::Critical | State::Unknown => format!("/{}", state.code()),
        };
        let deadline = Instant::now() + LIMIT;
        // A library's own timeout may be one for each read.
        let (send, ended) = mpsc::channel();
        let words = words.to_owned();
        std::thread::spawn(move || send.send(ping(&self.url, &path, &self.rid, &words, deadline)));
        let ended = ended.recv_timeout(LIMIT).unwrap_or_else(|_| late());
        started.or(ended)
    }
}

fn ping(url: &Secret, path: &str, rid: &str, words: &str, deadline: Instant) -> Option<String> {
    let post = match Post::to(url) {
        Ok(post) if path.is_empty() => post.query("rid", rid),
        Ok(post) => post.below(path).query("rid", rid),
        Err(outcome) => return outcome.error().map(str::to_owned),
    };
    let mut end = words.len().min(MOST_BYTES);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let answer =
        post.header("Content-Type", "text/plain; charset=utf-8").send(&words.as_bytes()[..end], deadline);
    answer.outcome().error().map(str::to_owned)
}

/// The name of a run as a UUID (version 8 of RFC 9562, whose bits are anybody's).
fn rid(run: &Run) -> String {
    let hash = Sha256::digest(format!("agent-ops {} {} {}", run.host, run.id, run.now.timestamp_micros()));
    let mut bytes: Vec<u8> = hash[..16].to_vec();
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let digits = hex(&bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_uuid_and_no_other_run_has_it() {
        let (one, two) = (Run::begin("alert"), Run::begin("alert"));
        assert_eq!(rid(&one), rid(&one));
        assert_ne!(rid(&one), rid(&two));
        let id = rid(&one);
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "8");
        assert!("89ab".contains(&id[19..20]) && id.matches('-').count() == 4, "{id}");
    }
}
