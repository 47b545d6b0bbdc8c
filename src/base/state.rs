//! The four states of the Nagios plugin API, and how several of them become one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How something is. The number is the exit code of every program of ours.
///
/// Rule: monitoring-plugins.org guidelines, "Plugin Return Codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All well, or the work is done.
    Ok = 0,
    /// Look at it, or: done, with something to look at.
    Warning = 1,
    /// Broken, or the work was not done.
    Critical = 2,
    /// Could not tell: bad usage, bad config, no answer.
    Unknown = 3,
}

impl State {
    /// Every state, in the order of its exit code.
    pub const ALL: [State; 4] = [State::Ok, State::Warning, State::Critical, State::Unknown];

    /// The exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The state of an exit code; whatever is not 0, 1 or 2 could not be told.
    pub fn from_code(code: i64) -> State {
        match code {
            0 => State::Ok,
            1 => State::Warning,
            2 => State::Critical,
            _ => State::Unknown,
        }
    }

    /// How bad, for comparing: Critical > Warning > Unknown > Ok, save that an Unknown on a
    /// check that matters (`critical = true`) ranks above Warning.
    pub fn badness(self, matters: bool) -> u8 {
        match self {
            State::Ok => 0,
            State::Unknown if matters => 3,
            State::Unknown => 1,
            State::Warning => 2,
            State::Critical => 4,
        }
    }

    /// The worse of two states of checks that are not marked critical.
    pub fn worse(self, other: State) -> State {
        if other.badness(false) > self.badness(false) { other } else { self }
    }

    /// The word in capitals, as Nagios prints it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_badness_is_the_design_s() {
        let order = [State::Ok, State::Unknown, State::Warning, State::Critical];
        for pair in order.windows(2) {
            assert!(pair[0].badness(false) < pair[1].badness(false), "{pair:?}");
            assert_eq!(pair[0].worse(pair[1]), pair[1]);
            assert_eq!(pair[1].worse(pair[0]), pair[1]);
        }
        assert!(State::Unknown.badness(true) > State::Warning.badness(true));
        assert!(State::Unknown.badness(true) < State::Critical.badness(true));
    }

    #[test]
    fn codes_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_code(i64::from(state.code())), state);
        }
        assert_eq!(State::from_code(77), State::Unknown);
    }
}
