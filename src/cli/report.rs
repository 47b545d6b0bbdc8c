//! `ops report`: what became of the agent within a while, and the same by mail each week.

use super::Context;
use super::watched::watched;
use crate::alert;
use crate::base::units::Span;
use crate::base::{Fault, Journal, State};
use crate::config::Loaded;
use crate::dashboard::{self, FARTHEST};
use crate::schedule::Job;
use anyhow::{Context as _, Result};
use clap::Args as Arguments;

/// Tell what became of the agent: problems, restarts, checks, backups
#[derive(Arguments, Clone, Debug)]
pub(super) struct Args {
    /// Since how long ago, 35d at most
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = Span::parse)]
    since: Span,
    /// Send it to those of [alerts.email] instead of printing it; without such a table it is printed
    #[arg(long)]
    email: bool,
}

/// `ops report`
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    if args.since > FARTHEST || args.since.0.is_zero() {
        return Err(Fault::unknown(format!("--since {}: from 1s to {FARTHEST}", args.since))
            .hint("what is older is kept for alerts and backups only: `ops alert list`, `backup list`")
            .into());
    }
    match args.email {
        true => watched(context, &loaded, Job::Report, || make(context, &loaded, &args)),
        false => make(context, &loaded, &args),
    }
}

fn make(context: &Context, loaded: &Loaded, args: &Args) -> Result<State> {
    let journal = Journal::open_to_read(&loaded.home)
        .with_context(|| format!("there is no history in {}", loaded.home.show(&loaded.home.journal())))
        .map_err(|error| {
            Fault::unknown(format!("{error:#}")).hint("`ops alert`, or health-check, begins one")
        })?;
    let snapshot = dashboard::gather(loaded, &context.run, Some(&journal));
    let report = dashboard::report(loaded, &context.run, &journal, snapshot, args.since)?;
    let mut state = State::Ok;
    match (&loaded.config.alerts.email, args.email) {
        (Some(email), true) => {
            alert::mail(email, &report.agent, &report.title(), &report.text()).map_err(|why| {
                Fault::critical(format!("the report was not sent: {why}"))
                    .hint("`ops alert test --channel email` tries the channel alone")
            })?;
            context.note(&format!("sent to {}", email.to.join(", ")));
            if !context.common.json {
                return Ok(State::Ok);
            }
        }
        (None, true) => {
            context.note("there is no [alerts.email] to send it by: it is printed");
            state = State::Warning;
        }
        (_, false) => {}
    }
    if context.common.json {
        context.print_json(&report)?;
    } else {
        context.print(&report.text())?;
    }
    Ok(state)
}
