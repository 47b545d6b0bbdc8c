//! One run of `alert`, from the first look to the last delivery.

use super::deliver::{Delivery, deliver};
use super::incident::Rules;
use super::look::{Known, Restart, looks};
use super::past::Source;
use super::plan::{Situation, plan};
use super::spare::Spare;
use super::store::{self, Change, Waiting};
use super::{channel::Channel, recovery, throttle};
use crate::base::durable::{Lock, PATIENCE};
use crate::base::units::local;
use crate::base::{Fault, Journal, Run, State, events};
use crate::config::Loaded;
use crate::health;
use crate::service::Services;
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What one run did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run.
    pub run: String,
    /// Ok: all that had to be said was said. Warning: not to everyone, or a restart failed.
    /// Critical: nobody could be told.
    pub state: State,
    /// How the agent is.
    pub health: State,
    /// Nothing was sent or changed: this is what would be.
    pub dry_run: bool,
    /// Problems that are open now.
    pub open: usize,
    /// What was said, or tried again.
    pub messages: Vec<Delivery>,
    /// What was restarted.
    pub restarts: Vec<Restarted>,
    /// What an operator should know about this run itself.
    pub notes: Vec<String>,
}

/// One service that recovery took up.
#[derive(Clone, Debug, Serialize)]
pub struct Restarted {
    /// The service.
    pub service: String,
    /// Whether it runs again.
    pub good: bool,
    /// How it ended.
    pub text: String,
}

/// Looks, decides, restarts, tells. With `dry` it only says what it would do.
///
/// # Errors
/// A [`Fault`] of state Unknown when another run is at it and stays at it.
pub fn run(loaded: &Loaded, run: &Run, dry: bool) -> Result<Summary> {
    let mut notes = Vec::new();
    let mut summary = Summary {
        run: run.id.clone(),
        state: State::Ok,
        health: State::Ok,
        dry_run: dry,
        open: 0,
        messages: Vec::new(),
        restarts: Vec::new(),
        notes: Vec::new(),
    };
    let mut source = Source::open(loaded, dry, &mut notes)?;
    let before = store::finished(&source.journal).unwrap_or_default();
    let _lock = match (!dry).then(|| Lock::take(&loaded.home, "alert", run, PATIENCE)).transpose() {
        Ok(lock) => lock,
        Err(error) if error.downcast_ref::<Fault>().is_some() => return Err(error),
        // A home that cannot be written is a reason to tell, not one to keep silent.
        Err(error) => {
            notes.push(format!("{error:#}; another run at the same time could tell the same"));
            None
        }
    };
    if store::finished(&source.journal).is_ok_and(|after| after != before) {
        notes.push("another run did it while this one waited".to_owned());
        return Ok(Summary { notes, ..summary });
    }

    let mut past = source.past(loaded, run, dry, &mut notes)?;
    let Source { journal, lasting } = source;
    let report = health::check(loaded, run, (!dry).then_some(&journal));
    summary.health = report.state;
    if !dry && let Err(error) = health::record(&loaded.home, Some(&journal), run, &report) {
        notes.push(format!("{error:#}"));
    }
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let spare = Spare::read(&loaded.home);
    let spared = spare.is_some();
    if let Some(spare) = spare {
        spare.overlay(&mut past.incidents, &mut past.attempts);
    }
    let known = know(services, &past.attempts, dry, &mut notes);
    let (looks, restarts) = looks(&report, &loaded.config, &known, &past.incidents, run.now);

    let alerts = &loaded.config.alerts;
    let mut changes = plan(
        &looks,
        &past.incidents,
        Situation {
            agent: &loaded.config.agent.name,
            run,
            rules: Rules { cooldown: alerts.cooldown },
            max_per_hour: alerts.max_per_hour,
            sent: throttle::within_an_hour(run.now, &past.sent),
            silenced: past.silence.is_some(),
        },
    );
    summary.open = changes.iter().filter(|change| change.incident.closed.is_none()).count();
    if let Some(silence) = &past.silence {
        let why = if silence.reason.is_empty() { String::new() } else { format!(": {}", silence.reason) };
        notes.push(format!("alerts are silenced until {}{why}", local(silence.until)));
    }
    if dry {
        summary.messages = changes
            .iter()
            .filter_map(|change| change.message.as_ref())
            .map(|message| Delivery::of(message, false))
            .collect();
        summary.restarts = restarts.iter().map(would_restart).collect();
        return Ok(Summary { notes, ..summary });
    }

    let stored = store::store(&journal, run, &mut changes, past.silence.is_some());
    for message in changes.iter().filter_map(|change| change.message.as_ref()) {
        let (title, line) = (message.title(), message.line());
        if let Err(error) = events::append(&loaded.home, "alerts", run, message.level(), &title, &line) {
            notes.push(format!("{error:#}"));
        }
    }
    let lasting = lasting && stored.is_ok();
    for restart in &restarts {
        past.attempts.entry(restart.service.clone()).or_default().push(run.now);
        let tried = recovery::restart(&services, &journal, &restart.service, &restart.cause);
        note_restart(&journal, run, &mut changes, restart, &tried, &mut notes);
        summary.restarts.push(Restarted {
            service: restart.service.clone(),
            good: tried.good,
            text: tried.text,
        });
    }
    let waiting = outbox(stored, &changes, &mut notes);
    summary.messages = deliver(alerts, Some(&journal), run, &waiting);
    summary.state = judge(&summary);
    if lasting && spared {
        Spare::remove(&loaded.home);
    } else if !lasting {
        let reached = |uid: &str| summary.messages.iter().any(|sent| sent.uid == uid && sent.reached);
        if !Spare::after(&changes, past, reached).write(&loaded.home) {
            notes.push("nothing can be remembered: the next run may tell the same again".to_owned());
        }
    }
    if unheard(&summary.messages) {
        notes.push(nobody(loaded));
    }
    // The journal is thinned, and the run noted, at leisure: people have been told.
    if let Err(error) =
        journal.note(run, store::FINISHED, summary.state).and_then(|()| journal.forget_old(run.now))
    {
        notes.push(format!("{error:#}"));
    }
    Ok(Summary { notes, ..summary })
}

