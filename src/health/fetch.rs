//! One request by HTTP: bounded in time and size, verified, and without a word of what is secret in it.

use crate::base::secret::{Secret, redact};
use crate::base::text::one_line;
use crate::base::tls;
use crate::config::check::HttpUrl;
use anyhow::{Context, Result};
use base64::Engine;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use ureq::http::{self, HeaderMap};

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) url: &'a HttpUrl,
    pub(super) method: &'a str,
    pub(super) headers: &'a BTreeMap<String, Secret>,
    pub(super) login: Option<(&'a str, &'a Secret)>,
    pub(super) body: Option<&'a Secret>,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) redirects: u32,
    /// The most that the body may have, in bytes.
    pub(super) most: u64,
    /// When all of it must be there.
    pub(super) deadline: Instant,
}

/// What was answered.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) took: Duration,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// Nobody is there, or not the right one: a clause that says why.
    NoAnswer(String),
    /// It was not all there in time.
    Late,
    /// It is larger than allowed.
    TooLarge,
    /// It could not be asked: that is no answer of theirs.
    NotAsked(String),
}

/// What must not be told.
#[derive(Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    fn add(&mut self, secret: &str) {
        // Of `Bearer TOKEN` the token is the secret, with or without its word before it.
        let words = secret.split_whitespace().filter(|word| word.len() >= 8).map(str::to_owned);
        self.0.extend(words.chain([secret.to_owned()]));
    }

    /// The value of a secret, which is hidden from then on.
    pub(super) fn reveal(&mut self, secret: &Secret, deadline: Instant) -> Result<String> {
        let value = secret.reveal_within(deadline.saturating_duration_since(Instant::now()))?;
        self.add(&value);
        Ok(value)
    }

    /// A text without them.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut longest_first: Vec<&String> = self.0.iter().collect();
        longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        longest_first.into_iter().fold(text.to_owned(), |text, secret| redact(&text, secret))
    }
}

/// Asks. What is secret in the question is added to `hidden`.
pub(super) fn fetch(request: &Request<'_>, hidden: &mut Hidden) -> Result<Response, Failure> {
    request.url.hidden().iter().for_each(|secret| hidden.add(secret));
    let (agent, head, body) =
        prepare(request, hidden).map_err(|error| Failure::NotAsked(hidden.hide(&format!("{error:#}"))))?;
    let begun = Instant::now();
    let answer = match &body {
        Some(body) => head.body(body.as_bytes()).map_err(ureq::Error::from).and_then(|head| agent.run(head)),
        None => head.body(()).map_err(ureq::Error::from).and_then(|head| agent.run(head)),
    };
    let read = answer.and_then(|mut answer| {
        let body = answer.body_mut().with_config().limit(request.most).read_to_vec()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Response { status, headers, body, took: begun.elapsed() })
    });
    read.map_err(|error| explain(&error, hidden))
}

type Prepared = (ureq::Agent, http::request::Builder, Option<String>);

fn prepare(request: &Request<'_>, hidden: &mut Hidden) -> Result<Prepared> {
    let mut head = http::Request::builder().method(request.method).uri(request.url.reveal());
    for (name, value) in request.headers {
        let value = hidden.reveal(value, request.deadline).with_context(|| format!("the header {name}"))?;
        head = head.header(name, value);
    }
    if let Some((user, password)) = request.login {
        let password = hidden.reveal(password, request.deadline).context("the password")?;
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        hidden.add(&login);
        head = head.header("authorization", format!("Basic {login}"));
    }
    let body =
        request.body.map(|body| hidden.reveal(body, request.deadline)).transpose().context("the body")?;
    let body = body.or_else(|| ["POST", "PUT", "PATCH"].contains(&request.method).then(String::new));
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(request.deadline.saturating_duration_since(Instant::now())))
        .http_status_as_error(false)
        // By hand and under cron the same: no proxy of an environment.
        .proxy(None)
        .max_redirects(request.redirects)
        .max_redirects_will_error(false)
        .user_agent(concat!("agent-ops/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = request.ca_file {
        config = config.tls_config(tls::trusting(path)?);
    }
    Ok((config.build().into(), head, body))
}

fn explain(error: &ureq::Error, hidden: &Hidden) -> Failure {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    let told = one_line(&hidden.hide(&error.to_string()), 160);
    match error {
        ureq::Error::Timeout(_) => Failure::Late,
        ureq::Error::Io(io) if matches!(io.kind(), TimedOut | WouldBlock) => Failure::Late,
        // The standard library has no kind of its own for this.
        ureq::Error::Io(io) if io.to_string().starts_with("failed to lookup address") => {
            Failure::NotAsked("its name is not known".to_owned())
        }
        ureq::Error::Io(io) => Failure::NoAnswer(one_line(&hidden.hide(&io.to_string()), 160)),
        ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
        ureq::Error::HostNotFound => Failure::NotAsked("its name is not known".to_owned()),
        // What was asked is wrong, not the answer; and the text may quote it.
        ureq::Error::Http(_) => {
            Failure::NotAsked("a header or the address has characters that cannot be sent".to_owned())
        }
        ureq::Error::BadUri(_) => Failure::NotAsked("the address cannot be read".to_owned()),
        ureq::Error::Protocol(_) => Failure::NoAnswer(format!("what it answers is no HTTP ({told})")),
        _ => Failure::NoAnswer(told),
    }
}
