//! Addresses, patterns and statuses of HTTP, as people write them.

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

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

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
