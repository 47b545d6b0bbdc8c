//! `alert list` and `alert why`: problems, and what was told of them.

use super::Context;
use crate::alert::{self, Incident, Listed};
use crate::base::units::{age, local, rfc3339};
use crate::base::{Fault, Journal, State, render, text};
use crate::config::{Alerts, Loaded};
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// An open problem, as `alert list` and `alert why` show it.
#[derive(Serialize)]
pub(super) struct Problem {
    check: String,
    r#type: String,
    severity: State,
    summary: String,
    since: String,
    seen: String,
    closed: Option<String>,
    told: Option<String>,
    acknowledged: Option<String>,
    flapping: bool,
    escalated: Option<String>,
    well_since: Option<String>,
    /// What comes next, and why.
    outlook: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trail: Vec<Decided>,
}

#[derive(Serialize)]
struct Decided {
    at: String,
    run: String,
    times: u32,
    what: String,
}

impl Problem {
    pub(super) fn of(incident: &Incident, with_trail: bool, alerts: &Alerts, now: DateTime<Utc>) -> Problem {
        let trail = incident.trail.iter().filter(|_| with_trail).map(|decision| Decided {
            at: rfc3339(decision.at),
            run: decision.run.clone(),
            times: decision.times,
            what: text::one_line(&decision.what, 500),
        });
        Problem {
            check: incident.check.clone(),
            r#type: incident.alert.clone(),
            severity: incident.severity,
            summary: text::one_line(&incident.summary, 500),
            since: rfc3339(incident.opened),
            seen: rfc3339(incident.seen),
            closed: incident.closed.map(rfc3339),
            told: incident.told.as_ref().map(|told| rfc3339(told.last)),
            acknowledged: incident.acknowledged.map(rfc3339),
            flapping: incident.flapping,
            escalated: incident.escalated.map(rfc3339),
            well_since: incident.good_since.map(rfc3339),
            outlook: next(incident, alerts, now),
            trail: trail.collect(),
        }
    }
}

/// What comes next about a problem; nothing, if it is over.
fn next(incident: &Incident, alerts: &Alerts, now: DateTime<Utc>) -> Vec<String> {
    if incident.closed.is_some() { Vec::new() } else { alert::outlook(incident, alerts, now) }
}

#[derive(Serialize)]
struct Sent {
    uid: String,
    at: String,
    kind: alert::Kind,
    severity: State,
    r#type: String,
    title: String,
    message: String,
    settled: bool,
    channels: Vec<SentTo>,
}

#[derive(Serialize)]
struct SentTo {
    channel: String,
    outcome: String,
    error: Option<String>,
}

#[derive(Serialize)]
struct List {
    open: Vec<Problem>,
    silenced_until: Option<String>,
    messages: Vec<Sent>,
}

