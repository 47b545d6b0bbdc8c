//! Values that must not be seen: they are fetched when used and never printed.

use super::process::{self, Output};
use super::{Fault, Home, beneath};
use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::process::Command;
use std::time::Duration;

/// Printed where a secret would stand.
pub const REDACTED: &str = "[redacted]";

/// A password, a token, a URL with a key in it: written in the config as the value itself (best
/// as `${VAR}`), as `file:PATH`, or as `command:…` whose first line of output it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Value(String),
    File(String),
    Command(String),
}

/// The most that a secret in a file may have.
const MOST_BYTES: u64 = 1 << 20;

impl Secret {
    /// A secret with a known value, whatever it looks like.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(Source::Value(value.into()))
    }

    /// One as a config writes it.
    pub fn written(text: &str) -> Secret {
        Secret(match (text.strip_prefix("file:"), text.strip_prefix("command:")) {
            (Some(path), _) => Source::File(path.to_owned()),
            (_, Some(command)) => Source::Command(command.to_owned()),
            _ => Source::Value(text.to_owned()),
        })
    }

    /// The value. Reads the file or runs the command (10 s at most).
    pub fn reveal(&self) -> Result<String> {
        self.reveal_within(Duration::from_secs(10))
    }

    /// [`Secret::reveal`], whose command has no longer than this.
    pub fn reveal_within(&self, limit: Duration) -> Result<String> {
        match &self.0 {
            Source::Value(value) => Ok(value.clone()),
            Source::File(path) => {
                let reading = || format!("cannot read the secret in {path}");
                let bytes = beneath::read_small_file(path, MOST_BYTES).with_context(reading)?;
                Ok(String::from_utf8(bytes).with_context(reading)?.trim_end().to_owned())
            }
            Source::Command(command) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]);
                let Output { status, stdout, .. } =
                    process::run(shell, None, limit).context("cannot run the command of a secret")?;
                if !status.success() {
                    return Err(Fault::critical(format!("the command of a secret failed ({status})")).into());
                }
                let text =
                    String::from_utf8(stdout).context("the command of a secret did not print UTF-8")?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
        }
    }

    /// Whether a command tells it, which may take a while, or ask somebody.
    pub fn is_command(&self) -> bool {
        matches!(self.0, Source::Command(_))
    }

    /// Puts a relative `file:` path under the home.
    pub fn anchor(&mut self, home: &Home) {
        if let Source::File(path) = &mut self.0 {
            *path = home.path(&*path).display().to_string();
        }
    }
}

/// Whether a text of a config says where a secret is, rather than what it is.
pub fn names_source(text: &str) -> bool {
    text.starts_with("file:") || text.starts_with("command:")
}

impl<'de> Deserialize<'de> for Secret {
    /// What a variable brought into the config is a value, whatever it looks like. It has an empty span: see
    /// `config::expand`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        let text = toml::Spanned::<String>::deserialize(deserializer)?;
        let is_expanded = text.span().is_empty();
        Ok(if is_expanded { Secret::new(text.into_inner()) } else { Secret::written(text.get_ref()) })
    }
}

/// Removes a revealed secret from a text that may quote it (an error of an HTTP client).
pub fn redact(text: &str, secret: &str) -> String {
    if secret.len() < 4 { text.to_owned() } else { text.replace(secret, REDACTED) }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Where a secret is kept is no secret; what a command line says may be.
        match &self.0 {
            Source::File(path) => serializer.serialize_str(&format!("file:{path}")),
            Source::Value(_) | Source::Command(_) => serializer.serialize_str(REDACTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
        assert_eq!(
            redact("POST https://x/hunter2: refused", "hunter2"),
            "POST https://x/[redacted]: refused"
        );
    }

    #[test]
    fn secrets_come_from_files_and_commands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(Secret::written(&format!("file:{}", path.display())).reveal().unwrap(), "abc");
        assert_eq!(Secret::written("command:echo def; echo more").reveal().unwrap(), "def");
        assert_eq!(Secret::new("command:echo def").reveal().unwrap(), "command:echo def");
        assert!(Secret::written("command:exit 3").reveal().is_err());
        assert!(Secret::written("file:/nowhere").reveal().unwrap_err().to_string().contains("/nowhere"));
    }
}
