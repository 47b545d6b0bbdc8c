//! What a value should be: the keys that every check which reads one value has.

use crate::base::State;
use crate::base::range::{Range, Unit};
use crate::base::units::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// How a value is judged.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The name of its number; `value` unless said otherwise.
    pub label: Option<String>,
    /// What it counts, for the thresholds as printed.
    pub unit: Option<Measure>,
    /// Warns outside this.
    pub warn: Option<Range>,
    /// Is critical outside this.
    pub crit: Option<Range>,
    /// What it may be; anything, if empty.
    pub equals: Vec<String>,
    /// How bad it is to be something else.
    pub otherwise: State,
    /// It is a time, and judged is how long ago that was.
    pub age: bool,
    /// What a time without an offset means.
    pub zone: Option<Zone>,
    /// It is a counter, and judged is its growth within this time.
    pub per: Option<Span>,
    /// The state when there is no such value.
    pub missing_value: State,
}

impl Rules {
    /// Why they contradict each other, if they do.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        if self.per.is_some_and(|per| per < Span::seconds(1) || per > Span::days(366)) {
            return Some("per is shorter than a second or longer than a year");
        }
        let ways = [self.age, self.per.is_some(), !self.equals.is_empty()];
        let mixed = ways.into_iter().filter(|given| *given).count() > 1;
        mixed.then_some(
            "equals, age and per each judge the value in their own way: only one of them can be given",
        )
    }
}

/// Adds the keys of [`Rules`] to a table of a config.
///
/// `#[serde(flatten)]` would do, but it forgets where in the file a key stands.
macro_rules! judged {
    ($(#[$doc:meta])* pub struct $name:ident {
        $($(#[$about:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$about])* pub $field: $type,)*
            /// The name of the number.
            #[serde(default)]
            label: Option<String>,
            /// What it counts: `s`, `B` or `%`.
            #[serde(default)]
            unit: Option<$crate::config::check::rules::Measure>,
            /// Warns outside this.
            #[serde(default)]
            warn: Option<$crate::config::check::limits::Bound>,
            /// Is critical outside this.
            #[serde(default)]
            crit: Option<$crate::config::check::limits::Bound>,
            /// What it may be.
            #[serde(default)]
            equals: $crate::config::check::rules::Words,
            /// How bad it is to be something else.
            #[serde(default = "crate::config::check::rules::critical")]
            otherwise: $crate::base::State,
            /// Judged is how long ago that was.
            #[serde(default)]
            age: bool,
            /// What a time without an offset means.
            #[serde(default)]
            zone: Option<$crate::config::check::rules::Zone>,
            /// Judged is the growth within this time.
            #[serde(default)]
            per: Option<$crate::base::units::Span>,
            /// The state when there is no such value.
            #[serde(default = "crate::config::check::rules::unknown")]
            missing_value: $crate::base::State,
        }

        impl $name {
            /// What its value should be.
            pub fn rules(&self) -> $crate::config::check::rules::Rules {
                $crate::config::check::rules::Rules {
                    label: self.label.clone(),
                    unit: self.unit,
                    warn: self.warn.map(|bound| bound.0),
                    crit: self.crit.map(|bound| bound.0),
                    equals: self.equals.0.clone(),
                    otherwise: self.otherwise,
                    age: self.age,
                    zone: self.zone,
                    per: self.per,
                    missing_value: self.missing_value,
                }
            }
        }
    };
}
pub(super) use judged;

pub(super) fn critical() -> State {
    State::Critical
}

pub(super) fn unknown() -> State {
    State::Unknown
}

/// What a time without an offset means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// This machine's time.
    Local,
    /// UTC, as SQLite's own functions write it.
    Utc,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure(pub Unit);

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Measure, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known =
            || de::Error::custom(format!("'{text}' is no unit: s (seconds), B (bytes), % or nothing"));
        Unit::of(&text).map(Measure).ok_or_else(known)
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.uom())
    }
}

/// One or several words, numbers or truth values: all compared as text.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Word {
            Text(String),
            Truth(bool),
            Whole(i64),
            Broken(f64),
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a word, a number, true or false, or a list of them")]
        enum Written {
            One(Word),
            Many(Vec<Word>),
        }
        let text = |word| match word {
            Word::Text(text) => text,
            Word::Truth(truth) => truth.to_string(),
            Word::Whole(number) => number.to_string(),
            Word::Broken(number) => number.to_string(),
        };
        Ok(Words(match Written::deserialize(deserializer)? {
            Written::One(word) => vec![text(word)],
            Written::Many(words) => words.into_iter().map(text).collect(),
        }))
    }
}

/// A place in a JSON document: names with dots between them (`details.last_heartbeat`, `jobs.0`), or a
/// pointer as of RFC 6901 (`/a.b/c`). `""` is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    /// As a pointer.
    pub fn pointer(&self) -> Cow<'_, str> {
        if self.0.is_empty() || self.0.starts_with('/') {
            return Cow::Borrowed(&self.0);
        }
        let escaped = self.0.replace('~', "~0").replace('/', "~1");
        Cow::Owned(format!("/{}", escaped.replace('.', "/")))
    }

    /// As it was written.
    pub fn shown(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Table {
        #[serde(default)]
        equals: Words,
        value: Option<Place>,
        unit: Option<Measure>,
    }

    #[test]
    fn words_are_written_as_people_write_them() {
        let read = |text: &str| toml::from_str::<Table>(text).map(|table| table.equals.0);
        assert_eq!(read("equals = \"running\"").unwrap(), ["running"]);
        assert_eq!(read("equals = true").unwrap(), ["true"]);
        assert_eq!(read("equals = [1, 2.5, \"null\"]").unwrap(), ["1", "2.5", "null"]);
        assert!(read("equals = { a = 1 }").is_err());
    }

    #[test]
    fn places_are_written_with_dots_or_as_pointers() {
        let document = serde_json::json!({"a": {"b": [1, 2]}, "c.d": 3, "e/f": 4});
        for (written, value) in [("a.b.1", 2), ("/a/b/0", 1), ("/c.d", 3), ("e/f", 4)] {
            let table: Table = toml::from_str(&format!("value = \"{written}\"")).unwrap();
            assert_eq!(document.pointer(&table.value.unwrap().pointer()).unwrap(), value, "{written}");
        }
        let error = toml::from_str::<Table>("unit = \"GB\"").map(|table| table.unit).unwrap_err();
        assert!(error.to_string().contains("no unit"), "{error}");
    }
}
