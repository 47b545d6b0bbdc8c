//! A JSON document with placeholders: `{"text": "{title}: {message}"}`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The names that may stand in braces.
const PLACEHOLDERS: &[&str] = &[
    "uid", "kind", "severity", "type", "check", "title", "message", "body", "agent", "host", "run", "since",
    "runbook",
];

/// The text of such a document. Filled in, it is JSON whatever the values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling(String);

impl Filling {
    /// Takes a text that becomes JSON when it is filled in.
    pub fn parse(text: &str) -> Result<Filling, String> {
        let filling = Filling(text.to_owned());
        for (name, _) in filling.names() {
            if !PLACEHOLDERS.contains(&name) {
                return Err(format!(
                    "there is no placeholder {{{name}}}; there are {}",
                    PLACEHOLDERS.join(", ")
                ));
            }
        }
        // A value that only holds where a string is open: "{title}", never {title} alone.
        match serde_json::from_str::<serde_json::Value>(&filling.fill(|_| "a \"b\"\n".to_owned())) {
            Ok(_) => Ok(filling),
            Err(error) => {
                Err(format!("filled in, the template is no JSON (a placeholder stands in quotes): {error}"))
            }
        }
    }

    /// The document, with a value for each name; the values are escaped.
    pub fn fill(&self, value: impl Fn(&str) -> String) -> String {
        let mut filled = String::new();
        let mut done = 0;
        for (name, at) in self.names() {
            filled.push_str(&self.0[done..at]);
            let quoted = serde_json::Value::String(value(name)).to_string();
            filled.push_str(&quoted[1..quoted.len() - 1]);
            done = at + name.len() + 2;
        }
        filled + &self.0[done..]
    }

    /// The names in braces, and where the brace stands. A brace of JSON is followed by no word.
    fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.match_indices('{').filter_map(|(at, _)| {
            let (name, _) = self.0[at + 1..].split_once('}')?;
            let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            word.then_some((name, at))
        })
    }
}

impl<'de> Deserialize<'de> for Filling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Filling, D::Error> {
        Filling::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Filling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_that_is_no_json_is_refused() {
        for good in [r#"{"text": "{title}: {message}"}"#, r#"{"a": {"b": ["{uid}"]}}"#, "{}", r#"{"n": 1}"#] {
            assert!(Filling::parse(good).is_ok(), "{good}");
        }
        for wrong in [r#"{"text": "{titel}"}"#, r#"{"text": {title}}"#, "title", r#"{"text": "{title}""#] {
            assert!(Filling::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_values_it_is_json_and_says_them(value in any::<String>()) {
            let filling = Filling::parse(r#"{"text": "<{title}>", "more": ["{message}"]}"#).unwrap();
            let document: serde_json::Value = serde_json::from_str(&filling.fill(|_| value.clone())).unwrap();
            prop_assert_eq!(document["text"].as_str().unwrap(), format!("<{value}>"));
        }
    }
}
