//! What of a config is a secret, or may be one, by its value: it may stand anywhere else as well.

use super::view::Subject;
use crate::base::arguments;
use crate::base::beneath::{SMALL, read_small_file};
use crate::config::{self, Config};
use regex_lite::Regex;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// How long the command of a secret may take.
const LIMIT: Duration = Duration::from_secs(3);

/// A shorter value stands in too many places by chance.
pub(super) const SHORTEST: usize = 4;

/// The same, for what is not known to be a secret, but may be: a value of `env_file`. What is sent away is
/// without the shorter ones, too, where they are a word of their own.
const SHORTEST_MAYBE: usize = 6;

/// Values that stand everywhere, and are no secret of anybody.
const EVERYWHERE: [&str; 22] = [
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "development",
    "production",
    "staging",
    "test",
    "true",
    "false",
    "none",
    "null",
    "auto",
    "trace",
    "debug",
    "info",
    "warn",
    "warning",
    "error",
    "critical",
    "utf-8",
    "json",
    "text",
];

/// Options of one letter that a password follows, at once or as the next word: `mysql -pX`, `redis-cli -a X`.
const OPTIONS: [char; 3] = ['p', 'P', 'a'];

/// What is known.
#[derive(Default)]
pub(super) struct Known {
    /// Left out wherever they stand.
    pub(super) values: BTreeSet<String>,
    /// Left out where they are a word of their own.
    pub(super) words: BTreeSet<String>,
    /// Secrets whose value is not known: they could not be fetched.
    pub(super) unknown: usize,
    pub(super) away: bool,
    /// Those of the services: no secret, though variables have them.
    pub(super) ports: BTreeSet<String>,
}

impl Known {
    /// The secrets of a config, its `env_file`, and the command lines in it. `away`: what is found is sent
    /// to others, so the commands of secrets are asked, and less is taken for harmless.
    pub(super) fn of(subject: &Subject, away: bool) -> Known {
        let mut known = Known { away, ..Known::default() };
        if let Some(loaded) = &subject.agent {
            known.config(&loaded.config);
            let source = read_small_file(&loaded.config.file, SMALL).unwrap_or_default();
            known.source(&String::from_utf8_lossy(&source));
        }
        known
    }

    fn config(&mut self, config: &Config) {
        self.ports = config.service.values().flat_map(|service| &service.ports).map(u16::to_string).collect();
        for secret in config.secrets() {
            // Whatever a password manager asks its user is not asked for a look.
            match secret.is_command() && !self.away {
                true => self.unknown += 1,
                false => match secret.reveal_within(LIMIT) {
                    Ok(value) => self.secret(&value),
                    Err(_) => self.unknown += 1,
                },
            }
        }
        let variables = config.agent.env_file.as_ref().and_then(|path| config::read_env_file(path).ok());
        for (name, value) in variables.into_iter().flatten() {
            self.variable(&name, &value);
        }
        for (name, value) in config.service.values().flat_map(|service| &service.env) {
            self.variable(name, value);
        }
        // The list of a service's command, of a check's, of whatever runs when something is done.
        if let Ok(table) = toml::Value::try_from(config) {
            self.commands(&table);
        }
        if let Some(telegram) = config.alerts.telegram.as_ref().filter(|_| self.away) {
            // It says who is told.
            self.words.insert(telegram.chat.clone());
        }
    }

    /// A secret, and what it is made of: `Bearer X`, `https://user:X@host`.
    fn secret(&mut self, value: &str) {
        for value in std::iter::once(value).chain(value.lines()) {
            self.values.insert(value.to_owned());
            if let Some((_, rest)) = value.trim().split_once(' ') {
                self.values.insert(rest.trim().to_owned());
            }
            let user = value.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
            self.values.extend(user.and_then(|(user, _)| Some(user.split_once(':')?.1.to_owned())));
        }
    }

