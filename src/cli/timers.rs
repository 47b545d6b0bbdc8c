//! `ops cron-install --manager systemd|launchd`: the jobs as timers.

use super::{Context, crontab, install};
use crate::base::durable::{Lock, PATIENCE};
use crate::base::manager::{self, Manager};
use crate::base::{Fault, State, events};
use crate::config::{self, Loaded};
use crate::schedule::{self, Scene, Timers};
use anyhow::Result;
use serde::Serialize;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Only print the files.
    pub(super) print: bool,
    /// The system's manager.
    pub(super) system: bool,
    /// The user's own.
    pub(super) user: bool,
    /// Only say what would be done.
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    changed: bool,
    dry_run: bool,
    #[serde(flatten)]
    timers: &'a Timers,
}

/// Writes the timers and starts them; our lines in the crontab go.
pub(super) fn install(context: &Context, loaded: &Loaded, manager: Manager, wish: &Wish) -> Result<State> {
    let system = match wish.print {
        true => wish.system,
        false => install::scope(context, manager, wish.system, wish.user, wish.dry_run).map_err(|error| {
            Fault::unknown(format!("{error:#}"))
                .hint("`ops cron-install`, without --manager, has cron run the jobs")
        })?,
    };
    let user = if system { Some(install::owner(loaded.home.root())?) } else { None };
    let scene = Scene {
        ops: &config::program("ops"),
        host: &context.run.host,
        path: &manager::search_path(),
        user: user.as_deref(),
    };
    let timers = schedule::timers(loaded, manager, system, &scene)?;
    let dry_run = wish.dry_run || wish.print;
    // A note that is damaged says nothing, and is written anew.
    let before = schedule::installed_timers(&loaded.home).ok().flatten().map(|(timers, _)| timers);
    let changed = match dry_run {
        true => before.as_ref() != Some(&timers) || !timers.wrong().is_empty(),
        false => {
            let _lock = Lock::take(&loaded.home, "cron", &context.run, PATIENCE)?;
            let mut before = before;
            if let Some(other) = before.take_if(|before| (before.manager, before.system) != (manager, system))
            {
                other.uninstall(&loaded.home)?;
            }
            timers.install(&loaded.home, before.as_ref())?
        }
    };
    if !dry_run {
        log(context, loaded, changed, "put into timers");
        if schedule::installed(&loaded.home)?.is_some() {
            crontab::take_out(context, loaded, false)?;
            context.note("the lines in the crontab that ran them until now are gone");
        }
        context.note_environment(loaded, manager.name());
    }
    if context.common.json {
        context.print_json(&Body { changed, dry_run, timers: &timers })?;
        return Ok(State::Ok);
    }
    let (agent, name) = (&loaded.config.agent.name, manager.name());
    let files = |mark: &str| {
        timers
            .files
            .iter()
            .map(|file| format!("{mark}{}\n{}", file.path.display(), file.text))
            .collect::<String>()
    };
    context.print(&match (changed, dry_run) {
        (_, true) => files("# "),
        (false, false) => format!("{name} has the jobs of {agent} already; nothing was changed."),
        (true, false) => format!(
            "{name} has the jobs of {agent} now ({}); what they print is in {}.\n{}",
            timers.files.iter().filter(|file| !file.unit.is_empty()).count(),
            loaded.home.show(&loaded.home.log("cron")),
            crontab::next_times(context, loaded)
        ),
    })?;
    if let (false, false, Some(how)) = (system, dry_run, manager.beyond_logout()) {
        context.note(&format!("they run while you are logged in; {how} has them run from the boot on"));
    }
    Ok(State::Ok)
}

/// Takes the timers away.
pub(super) fn remove(context: &Context, loaded: &Loaded, dry_run: bool) -> Result<()> {
    let Some((timers, _)) = schedule::installed_timers(&loaded.home)? else { return Ok(()) };
    if !dry_run {
        uninstall(context, loaded)?;
    }
    if context.common.json {
        return context.print_json(&Body { changed: true, dry_run, timers: &timers });
    }
    let (agent, name) = (&loaded.config.agent.name, timers.manager.name());
    context.print(&match dry_run {
        true => format!("{name} would no longer run the jobs of {agent}."),
        false => format!("{name} no longer runs the jobs of {agent}."),
    })
}

/// Says that a manager has none.
pub(super) fn nothing(context: &Context, loaded: &Loaded, manager: Manager, dry_run: bool) -> Result<()> {
    #[derive(Serialize)]
    struct Nothing {
        changed: bool,
        dry_run: bool,
    }
    if context.common.json {
        return context.print_json(&Nothing { changed: false, dry_run });
    }
    let agent = &loaded.config.agent.name;
    context.print(&format!("{} has no jobs of {agent}; nothing was changed.", manager.name()))
}

/// The timers that were there.
pub(super) fn uninstall(context: &Context, loaded: &Loaded) -> Result<Option<Timers>> {
    let Some((timers, _)) = schedule::installed_timers(&loaded.home)? else { return Ok(None) };
    let _lock = Lock::take(&loaded.home, "cron", &context.run, PATIENCE)?;
    timers.uninstall(&loaded.home)?;
    log(context, loaded, true, "taken away from timers");
    Ok(Some(timers))
}

fn log(context: &Context, loaded: &Loaded, changed: bool, what: &str) {
    if changed && let Err(error) = events::append(&loaded.home, "cron", &context.run, "INFO", "Timers", what)
    {
        context.note(&format!("{error:#}"));
    }
}
