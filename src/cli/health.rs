//! `health-check` for Nagios, `ops health` for people.

use super::watched::tell_overrun;
use super::{Context, explain};
use crate::base::units::Span;
use crate::base::watchdog::{self, Watchdog};
use crate::base::{Fault, Run, State, durable, text};
use crate::config::Loaded;
use crate::health::{self, Due, Report, nagios, prometheus, table};
use anyhow::Result;
use clap::Args as ClapArgs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait between two looks of `--wait`.
const PAUSE: Duration = Duration::from_secs(1);

/// What to look at.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// Run only this check; may be given again
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// List the checks and what each asks; nothing is looked at
    #[arg(long, conflicts_with_all = ["only", "explain", "wait", "prom"])]
    pub list: bool,
    /// Say of one check what it asks, its thresholds and where they were set, its last ten results
    #[arg(long, value_name = "NAME", conflicts_with_all = ["only", "wait", "prom"])]
    pub explain: Option<String>,
    /// Look again until all is well, for so long at most: 60s, 5m (after a deployment)
    #[arg(long, value_name = "DURATION", value_parser = Span::parse)]
    pub wait: Option<Span>,
    /// Also write the metrics to this file, for the textfile collector of node_exporter
    #[arg(long, value_name = "FILE.prom")]
    pub prom: Option<PathBuf>,
}

/// `health-check`: one line and performance data, as Nagios plugins print them.
pub fn run_plugin(context: &Context, args: Args) -> Result<State> {
    run_as(context, args, |report| match (context.common.quiet, context.common.verbose) {
        (true, _) => nagios::first_line(report),
        (false, 0) => nagios::render(report),
        (false, _) => nagios::render_more(report),
    })
}

/// `ops health`: a table, with what to do.
pub fn run(context: &Context, args: Args) -> Result<State> {
    run_as(context, args, |report| match context.common.quiet {
        true => nagios::headline(report),
        false => format!(
            "{}{}",
            table::render(report, context.colored(), context.screen().map(|(_, columns)| columns)),
            nagios::headline(report)
        ),
    })
}

fn run_as(context: &Context, args: Args, spell: impl Fn(&Report) -> String) -> Result<State> {
    let loaded = context.load()?;
    if args.list {
        return explain::list(context, &loaded);
    }
    if let Some(name) = &args.explain {
        known(&loaded, name)?;
        return explain::one(context, &loaded, name);
    }
    args.only.iter().try_for_each(|name| known(&loaded, name))?;
    if let Some(file) = &args.prom {
        is_prom(file)?;
    }
    let limit = loaded.config.schedule.limit.health_check.0;
    let limit = if limit.is_zero() { limit } else { limit + args.wait.unwrap_or_default().0 };
    let _watchdog = Watchdog::begin(&context.run, limit, Some((&loaded.home, "health_check")));
    tell_overrun(context, &loaded, "health_check");
    let mut report = look(context, &loaded, &args);
    context.tell(&mut report);
    if let Some(file) = &args.prom {
        // Of the collector's own user, who is not ours.
        durable::replace(file, prometheus::render(&report).as_bytes(), 0o644)?;
    }
    if context.common.json {
        context.print_json(&report)?;
    } else {
        context.print(&spell(&report))?;
    }
    Ok(report.state)
}

fn look(context: &Context, loaded: &Loaded, args: &Args) -> Report {
    let journal = context.journal(loaded);
    let begun = Instant::now();
    let mut run = context.run.clone();
    let due = match (args.wait, args.only.is_empty()) {
        (Some(_), _) => Due::AtOnce,
        (None, false) => Due::OrNot,
        (None, true) => Due::Only,
    };
    let report = loop {
        watchdog::phase("the checks");
        let report = health::check_some(loaded, &run, journal.as_ref(), &args.only, due);
        let left = args.wait.unwrap_or_default().0.saturating_sub(begun.elapsed());
        if report.state == State::Ok || left.is_zero() {
            break report;
        }
        context.detail(&nagios::headline(&report));
        std::thread::sleep(PAUSE.min(left));
        run = Run { id: run.id, ..Run::begin(&run.program) };
    };
    // A part of the checks is not a sample of the agent's health.
    if args.only.is_empty()
        && let Err(error) = health::record(&loaded.home, journal.as_ref(), &run, &report)
    {
        context.note(&format!("no history is kept: {error:#}"));
    }
    report
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

/// The collector reads files of this name only.
fn is_prom(file: &Path) -> Result<()> {
    if file.extension().is_some_and(|extension| extension == "prom") {
        return Ok(());
    }
    Err(Fault::unknown(format!("{} does not end in .prom", file.display()))
        .hint("node_exporter reads only files that do, in its --collector.textfile.directory")
        .into())
}
