//! One run of `alert`, from the first look to the last delivery.

use super::channel::alertmanager::{self, Posting, Sender};
use super::deliver::{Delivery, deliver};
use super::known::{Ours, know};
use super::look::{Restart, looks};
use super::outcome::Outcome;
use super::past::{Past, Source};
use super::plan::{Situation, plan};
use super::spare::Spare;
use super::store::{self, Change, Outbox, Waiting};
use super::{channel::Channel, held, recovery, throttle};
use crate::base::maintenance::Maintenance;
use crate::base::step::step;
use crate::base::units::local;
use crate::base::{Fault, Journal, Run, State, events, upgrade, watchdog};
use crate::config::{ChannelName, Loaded};
use crate::health;
use crate::service::Services;
use anyhow::Result;
use chrono::Local;
use serde::Serialize;
use std::collections::BTreeMap;

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
    let last = store::finished(&source.journal).unwrap_or_default();
    let mut held_back = Vec::new();
    let _lock = match (!dry).then(|| held::lock(loaded, run, &source.journal)).transpose() {
        Ok(lock) => lock.and_then(|(lock, why)| {
            held_back.extend(why);
            lock
        }),
        Err(error) if error.downcast_ref::<Fault>().is_some() => return Err(error),
        // A home that cannot be written is a reason to tell, not one to keep silent.
        Err(error) => {
            notes.push(format!("{error:#}; another run at the same time could tell the same"));
            None
        }
    };
    if store::finished(&source.journal).is_ok_and(|now| now != last) {
        notes.push("another run did it while this one waited".to_owned());
        return Ok(Summary { notes, ..summary });
    }

    let mut past = source.past(loaded, run, dry, &mut notes)?;
    let Source { journal, lasting } = source;
    // What begins or ends while we look is at it as well.
    let before = Maintenance::now(&loaded.home, run.now);
    let held = upgrade::holds(&loaded.home);
    watchdog::phase("the checks");
    let mut report = health::check(loaded, run, (!dry).then_some(&journal));
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
    let maintenance = before.or_else(|| Maintenance::now(&loaded.home, chrono::Utc::now().max(run.now)));
    let (maintenance, too_long) = held::maintenance(maintenance, &loaded.config, &journal, run.now, dry);
    held_back.extend(too_long);
    report.findings.extend(held::finding(&held_back, &past.incidents));
    let ours = Ours { maintenance: maintenance.is_some(), upgrade: held || upgrade::holds(&loaded.home) };
    let known = know(services, &past, &report, &journal, ours, dry, &mut notes);
    let (looks, restarts) = looks(&report, &loaded.config, &known, &past.incidents, run.now);

    let alerts = &loaded.config.alerts;
    let time = run.now.with_timezone(&Local).time();
    let quiet = alerts.quiet_hours.is_some_and(|hours| hours.contain(time));
    // The operator's word counts more.
    let silenced = match (&past.silence, &maintenance) {
        (Some(_), _) => Some("alerts are silenced".to_owned()),
        (None, Some(note)) => Some(format!("{} is at it", note.what)),
        (None, None) => None,
    };
    let mut changes = plan(
        &looks,
        &past.incidents,
        Situation {
            agent: &loaded.config.agent.name,
            run,
            alerts,
            sent: throttle::within_an_hour(run.now, &past.sent),
            silenced: silenced.as_deref(),
            quiet,
        },
    );
    summary.open = changes.iter().filter(|change| change.incident.closed.is_none()).count();
    if let Some(silence) = &past.silence {
        let why = if silence.reason.is_empty() { String::new() } else { format!(": {}", silence.reason) };
        notes.push(format!("alerts are silenced until {}{why}", local(silence.until)));
    }
    if let Some(note) = &maintenance {
        notes.push(format!(
            "{} has been at it since {} (run {}): nobody is told, nothing is restarted",
            note.what,
            local(note.since),
            note.run
        ));
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

    let _ = step("decided");
    let stored = store::store(&journal, run, &mut changes, silenced.is_some(), alerts.retry_for);
    let _ = step("stored");
    write_log(loaded, run, &changes, &mut notes);
    let posting = begin_posting(loaded, run, &changes, &past);
    let lasting = lasting && stored.is_ok();
    for restart in &restarts {
        past.attempts.entry(restart.service.clone()).or_default().push(run.now);
        let tried = recovery::restart(&services, &journal, restart);
        let _ = step("restarted");
        note_restart(&journal, run, &mut changes, restart, &tried, &mut notes);
        summary.restarts.push(Restarted {
            service: restart.service.clone(),
            good: tried.good,
            text: tried.text,
        });
    }
    let outbox = outbox(stored, &changes, &mut notes);
    for (message, why) in &outbox.given_up {
        let line = format!("{} of {} was not taken by {why}", message.title(), local(message.at));
        notes.push(format!("given up: {line}"));
        let _ = events::append(&loaded.home, "alerts", run, "WARNING", "Given up", &line);
    }
    watchdog::phase("sending messages");
    summary.messages = deliver(alerts, Some(&journal), run, &outbox, posting.as_ref());
    summary.state = judge(&summary);
    if !held_back.is_empty() {
        summary.state = State::Critical;
    }
    if let Some(why) = posting.as_ref().map(Posting::outcome).and_then(Outcome::error) {
        notes.push(format!("alertmanager: {why}; the next run tells it all"));
        summary.state = summary.state.worse(State::Warning);
    }
    let _ = step("delivered");
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
    if let Err(error) = journal.ran(run, store::JOB, summary.state).and_then(|()| journal.forget_old(run.now))
    {
        notes.push(format!("{error:#}"));
    }
    Ok(Summary { notes, ..summary })
}

