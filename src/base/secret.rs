//! Values that must not be seen: they are fetched when used and never printed.

use super::process::{self, Output};
use super::{Fault, Home};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::process::Command;
use std::time::Duration;

/// Printed where a secret would stand.
pub const REDACTED: &str = "[redacted]";

/// A password, a token, a URL with a key in it: written in the config as the value itself (best
/// as `${VAR}`), as `file:PATH`, or as `command:…` whose first line of output it is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret with a known value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value. Reads the file or runs the command (10 s at most).
    pub fn reveal(&self) -> Result<String> {
        self.reveal_within(Duration::from_secs(10))
    }

    /// [`Secret::reveal`], whose command has no longer than this.
    pub fn reveal_within(&self, limit: Duration) -> Result<String> {
        if let Some(path) = self.0.strip_prefix("file:") {
            let text = super::beneath::read_small_text(path)
                .with_context(|| format!("cannot read the secret in {path}"))?;
            return Ok(text.trim_end().to_owned());
        }
        if let Some(command) = self.0.strip_prefix("command:") {
            let mut shell = Command::new("sh");
            shell.args(["-c", command]);
            let Output { status, stdout, .. } =
                process::run(shell, None, limit).context("cannot run the command of a secret")?;
            if !status.success() {
                return Err(Fault::critical(format!("the command of a secret failed ({status})")).into());
            }
            let text = String::from_utf8(stdout).context("the command of a secret did not print UTF-8")?;
            return Ok(text.lines().next().unwrap_or_default().to_owned());
        }
        Ok(self.0.clone())
    }

    /// Whether a command tells it, which may take a while, or ask somebody.
    pub fn is_command(&self) -> bool {
        self.0.starts_with("command:")
    }

    /// Puts a relative `file:` path under the home.
    pub fn anchor(&mut self, home: &Home) {
        if let Some(path) = self.0.strip_prefix("file:") {
            self.0 = format!("file:{}", home.path(path).display());
        }
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
        let shown = if self.0.starts_with("file:") { self.0.as_str() } else { REDACTED };
        serializer.serialize_str(shown)
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
        assert_eq!(Secret::new(format!("file:{}", path.display())).reveal().unwrap(), "abc");
        assert_eq!(Secret::new("command:echo def; echo more").reveal().unwrap(), "def");
        assert!(Secret::new("command:exit 3").reveal().is_err());
        assert!(Secret::new("file:/nowhere").reveal().unwrap_err().to_string().contains("/nowhere"));
    }
}