    /// Every list of words that may be a command line.
    fn commands(&mut self, value: &toml::Value) {
        match value {
            toml::Value::Array(items) => {
                let words: Vec<OsString> =
                    items.iter().filter_map(|item| Some(item.as_str()?.into())).collect();
                self.values.extend(arguments::left_out(&words));
                if self.away {
                    let words = items.iter().filter_map(toml::Value::as_str);
                    self.short_options(words.flat_map(str::split_whitespace));
                }
                items.iter().for_each(|item| self.commands(item));
            }
            toml::Value::Table(items) => items.values().for_each(|item| self.commands(item)),
            _ => {}
        }
    }

    fn short_options<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        let mut follows = false;
        for word in words {
            let option = word.strip_prefix('-').filter(|rest| rest.starts_with(OPTIONS));
            match option.map(|rest| &rest[1..]) {
                Some(value) => self.perhaps(value),
                None if follows && !word.starts_with('-') => self.perhaps(word),
                None => {}
            }
            follows = option.is_some_and(|rest| rest.len() == 1);
        }
    }

    /// A variable is a secret by its name, or if its value could be one.
    fn variable(&mut self, name: &str, value: &str) {
        // Here a word of a language stays, where others read it does not.
        let word = !self.away && value.chars().all(|c| c.is_ascii_lowercase());
        if arguments::names_secret(name) {
            self.values.insert(value.to_owned());
        } else if !word {
            self.perhaps(value);
        }
    }

    /// What could be a secret: no path, no number that says how much, no word that stands everywhere.
    fn perhaps(&mut self, value: &str) {
        let number = value.len() < 8 && value.chars().all(|c| c.is_ascii_digit() || c == '.');
        let everywhere =
            EVERYWHERE.contains(&value.to_ascii_lowercase().as_str()) || self.ports.contains(value);
        let path =
            value.contains(['{', '$']) || (value.starts_with(['/', '~', '.']) && Path::new(value).exists());
        if everywhere || path {
        } else if value.len() >= SHORTEST_MAYBE && !number {
            self.values.insert(value.to_owned());
        } else if self.away && value.len() >= SHORTEST {
            self.words.insert(value.to_owned());
        }
    }

    /// What stands in the file behind a name of a secret, or of a variable, whether it can be read as a
    /// config or not.
    fn source(&mut self, source: &str) {
        let Ok(heads) = Regex::new(r#"["']?([A-Za-z0-9_.-]+)["']?[ \t]*=[ \t]*(["']?)"#) else {
            return;
        };
        for head in heads.captures_iter(source) {
            let (name, behind) = (&head[1], head.get(0).map_or(0, |head| head.end()));
            let line = source[behind..].lines().next().unwrap_or_default();
            let variable = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let elsewhere = ["file:", "command:"].iter().any(|start| line.starts_with(start));
            for value in written(line, head[2].chars().next()).filter(|value| !value.contains("${")) {
                if elsewhere {
                } else if arguments::names_secret(name) {
                    // What no quote begins may be a number, or a word of the language.
                    if head[2].is_empty() { self.perhaps(value) } else { self.secret(value) }
                } else if variable && !head[2].is_empty() {
                    self.variable(name, value);
                }
            }
        }
    }
}