/// A line in `logs/alerts.log` for each message, and for what it sums up.
fn write_log(loaded: &Loaded, run: &Run, changes: &[Change], notes: &mut Vec<String>) {
    for message in changes.iter().filter_map(|change| change.message.as_ref()) {
        let append = |title: &str, line: &str| {
            events::append(&loaded.home, "alerts", run, message.level(), title, line)
        };
        let also = message.digest.iter().map(|other| append("Also", other));
        if let Err(error) =
            std::iter::once(append(&message.title(), &message.line())).chain(also).collect::<Result<()>>()
        {
            notes.push(format!("{error:#}"));
        }
    }
}

/// Begins to tell an Alertmanager what is open, if there is one and anything to tell.
fn begin_posting(loaded: &Loaded, run: &Run, changes: &[Change], past: &Past) -> Option<Posting> {
    let alerts = &loaded.config.alerts;
    let sender = Sender {
        settings: alerts.alertmanager.as_ref()?,
        agent: &loaded.config.agent.name,
        host: &run.host,
        runbooks: alerts.runbooks.as_deref(),
        now: run.now,
        silent_since: past.silence.as_ref().map(|silence| silence.said),
    };
    let changed = |check: &str| changes.iter().any(|change| change.incident.check == check);
    let earlier = past.incidents.values().filter(|incident| !changed(&incident.check));
    let posted = sender.alerts(changes.iter().map(|change| &change.incident).chain(earlier));
    (!posted.is_empty()).then(|| alertmanager::begin(sender.settings, posted))
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
fn outbox(stored: Result<Outbox>, changes: &[Change], notes: &mut Vec<String>) -> Outbox {
    let made = || changes.iter().filter_map(|change| change.message.as_ref());
    match stored {
        Ok(mut outbox) => {
            for waiting in &mut outbox.waiting {
                if let Some(message) = made().find(|message| message.uid == waiting.message.uid) {
                    waiting.message = message.clone();
                }
            }
            outbox
        }
        Err(error) => {
            notes.push(format!("{error:#}; people are told all the same"));
            let waiting = made().map(|message| Waiting {
                id: None,
                message: message.clone(),
                done: BTreeMap::new(),
                earlier: BTreeMap::new(),
                fresh: true,
            });
            Outbox { waiting: waiting.collect(), ..Outbox::default() }
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
    let alertmanager = loaded.config.alerts.alertmanager.as_ref().map(|_| "alertmanager");
    if alertmanager.is_some() || names.iter().any(|name| *name != ChannelName::Desktop) {
        let names: Vec<_> = names.into_iter().map(ChannelName::word).chain(alertmanager).collect();
        format!("nobody could be told ({}); see {log}; the next run tries again", names.join(", "))
    } else {
        format!(
            "nobody could be told, there is only {log}. Set up [alerts.email] or another channel in {} and try it \
             with `ops alert test`",
            loaded.config.file.display()
        )
    }
}
