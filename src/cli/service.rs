//! `ops start`, `ops stop`, `ops restart`.

use super::Context;
use crate::base::State;
use crate::base::units::{self, Span};
use crate::config::Loaded;
use crate::service::{Liveness, Services, Started};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;
use std::cell::Cell;

/// Which service.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct StartArgs {
    /// Only this service; all, unless named
    pub(super) service: Option<String>,
    /// Show what would be done, do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// Which service, and how hard.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct StopArgs {
    /// Only this service; all, unless named
    pub(super) service: Option<String>,
    /// Kill what does not end by itself
    #[arg(long)]
    pub(super) force: bool,
    /// Show what would be done, do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// Which service, how hard, and whether to back up first.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct RestartArgs {
    /// What to stop and start.
    #[command(flatten)]
    pub(super) stop: StopArgs,
    /// Make a verified backup first
    #[arg(long)]
    pub(super) backup: bool,
}

/// What became of one service.
#[derive(Serialize)]
struct Outcome {
    service: String,
    outcome: &'static str,
    pid: Option<u32>,
}

#[derive(Serialize)]
struct Outcomes {
    run: String,
    services: Vec<Outcome>,
}

/// `ops start`
pub(super) fn start(context: &Context, args: StartArgs) -> Result<State> {
    each(context, args.service.as_deref(), args.dry_run, |services, name| {
        let started = services.start(name)?;
        let outcome = match started {
            Started::Already(_) => "already running",
            Started::New(_) => "started",
        };
        Ok((outcome, Some(started.process().identity.pid)))
    })
}

/// `ops stop`: remembered, so that nothing of ours starts it again by itself.
pub(super) fn stop(context: &Context, args: StopArgs) -> Result<State> {
    each(context, args.service.as_deref(), args.dry_run, |services, name| {
        Ok((if services.stop(name, args.force, true)? { "stopped" } else { "not running" }, None))
    })
}

/// `ops restart`: waits for a sign of life newer than the start.
pub(super) fn restart(context: &Context, args: RestartArgs) -> Result<State> {
    if args.backup && !args.stop.dry_run {
        let loaded = context.load()?;
        let made = super::backup::make_and_log(context, &loaded, context.journal(&loaded).as_ref())?;
        context.note(&made.line(&loaded.home));
    }
    let failed = Cell::new(false);
    each(context, args.stop.service.as_deref(), args.stop.dry_run, |services, name| {
        // What keeps one from coming up may keep the next: one that runs is worth more.
        if failed.get()
            && let Liveness::Running(process) = services.status(name)?.liveness
        {
            return Ok(("left as it runs", Some(process.identity.pid)));
        }
        let restarted = services.restart(name, args.stop.force);
        failed.set(failed.get() || restarted.is_err());
        Ok(("restarted", Some(restarted?.identity.pid)))
    })
}

fn each(
    context: &Context,
    only: Option<&str>,
    dry_run: bool,
    act: impl Fn(&Services<'_>, &str) -> Result<(&'static str, Option<u32>)>,
) -> Result<State> {
    let loaded = context.load()?;
    if !dry_run && loaded.home.restore_journal().exists() {
        super::restore::finish_earlier(context, &loaded, context.journal(&loaded).as_ref())?;
    }
    // Long enough for services that are slow to stop and to be ready.
    let _maintenance = (!dry_run).then(|| context.maintenance(&loaded, Span::minutes(15)));
    let Loaded { config, home } = loaded;
    let services = Services { home: &home, config: &config, run: &context.run };
    let mut outcomes = Vec::new();
    let mut lines = Vec::new();
    let mut failed = None;
    for name in services.names(only)? {
        let done = if dry_run { now(&services, &name).map(|now| (now, None)) } else { act(&services, &name) };
        let (outcome, pid) = match (done, &failed) {
            (Ok(done), _) => done,
            // The others are asked all the same: what was said of all of them holds for each.
            (Err(error), None) => {
                failed = Some(error);
                continue;
            }
            (Err(error), Some(_)) => {
                context.note(&format!("{error:#}"));
                continue;
            }
        };
        let pid_text = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        lines.push(format!("{name}: {outcome}{pid_text}"));
        outcomes.push(Outcome { service: name, outcome, pid });
    }
    if let Some(error) = failed {
        lines.iter().for_each(|line| context.note(line));
        return Err(error);
    }
    if outcomes.is_empty() {
        context.note("this agent has no services");
    }
    if context.common.json {
        context.print_json(&Outcomes { run: context.run.id.clone(), services: outcomes })?;
    } else {
        context.print(&lines.join("\n"))?;
    }
    Ok(State::Ok)
}

/// What `--dry-run` tells: how it is.
fn now(services: &Services<'_>, name: &str) -> Result<&'static str> {
    Ok(match services.status(name)?.liveness {
        Liveness::Running(_) => "runs now; nothing was done (dry run)",
        Liveness::Dead(_) => "does not run now; nothing was done (dry run)",
        Liveness::Stranger { .. } => {
            "does not run now, its pid file names a stranger; nothing was done (dry run)"
        }
    })
}

/// One line about each service, for `ops up`.
pub(super) fn describe(services: &Services<'_>, started: &Started) -> String {
    let process = started.process();
    let since = units::age(services.run.now, process.started);
    match started {
        Started::Already(_) => format!("runs already, pid {}, for {since}", process.identity.pid),
        Started::New(_) => format!("started, pid {}", process.identity.pid),
    }
}
