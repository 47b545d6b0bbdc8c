//! From the outbox to people: routes, stand-ins, and what is left for a later run.

use super::channel::{Channel, Outcome, send_all};
use super::message::Message;
use super::store::{self, Waiting};
use crate::base::{Journal, Run, State};
use crate::config::Alerts;
use serde::Serialize;

/// One message of this run, and how far it got.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// The message's own name.
    pub uid: String,
    /// Its alert type.
    pub r#type: String,
    /// How bad.
    pub severity: State,
    /// Its title.
    pub title: String,
    /// Its line.
    pub message: String,
    /// Whether an earlier run made it.
    pub retried: bool,
    /// Whether anybody has it, by now.
    pub reached: bool,
    /// What was tried in this run.
    pub channels: Vec<Tried>,
}

/// One attempt on one channel.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// The channel.
    pub channel: &'static str,
    /// delivered, unavailable, failed or refused.
    pub outcome: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Delivery {
    /// A message that nothing was tried for yet.
    pub fn of(message: &Message, retried: bool) -> Delivery {
        Delivery {
            uid: message.uid.clone(),
            r#type: message.alert.clone(),
            severity: message.severity,
            title: message.title(),
            message: message.line(),
            retried,
            reached: false,
            channels: Vec::new(),
        }
    }

    /// What it means for the exit code: not all were reached (Warning), nobody was although
    /// there is a way (Critical).
    pub fn state(&self) -> State {
        let failed = self.channels.iter().any(|tried| matches!(tried.outcome, "failed" | "refused"));
        match (self.reached, failed) {
            (true, false) => State::Ok,
            (true, true) | (false, false) => State::Warning,
            (false, true) => State::Critical,
        }
    }
}

/// Sends what waits: to every channel of its route side by side, and if nobody was reached so,
/// to the channels that are not in its route. Each outcome is in the journal before the next
/// is awaited.
pub(super) fn deliver(
    alerts: &Alerts,
    journal: Option<&Journal>,
    run: &Run,
    waiting: &[Waiting],
) -> Vec<Delivery> {
    let channels = Channel::all(alerts);
    let mut deliveries: Vec<Delivery> = waiting
        .iter()
        .map(|waiting| Delivery {
            reached: waiting.done.values().any(|delivered| *delivered),
            ..Delivery::of(&waiting.message, !waiting.fresh)
        })
        .collect();
    let wanted = |waiting: &Waiting, channel: &Channel| {
        !waiting.done.contains_key(channel.name())
            && route(alerts, &waiting.message).iter().any(|name| name == channel.name())
    };
    send_round(&channels, journal, run, waiting, &mut deliveries, |_, waiting, channel| {
        wanted(waiting, channel)
    });
    send_round(&channels, journal, run, waiting, &mut deliveries, |delivery, waiting, channel| {
        !delivery.reached
            && !waiting.done.contains_key(channel.name())
            && !route(alerts, &waiting.message).is_empty()
            && delivery.channels.iter().all(|tried| tried.channel != channel.name())
    });
    for (delivery, waiting) in deliveries.iter().zip(waiting) {
        if let (Some(journal), Some(id), true) = (journal, waiting.id, is_settled(delivery, alerts, waiting))
        {
            // At worst it is looked at again.
            let _ = store::settle(journal, id);
        }
    }
    // What an operator routes nowhere is no failure to deliver.
    deliveries
        .into_iter()
        .zip(waiting)
        .filter(|(_, waiting)| !route(alerts, &waiting.message).is_empty())
        .map(|(delivery, _)| delivery)
        .collect()
}

fn route<'a>(alerts: &'a Alerts, message: &Message) -> &'a [String] {
    if message.urgency == State::Critical { &alerts.critical } else { &alerts.warning }
}

/// Whether nothing is left to try. A channel that is out of reach here (no desktop) is waited
/// for only as long as nobody else has the message.
fn is_settled(delivery: &Delivery, alerts: &Alerts, waiting: &Waiting) -> bool {
    let any = |outcome: &str| delivery.channels.iter().any(|tried| tried.outcome == outcome);
    let routed = route(alerts, &waiting.message);
    let to_retry = delivery
        .channels
        .iter()
        .any(|tried| tried.outcome == "failed" && routed.iter().any(|name| name == tried.channel));
    routed.is_empty() || (!to_retry && (delivery.reached || (any("refused") && !any("failed"))))
}

fn send_round(
    channels: &[Channel],
    journal: Option<&Journal>,
    run: &Run,
    waiting: &[Waiting],
    deliveries: &mut [Delivery],
    wanted: impl Fn(&Delivery, &Waiting, &Channel) -> bool,
) {
    let work: Vec<(Channel, Vec<(usize, Message)>)> = channels
        .iter()
        .filter_map(|channel| {
            let messages: Vec<_> = waiting
                .iter()
                .enumerate()
                .filter(|(index, waiting)| wanted(&deliveries[*index], waiting, channel))
                .map(|(index, waiting)| (index, waiting.message.clone()))
                .collect();
            (!messages.is_empty()).then(|| (channel.clone(), messages))
        })
        .collect();
    send_all(work, |index, channel, outcome| {
        if let (Some(journal), Some(id)) = (journal, waiting[index].id) {
            // Not noted as delivered, it is sent once more under the same name: better than lost.
            let _ = store::record(journal, run, id, channel, &outcome);
        }
        let delivery = &mut deliveries[index];
        delivery.reached |= outcome == Outcome::Delivered;
        delivery.channels.push(Tried {
            channel,
            outcome: outcome.word(),
            error: outcome.error().map(str::to_owned),
        });
    });
}

/// Sends a test message to one channel, or to all that are set up.
pub fn test(alerts: &Alerts, message: &Message, only: Option<&str>) -> Delivery {
    let mut delivery = Delivery::of(message, false);
    let work = Channel::all(alerts)
        .into_iter()
        .filter(|channel| only.is_none_or(|name| name == channel.name()))
        .map(|channel| (channel, vec![(0, message.clone())]))
        .collect();
    send_all(work, |_, channel, outcome| {
        delivery.reached |= outcome == Outcome::Delivered;
        delivery.channels.push(Tried {
            channel,
            outcome: outcome.word(),
            error: outcome.error().map(str::to_owned),
        });
    });
    delivery
}