/// Shows what is open and was told of late.
pub(super) fn list(context: &Context, loaded: &Loaded, limit: usize) -> Result<State> {
    let journal = reading(loaded)?;
    let now = context.run.now;
    let alerts = &loaded.config.alerts;
    let open = alert::open(&journal, &context.run)?;
    let messages = alert::messages(&journal, limit)?;
    let silence = alert::silence(&journal, now)?;
    if context.common.json {
        let document = List {
            open: open.iter().map(|incident| Problem::of(incident, false, alerts, now)).collect(),
            silenced_until: silence.map(|silence| rfc3339(silence.until)),
            messages: messages.iter().map(sent).collect(),
        };
        context.print_json(&document)?;
        return Ok(State::Ok);
    }
    let mut lines = Vec::new();
    if let Some(silence) = silence {
        lines.push(format!(
            "silenced until {} {}",
            local(silence.until),
            text::one_line(&silence.reason, 200)
        ));
    }
    if open.is_empty() {
        lines.push("no open problems".to_owned());
    }
    for incident in &open {
        let mut known = match (&incident.told, incident.acknowledged) {
            (_, Some(_)) => "acknowledged",
            (Some(_), None) => "told",
            (None, None) if incident.quieted => "waits for the end of the quiet hours",
            (None, None) => "not told",
        }
        .to_owned();
        for (holds, word) in [
            (incident.escalated.is_some(), "escalated"),
            (incident.flapping, "comes and goes"),
            (incident.good_since.is_some(), "well now"),
        ] {
            if holds {
                known.push_str(&format!(", {word}"));
            }
        }
        lines.push(format!(
            "{} {} - {} (since {}, for {}; {known})",
            render::paint(context.colored(), incident.severity, &format!("{:8}", incident.severity)),
            incident.check,
            text::one_line(&incident.summary, 200),
            local(incident.opened),
            age(now, incident.opened),
        ));
    }
    for Listed { message, deliveries, .. } in &messages {
        let taken: Vec<_> =
            deliveries.iter().map(|(channel, outcome, _)| format!("{channel} {outcome}")).collect();
        let taken = if taken.is_empty() { "not sent".to_owned() } else { taken.join(", ") };
        lines.push(format!("{}  {} - {} ({taken})", local(message.at), message.title(), message.line()));
    }
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

fn sent(listed: &Listed) -> Sent {
    let message = &listed.message;
    Sent {
        uid: message.uid.clone(),
        at: rfc3339(message.at),
        kind: message.kind,
        severity: message.severity,
        r#type: message.alert.clone(),
        title: message.title(),
        message: message.line(),
        settled: listed.settled,
        channels: listed
            .deliveries
            .iter()
            .map(|(channel, outcome, error)| SentTo {
                channel: channel.clone(),
                outcome: outcome.clone(),
                error: error.clone(),
            })
            .collect(),
    }
}

/// Shows what was decided about a problem, and its page of the runbook.
pub(super) fn why(context: &Context, loaded: &Loaded, name: &str) -> Result<State> {
    let journal = reading(loaded)?;
    let (alerts, now) = (&loaded.config.alerts, context.run.now);
    let found = alert::find(&journal, name, 3)?;
    let page =
        alert::runbook(name).or_else(|| found.first().and_then(|incident| alert::runbook(&incident.alert)));
    if found.is_empty() && page.is_none() {
        let message = format!("there was never a problem '{}'", text::sanitize(name));
        return Err(Fault::unknown(message).hint("`alert list` shows what is open").into());
    }
    if context.common.json {
        #[derive(Serialize)]
        struct Why {
            incidents: Vec<Problem>,
            runbook: Option<&'static str>,
        }
        let incidents = found.iter().map(|incident| Problem::of(incident, true, alerts, now)).collect();
        context.print_json(&Why { incidents, runbook: page })?;
        return Ok(State::Ok);
    }
    let mut lines = Vec::new();
    for incident in &found {
        let end = match incident.closed {
            Some(closed) => format!("over since {}", local(closed)),
            None => "open".to_owned(),
        };
        lines.push(format!(
            "{} ({}) {} - {}; since {}, {end}",
            incident.check,
            incident.alert,
            incident.severity,
            text::one_line(&incident.summary, 300),
            local(incident.opened)
        ));
        for decision in &incident.trail {
            let times =
                if decision.times > 1 { format!(" ({} times)", decision.times) } else { String::new() };
            lines.push(format!(
                "  {} {} {}{times}",
                local(decision.at),
                decision.run,
                text::one_line(&decision.what, 300)
            ));
        }
        for line in next(incident, alerts, now) {
            lines.push(format!("  next: {}", text::one_line(&line, 300)));
        }
    }
    if found.is_empty() {
        lines.push("there was never such a problem here".to_owned());
    }
    if let Some(page) = page {
        lines.push(format!("\n{page}"));
    }
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// The journal for reading: an empty one, where nothing was ever written.
fn reading(loaded: &Loaded) -> Result<Journal> {
    if !loaded.home.has(&loaded.home.journal()) {
        return Journal::in_memory();
    }
    Journal::open(&loaded.home).context("cannot read the history of alerts")
}
