//! One request to the storage, signed, with patience: a failure that may pass is tried again, a
//! few times and not for ever. No error of it quotes a key.

use crate::base::secret::redact;
use crate::base::text::one_line;
use crate::base::{Fault, State, tls};
use crate::config::S3;
use anyhow::{Context, Result};
use rusty_s3::{Bucket, Credentials, Method, S3Action, UrlStyle};
use std::cell::Cell;
use std::time::{Duration, Instant};
use ureq::http::{self, HeaderMap};

/// How often one request is tried.
const TRIES: u32 = 4;
/// The pause after the first failure; each later one is four times as long.
const PAUSE: Duration = Duration::from_millis(250);
/// How much time one run may lose with requests that fail and the pauses after them.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a signature holds: as much as S3 lets clocks differ, and as long as its request may take.
const VALID: Duration = Duration::from_secs(15 * 60);
/// How much time one run may spend on requests that carry no archive.
const TALKING: Duration = Duration::from_secs(30 * 60);
/// The slowest line that is waited for, in bytes a second.
const SLOWEST: u64 = 16 << 10;
/// The most that an answer may hold which is no archive. A page of a list has a thousand keys, of at
/// most 1024 bytes each.
pub(super) const TALK: u64 = 4 << 20;

/// A bucket that can be talked to.
pub(super) struct Client {
    pub(super) bucket: Bucket,
    pub(super) credentials: Credentials,
    /// What the key of every archive of ours begins with.
    pub(super) prefix: String,
    shown: String,
    agent: ureq::Agent,
    /// What must not be printed.
    hidden: Vec<String>,
    timeout: Duration,
    lost: Cell<Duration>,
    talked: Cell<Duration>,
}

/// An answer that was neither a refusal nor a failure: 2xx, or 404.
pub(super) struct Answer {
    status: u16,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header, if it is there and text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// Its text.
    pub(super) fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).context("the storage answered with no text")
    }

    /// The code of an error document, such as `NoSuchKey`.
    fn code(&self) -> &str {
        let text = std::str::from_utf8(&self.body).unwrap_or_default();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map_or("", |(code, _)| code)
    }

    /// Whether it may pass.
    fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..)
            || ["RequestTimeout", "OperationAborted"].contains(&self.code())
    }

    /// `403 AccessDenied`.
    fn describe(&self) -> String {
        format!("{} {}", self.status, self.code()).trim_end().to_owned()
    }

    /// The storage's refusal, with what to do about it. None: it is no refusal.
    fn refusal(&self) -> Option<Fault> {
        let hint = match (self.status, self.code()) {
            (200..=299, _) => return None,
            (404, "NoSuchBucket") => "look at bucket and endpoint in [backup.s3]",
            (404, _) => return None,
            (_, "RequestTimeTooSkewed") => "the clock of this machine is wrong: set it",
            (401 | 403, _) => {
                "look at access_key and secret_key in [backup.s3], and at the rights of that key on the bucket"
            }
            (300..=399, _) | (400, _) => "look at endpoint, region and path_style in [backup.s3]",
            _ => "look at [backup.s3], and at what the storage allows",
        };
        Some(Fault::critical(format!("the storage refused it: {}", self.describe())).hint(hint))
    }
}