/// What is known of each service.
fn know(
    services: Services<'_>,
    attempts: &BTreeMap<String, Vec<DateTime<Utc>>>,
    dry: bool,
    notes: &mut Vec<String>,
) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for name in services.config.service.keys() {
        match services.status(name) {
            Ok(status) => {
                let busy = !dry && status.process().is_none() && is_busy(services, name);
                let attempts = attempts.get(name).cloned().unwrap_or_default();
                known.insert(name.clone(), Known { status, attempts, busy });
            }
            Err(error) => notes.push(format!("cannot look at {name}: {error:#}")),
        }
    }
    known
}

/// Whether a start, a stop or a restore of ours is at a service at this moment.
fn is_busy(services: Services<'_>, name: &str) -> bool {
    let held = |work: &str| {
        let lock = Lock::take(services.home, work, services.run, Duration::ZERO);
        lock.is_err_and(|error| error.downcast_ref::<Fault>().is_some())
    };
    // A restore stops the services and starts them again; in between none may be started.
    held(&format!("service-{name}")) || (services.home.restore_journal().exists() && held("backup"))
}

fn would_restart(restart: &Restart) -> Restarted {
    Restarted {
        service: restart.service.clone(),
        good: true,
        text: format!("would be restarted: {}", restart.cause),
    }
}

/// Writes what a restart came to into its incident, and into the message that tells of it.
fn note_restart(
    journal: &Journal,
    run: &Run,
    changes: &mut [Change],
    restart: &Restart,
    tried: &recovery::Tried,
    notes: &mut Vec<String>,
) {
    let Some(change) = changes.iter_mut().find(|change| change.incident.check == restart.check) else {
        return;
    };
    change.incident.provisional = tried.good;
    change.incident.decide(run.now, &run.id, &tried.text);
    let saved = change.incident.id.map_or(Ok(()), |_| store::save(journal, &change.incident));
    let amended = change.message.as_mut().map_or(Ok(()), |message| {
        message.tried = Some(tried.text.clone());
        store::amend(journal, message)
    });
    if let Err(error) = saved.and(amended) {
        notes.push(format!("{error:#}"));
    }
}

/// What is to be delivered: what the journal holds, with what was just tried; or, if it could
/// not be written, the messages of this run as they are.
fn outbox(stored: Result<Vec<Waiting>>, changes: &[Change], notes: &mut Vec<String>) -> Vec<Waiting> {
    let made = || changes.iter().filter_map(|change| change.message.as_ref());
    match stored {
        Ok(mut waiting) => {
            for waiting in &mut waiting {
                if let Some(message) = made().find(|message| message.uid == waiting.message.uid) {
                    waiting.message = message.clone();
                }
            }
            waiting
        }
        Err(error) => {
            notes.push(format!("{error:#}; people are told all the same"));
            made()
                .map(|message| Waiting {
                    id: None,
                    message: message.clone(),
                    done: BTreeMap::new(),
                    fresh: true,
                })
                .collect()
        }
    }
}

fn judge(summary: &Summary) -> State {
    let restarts =
        if summary.restarts.iter().all(|restart| restart.good) { State::Ok } else { State::Warning };
    summary.messages.iter().map(Delivery::state).fold(restarts, State::worse)
}

/// Whether a message of this run reached nobody.
fn unheard(messages: &[Delivery]) -> bool {
    messages.iter().any(|delivery| !delivery.reached && !delivery.retried)
}

fn nobody(loaded: &Loaded) -> String {
    let names: Vec<_> = Channel::all(&loaded.config.alerts).iter().map(Channel::name).collect();
    let log = loaded.home.show(&loaded.home.log("alerts"));
    if names.iter().any(|name| *name != "desktop") {
        format!("nobody could be told ({}); see {log}; the next run tries again", names.join(", "))
    } else {
        format!(
            "nobody could be told, there is only {log}. Set up [alerts.email] or [alerts.webhook] in {} and try it \
             with 'ops alert test'",
            loaded.config.file.display()
        )
    }
}
