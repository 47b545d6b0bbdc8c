//! What is wrong, how that shows, and what to do about it.

use crate::base::{State, text};
use serde::Serialize;

/// The most of a line of evidence, in characters, while it may still hold a secret: a part of one would
/// not be known for it.
const LONGEST: usize = 8000;

/// The most that is shown of one.
const SHOWN: usize = 300;

/// One cause of trouble.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// What kind it is, for machines: `stale_pid_file`.
    pub id: &'static str,
    /// Critical: the agent does not run or work because of it. Warning: look at it. Unknown: it could
    /// not be told.
    pub state: State,
    /// Of which service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The cause, in one line.
    pub cause: String,
    /// What was seen, and where.
    pub evidence: Vec<String>,
    /// Commands to copy, one after the other; empty: only the advice.
    pub remedy: Vec<String>,
    /// What to know about it, or to do by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Which of the evidence quotes the agent, or what was sent to people.
    #[serde(skip)]
    quotes: Vec<usize>,
    /// What is said instead of the cause where that quotes them.
    #[serde(skip)]
    in_short: Option<String>,
    /// Of two that are as bad, the one with the lower number explains the other.
    #[serde(skip)]
    rank: u16,
}

impl Cause {
    /// A cause. What comes from elsewhere is made safe to print.
    pub(super) fn new(id: &'static str, state: State, rank: u16, cause: impl AsRef<str>) -> Cause {
        Cause {
            id,
            state,
            service: None,
            cause: text::one_line(cause.as_ref(), LONGEST),
            evidence: Vec::new(),
            remedy: Vec::new(),
            advice: None,
            quotes: Vec::new(),
            in_short: None,
            rank,
        }
    }

    /// What a probe could not tell.
    pub(super) fn untold(what: &str, why: &str) -> Cause {
        Cause::new("could_not_tell", State::Unknown, 900, format!("could not tell about {what}: {why}"))
    }

    pub(super) fn of(mut self, service: &str) -> Cause {
        self.service = Some(service.to_owned());
        self
    }

    pub(super) fn seen(mut self, evidence: impl AsRef<str>) -> Cause {
        self.evidence.push(text::one_line(evidence.as_ref(), LONGEST));
        self
    }

    pub(super) fn seen_all<T: AsRef<str>>(self, evidence: impl IntoIterator<Item = T>) -> Cause {
        evidence.into_iter().fold(self, Cause::seen)
    }

    /// What the agent wrote, or was sent to people: it does not leave this machine unasked.
    pub(super) fn quotes<T: AsRef<str>>(self, lines: impl IntoIterator<Item = T>) -> Cause {
        lines.into_iter().fold(self, |mut cause, line| {
            cause.quotes.push(cause.evidence.len());
            cause.seen(line)
        })
    }

    /// The last lines of its logs.
    pub(super) fn last_words(self, lines: &[String]) -> Cause {
        self.quotes(lines.iter().map(|line| format!("last words in {line}")))
    }

    /// The cause quotes somebody: this is said instead where that must not leave this machine.
    pub(super) fn in_short(mut self, text: impl AsRef<str>) -> Cause {
        self.in_short = Some(text::one_line(text.as_ref(), LONGEST));
        self
    }

    fn without_quotes(&self) -> Cause {
        let mut cause = self.clone();
        for index in &self.quotes {
            cause.evidence[*index] = "(left out: it quotes a log)".to_owned();
        }
        cause.cause = self.in_short.clone().unwrap_or(cause.cause);
        cause
    }

    /// A command to copy.
    pub(super) fn run(mut self, command: impl Into<String>) -> Cause {
        self.remedy.push(text::sanitize(&command.into()));
        self
    }

    pub(super) fn advise(mut self, advice: impl AsRef<str>) -> Cause {
        self.advice = Some(text::one_line(advice.as_ref(), LONGEST));
        self
    }

    /// Goes over every text in it, and shortens it then. A command stays as it is, but for what is known.
    pub(super) fn redact(&mut self, redact: impl Fn(&str) -> String, known: impl Fn(&str) -> String) {
        for text in std::iter::once(&mut self.cause).chain(&mut self.evidence).chain(&mut self.advice) {
            *text = text::one_line(&redact(text), SHOWN);
        }
        for command in &mut self.remedy {
            *command = known(command);
        }
    }
}

/// What one probe found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) causes: Vec<Cause>,
    /// What is no trouble, but worth knowing.
    pub(super) notes: Vec<String>,
}

impl From<Vec<Cause>> for Found {
    fn from(causes: Vec<Cause>) -> Found {
        Found { causes, notes: Vec::new() }
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// The run that looked.
    pub run: String,
    /// The worst: Ok, if nothing was found.
    pub state: State,
    /// The agent's name, if it is known.
    pub agent: Option<String>,
    /// Its home.
    pub home: Option<String>,
    /// The most likely first.
    pub causes: Vec<Cause>,
    /// What is no trouble, but worth knowing.
    pub notes: Vec<String>,
    /// What was looked at.
    pub looked_at: Vec<&'static str>,
    /// The user whose home it is, where that is another than who looks: commands of ours are for that one.
    #[serde(skip)]
    pub owner: Option<u32>,
}

impl Diagnosis {
    /// The same, without what quotes the agent, or what was sent to people.
    #[must_use]
    pub fn without_quotes(&self) -> Diagnosis {
        Diagnosis { causes: self.causes.iter().map(Cause::without_quotes).collect(), ..self.clone() }
    }
}

/// In the order in which a person should look at them.
pub(super) fn sorted(mut causes: Vec<Cause>) -> Vec<Cause> {
    causes.sort_by(|a, b| {
        let badness = |cause: &Cause| std::cmp::Reverse(cause.state.badness(false));
        (badness(a), a.rank, &a.service, a.id).cmp(&(badness(b), b.rank, &b.service, b.id))
    });
    causes
}

/// A word of a command that may be copied into a shell.
pub fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || "/._-+,:@=~".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_first_and_of_equals_what_explains_the_other() {
        let cause = |id, state, rank| Cause::new(id, state, rank, "x");
        let order: Vec<_> = sorted(vec![
            cause("untold", State::Unknown, 0),
            cause("late", State::Warning, 5),
            cause("dead", State::Critical, 50),
            cause("config", State::Critical, 1),
        ])
        .iter()
        .map(|cause| cause.id)
        .collect();
        assert_eq!(order, ["config", "dead", "late", "untold"]);
    }

    #[test]
    fn what_comes_from_elsewhere_is_safe_to_print_and_to_copy() {
        let cause = Cause::new("x", State::Ok, 0, "a\x1b[2J\nb").seen("c\rd").run("kill \x1b7");
        assert_eq!(cause.cause, "a\\u{1b}[2J b");
        assert!(!format!("{cause:?}").contains('\x1b'));
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted("/srv/bot"), "/srv/bot");
    }
}
