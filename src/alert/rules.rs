//! The times that people are told at: what `[alerts]` says, spelled out.

use super::incident::Told;
use crate::base::units::Span;
use crate::config::alerts::Alerts;
use chrono::{DateTime, TimeDelta, Utc};

/// Reminders are never further apart (unless the cooldown is).
const DAY: TimeDelta = TimeDelta::hours(24);

/// The rules of the house.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// As the operator set them.
    pub alerts: &'a Alerts,
}

impl Rules<'_> {
    /// The least time between two messages about the same thing.
    pub(super) fn cooldown(self, alert: &str) -> Span {
        self.alerts.types.get(alert).and_then(|own| own.cooldown).unwrap_or(self.alerts.cooldown)
    }

    /// After how long without an answer others are told of a CRITICAL, if there are any.
    pub(super) fn escalate_after(self) -> Option<TimeDelta> {
        (!self.alerts.escalate.is_empty()).then(|| self.alerts.escalate_after.delta())
    }
}

/// When the next reminder is due.
pub(super) fn next_reminder(told: &Told, alerts: &Alerts, alert: &str) -> DateTime<Utc> {
    told.last + reminder_interval(Rules { alerts }.cooldown(alert), told.reminders)
}

/// How long after the last message the next reminder is due: doubling, at most daily.
pub(super) fn reminder_interval(cooldown: Span, reminders: u32) -> TimeDelta {
    let cooldown = cooldown.delta();
    let mut interval = cooldown;
    for _ in 0..reminders.min(32) {
        if interval >= DAY {
            break;
        }
        interval = (interval + interval).min(DAY);
    }
    interval.max(cooldown)
}
