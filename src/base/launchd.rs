//! launchd: where its property lists are, and `launchctl`, asked with a deadline.

use super::process::{self, Output};
use super::{Fault, text};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long an order may take: a start, a stop.
pub const ORDER: Duration = Duration::from_secs(30);

/// How long it may take to answer a question: one that does not at once hangs.
const ANSWER: Duration = Duration::from_secs(5);

/// Where the property lists are of those who run at boot, or at login.
pub fn folder(system: bool) -> Result<PathBuf> {
    if system {
        return Ok(PathBuf::from("/Library/LaunchDaemons"));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    Ok(home
        .context("HOME is not set: where your LaunchAgents are cannot be told")?
        .join("Library/LaunchAgents"))
}

/// Text in a property list.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The domain of a job: that of a user is there while the user is logged in at the screen.
pub fn domain(system: bool) -> String {
    if system { "system".to_owned() } else { format!("gui/{}", rustix::process::getuid().as_raw()) }
}

/// A job, as `launchctl` names it.
pub fn target(system: bool, label: &str) -> String {
    format!("{}/{label}", domain(system))
}

/// Asks `launchctl`.
pub fn launchctl(words: &[&str]) -> Result<Output> {
    run(words, ANSWER)
}

fn run(words: &[&str], limit: Duration) -> Result<Output> {
    let mut command = Command::new("launchctl");
    command.env("LC_ALL", "C").args(words);
    process::run(command, None, limit)
}

/// Gives `launchctl` an order, which must succeed.
///
/// # Errors
/// With its own last word when it does not.
pub fn told(words: &[&str]) -> Result<()> {
    let output = run(words, ORDER)?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    bail!("launchctl {} ended with {}: {}", words[0], output.status, text::one_line(&said, 300))
}

/// Whether it answers.
///
/// # Errors
/// A [`Fault`] of state Unknown when it does not.
pub fn check(system: bool) -> Result<()> {
    let domain = domain(system);
    let error = match launchctl(&["print", &domain]) {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => text::one_line(&String::from_utf8_lossy(&output.stderr), 200),
        Err(error) => format!("{error:#}"),
    };
    Err(Fault::unknown(format!("launchd has no {domain} here: {error}"))
        .hint("log in at the screen of this Mac, or install with sudo and --system")
        .into())
}

/// Has a job started at every login or boot from now on, or not.
pub fn enable(system: bool, label: &str, enabled: bool) -> Result<()> {
    told(&[if enabled { "enable" } else { "disable" }, &target(system, label)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_property_list() {
        assert_eq!(escaped("/a & b/<c>"), "/a &amp; b/&lt;c&gt;");
    }
}
