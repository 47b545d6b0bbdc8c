//! From the outbox to people: routes, stand-ins, and what is left for a later run.

use super::channel::alertmanager::{self, Posting, Sender};
use super::channel::{Channel, Letter, send_all};
use super::deliveries;
use super::incident::Incident;
use super::kind::Kind;
use super::message::Message;
use super::outcome::Outcome;
use super::store::{Outbox, Waiting};
use crate::base::step::step;
use crate::base::units::local;
use crate::base::{Journal, Run, State};
use crate::config::alerts::{Alerts, ChannelName};
use chrono::TimeDelta;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(15);

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

    fn note(&mut self, channel: ChannelName, outcome: &Outcome) {
        self.tried(channel.word(), outcome);
    }

    fn tried(&mut self, channel: &'static str, outcome: &Outcome) {
        self.reached |= matches!(outcome, Outcome::Delivered(_));
        self.channels.push(Tried {
            channel,
            outcome: outcome.word(),
            error: outcome.error().map(str::to_owned),
        });
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
/// is awaited. What an Alertmanager took (`posting`) has reached whom it tells.
pub(super) fn deliver(
    alerts: &Alerts,
    journal: Option<&Journal>,
    run: &Run,
    outbox: &Outbox,
    posting: Option<&Posting>,
) -> Vec<Delivery> {
    let waiting = &outbox.waiting;
    let mut round = Round {
        channels: Channel::all(alerts),
        journal,
        run,
        outbox,
        until: Instant::now() + LIMIT,
        deliveries: waiting
            .iter()
            .map(|waiting| Delivery {
                reached: waiting.done.values().any(|delivered| *delivered),
                ..Delivery::of(&waiting.message, !waiting.fresh)
            })
            .collect(),
    };
    round.send(|_, waiting, channel| route(alerts, &waiting.message).contains(&channel));
    if let Some(taken @ Outcome::Delivered(_)) = posting.map(Posting::outcome) {
        round.deliveries.iter_mut().for_each(|delivery| delivery.tried("alertmanager", taken));
    }
    round.send(|delivery, waiting, channel| {
        !delivery.reached
            && !route(alerts, &waiting.message).is_empty()
            && delivery.channels.iter().all(|tried| tried.channel != channel.word())
    });
    if let Some(failed) = posting.map(Posting::outcome).filter(|outcome| outcome.error().is_some()) {
        let unheard = round.deliveries.iter_mut().filter(|delivery| !delivery.reached);
        unheard.for_each(|delivery| delivery.tried("alertmanager", failed));
    }
    let deliveries = round.deliveries;
    for (delivery, waiting) in deliveries.iter().zip(waiting) {
        if let (Some(journal), Some(id), true) = (journal, waiting.id, is_settled(delivery, alerts, waiting))
        {
            // At worst it is looked at again.
            let _ = deliveries::settle(journal, id);
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

/// Where a message goes: as its type says, else by severity; and to those who are next, if it has
/// come to that.
fn route(alerts: &Alerts, message: &Message) -> Vec<ChannelName> {
    let mut route = match message.kind {
        Kind::Escalated => Vec::new(),
        _ => by_rule(alerts, &message.alert, message.urgency == State::Critical).0.to_vec(),
    };
    if message.escalated {
        route.extend(&alerts.escalate);
    }
    route
}

/// Where messages of a type go, and which rule says so.
pub(super) fn by_rule<'a>(alerts: &'a Alerts, alert: &str, critical: bool) -> (&'a [ChannelName], String) {
    match (alerts.types.get(alert).and_then(|own| own.channels.as_ref()), critical) {
        (Some(own), _) => (own, format!("[alerts.types.{alert}] channels")),
        (None, true) => (&alerts.critical, "[alerts] critical".to_owned()),
        (None, false) => (&alerts.warning, "[alerts] warning".to_owned()),
    }
}

/// Whether nothing is left to try. A channel that is out of reach here (no desktop) is waited
/// for only as long as nobody else has the message.
fn is_settled(delivery: &Delivery, alerts: &Alerts, waiting: &Waiting) -> bool {
    let any = |outcome: &str| delivery.channels.iter().any(|tried| tried.outcome == outcome);
    let routed = route(alerts, &waiting.message);
    let to_retry = delivery
        .channels
        .iter()
        .any(|tried| tried.outcome == "failed" && routed.iter().any(|name| name.word() == tried.channel));
    routed.is_empty() || (!to_retry && (delivery.reached || (any("refused") && !any("failed"))))
}

/// The messages of a run on their way.
struct Round<'a> {
    channels: Vec<Channel>,
    journal: Option<&'a Journal>,
    run: &'a Run,
    outbox: &'a Outbox,
    until: Instant,
    deliveries: Vec<Delivery>,
}

impl Round<'_> {
    /// Sends to each channel what it is wanted for and has not had yet.
    fn send(&mut self, wanted: impl Fn(&Delivery, &Waiting, ChannelName) -> bool) {
        let Round { channels, journal, run, outbox, until, deliveries } = self;
        let (journal, run) = (*journal, *run);
        let waiting = &outbox.waiting;
        let mut work: Vec<(Channel, Vec<Letter>)> = Vec::new();
        for channel in channels.iter() {
            let name = channel.name();
            let indices: Vec<usize> = (0..waiting.len())
                .filter(|&at| !waiting[at].done.contains_key(name.word()))
                .filter(|&at| wanted(&deliveries[at], &waiting[at], name))
                .collect();
            if let Some(until) = outbox.paused.get(name.word()) {
                let why = format!("it asked to be left alone until {}", local(*until));
                for index in indices {
                    deliveries[index].note(name, &Outcome::Failed(why.clone()));
                }
                continue;
            }
            let letters = indices.into_iter().map(|index| Letter {
                index,
                message: waiting[index].message.clone(),
                earlier: waiting[index].earlier.get(name.word()).cloned().unwrap_or_default(),
            });
            let letters: Vec<Letter> = letters.collect();
            if !letters.is_empty() {
                work.push((channel.clone(), letters));
            }
        }
        send_all(work, *until, |index, channel, outcome| {
            let _ = step("sent");
            if let (Some(journal), Some(id)) = (journal, waiting[index].id) {
                // Not noted as delivered, it is sent once more under the same name: better than lost.
                let _ = deliveries::record(journal, run, id, channel.word(), &outcome);
                let _ = step("noted");
            }
            deliveries[index].note(channel, &outcome);
        });
    }
}

/// Sends a test message to one channel, or to all that are set up.
pub fn test(alerts: &Alerts, message: &Message, only: Option<ChannelName>) -> Delivery {
    let mut delivery = Delivery::of(message, false);
    // Not to be stopped again: it ends by itself.
    let posting = alerts.alertmanager.as_ref().filter(|_| only.is_none()).map(|settings| {
        let mut incident =
            Incident::bare("test".to_owned(), "test".to_owned(), State::Warning, message.at, message.line());
        incident.closed = Some(message.at + TimeDelta::minutes(1));
        let sender = Sender {
            settings,
            agent: &message.agent,
            host: &message.host,
            runbooks: None,
            now: message.at + TimeDelta::minutes(1),
            silent_since: None,
        };
        alertmanager::begin(settings, sender.alerts(std::iter::once(&incident)))
    });
    let work = Channel::all(alerts)
        .into_iter()
        .filter(|channel| only.is_none_or(|name| name == channel.name()))
        .map(|channel| (channel, vec![Letter { index: 0, message: message.clone(), earlier: Vec::new() }]))
        .collect();
    send_all(work, Instant::now() + LIMIT, |_, channel, outcome| delivery.note(channel, &outcome));
    if let Some(posting) = posting {
        delivery.tried("alertmanager", posting.outcome());
    }
    delivery
}
