//! Tells people what changed, without storms, and restarts what died.
//!
//! One run: look → decide (incidents, throttle; pure) → store, so that nothing can be lost →
//! restart → deliver → note who was reached. What this run could not deliver, a later one does.

mod channel;
mod deadman;
mod deliver;
mod deliveries;
#[cfg(test)]
mod fixtures;
mod held;
mod http;
mod hung;
mod incident;
mod kind;
mod known;
mod look;
mod message;
mod outcome;
mod outlook;
mod past;
mod plan;
mod recovery;
mod rules;
mod run;
mod silences;
mod spare;
mod step;
mod store;
mod throttle;
mod unfinished;
#[cfg(test)]
mod year_tests;

pub use channel::Channel;
pub use deadman::Deadman;
pub use deliver::{Delivery, test};
pub use deliveries::{Listed, messages};
pub use incident::{Decision, Incident, Told};
pub use kind::Kind;
pub use message::{Message, runbook};
pub use outlook::{outlook, routes};
pub use run::{Restarted, Summary, run};
pub use silences::{Silence, say_silence};
pub use store::find;

use crate::base::durable::{Lock, PATIENCE};
use crate::base::{Fault, Home, Journal, Run, text};
use crate::config::channels::Email;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// How long a mail may take that no alert waits for.
const MAIL: Duration = Duration::from_secs(30);

/// Sends a text by mail at once, which is no alert: it is not throttled, and not tried again.
///
/// # Errors
/// Why it was not sent.
pub fn mail(email: &Email, agent: &str, subject: &str, body: &str) -> Result<(), String> {
    channel::email::send_text(email, agent, subject, body, MAIL)
}

/// The problems that are open, the worst first.
pub fn open(journal: &Journal, run: &Run) -> Result<Vec<Incident>> {
    let incidents = store::incidents(journal.connection(), run.now)?.into_values();
    let mut open: Vec<_> = incidents.filter(|incident| incident.closed.is_none()).collect();
    open.sort_by_key(|incident| std::cmp::Reverse(incident.severity.badness(false)));
    Ok(open)
}

/// The silence that holds now, if one does.
pub fn silence(journal: &Journal, now: DateTime<Utc>) -> Result<Option<Silence>> {
    Ok(silences::silence(journal.connection())?
        .filter(|silence| throttle::silent(now, silence.said, silence.until)))
}

/// Says that somebody is at the problems of a check or an alert type: no reminders until they
/// recover. Gives the problems.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is no such problem.
pub fn acknowledge(home: &Home, run: &Run, name: &str) -> Result<Vec<Incident>> {
    let _lock = Lock::take(home, "alert", run, PATIENCE)?;
    let journal = Journal::open(home)?;
    let open = open(&journal, run)?;
    let mut meant: Vec<Incident> =
        open.iter().filter(|incident| incident.check == name || incident.alert == name).cloned().collect();
    if meant.is_empty() {
        let known: Vec<&str> = open.iter().map(|incident| incident.check.as_str()).collect();
        let hint = if known.is_empty() {
            "nothing is open".to_owned()
        } else {
            format!("open: {}", known.join(", "))
        };
        let message = format!("no problem '{}' is open", text::sanitize(name));
        return Err(Fault::unknown(message).hint(hint).into());
    }
    for incident in &mut meant {
        incident.acknowledged = Some(run.now);
        incident.decide(run.now, &run.id, "acknowledged: no reminders until it recovers");
        store::save(&journal, incident)?;
    }
    Ok(meant)
}
