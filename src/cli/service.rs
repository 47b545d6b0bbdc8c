//! `ops start`, `ops stop`, `ops restart`.

use super::Context;
use crate::base::units::{self, Span};
use crate::base::{Fault, State, privilege};
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
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize)]
struct Outcomes {
    run: String,
    state: State,
    services: Vec<Outcome>,
}

/// `ops start`
pub(super) fn start(context: &Context, args: StartArgs) -> Result<State> {
    each(context, args.service.as_deref(), args.dry_run, |services, name| {
        let started = services.start(name)?;
        let outcome = match started {
            Started::Already(_) if services.pending_stop(name).is_some() => "already running, told to stop",
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
    if !dry_run && loaded.home.has(&loaded.home.restore_journal()) {
        super::restore::finish_earlier(context, &loaded, context.journal(&loaded).as_ref())?;
    }
    // Long enough for services that are slow to stop and to be ready.
    let _maintenance = (!dry_run).then(|| context.maintenance(&loaded, Span::minutes(15)));
    let Loaded { config, home } = loaded;
    let services = Services { home: &home, config: &config, run: &context.run };
    let by_system = |name: &String| matches!(services.installed(name), Ok(Some(one)) if one.system);
    if !services.installed_names().unwrap_or_default().iter().any(by_system) {
        privilege::keep_nothing()?;
    }
    let mut outcomes = Vec::new();
    let mut lines = Vec::new();
    let names = services.names(only)?;
    let alone = names.len() == 1;
    let mut state = State::Ok;
    for name in names {
        let done = if dry_run { now(&services, &name).map(|now| (now, None)) } else { act(&services, &name) };
        let mut outcome = Outcome { service: name, outcome: "failed", pid: None, error: None, hint: None };
        match done {
            Ok((word, pid)) => (outcome.outcome, outcome.pid) = (word, pid),
            Err(error) if alone => return Err(error),
            // One that fails does not keep the others from being tried.
            Err(error) => {
                let (bad, hint) = Fault::of(&error);
                state = state.worse(bad);
                outcome.hint = hint.map(str::to_owned);
                context.complain(&error);
                outcome.error = Some(format!("{error:#}"));
            }
        }
        let pid = outcome.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        lines.push(format!("{}: {}{pid}", outcome.service, outcome.outcome));
        outcomes.push(outcome);
    }
    if outcomes.is_empty() {
        context.note("this agent has no services");
    }
    if context.common.json {
        context.print_json(&Outcomes { run: context.run.id.clone(), state, services: outcomes })?;
    } else {
        context.print(&lines.join("\n"))?;
    }
    Ok(state)
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
