//! What will happen next about a problem, and why: for people who ask.

use super::channel::Channel;
use super::deliver::by_rule;
use super::incident::Incident;
use super::rules::next_reminder;
use crate::base::State;
use crate::base::units::local;
use crate::config::alerts::{Alerts, ChannelName};
use chrono::{DateTime, Local, Utc};

/// A sentence for each thing that decides who hears of an open problem, and when.
pub fn outlook(incident: &Incident, alerts: &Alerts, now: DateTime<Utc>) -> Vec<String> {
    let mut lines = Vec::new();
    let told = incident.told.as_ref();
    let critical =
        incident.severity == State::Critical || told.is_some_and(|told| told.worst == State::Critical);
    let (route, rule) = by_rule(alerts, &incident.alert, critical);
    lines.push(format!("messages about it go to {} ({rule})", names(alerts, route)));
    if alerts.alertmanager.is_some() {
        lines.push("alertmanager hears of it in every run".to_owned());
    }
    if let Some(since) = incident.good_since {
        lines.push(format!("it is well since {}; that is to be told yet", local(since)));
    }
    if incident.quieted {
        let until = alerts.quiet_hours.map(|hours| format!(" at {}", hours.until().format("%H:%M")));
        lines.push(format!("it waits for the end of the quiet hours{}", until.unwrap_or_default()));
    } else if !critical
        && alerts.quiet_hours.is_some_and(|hours| hours.contain(now.with_timezone(&Local).time()))
    {
        lines.push("these are quiet hours: as a warning it waits for their end".to_owned());
    }
    if let Some(at) = incident.acknowledged {
        lines.push(format!("acknowledged at {}: no reminders, and nobody else is told", local(at)));
    } else if incident.flapping {
        lines.push("it comes and goes: quiet until it was steady for an hour".to_owned());
    } else if let (Some(told), None) = (told, incident.good_since) {
        let due = next_reminder(told, alerts, &incident.alert);
        lines.push(format!("a reminder is due at {}, if it still is", local(due)));
    }
    if let Some(at) = incident.escalated {
        lines.push(format!("escalated to {} at {}", names(alerts, &alerts.escalate), local(at)));
    } else if let Some(critical) = told.and_then(|told| told.critical)
        && incident.acknowledged.is_none()
        && incident.severity == State::Critical
        && !alerts.escalate.is_empty()
    {
        let at = critical + alerts.escalate_after.delta();
        let who = names(alerts, &alerts.escalate);
        lines.push(format!("unless it is acknowledged, {who} is told at {}", local(at)));
    }
    lines
}

/// Where messages go, in general: for whoever tries the channels.
pub fn routes(alerts: &Alerts) -> Vec<String> {
    let mut lines = vec![
        format!("CRITICAL goes to {}", names(alerts, &alerts.critical)),
        format!("WARNING goes to {}", names(alerts, &alerts.warning)),
    ];
    for (name, own) in &alerts.types {
        if let Some(channels) = &own.channels {
            lines.push(format!("{name} goes to {}", names(alerts, channels)));
        }
    }
    if alerts.alertmanager.is_some() {
        lines.push("alertmanager hears in every run of all that is open".to_owned());
    }
    if !alerts.escalate.is_empty() {
        let who = names(alerts, &alerts.escalate);
        lines.push(format!(
            "a CRITICAL that nobody acknowledges within {} goes to {who}",
            alerts.escalate_after
        ));
    }
    if let Some(hours) = alerts.quiet_hours {
        lines.push(format!("warnings wait in quiet hours, until {}", hours.until().format("%H:%M")));
    }
    lines
}

/// The channels of a route that are set up, as people read them.
fn names(alerts: &Alerts, route: &[ChannelName]) -> String {
    let known: Vec<ChannelName> = Channel::all(alerts).iter().map(Channel::name).collect();
    let words: Vec<&str> =
        known.into_iter().filter(|name| route.contains(name)).map(ChannelName::word).collect();
    if words.is_empty() { "nobody".to_owned() } else { words.join(", ") }
}
