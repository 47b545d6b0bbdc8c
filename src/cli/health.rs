//! `health-check` for Nagios, `ops health` for people.

use super::Context;
use crate::base::{Fault, State, text};
use crate::config::Loaded;
use crate::health::{self, Report, nagios, table};
use anyhow::Result;
use clap::Args as ClapArgs;

/// What to look at.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// Run only this check; may be given again
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
}

/// `health-check`: one line and performance data, as Nagios plugins print them.
pub fn run_plugin(context: &Context, args: Args) -> Result<State> {
    let report = look(context, &args)?;
    if context.common.json {
        context.print_json(&report)?;
    } else {
        context.print(&nagios::render(&report))?;
    }
    Ok(report.state)
}

/// `ops health`: a table, with what to do.
pub fn run(context: &Context, args: Args) -> Result<State> {
    let report = look(context, &args)?;
    if context.common.json {
        context.print_json(&report)?;
    } else {
        context.print(&format!(
            "{}{}",
            table::render(&report, context.colored()),
            nagios::headline(&report)
        ))?;
    }
    Ok(report.state)
}

fn look(context: &Context, args: &Args) -> Result<Report> {
    let loaded = context.load()?;
    for name in &args.only {
        known(&loaded, name)?;
    }
    let journal = context.journal(&loaded);
    let report = health::check_some(&loaded, &context.run, journal.as_ref(), &args.only);
    // A part of the checks is not a sample of the agent's health.
    if args.only.is_empty()
        && let Err(error) = health::record(&loaded.home, journal.as_ref(), &context.run, &report)
    {
        context.note(&format!("no history is kept: {error:#}"));
    }
    Ok(report)
}

fn known(loaded: &Loaded, name: &str) -> Result<()> {
    let checks = &loaded.config.check;
    if checks.contains_key(name) {
        return Ok(());
    }
    let hint = match text::nearest(name, checks.keys().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("checks: {}", checks.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    Err(Fault::unknown(format!("there is no check '{}'", text::sanitize(name))).hint(hint).into())
}
