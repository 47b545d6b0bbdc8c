//! What must not leave this machine: secrets that the config knows, and whatever looks like one. Too much
//! is hidden rather than too little.

use super::known::{Known, SHORTEST};
use super::view::Subject;
use crate::base::arguments;
use crate::base::secret::REDACTED;
use regex_lite::Regex;
use serde_json::Value;
use std::collections::BTreeSet;

/// Longer words of letters and digits are keys, hashes or ids.
const LONG: usize = 32;

/// What looks like a secret, and what stands there instead. `NAME` is what a name holds that is one's.
const SHAPES: [(&str, &str); 12] = [
    (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", "[redacted]"),
    // The beginning was cut off.
    (r"(?s)\A[A-Za-z0-9+/=\s]*-----END [A-Z ]*PRIVATE KEY-----", "[redacted]"),
    (r"(?m)^[ \t]*[A-Za-z0-9+/]{40,}={0,2}[ \t]*$", "[redacted]"),
    (r"(?i)\b(bearer)([ :=]+)[A-Za-z0-9+/=._~-]{4,}", "$1$2[redacted]"),
    (r#"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(["']?\s*[=:]\s*)[^"'\r\n]+"#, "$1$2[redacted]"),
    (
        r#"(?i)([A-Za-z0-9_.-]*NAME[A-Za-z0-9_.-]*["']?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"',;&)}\]]+)"#,
        "$1[redacted]",
    ),
    (r#"(?i)(--?[a-z0-9-]*NAME[a-z0-9-]*[ \t]+)("[^"]*"|'[^']*'|[^\s"'-][^\s"']*)"#, "$1[redacted]"),
    (r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@\x22']+@", "$1[redacted]@"),
    (r#"([A-Za-z][A-Za-z0-9+.-]*://[^\s"'?#]*\?)[^\s"']+"#, "$1[redacted]"),
    (r#"(https?://[^\s"'/]+/[^\s"'?#]*?)[A-Za-z0-9_-]{20,}"#, "$1[redacted]"),
    (
        r"\b(?:sk-|sk_|rk_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|xox[a-z]-|AKIA|ASIA|AIza|hf_|npm_|pypi-|AGE-SECRET-KEY-|eyJ)[A-Za-z0-9_./+=-]{8,}",
        "[redacted]",
    ),
    (r"\b(?:bot)?[0-9]{6,}:[A-Za-z0-9_-]{30,}", "[redacted]"),
];

/// What the name of a secret holds.
const NAME: &str = "(?:token|secret|passw|passphrase|passcode|credential|api[_-]?key|access[_-]?key|private[_-]?key|webhook|pwd|auth[_-]?key)";

/// What says who somebody is, and short options with a password at once: only in what is sent away.
const PEOPLE: [(&str, &str); 6] = [
    (r"[A-Za-z0-9._%+-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})", "…@$1"),
    (r#"(?:/home|/Users)/[^/\s"':;,]+"#, "~"),
    // Telephones, and the numbers of cards.
    (r"\+[0-9][0-9 ()/.-]{6,}[0-9]", "[redacted]"),
    (r"\b[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}\b", "[redacted]"),
    (r#"(^|[\s"'])-p[^\s"'=-][^\s"']*"#, "$1-p[redacted]"),
    (r#"(\s(?:-u|--user)[ =])([^\s:"']+):[^\s"']+"#, "$1$2:[redacted]"),
];

/// Options that a password follows, in a command line.
const FOLLOWED: &str = r#"(^|[\s"'])(-[pPa])\s+[^\s"'-][^\s"']*"#;

/// Takes secrets out of texts.
pub(super) struct Redactor {
    /// The longest first: one may hold another.
    values: Vec<String>,
    words: Option<Regex>,
    shapes: Vec<(Regex, &'static str)>,
    followed: Option<Regex>,
    long: Option<Regex>,
    home: Option<String>,
    /// Secrets whose value is not known: they could not be fetched.
    pub(super) unknown: usize,
}

impl Redactor {
    /// Knows the secrets of a config, its `env_file`, and the command lines in it. `away`: what it sees is
    /// sent to others, so people are hidden too, and the commands of secrets are asked.
    pub(super) fn of(subject: &Subject, away: bool) -> Redactor {
        Redactor::new(Known::of(subject, away), away)
    }

    fn new(known: Known, away: bool) -> Redactor {
        let escaped = |value: &String| {
            let json = serde_json::to_string(value).unwrap_or_default();
            [value.clone(), json.trim_matches('"').to_owned(), percent(value)]
        };
        let all: BTreeSet<String> =
            known.values.iter().flat_map(escaped).filter(|value| value.len() >= SHORTEST).collect();
        let mut values: Vec<String> = all.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let shapes = SHAPES.iter().chain(if away { &PEOPLE[..] } else { &[] });
        let compiled = shapes
            .filter_map(|(shape, instead)| Some((Regex::new(&shape.replace("NAME", NAME)).ok()?, *instead)));
        let home = std::env::var("HOME").ok().filter(|home| away && home.len() > 1);
        Redactor {
            values,
            words: words(&known.words),
            shapes: compiled.collect(),
            followed: Regex::new(FOLLOWED).ok().filter(|_| away),
            long: Regex::new(&format!("[A-Za-z0-9_+=-]{{{LONG},}}")).ok().filter(|_| away),
            home,
            unknown: known.unknown,
        }
    }

    /// A command line without what it must not tell.
    pub(super) fn command(&self, line: &str) -> String {
        match &self.followed {
            Some(followed) => self.text(&followed.replace_all(line, "$1$2 [redacted]")),
            None => self.text(line),
        }
    }

    /// A text without what it must not tell.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = self.known(text);
        for (shape, instead) in &self.shapes {
            text = shape.replace_all(&text, *instead).into_owned();
        }
        match &self.long {
            Some(long) => {
                long.replace_all(&text, |found: &regex_lite::Captures<'_>| hidden(&found[0])).into_owned()
            }
            None => text,
        }
    }

    /// A text without the values that are known; nothing else is changed.
    pub(super) fn known(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), REDACTED);
            }
        }
        if let Some(words) = &self.words {
            // One that follows another at once is found in a second pass.
            for _ in 0..2 {
                text = words.replace_all(&text, "${1}[redacted]$2").into_owned();
            }
        }
        match &self.home {
            Some(home) => text.replace(home.as_str(), "~"),
            None => text,
        }
    }

    /// A document without what it must not tell: by its keys, too.
    pub(super) fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.json(item)).collect()),
            Value::Object(items) => items
                .into_iter()
                .map(|(key, value)| match value {
                    Value::Null | Value::Bool(_) | Value::Object(_) => (self.text(&key), self.json(value)),
                    _ if arguments::names_secret(&key) => {
                        (self.text(&key), Value::String(REDACTED.to_owned()))
                    }
                    Value::String(line) if key == "command" => (key, Value::String(self.command(&line))),
                    value => (self.text(&key), self.json(value)),
                })
                .collect(),
            other => other,
        }
    }
}

/// Long words of letters and digits, but no name of several words with dashes between.
fn hidden(word: &str) -> String {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let mixed = has(char::is_ascii_digit) && has(char::is_ascii_alphabetic);
    let cased = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    let solid = word.split(['-', '_', '+', '=']).any(|part| part.len() >= 20);
    if mixed && (cased || solid) { REDACTED.to_owned() } else { word.to_owned() }
}

fn percent(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// What finds values where they are a word of their own.
fn words(values: &BTreeSet<String>) -> Option<Regex> {
    let long_enough = values.iter().filter(|value| value.len() >= SHORTEST);
    let mut values: Vec<String> = long_enough.map(|value| regex_lite::escape(value)).collect();
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let pattern = format!("(^|[^A-Za-z0-9])(?:{})([^A-Za-z0-9]|$)", values.join("|"));
    Regex::new(&pattern).ok().filter(|_| !values.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(values: &[&str], away: bool) -> Redactor {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Redactor::new(Known { values, ..Known::default() }, away)
    }

    #[test]
    fn every_shape_is_a_pattern() {
        assert_eq!(redactor(&[], true).shapes.len(), SHAPES.len() + PEOPLE.len());
        assert!(redactor(&[], true).long.is_some());
        let name = "my-agent-of-production-on-host-number-2";
        assert_eq!(redactor(&[], true).text(name), name);
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden() {
        let redactor = redactor(&[], true);
        for text in [
            "Authorization: Bearer hunter2hunter2",
            "authorization=Basic aHVudGVyMg== (hunter2)",
            "curl -H 'X-Api-Key: hunter2hunter2'",
            "login with password=hunter2 failed",
            "\"client_secret\": \"hunter2 and hunter2\",",
            "token='hunter2'",
            "run --api-key hunter2 --fast",
            "postgres://me:hunter2@db/x",
            "GET https://host/path?key=hunter2&x=hunter2",
            "https://hooks.example.com/services/T00/B00/hunter2hunter2hunter2",
            "used sk-hunter2hunter2hunter2",
            "ghp_hunter2hunter2hunter2",
            "xoxb-1234-hunter2hunter2",
            "eyJhbGci.eyJzdWIi-hunter2.hunter2hunter2",
            "bot123456789:AAhunter2hunter2hunter2hunter2hunter2/send",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2\nhunter2\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nhunter2\n",
            "hunter2\nhunter2\n-----END PRIVATE KEY-----\n",
            "key HUNTERhunter2hunter2hunter2hunter2hunter2 was used",
            "hunter2@example.org",
            "/home/hunter2/bot/x.log",
            "Set-Cookie: id=hunter2; path=hunter2",
        ] {
            let shown = redactor.text(text);
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
        }
        assert_eq!(redactor.text("mail to me@example.org"), "mail to …@example.org");
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        let redactor = redactor(&[], false);
        for text in [
            "[2026-11-20 09:30:01] [ERROR] cannot connect to 127.0.0.1:1025: refused",
            "Traceback (most recent call last):\n  File \"/srv/bot/src/core/daemon.py\", line 181, in run",
            "http://localhost:8080/health answered 200",
            "ops restart daemon --force",
            "the basic idea of it",
        ] {
            assert_eq!(redactor.text(text), text);
        }
    }

    #[test]
    fn documents_are_redacted_by_their_keys_too() {
        let redactor = redactor(&["hunter2"], false);
        let document = serde_json::json!({"api_token": "abc", "pid": 4, "tokens": {"x": "a hunter2"}, "passwords": ["q"]});
        assert_eq!(
            redactor.json(document).to_string(),
            r#"{"api_token":"[redacted]","passwords":"[redacted]","pid":4,"tokens":{"x":"a [redacted]"}}"#
        );
    }

    #[test]
    fn short_values_and_people_are_left_out_of_what_is_sent_away() {
        let known =
            Known { words: ["hunt2", "4711", "-12.3", "a|b)"].map(str::to_owned).into(), ..Known::default() };
        let redactor = Redactor::new(known, true);
        for (text, shown) in [
            ("hunt2 4711 4711", "[redacted] [redacted] [redacted]"),
            ("SHORT=hunt2", "SHORT=[redacted]"),
            ("chat -12.3, or a|b).", "chat [redacted], or [redacted]."),
            ("pid 14711", "pid 14711"),
            ("call +49 (170) 555-0123 now", "call [redacted] now"),
            ("card 4111 1111 1111 1111", "card [redacted]"),
            ("mysql -phunt3r -h x", "mysql -p[redacted] -h x"),
            ("curl -u me:hunt3r x", "curl -u me:[redacted] x"),
            (
                "[2026-11-20 09:30:01] [INFO] 2026-11-20T09:30:01.123Z",
                "[2026-11-20 09:30:01] [INFO] 2026-11-20T09:30:01.123Z",
            ),
        ] {
            assert_eq!(redactor.text(text), shown);
        }
        assert_eq!(redactor.command("redis-cli -a hunt3r -p x"), "redis-cli -a [redacted] -p [redacted]");
    }

    proptest! {
        #[test]
        fn a_known_secret_never_passes(secret in "[!-~]{6,40}", before in ".{0,30}", after in ".{0,30}") {
            let redactor = redactor(&[&secret], true);
            for text in [format!("{before}{secret}{after}"), format!("k={secret}"), serde_json::to_string(&secret).unwrap()] {
                let shown = redactor.text(&text);
                // What stands there instead may hold a part of it by chance.
                prop_assert!(!shown.replace(REDACTED, "\n").contains(&secret) || REDACTED.contains(&secret), "{}", shown);
            }
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = redactor(&["hunter2"], true).text(&text);
        }
    }
}
