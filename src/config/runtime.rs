//! What a service runs on, and the versions of it that the service is made for.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// `runtime` in `[service.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Prints the version: program and arguments.
    pub command: Vec<String>,
    /// The least version.
    pub min: Option<Version>,
    /// The first version that is too new.
    pub below: Option<Version>,
}

impl Runtime {
    /// Why its keys make no sense, if they do not.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        if self.command.first().is_none_or(String::is_empty) {
            return Some("the command of runtime is empty");
        }
        match (&self.min, &self.below) {
            (None, None) => Some("runtime has neither min nor below"),
            (Some(min), Some(below)) if min >= below => Some("runtime: min is not below below"),
            _ => None,
        }
    }

    /// Whether a version is one that the service is made for.
    pub fn takes(&self, version: &Version) -> bool {
        self.min.as_ref().is_none_or(|min| version >= min)
            && self.below.as_ref().is_none_or(|below| version < below)
    }
}

/// As people say it: `at least 22, below 25`.
impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let min = self.min.iter().map(|min| format!("at least {min}"));
        let below = self.below.iter().map(|below| format!("below {below}"));
        f.write_str(&min.chain(below).collect::<Vec<_>>().join(", "))
    }
}

/// Numbers with dots between; what is not said is 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// The first version in a text: of `Python 3.11.2` it is 3.11.2, of `v22.1.0-rc1` 22.1.0.
    pub fn find(text: &str) -> Option<Version> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut numbers: Vec<u32> = rest[..end].split('.').map_while(|part| part.parse().ok()).collect();
        // 3 and 3.0 are the same.
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        (!numbers.is_empty()).then_some(Version(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("."))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
        Version::find(&text)
            .filter(|_| plain)
            .ok_or_else(|| de::Error::custom(format!("'{text}' is no version; write it like \"3.8\"")))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::find(text).unwrap()
    }

    #[test]
    fn a_version_is_found_in_what_programs_print() {
        for (text, found) in [
            ("Python 3.11.2", Some("3.11.2")),
            ("v22.1.0-rc1\n", Some("22.1")),
            ("go version go1.24.3 linux/amd64", Some("1.24.3")),
            ("3.8.", Some("3.8")),
            ("none", None),
            ("99999999999999", None),
        ] {
            assert_eq!(Version::find(text).map(|version| version.to_string()).as_deref(), found, "{text}");
        }
        assert!(version("3.10") > version("3.9") && version("22") == version("22.0"));
    }

    #[test]
    fn a_range_takes_what_lies_in_it() {
        let node = |min: &str, below: &str| Runtime {
            command: vec!["node".to_owned()],
            min: Version::find(min),
            below: Version::find(below),
        };
        let range = node("22", "25");
        assert_eq!(range.to_string(), "at least 22, below 25");
        assert!(range.takes(&version("22.0.0")) && range.takes(&version("24.9")));
        assert!(!range.takes(&version("21.9")) && !range.takes(&version("25.0.0")));
        assert!(range.wrong().is_none() && node("", "25").wrong().is_none());
        assert!(node("", "").wrong().is_some() && node("25", "22").wrong().is_some());
        assert!(Runtime { command: Vec::new(), ..range }.wrong().is_some());
    }
}