impl Client {
    /// Reads the keys and gets ready. Nothing is sent yet.
    pub(super) fn new(s3: &S3) -> Result<Client> {
        let endpoint = s3.endpoint.parse().context("the endpoint in [backup.s3] is no URL")?;
        let style = if s3.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, s3.bucket.clone(), s3.region.clone())
            .map_err(|error| Fault::unknown(format!("endpoint and bucket in [backup.s3]: {error}")))?;
        let missing = |name: &str| {
            Fault::unknown(format!("there is no {name} for [backup.s3]")).hint(
                "set it there, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment or env_file",
            )
        };
        let key = s3.access_key.as_ref().ok_or_else(|| missing("access_key"))?.reveal()?;
        let secret = s3.secret_key.as_ref().ok_or_else(|| missing("secret_key"))?.reveal()?;
        let token = s3.session_token.as_ref().map(|token| token.reveal()).transpose()?;
        let hidden = [Some(&key), Some(&secret), token.as_ref()].into_iter().flatten().cloned().collect();
        let credentials = match token {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        };
        let timeout = s3.timeout.0;
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .http_status_as_error(false)
            // A signature holds for one address only.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("agent-ops/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &s3.ca_file {
            let trusted = tls::trusting(path).map_err(|error| {
                Fault::unknown(format!("[backup.s3]: {error:#}"))
                    .hint("it is a PEM file with the certificate of the authority")
            })?;
            config = config.tls_config(trusted);
        }
        Ok(Client {
            bucket,
            credentials,
            prefix: s3.prefix.clone().unwrap_or_default(),
            shown: s3.shown(),
            agent: config.build().into(),
            hidden,
            timeout,
            lost: Cell::new(Duration::ZERO),
            talked: Cell::new(Duration::ZERO),
        })
    }

    /// Where archives go, as people read it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The key of an archive.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Sends one request and gives its answer, of at most `most` bytes. The headers of the action
    /// are signed and sent.
    ///
    /// # Errors
    /// A [`Fault`] when the storage refuses, or cannot be reached however often it is tried.
    pub(super) fn send<'a, A: S3Action<'a>>(&self, mut action: A, body: &[u8], most: u64) -> Result<Answer> {
        let headers: Vec<(String, String)> =
            action.headers_mut().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let moved = (body.len() as u64).max(if matches!(A::METHOD, Method::Get) { most } else { 0 });
        let limit = self.timeout * 4 + Duration::from_secs(moved / SLOWEST);
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let url = action.sign(limit.max(VALID));
            let attempt = self.attempt(A::METHOD, url.as_str(), &headers, body, most, limit);
            if most == TALK && body.is_empty() {
                self.talked.set(self.talked.get() + begun.elapsed());
            }
            if self.talked.get() > TALKING {
                return Err(Fault::critical(
                    "the storage is too slow: half an hour went by without an archive",
                )
                .hint("is the endpoint right, and does the prefix hold only archives?")
                .into());
            }
            let why = match attempt {
                Ok(answer) if answer.is_passing() => format!("it answered {}", answer.describe()),
                Ok(answer) => return answer.refusal().map_or(Ok(answer), |fault| Err(fault.into())),
                Err(error) => error.to_string(),
            };
            if why.contains("invalid peer certificate") {
                return Err(untrusted(&why).into());
            }
            let pause = first_pause() * 4u32.pow(tries);
            tries += 1;
            let lost = self.lost.get() + begun.elapsed() + pause;
            self.lost.set(lost);
            if tries == TRIES || lost > PATIENCE {
                let why = self.hidden.iter().fold(why, |why, secret| redact(&why, secret));
                let message =
                    format!("the storage does not do it: {} (tried {tries} times)", one_line(&why, 200));
                return Err(Fault::critical(message)
                    .hint("is the network there, and the endpoint right?")
                    .into());
            }
            std::thread::sleep(pause);
        }
    }

    fn attempt(
        &self,
        method: Method,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
        most: u64,
        limit: Duration,
    ) -> Result<Answer, ureq::Error> {
        let mut request = http::Request::builder().method(method.to_str()).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut answer = if matches!(method, Method::Put | Method::Post) {
            let request = request.body(body)?;
            self.agent.run(self.agent.configure_request(request).timeout_global(Some(limit)).build())?
        } else {
            let request = request.body(())?;
            self.agent.run(self.agent.configure_request(request).timeout_global(Some(limit)).build())?
        };
        let body = answer.body_mut().with_config().limit(most).read_to_vec()?;
        Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
    }
}

/// Trying again makes no certificate a better one.
fn untrusted(why: &str) -> Fault {
    Fault::critical(format!("the certificate of the storage is not trusted: {}", one_line(why, 200))).hint(
        "one that no public authority signed needs ca_file in [backup.s3]; where it should be public, somebody may \
         be in between",
    )
}

/// [`PAUSE`]; in builds with debug assertions `OPS_PAUSE` (milliseconds) replaces it, so that tests of
/// what fails need not wait.
fn first_pause() -> Duration {
    let told = || std::env::var("OPS_PAUSE").ok()?.parse().ok().map(Duration::from_millis);
    if cfg!(debug_assertions) { told().unwrap_or(PAUSE) } else { PAUSE }
}

/// Whether trying another archive would be of no use now.
pub(super) fn is_of_the_storage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Fault>().is_some() && Fault::of(error).0 == State::Critical
}
