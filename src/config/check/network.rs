//! Checks of what answers on the network.

use super::limits::{Most, SECONDS};
use super::rules::{Place, judged};
use super::written::{HttpUrl, Pattern, Statuses};
use crate::base::secret::Secret;
use crate::base::units::{Size, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `kind = "tcp"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`.
    pub address: String,
    /// What is said first, once connected.
    #[serde(default)]
    pub send: Option<Secret>,
    /// What the answer must contain.
    #[serde(default)]
    pub expect: Option<String>,
    /// How long the connection, and the answer that is expected, may take.
    #[serde(default = "Most::second")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical: no connection within this time is critical too.
    #[serde(default = "Most::five_seconds")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "http"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// What is asked.
    pub url: HttpUrl,
    /// `GET`, or `POST` where there is a body.
    #[serde(default)]
    pub method: Option<String>,
    /// Headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The user, for HTTP Basic.
    #[serde(default)]
    pub user: Option<String>,
    /// And the password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// What is sent.
    #[serde(default)]
    pub body: Option<Secret>,
    /// A PEM file of authorities to trust instead of the public ones.
    #[serde(default, serialize_with = "crate::base::name::maybe_path::serialize")]
    pub ca_file: Option<PathBuf>,
    /// How many redirects are followed.
    #[serde(default)]
    pub redirects: u32,
    /// The answers that are good.
    #[serde(default)]
    pub status: Statuses,
    /// What headers of the answer must match.
    #[serde(default)]
    pub expect_headers: BTreeMap<String, Pattern>,
    /// What the body must match.
    #[serde(default)]
    pub expect: Option<Pattern>,
    /// What it must not match.
    #[serde(default)]
    pub refuse: Option<Pattern>,
    /// How large it must be at least.
    #[serde(default)]
    pub min_body: Size,
    /// How large it may be at most.
    #[serde(default = "one_megabyte")]
    pub max_body: Size,
    /// What values in it must be, if it is JSON.
    #[serde(default)]
    pub json: Vec<Member>,
    /// How long the whole answer may take.
    #[serde(default = "Most::two_seconds")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical; what is not there by then is not waited for.
    #[serde(default = "Most::five_seconds")]
    pub crit: Most<{ SECONDS }>,
    /// Warns when the certificate expires within this.
    #[serde(default = "three_weeks")]
    pub cert_warn: Span,
    /// The same, for critical.
    #[serde(default = "one_week")]
    pub cert_crit: Span,
}

judged! {
    /// A value in a JSON answer.
    pub struct Member {
        /// Where it is.
        pub value: Place,
        /// Judged is how many elements the array or object there has.
        #[serde(default)]
        pub count: bool,
    }
}

fn one_megabyte() -> Size {
    Size(1_000_000)
}

fn three_weeks() -> Span {
    Span::days(21)
}

fn one_week() -> Span {
    Span::days(7)
}

impl Http {
    /// Why its keys contradict each other, if they do.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let secret = !self.headers.is_empty() || self.user.is_some() || self.body.is_some();
        if self.redirects > 0 && secret {
            return Some(
                "a redirect would carry headers, user or body to another place: ask the last address itself",
            );
        }
        if self.user.is_some() != self.password.is_some() {
            return Some("user and password go together");
        }
        if self.method.as_deref().is_some_and(|method| !METHODS.contains(&method)) {
            return Some("method is none of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        if self.body.is_some()
            && !["POST", "PUT", "PATCH"].contains(&self.method.as_deref().unwrap_or("POST"))
        {
            return Some("a body needs the method POST, PUT or PATCH");
        }
        None
    }
}
