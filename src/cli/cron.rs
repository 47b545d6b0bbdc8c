//! `ops cron-install` and `ops cron-uninstall`: the jobs of the schedule, by cron or by timers.

use super::timers::{self, Wish};
use super::{Context, crontab};
use crate::base::manager::Manager;
use crate::base::privilege::Keep;
use crate::base::{Fault, State};
use crate::config::Loaded;
use crate::schedule;
use anyhow::Result;
use clap::{Args as Arguments, ValueEnum};

/// Have cron run the checks, backups and the rest
#[derive(Arguments, Clone, Debug)]
pub struct Args {
    /// Only print the lines, or the files
    #[arg(long)]
    pub print: bool,
    /// Who is to run them
    #[arg(long, value_enum, default_value = "cron")]
    pub manager: Choice,
    /// Not cron: to the system's manager, which runs them as the owner of the home (root's default)
    #[arg(long, conflicts_with = "user")]
    pub system: bool,
    /// Not cron: to your own manager (everybody else's default)
    #[arg(long)]
    pub user: bool,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl Args {
    /// The crontab, and the user's own manager, are the owner's.
    pub(super) fn keep(&self) -> Keep {
        if self.user || self.print { Keep::Nothing } else { Keep::Manager }
    }
}

/// Who runs the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The user's crontab
    Cron,
    /// Timers of systemd
    Systemd,
    /// Calendar jobs of launchd
    Launchd,
}

impl Choice {
    /// None: cron.
    fn manager(self) -> Option<Manager> {
        match self {
            Choice::Cron => None,
            Choice::Systemd => Some(Manager::Systemd),
            Choice::Launchd => Some(Manager::Launchd),
        }
    }
}

/// Take our lines out of the crontab, or our timers away
#[derive(Arguments, Clone, Debug)]
pub struct RemoveArgs {
    /// Take them from this one only; from whoever has them, unless named
    #[arg(long, value_enum)]
    pub manager: Option<Choice>,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Puts our block into the crontab, or brings it up to date.
pub fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    let never = loaded.config.jobs_that_never_run();
    never.iter().for_each(|job| context.note(job));
    let state = install(context, &loaded, &args)?;
    Ok(if state == State::Ok && !never.is_empty() { State::Warning } else { state })
}

fn install(context: &Context, loaded: &Loaded, args: &Args) -> Result<State> {
    if let Some(manager) = args.manager.manager() {
        let Args { print, system, user, dry_run, .. } = *args;
        return timers::install(context, loaded, manager, &Wish { print, system, user, dry_run });
    }
    if args.system || args.user {
        return Err(Fault::unknown("cron has no --system and no --user: the crontab is that of who you are")
            .hint("leave it out, or --manager systemd or launchd")
            .into());
    }
    let state = crontab::install(context, loaded, args.print, args.dry_run)?;
    let changes = !args.dry_run && !args.print;
    if changes && timers::uninstall(context, loaded)?.is_some() {
        context.note("the timers that ran them until now are gone");
    }
    Ok(state)
}

/// Takes our block out of the crontab.
pub fn remove(context: &Context, args: RemoveArgs) -> Result<State> {
    let loaded = context.load()?;
    // Where timers run the jobs there may be no cron at all.
    let timers = schedule::installed_timers(&loaded.home)?.map(|(timers, _)| timers.manager);
    match args.manager.map(Choice::manager) {
        None if timers.is_some() => timers::remove(context, &loaded, args.dry_run)?,
        Some(Some(manager)) if timers == Some(manager) => timers::remove(context, &loaded, args.dry_run)?,
        Some(Some(manager)) => timers::nothing(context, &loaded, manager, args.dry_run)?,
        None | Some(None) => crontab::uninstall(context, &loaded, args.dry_run)?,
    }
    Ok(State::Ok)
}
