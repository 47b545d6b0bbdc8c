//! Checks of what answers on the network.

use super::limits::{Most, SECONDS};
use super::rules::{Pointer, judged};
use crate::base::secret::Secret;
use crate::base::units::{Size, Span};
use regex_lite::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
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
    #[serde(default)]
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
        pub value: Pointer,
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

/// An `http://` or `https://` address. What may be secret in it is not shown: user, password and query.
#[derive(Clone)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// All of it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// What people may see.
    pub fn shown(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("http", &self.0));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}{path}")
    }

    /// What people may not see: user and password, the query, and the longer values in it.
    pub fn hidden(&self) -> Vec<String> {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, password) =
            host.rsplit_once('@').map_or(("", None), |(user, _)| (user, user.split_once(':')));
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
        let parts = [user, query].into_iter().chain(password.map(|(_, password)| password));
        parts
            .chain(values.filter(|value| value.len() >= 8))
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl std::fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hidden = if self.0.contains('?') { "?[redacted]" } else { "" };
        serializer.collect_str(&format_args!("{}{hidden}", self.shown()))
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HttpUrl, D::Error> {
        let text = String::deserialize(deserializer)?;
        let host = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let host = host.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if host.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            // Not quoted: a password may be in it.
            return Err(de::Error::custom("it is no http:// or https:// address"));
        }
        Ok(HttpUrl(text))
    }
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text)
            .map(Pattern)
            .map_err(|error| de::Error::custom(format!("'{text}' is no regular expression: {error}")))
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// The answers that are good: `"2xx"`, `"200"`, `"200-204, 401"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Statuses {
        Statuses(vec![(200, 299)])
    }
}

impl Statuses {
    /// Whether an answer is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&status))
    }

    fn parse(text: &str) -> Result<Statuses, String> {
        let one = |part: &str| -> Option<(u16, u16)> {
            let part = part.trim();
            if let Some(class) = part.strip_suffix("xx") {
                let class = class.parse::<u16>().ok()? * 100;
                return Some((class, class + 99));
            }
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        let known = |&(first, last): &(u16, u16)| 100 <= first && first <= last && last <= 599;
        let ranges: Option<Vec<_>> = text.split(',').map(|part| one(part).filter(known)).collect();
        ranges.map(Statuses).ok_or_else(|| {
            format!("'{text}' is no status; write it like \"2xx\", \"200-204\" or \"200, 401\"")
        })
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, &(first, last)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match (first % 100, last - first) {
                (0, 99) => write!(f, "{comma}{}xx", first / 100)?,
                (_, 0) => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Statuses, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a status like 200 or \"2xx\", or a list of them")]
        enum Written {
            Number(u16),
            Text(String),
            List(Vec<Written>),
        }
        fn spelled(written: Written) -> String {
            match written {
                Written::Number(number) => number.to_string(),
                Written::Text(text) => text,
                Written::List(list) => list.into_iter().map(spelled).collect::<Vec<_>>().join(","),
            }
        }
        Statuses::parse(&spelled(Written::deserialize(deserializer)?)).map_err(de::Error::custom)
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_as_people_write_them() {
        for (text, good, bad, shown) in
            [("2xx", 204, 301, "2xx"), ("401", 401, 200, "401"), ("200-204, 4xx", 404, 205, "200-204, 4xx")]
        {
            let statuses = Statuses::parse(text).unwrap();
            assert!(statuses.contains(good) && !statuses.contains(bad), "{text}");
            assert_eq!(statuses.to_string(), shown);
        }
        for wrong in ["", "ok", "700", "99", "204-200", "2x", "99999xx", "200,"] {
            assert!(Statuses::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_not_shown() {
        #[derive(Deserialize, Serialize)]
        struct Table {
            url: HttpUrl,
        }
        let read = |url: &str| toml::from_str::<Table>(&format!("url = \"{url}\""));
        let table = read("https://me:hunter2@host:8443/a/b?token=s3cr3tt0k3n").unwrap();
        assert_eq!(table.url.shown(), "https://host:8443/a/b");
        assert_eq!(table.url.hidden(), ["me:hunter2", "token=s3cr3tt0k3n", "hunter2", "s3cr3tt0k3n"]);
        let told = format!("{:?} {}", table.url, toml::to_string(&table).unwrap());
        assert!(
            !told.contains("hunter2") && !told.contains("s3cr3t") && told.contains("[redacted]"),
            "{told}"
        );
        for wrong in ["ftp://x", "http://", "localhost:80", "http:///x", "http://a b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
