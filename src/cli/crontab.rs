//! Our block in the user's crontab.

use super::Context;
use crate::base::durable::{Lock, PATIENCE};
use crate::base::manager::search_path;
use crate::base::{Fault, State, events, units};
use crate::config::{self, Loaded};
use crate::schedule::{self, Change, Job, Torn};
use crate::troubleshoot::quoted;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

#[derive(Serialize)]
struct Body<'a> {
    changed: bool,
    dry_run: bool,
    /// Our lines, as they are in the crontab afterwards.
    block: &'a str,
    /// Where the crontab as it was is kept.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    before: Option<PathBuf>,
}

/// Puts our block into the crontab, or brings it up to date, or only prints it.
pub(super) fn install(context: &Context, loaded: &Loaded, print: bool, dry_run: bool) -> Result<State> {
    let block = schedule::block(loaded, &config::program("ops"), &context.run.host, &search_path())?;
    if print {
        if context.common.json {
            context.print_json(&Body { changed: false, dry_run: true, block: &block, before: None })?;
        } else {
            context.print(&block)?;
        }
        return Ok(State::Ok);
    }
    let state = whose_crontab(context, loaded)?;
    context.note_environment(loaded, "cron");
    if !dry_run {
        // The jobs append to a log in it.
        loaded.home.make_folder(&loaded.home.logs())?;
    }
    let put = |old: &[u8]| schedule::install(old, loaded.home.root(), &block);
    let change = change(context, loaded, dry_run, &block, put)?;
    tell(context, loaded, change, dry_run, &block)?;
    if schedule::cron_runs() == Some(false) {
        context.note(
            "no cron runs here, so nothing is done yet: start it (`sudo systemctl enable --now cron`, `sudo service cron start`); \
             in a container `ops run --schedule` does the jobs; with systemd `ops cron-install --manager systemd`",
        );
    }
    Ok(state)
}

/// Takes our block out of the crontab, and tells of it.
pub(super) fn uninstall(context: &Context, loaded: &Loaded, dry_run: bool) -> Result<()> {
    let change = take_out(context, loaded, dry_run)?;
    tell(context, loaded, change, dry_run, "")
}

/// Takes our lines out of the crontab.
pub(super) fn take_out(context: &Context, loaded: &Loaded, dry_run: bool) -> Result<Change> {
    change(context, loaded, dry_run, "", |old| schedule::uninstall(old, loaded.home.root()))
}

/// Changes our block in the crontab, to the one that is given.
fn change(
    context: &Context,
    loaded: &Loaded,
    dry_run: bool,
    block: &str,
    make: impl Fn(&[u8]) -> Result<Vec<u8>, Torn>,
) -> Result<Change> {
    let _lock = match dry_run {
        true => None,
        false => Some(Lock::take(&loaded.home, "cron", &context.run, PATIENCE)?),
    };
    let old = schedule::read()?;
    let new = make(&old).map_err(|torn| {
        Fault::unknown(format!("{torn}; nothing was changed"))
            .hint("put it right with `crontab -e`: remove the lone marker line, or the whole block")
    })?;
    if dry_run {
        return Ok(Change { changed: old != new, before: None });
    }
    let change = schedule::change(&loaded.home, &old, &new)?;
    schedule::note_installed(&loaded.home, block)?;
    if change.before.is_some() {
        let what = if block.is_empty() { "taken out of the crontab" } else { "put into the crontab" };
        if let Err(error) = events::append(&loaded.home, "cron", &context.run, "INFO", "Cron", what) {
            context.note(&format!("{error:#}"));
        }
    }
    Ok(change)
}

fn tell(context: &Context, loaded: &Loaded, change: Change, dry_run: bool, block: &str) -> Result<()> {
    let Change { changed, before } = change;
    if context.common.json {
        return context.print_json(&Body { changed, dry_run, block, before });
    }
    let jobs = block.lines().filter(|line| !line.starts_with('#')).count();
    let agent = &loaded.config.agent.name;
    context.print(&match (changed, dry_run, block.is_empty()) {
        (false, _, false) => format!("The crontab has the jobs of {agent} already; nothing was changed."),
        (false, _, true) => format!("The crontab has no jobs of {agent}; nothing was changed."),
        (true, true, false) => format!("These lines would be in the crontab:\n{block}"),
        (true, true, true) => format!("The jobs of {agent} would be taken out of the crontab."),
        (true, false, false) => format!(
            "The crontab has the jobs of {agent} now ({jobs}). See them with `crontab -l`; what they print is in {}.\n{}",
            loaded.home.show(&loaded.home.log("cron")),
            next_times(context, loaded)
        ),
        (true, false, true) => format!("The jobs of {agent} are out of the crontab."),
    })
}

/// When each job runs next, a line each.
pub(super) fn next_times(context: &Context, loaded: &Loaded) -> String {
    let line = |job: Job| {
        let schedule = &loaded.config.schedule;
        let next = job.next(schedule, &context.run.host, loaded.home.root(), context.run.now)?;
        Some(format!("  {:<12} {:<14} next {}", job.key(), job.when(schedule), units::local(next)))
    };
    Job::ALL.into_iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// The jobs run as the user whose crontab it is: that should be the owner of the home. Told before anything
/// is done, and done all the same: who may write both may mean it.
fn whose_crontab(context: &Context, loaded: &Loaded) -> Result<State> {
    let home = loaded.home.root();
    let meta = home.metadata().with_context(|| format!("cannot look at {}", home.display()))?;
    let (owner, me) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner == me {
        return Ok(State::Ok);
    }
    let shown = home.display();
    let own = loaded.config.file == home.join("ops.toml");
    let config = if own {
        String::new()
    } else {
        format!(" --config {}", quoted(&loaded.config.file.display().to_string()))
    };
    context.note(&format!(
        "{shown} belongs to user {owner}, and this is the crontab of user {me}, as whom its jobs run; better: \
         `sudo -u '#{owner}' ops cron-install{config} --home {}`, and `ops cron-uninstall` here",
        quoted(&shown.to_string())
    ));
    Ok(State::Warning)
}
