//! What must not leave this machine: secrets that the config knows, and whatever looks like one. Too much
//! is hidden rather than too little.

use super::view::Subject;
use crate::base::arguments;
use crate::base::secret::REDACTED;
use crate::config::{self, Config};
use regex_lite::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// How long the command of a secret may take.
const LIMIT: Duration = Duration::from_secs(3);

/// A shorter value stands in too many places by chance.
const SHORTEST: usize = 4;

/// The same, for what is not known to be a secret, but may be: a value of `env_file`.
const SHORTEST_MAYBE: usize = 6;

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

/// What says who somebody is: only in what is sent away.
const PEOPLE: [(&str, &str); 2] = [
    (r"[A-Za-z0-9._%+-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})", "…@$1"),
    (r#"(?:/home|/Users)/[^/\s"':;,]+"#, "~"),
];

/// Takes secrets out of texts.
pub(super) struct Redactor {
    /// The longest first: one may hold another.
    values: Vec<String>,
    shapes: Vec<(Regex, &'static str)>,
    long: Option<Regex>,
    home: Option<String>,
    /// Secrets whose value is not known: they could not be fetched.
    pub(super) unknown: usize,
}

impl Redactor {
    /// Knows the secrets of a config, its `env_file`, and the command lines in it. `away`: what it sees is
    /// sent to others, so people are hidden too, and the commands of secrets are asked.
    pub(super) fn of(subject: &Subject, away: bool) -> Redactor {
        let (mut values, mut unknown) = (BTreeSet::new(), 0);
        if let Some(loaded) = &subject.agent {
            unknown = known(&loaded.config, away, &mut values);
            let source = std::fs::read(&loaded.config.file).unwrap_or_default();
            written(&String::from_utf8_lossy(&source), away, &mut values);
        }
        Redactor::new(values, unknown, away)
    }

    fn new(values: BTreeSet<String>, unknown: usize, away: bool) -> Redactor {
        let escaped = |value: &String| {
            let json = serde_json::to_string(value).unwrap_or_default();
            [value.clone(), json.trim_matches('"').to_owned(), percent(value)]
        };
        let all: BTreeSet<String> =
            values.iter().flat_map(escaped).filter(|value| value.len() >= SHORTEST).collect();
        let mut values: Vec<String> = all.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let shapes = SHAPES.iter().chain(if away { &PEOPLE[..] } else { &[] });
        let compiled = shapes
            .filter_map(|(shape, instead)| Some((Regex::new(&shape.replace("NAME", NAME)).ok()?, *instead)));
        let home = std::env::var("HOME").ok().filter(|home| away && home.len() > 1);
        Redactor {
            values,
            shapes: compiled.collect(),
            long: Regex::new(&format!("[A-Za-z0-9_+=-]{{{LONG},}}")).ok().filter(|_| away),
            home,
            unknown,
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

/// Adds what the config knows; gives how many secrets could not be fetched.
fn known(config: &Config, away: bool, values: &mut BTreeSet<String>) -> usize {
    let mut unknown = 0;
    for secret in config.secrets() {
        // Whatever a password manager asks its user is not asked for a look.
        match secret.is_command() && !away {
            true => unknown += 1,
            false => match secret.reveal_within(LIMIT) {
                Ok(value) => {
                    values.extend(value.lines().map(str::to_owned));
                    values.insert(value);
                }
                Err(_) => unknown += 1,
            },
        }
    }
    let variables = config.agent.env_file.as_ref().and_then(|path| config::read_env_file(path).ok());
    for (name, value) in variables.into_iter().flatten() {
        add_variable(&name, &value, away, values);
    }
    for service in config.service.values() {
        for (name, value) in &service.env {
            add_variable(name, value, away, values);
        }
        let words: Vec<OsString> = service.command.iter().map(OsString::from).collect();
        values.extend(arguments::left_out(&words));
    }
    let run = config.alerts.command.iter().map(|command| &command.run);
    for words in run {
        values.extend(arguments::left_out(&words.iter().map(OsString::from).collect::<Vec<_>>()));
    }
    unknown
}

/// A variable is a secret by its name, or if its value could be one: no path, no small number, no word
/// that stands everywhere.
fn add_variable(name: &str, value: &str, away: bool, values: &mut BTreeSet<String>) {
    let number = value.len() < 8 && value.chars().all(|c| c.is_ascii_digit() || c == '.');
    let everywhere = ["localhost", "127.0.0.1", "development", "production"].contains(&value);
    let path = value.contains(['{', '$']) || (value.starts_with(['/', '~']) && Path::new(value).exists());
    // Here a word of a language stays, where others read it does not.
    let word = !away && value.chars().all(|c| c.is_ascii_lowercase());
    let maybe = value.len() >= SHORTEST_MAYBE && !number && !everywhere && !path && !word;
    if maybe || arguments::names_secret(name) {
        values.insert(value.to_owned());
    }
}

/// Adds what stands in the file behind a name of a secret, or of a variable, whether it can be read as a
/// config or not.
fn written(source: &str, away: bool, values: &mut BTreeSet<String>) {
    let Ok(pairs) = Regex::new(r#"["']?([A-Za-z0-9_.-]+)["']?\s*=\s*(?:"([^"\n]*)"|'([^'\n]*)')"#) else {
        return;
    };
    for pair in pairs.captures_iter(source) {
        let value = pair.get(2).or(pair.get(3)).map_or("", |value| value.as_str());
        let name = &pair[1];
        let variable = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let elsewhere =
            ["file:", "command:"].iter().any(|start| value.starts_with(start)) || value.contains("${");
        if !elsewhere && (variable || arguments::names_secret(name)) {
            add_variable(name, value, away, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(values: &[&str], away: bool) -> Redactor {
        Redactor::new(values.iter().map(|&value| value.to_owned()).collect(), 0, away)
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
    fn a_file_that_is_no_config_has_its_secrets_too() {
        let mut values = BTreeSet::new();
        written(
            "password = \"hunter2\"\n[x\nenv = { BOT_KEY='abcdefg', MODE = \"fast\" }\ntoken = \"file:x\"\nname = \"bot-of-mine\"",
            true,
            &mut values,
        );
        assert_eq!(values.into_iter().collect::<Vec<_>>(), ["abcdefg", "hunter2"]);
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
