//! A program of the operator's own, with the message as JSON on its standard input.

use super::document::Document;
use crate::alert::message::Message;
use crate::alert::outcome::Outcome;
use crate::base::process::{self, Output};
use crate::base::text::one_line;
use crate::config::channels::Command;
use std::time::{Duration, Instant};

/// It is ended a little before we stop waiting for it: nobody would end it then.
const SPARE: Duration = Duration::from_millis(500);

/// Runs it, in a process group of its own that ends with its time. Exit code 0: delivered.
pub(super) fn send(command: &Command, message: &Message, deadline: Instant) -> Outcome {
    let Some((program, arguments)) = command.run.split_first() else {
        return Outcome::Failed("[alerts.command] names no program".to_owned());
    };
    let document = match serde_json::to_vec(&Document::of(message)) {
        Ok(document) => document,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(SPARE);
    let mut child = std::process::Command::new(program);
    child.args(arguments);
    match process::run(child, Some(&document), left.min(command.timeout.0)) {
        Ok(Output { status, .. }) if status.success() => Outcome::Delivered(None),
        Ok(Output { status, stderr, .. }) => {
            // What it printed may be anything, but it is the operator's own.
            let said = String::from_utf8_lossy(&stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Outcome::Failed(one_line(&format!("{program}: {status} {last}"), 300))
        }
        Err(error) => Outcome::Failed(one_line(&format!("{error:#}"), 300)),
    }
}
