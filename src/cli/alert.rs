//! `alert`, and `ops alert`: one run, and the verbs around it.

use super::Context;
use super::restore::finish_earlier;
use super::watched::watched;
use crate::alert::{self, Delivery, Incident, Listed, Message, Summary};
use crate::base::units::{Span, age, local, rfc3339};
use crate::base::{Fault, Journal, State, render, text};
use crate::config::{Alerts, ChannelName, Loaded};
use crate::schedule::Job;
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

/// What to do.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// Say what would be sent and restarted, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Plain `alert` is one run: look, tell, restart
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs of `alert`.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// List open problems and recent messages
    List {
        /// How many messages
        #[arg(short = 'l', long, default_value_t = 10, value_name = "NUMBER")]
        limit: usize,
    },
    /// Send a test message now
    Test {
        /// Only to this channel
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
    },
    /// Send no reminders of a problem until it recovers
    Ack {
        /// The check, or the alert type
        #[arg(value_name = "CHECK")]
        name: String,
    },
    /// Tell nobody anything for a while; 0 ends it
    Silence {
        /// How long, such as 30m or 2h
        #[arg(value_parser = Span::parse, value_name = "DURATION")]
        length: Span,
        /// Why
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
    },
    /// Show what was decided about a problem, and what its runbook says
    Why {
        /// The alert type, or the check
        #[arg(value_name = "TYPE|CHECK")]
        name: String,
    },
}

/// Does it.
pub fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    match args.verb {
        None if args.dry_run => once(context, &loaded, true),
        None => watched(context, &loaded, Job::Alert, || once(context, &loaded, false)),
        Some(_) if args.dry_run => {
            Err(Fault::unknown("--dry-run is for a run of alert, not for its verbs").into())
        }
        Some(Verb::List { limit }) => list(context, &loaded, limit),
        Some(Verb::Test { channel }) => test(context, &loaded, channel.as_deref()),
        Some(Verb::Ack { name }) => acknowledge(context, &loaded, &name),
        Some(Verb::Silence { length, reason }) => silence(context, &loaded, length, &reason),
        Some(Verb::Why { name }) => why(context, &loaded, &name),
    }
}

fn once(context: &Context, loaded: &Loaded, dry: bool) -> Result<State> {
    // A restore that a power cut ended leaves the agent down: nothing could be told of it that
    // would help more than its end.
    if !dry
        && loaded.home.restore_journal().exists()
        && let Err(error) = finish_earlier(context, loaded, context.journal(loaded).as_ref())
    {
        context.note(&format!("{error:#}"));
    }
    let summary = alert::run(loaded, &context.run, dry)?;
    for note in &summary.notes {
        context.note(note);
    }
    if context.common.json {
        context.print_json(&summary)?;
    } else if !(context.common.quiet && summary.messages.is_empty() && summary.restarts.is_empty()) {
        // Cron asks every five minutes: with --quiet there is nothing to say of nothing.
        context.print(&spell(context, &summary))?;
    }
    Ok(summary.state)
}

fn spell(context: &Context, summary: &Summary) -> String {
    let mut lines: Vec<String> = Vec::new();
    for restart in &summary.restarts {
        lines.push(format!("{} {}", restart.service, text::one_line(&restart.text, 500)));
    }
    for delivery in &summary.messages {
        let verb = match (summary.dry_run, delivery.reached) {
            (true, _) => "would be sent",
            (false, true) => "sent",
            (false, false) => "not delivered",
        };
        let word = render::paint(context.colored(), delivery.severity, delivery.severity.word());
        lines.push(format!("{verb}: [{word}] {} - {}", delivery.title, delivery.message));
        lines.extend(channels(delivery));
    }
    if lines.is_empty() {
        lines.push(match summary.open {
            0 => "nothing to tell: all is well".to_owned(),
            open => format!("nothing new to tell ({} open)", text::count(open, "problem")),
        });
    }
    lines.join("\n")
}

