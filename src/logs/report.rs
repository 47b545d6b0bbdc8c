//! What a rotation did, for people and programs.

use super::plan::Action;
use crate::base::units::Size;
use crate::base::{State, text};
use serde::Serialize;

/// How it went with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It would have been done, but nothing was to be changed.
    Planned,
    /// It was left alone, for a reason.
    Skipped,
    /// It was tried and failed, or the file cannot be looked at.
    Failed,
}

/// What happened to one file.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// The file, relative to the home.
    pub file: String,
    /// What was to be done; none for a file that could not even be judged.
    pub action: Option<Action>,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was done, skipped, or failed.
    pub why: String,
    /// What is called so now, or went there.
    pub to: Option<String>,
    /// Bytes before.
    pub before: u64,
    /// Bytes after; of one that would be compressed, about so many.
    pub after: u64,
}

/// One rotation.
#[derive(Clone, Debug, Serialize)]
pub struct Rotation {
    /// The agent's name.
    pub agent: String,
    /// This run.
    pub run: String,
    /// Warning, if a file could not be dealt with, or is too large and has to stay so.
    pub state: State,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// How many logs there are.
    pub logs: usize,
    /// What they take together, in bytes, before and after.
    pub before: u64,
    /// The same, after.
    pub after: u64,
    /// The files that something was done to, or could not be.
    pub files: Vec<Done>,
}

impl Rotation {
    /// What was done, in one line: `2 compressed, 1 cut, 3 deleted, 1 failed; 1.2 GB before, 30 MB after`.
    pub fn summary(&self) -> String {
        let number = |action: Action, word: &str| {
            let done = |file: &&Done| {
                file.action == Some(action) && matches!(file.outcome, Outcome::Done | Outcome::Planned)
            };
            let number = self.files.iter().filter(done).count();
            (number > 0).then(|| format!("{number} {word}"))
        };
        let outcome = |outcome: Outcome, word: &str| {
            let number = self.files.iter().filter(|file| file.outcome == outcome).count();
            (number > 0).then(|| format!("{number} {word}"))
        };
        let parts: Vec<String> = [
            number(Action::Compress, "compressed"),
            number(Action::Cut, "cut"),
            number(Action::Rename, "renamed"),
            number(Action::Delete, "deleted"),
            outcome(Outcome::Skipped, "left alone"),
            outcome(Outcome::Failed, "failed"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let what = if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") };
        // How well something packs is known from a sample.
        let guessed = |file: &Done| file.outcome == Outcome::Planned && file.action == Some(Action::Compress);
        let about = if self.files.iter().any(guessed) { "about " } else { "" };
        format!(
            "{what}; {}, {} before, {about}{} after",
            text::count(self.logs, "log"),
            Size(self.before),
            Size(self.after)
        )
    }
}
