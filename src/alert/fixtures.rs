//! What the tests of several files look at.

use super::look::Look;
use crate::base::State;

/// A look at a check that found this, and no excuse.
pub(super) fn look(check: &str, state: State) -> Look {
    let alert = if state == State::Critical { "disk_critical" } else { "disk_low" };
    Look {
        check: check.to_owned(),
        alert: alert.to_owned(),
        state,
        summary: "as it is".to_owned(),
        remedy: None,
        excuse: None,
        gave_up: false,
        unproven: false,
    }
}
