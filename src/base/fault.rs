//! An error that knows its exit code and its remedy.

use super::State;
use std::fmt;

/// A failure with the exit code it deserves and, where there is one, a hint what to do next.
///
/// Anything else that reaches a door is a plain failure: exit code 2.
#[derive(Debug)]
pub struct Fault {
    state: State,
    message: String,
    hint: Option<String>,
    damage: bool,
}

impl Fault {
    /// Nothing was done, and that is no failure: exit code 1.
    pub fn warning(message: impl Into<String>) -> Fault {
        Fault { state: State::Warning, message: message.into(), hint: None, damage: false }
    }

    /// The work was tried and failed: exit code 2.
    pub fn critical(message: impl Into<String>) -> Fault {
        Fault { state: State::Critical, message: message.into(), hint: None, damage: false }
    }

    /// Nothing was done, because it could not be told what to do: exit code 3.
    pub fn unknown(message: impl Into<String>) -> Fault {
        Fault { state: State::Unknown, message: message.into(), hint: None, damage: false }
    }

    /// Adds what to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// Says that something was read and is damaged or dishonest: not that it could not be told.
    #[must_use]
    pub fn of_damage(mut self) -> Fault {
        self.damage = true;
        self
    }

    /// Whether an error says so.
    pub fn is_of_damage(error: &anyhow::Error) -> bool {
        error.downcast_ref::<Fault>().is_some_and(|fault| fault.damage)
    }

    /// The exit code of an error, and its hint.
    pub fn of(error: &anyhow::Error) -> (State, Option<&str>) {
        match error.downcast_ref::<Fault>() {
            Some(fault) => (fault.state, fault.hint.as_deref()),
            None => (State::Critical, None),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
