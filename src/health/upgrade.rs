//! An upgrade that was cut short, or takes for ever. No check asks for it: a home without one has no such
//! finding, and every home with one has it, whatever its config says.

use super::Finding;
use crate::base::upgrade::{Note, REMEDY};
use crate::base::{Fault, Home, State, text, units};
use chrono::{DateTime, Utc};

/// Its name. No check can have it: a colon is not allowed in one.
pub const UPGRADE: &str = "ops:upgrade";

/// What there is to say of the upgrade of a home, if anything.
pub(super) fn look(home: &Home, now: DateTime<Utc>) -> Option<Finding> {
    let (state, summary, remedy) = match Note::read(home) {
        Ok(note) => judge(&note?, home, now)?,
        // Nagios asks as another user, who does not see whether there is one.
        Err(_) if !home.has(&home.upgrade_note()) => return None,
        // One was begun, and nobody can tell how far it got.
        Err(error) => {
            (State::Critical, format!("{error:#}"), Fault::of(&error).1.unwrap_or(REMEDY).to_owned())
        }
    };
    Some(Finding {
        check: UPGRADE.to_owned(),
        kind: "upgrade".to_owned(),
        service: None,
        state,
        seen: state,
        looked_at: None,
        summary: text::one_line(&summary, 500),
        metrics: Vec::new(),
        remedy: Some(remedy),
        // What else is wrong may follow from it.
        critical: true,
        alert: "upgrade_unfinished".to_owned(),
    })
}

fn judge(note: &Note, home: &Home, now: DateTime<Utc>) -> Option<(State, String, String)> {
    if !note.is_under_way() {
        let state = if note.changed { State::Critical } else { State::Warning };
        return Some((state, note.describe(home), REMEDY.to_owned()));
    }
    if now < note.expected {
        return None;
    }
    let (since, until, pid) = (units::local(note.at), units::local(note.expected), note.pid());
    let remedy = match note.back {
        true => {
            "look at its terminal: what the rollback command waits for; when that ends, it goes on".to_owned()
        }
        false => format!("look at its terminal; `kill {pid}` has it put everything back"),
    };
    let summary = format!(
        "the upgrade of {since} (run {}, pid {pid}) should have been done by {until}, and is still at it; meanwhile \
         nothing is restarted or backed up",
        note.run
    );
    Some((State::Critical, summary, remedy))
}
