//! What one run decides: every look, the incidents it leads to, the messages that may go out.
//! Pure.

use super::incident::Incident;
use super::kind::Kind;
use super::look::Look;
use super::message::{Message, title};
use super::rules::Rules;
use super::step::step;
use super::store::Change;
use super::throttle::{Held, Room, Wish, judge};
use crate::base::Run;
use crate::config::alerts::Alerts;
use std::collections::BTreeMap;

/// What a decision depends on, besides the looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// The agent's name.
    pub agent: &'a str,
    /// This run.
    pub run: &'a Run,
    /// The rules.
    pub alerts: &'a Alerts,
    /// Messages of the last hour.
    pub sent: usize,
    /// Nobody is to be told anything as long as this holds: "alerts are silenced".
    pub silenced: Option<&'a str>,
    /// These are quiet hours.
    pub quiet: bool,
}

/// Decides. `incidents` are the last of each check, open or closed.
pub(super) fn plan(
    looks: &[Look],
    incidents: &BTreeMap<String, Incident>,
    situation: Situation<'_>,
) -> Vec<Change> {
    let Situation { run, alerts, .. } = situation;
    let rules = Rules { alerts };
    let mut steps: Vec<_> = looks
        .iter()
        .filter_map(|look| {
            let step = step(incidents.get(&look.check), look, run.now, rules, &run.id);
            Some((step.incident?, step.wish, step.why))
        })
        .collect();
    for incident in incidents.values() {
        if incident.closed.is_none() && !looks.iter().any(|look| look.check == incident.check) {
            let mut gone = incident.clone();
            gone.close(run.now);
            steps.push((gone, None, "closed silently: there is no such check any more".to_owned()));
        }
    }
    // The worst first: in the journal, and on the way to people.
    steps.sort_by_key(|(incident, ..)| std::cmp::Reverse(incident.severity.badness(false)));

    let wishes: Vec<Wish> =
        steps.iter().filter_map(|(incident, wish, _)| Some(Wish::of(incident, (*wish)?))).collect();
    let room = Room {
        sent: situation.sent,
        max_per_hour: alerts.max_per_hour,
        silenced: situation.silenced.is_some(),
        quiet: situation.quiet,
    };
    let mut verdicts = judge(&wishes, room).into_iter();
    let mut changes: Vec<Change> = Vec::new();
    let mut count = 0;
    for (mut incident, wish, why) in steps {
        let mut message = None;
        match wish.and_then(|kind| Some((kind, verdicts.next()?))) {
            None => incident.decide(run.now, &run.id, &why),
            Some((kind, None)) => {
                count += 1;
                let uid = format!("{}-{count}", run.id);
                let about = Message::about(&incident, kind, uid.clone(), situation.agent, run);
                message = Some(Message { runbooks: alerts.runbooks.clone(), ..about });
                incident.tell(kind, &uid, run.now);
                incident.decide(run.now, &run.id, &format!("told: {why}"));
            }
            Some((kind, Some(held))) => {
                incident.hold(kind, held);
                let by = match held {
                    Held::Capped => "by the hourly cap".to_owned(),
                    Held::Summed => "to be one of many in one message".to_owned(),
                    Held::Silenced => format!("as long as {}", situation.silenced.unwrap_or_default()),
                    Held::Quiet => "in quiet hours".to_owned(),
                };
                incident.decide(run.now, &run.id, &format!("held back {by}: {why}"));
            }
        }
        changes.push(Change { incident, message });
    }
    sum_up(&mut changes, incidents, run);
    changes
}

/// Puts what the hourly cap held back, now or before, into the last message that goes out: with
/// that it has been told.
fn sum_up(changes: &mut Vec<Change>, incidents: &BTreeMap<String, Incident>, run: &Run) {
    let Some(carrier) = changes.iter().rposition(|change| change.message.is_some()) else { return };
    let Some(uid) = changes[carrier].message.as_ref().map(|message| message.uid.clone()) else { return };
    let mut digest = Vec::new();
    for change in changes.iter_mut() {
        let incident = &mut change.incident;
        if let Some(kind) = incident.capped.take() {
            let over = if incident.closed.is_some() || kind == Kind::Recovered { " (over)" } else { "" };
            digest.push(format!("{}: {}{over}", title(&incident.alert), incident.summary));
            if incident.closed.is_none() {
                incident.tell(kind, &uid, run.now);
                incident.decide(run.now, &run.id, "told in the sum of what was held back");
            }
        }
    }
    for incident in incidents.values() {
        let seen = changes.iter().any(|change| change.incident.check == incident.check);
        if incident.capped.is_some() && incident.closed.is_some() && !seen {
            digest.push(format!("{}: {} (over)", title(&incident.alert), incident.summary));
            changes.push(Change { incident: Incident { capped: None, ..incident.clone() }, message: None });
        }
    }
    if let Some(message) = &mut changes[carrier].message {
        message.digest = digest;
    }
}
