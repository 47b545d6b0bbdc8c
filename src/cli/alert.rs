//! `alert`, and `ops alert`: one run, and the verbs that do something; those that show are in
//! `problems.rs`.

use super::Context;
use super::problems::{Problem, list, why};
use super::restore::finish_earlier;
use super::watched::watched;
use crate::alert::{self, Delivery, Message, Summary};
use crate::base::units::{Span, local, rfc3339};
use crate::base::{Fault, Journal, State, render, text};
use crate::config::{ChannelName, Loaded};
use crate::schedule::Job;
use anyhow::Result;
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
        && loaded.home.has(&loaded.home.restore_journal())
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