/// What may be meant by a value, of which this is the rest of the line behind its quote: where the closing one
/// was forgotten, it ends somewhere before that of another value, a comment, or the end of the line.
fn written(line: &str, quote: Option<char>) -> impl Iterator<Item = &str> {
    let closed = quote.and_then(|quote| line.split_once(quote)).map(|(value, _)| value);
    let open = closed.is_none_or(|value| value.contains('='));
    let whole = closed.or(quote.and(Some(line)));
    let word = |ends: &[char]| line.split(ends).next().unwrap_or_default();
    let words = [word(&[' ', '\t', '"', '\'']), word(&[' ', '\t', '"', '\'', '#', ',', ']', '}'])];
    let trimmed = whole.filter(|_| open).map(str::trim_end);
    whole
        .into_iter()
        .chain(trimmed)
        .chain(words.into_iter().filter(move |_| open))
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(away: bool, learn: impl Fn(&mut Known)) -> (Vec<String>, Vec<String>) {
        let mut known = Known { away, ports: BTreeSet::from(["8080".to_owned()]), ..Known::default() };
        learn(&mut known);
        (known.values.into_iter().collect(), known.words.into_iter().collect())
    }

    #[test]
    fn a_file_that_is_no_config_has_its_secrets_too() {
        let (values, words) = known(true, |known| {
            known.source("password = \"hunter2\"\n[x\nenv = { BOT_KEY='abcdefg', MODE = \"fast\" }\ntoken = \"file:x\"\nname = \"bot-of-mine\"");
        });
        assert_eq!(
            (values, words),
            (vec!["abcdefg".to_owned(), "hunter2".to_owned()], vec!["fast".to_owned()])
        );
    }

    #[test]
    fn a_value_whose_quote_was_forgotten_is_known_all_the_same() {
        for source in [
            "password = \"hunter2secretA",
            "password = \"hunter2secretA\r\n[alerts]\r\n",
            "password = 'hunter2secretA  # of the mail\nname = 'x'",
            "password = hunter2secretA\"\n",
            "password = hunter2secretA",
            "env = { A_KEY = \"hunter2secretA, OTHER = \"gpt-9x-more\" }",
            "tokens = [\"x\"]\nx = { token = \"hunter2secretA }",
            "SOME_NAME = \"hunter2secretA\n",
        ] {
            let (values, _) = known(true, |known| known.source(source));
            assert!(values.contains(&"hunter2secretA".to_owned()), "{source}: {values:?}");
            assert_eq!(source.contains("OTHER"), values.contains(&"gpt-9x-more".to_owned()), "{values:?}");
        }
        let (values, words) = known(true, |known| {
            known.source(
                "max_tokens = 80\npassword = true\ntoken = \"file:some-where\nA_KEY = \"${OTHER}x\"\ncwd = \"/opt/my bot\n",
            );
        });
        assert!(values.is_empty() && words.is_empty(), "{values:?} {words:?}");
    }

    #[test]
    fn short_values_are_words_where_they_are_sent_away() {
        let learn = |known: &mut Known| {
            for value in ["hunt2", "4711", "8080", "INFO", "no", "/tmp", "gpt-9x", "123.5"] {
                known.variable("SOME", value);
            }
            known.variable("MY_PIN_TOKEN", "hunt3");
        };
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(known(true, learn), (texts(&["gpt-9x", "hunt3"]), texts(&["123.5", "4711", "hunt2"])));
        assert_eq!(known(false, learn), (texts(&["gpt-9x", "hunt3"]), vec![]));
    }

    #[test]
    fn what_a_secret_is_made_of_is_one() {
        let (values, _) = known(true, |known| {
            known.secret("Bearer hunter2hunter2");
            known.secret("https://me:hunter3@host/x");
        });
        assert!(
            ["hunter2hunter2", "hunter3"].iter().all(|part| values.contains(&(*part).to_owned())),
            "{values:?}"
        );
    }

    #[test]
    fn passwords_in_any_list_of_words() {
        let table: toml::Table = toml::from_str(
            "[check.a]\ncommand = [\"plugin\", \"--password\", \"hunter2\"]\n\
             [service.b]\ncommand = [\"mysql\", \"-phunter3\", \"-P\", \"8080\", \"-a\", \"hunter4\", \"-u\", \"x.py\"]\n",
        )
        .unwrap();
        let (values, words) = known(true, |known| known.commands(&toml::Value::Table(table.clone())));
        assert_eq!((values.join(" "), words.len()), ("hunter2 hunter3 hunter4".to_owned(), 0));
    }
}