fn channels(delivery: &Delivery) -> Vec<String> {
    delivery
        .channels
        .iter()
        .map(|tried| match &tried.error {
            Some(error) => format!("  {}: {} ({error})", tried.channel, tried.outcome),
            None => format!("  {}: {}", tried.channel, tried.outcome),
        })
        .collect()
}

/// An open problem, as `alert list` and `alert why` show it.
#[derive(Serialize)]
struct Problem {
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
    fn of(incident: &Incident, with_trail: bool, alerts: &Alerts, now: DateTime<Utc>) -> Problem {
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

fn list(context: &Context, loaded: &Loaded, limit: usize) -> Result<State> {
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

fn test(context: &Context, loaded: &Loaded, channel: Option<&str>) -> Result<State> {
    let alerts = &loaded.config.alerts;
    let known: Vec<_> = alert::Channel::all(alerts).iter().map(alert::Channel::name).collect();
    let only = channel.and_then(|channel| known.iter().copied().find(|name| name.word() == channel));
    let names: Vec<_> = known.into_iter().map(ChannelName::word).collect();
    if let Some(name) = channel.filter(|_| only.is_none()) {
        let message = format!("the channel '{}' is not set up", text::sanitize(name));
        return Err(Fault::unknown(message).hint(format!("channels: {}", names.join(", "))).into());
    }
    let message = Message::test(&loaded.config.agent.name, &context.run);
    let delivery = alert::test(alerts, &message, only);
    for line in alert::routes(alerts) {
        context.note(&line);
    }
    if context.common.json {
        context.print_json(&delivery)?;
    } else {
        context.print(&channels(&delivery).iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n"))?;
    }
    if !delivery.reached {
        context.note(&format!(
            "the test reached nobody; set up a channel in {}, such as [alerts.email], [alerts.telegram] or [alerts.ntfy]",
            loaded.config.file.display()
        ));
        return Ok(State::Critical);
    }
    Ok(delivery.state())
}

fn acknowledge(context: &Context, loaded: &Loaded, name: &str) -> Result<State> {
    let acknowledged = alert::acknowledge(&loaded.home, &context.run, name)?;
    if context.common.json {
        let problems: Vec<_> = acknowledged
            .iter()
            .map(|incident| Problem::of(incident, false, &loaded.config.alerts, context.run.now))
            .collect();
        #[derive(Serialize)]
        struct Acknowledged {
            acknowledged: Vec<Problem>,
        }
        context.print_json(&Acknowledged { acknowledged: problems })?;
    } else {
        for incident in &acknowledged {
            context.print(&format!(
                "no more reminders of {} until it recovers, and nobody else is told",
                incident.check
            ))?;
        }
    }
    Ok(State::Ok)
}

fn silence(context: &Context, loaded: &Loaded, length: Span, reason: &str) -> Result<State> {
    let journal = Journal::open(&loaded.home)?;
    let until = alert::say_silence(&journal, &context.run, length, reason)?;
    if context.common.json {
        #[derive(Serialize)]
        struct Silenced<'a> {
            silenced_until: Option<String>,
            reason: &'a str,
        }
        let silenced_until = (length > Span::default()).then(|| rfc3339(until));
        context.print_json(&Silenced { silenced_until, reason })?;
    } else if length > Span::default() {
        context.print(&format!(
            "nobody is told anything until {}; what is open then is told then",
            local(until)
        ))?;
    } else {
        context.print("alerts are not silenced any more")?;
    }
    Ok(State::Ok)
}

fn why(context: &Context, loaded: &Loaded, name: &str) -> Result<State> {
    let journal = reading(loaded)?;
    let (alerts, now) = (&loaded.config.alerts, context.run.now);
    let found = alert::find(&journal, name, 3)?;
    let page =
        alert::runbook(name).or_else(|| found.first().and_then(|incident| alert::runbook(&incident.alert)));
    if found.is_empty() && page.is_none() {
        let message = format!("there was never a problem '{}'", text::sanitize(name));
        return Err(Fault::unknown(message).hint("'alert list' shows what is open").into());
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
    if !loaded.home.journal().exists() {
        return Journal::in_memory();
    }
    Journal::open(&loaded.home).context("cannot read the history of alerts")
}
