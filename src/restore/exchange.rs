//! The dangerous part of a restore: stop, swap, start; undone if anything fails, finished or
//! undone by the next run after a crash.

use super::record::is_cut_short;
use super::stage;
use super::swap::{Phase, Swap};
use crate::backup::places::Places;
use crate::backup::{self, Entry};
use crate::base::process::{self, Process};
use crate::base::step::step;
use crate::base::{Fault, Home, Journal, Run, State, text, units};
use crate::config::Loaded;
use crate::service::Services;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Carries a swap out. `plan` says which files are touched, when nothing writes to the home any
/// more; `folders` are made for what comes. `force`: services that do not stop are killed.
///
/// # Errors
/// When it could not be done. Then everything is as it was, and what ran runs again; where that
/// failed too, the message says what is left to do.
pub(super) fn exchange(
    loaded: &Loaded,
    run: &Run,
    places: &Places,
    swap: &mut Swap,
    folders: &[Entry],
    force: bool,
    plan: impl FnOnce(&mut Swap) -> Result<()>,
) -> Result<Vec<String>> {
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    match forward(&loaded.home, places, swap, &services, folders, force, plan) {
        Ok(notes) => swap.close(places).map(|()| notes),
        Err(error) => Err(put_back(&loaded.home, places, swap, &services, error)),
    }
}

/// The services that run now and are to be stopped.
pub(super) fn running(loaded: &Loaded, run: &Run) -> Result<Vec<String>> {
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let mut running = Vec::new();
    for name in services.names(None)? {
        if services.status(&name)?.process().is_some() {
            running.push(name);
        }
    }
    Ok(running)
}

fn forward(
    home: &Home,
    places: &Places,
    swap: &mut Swap,
    services: &Services<'_>,
    folders: &[Entry],
    force: bool,
    plan: impl FnOnce(&mut Swap) -> Result<()>,
) -> Result<Vec<String>> {
    for name in &swap.services {
        services.may_start(name).context("nothing was changed")?;
    }
    // Before anything stops: should we end here, the next run starts it again.
    swap.save(places, Phase::Swapping)?;
    for name in &swap.services {
        services.stop(name, force, false).map_err(|error| {
            Fault::critical(format!("{name} does not stop: {error:#}"))
                .hint("--force kills what does not stop")
        })?;
        step("stopped")?;
    }
    plan(swap)?;
    need_nobody(home.root(), swap)?;
    swap.save(places, Phase::Swapping)?;
    let made = stage::make_folders(folders, places)?;
    for folder in &swap.folders {
        places.make_folder(&folder.0, 0o755)?;
    }
    swap.forward(places)?;
    let notes = stage::finish_folders(folders, &made, places)?;
    swap.save(places, Phase::Placed)?;
    for name in &swap.services {
        services.start(name).with_context(|| format!("{name} does not start on the restored files"))?;
        step("started")?;
    }
    Ok(notes)
}

/// Puts everything back and says so.
fn put_back(
    home: &Home,
    places: &Places,
    swap: &mut Swap,
    services: &Services<'_>,
    cause: anyhow::Error,
) -> anyhow::Error {
    match undo(places, swap, services) {
        Ok(()) => {
            let message = match services.pending_stops(&swap.services) {
                Some(pending) => {
                    format!("{cause:#}; the files are as they were, but {pending}; `alert` starts it then")
                }
                None if swap.services.is_empty() => format!("{cause:#}; everything was put back as it was"),
                None => {
                    let runs = swap.services.join(", ");
                    format!("{cause:#}; everything was put back as it was, {runs} runs again")
                }
            };
            let fault = Fault::critical(message);
            match Fault::of(&cause).1 {
                Some(hint) => fault.hint(hint).into(),
                None if backup::is_full(&cause) => fault
                    .hint(format!("free some space in {} and run this again", home.root().display()))
                    .into(),
                None => fault.into(),
            }
        }
        Err(error) => Fault::critical(format!("{cause:#}; and it could not all be put back: {error:#}"))
            .hint(format!(
                "run `restore` or `backup` again: it goes on putting back; the old files are in {}",
                home.path(&swap.set_aside.0).display()
            ))
            .into(),
    }
}

/// Refuses to take files away from under a process: it would go on writing into those set aside.
fn need_nobody(home: &Path, swap: &Swap) -> Result<()> {
    let replaced = swap.moves.iter().filter(|one| one.had);
    let files = replaced.filter_map(|one| fs::canonicalize(home.join(&one.path.0)).ok()).collect();
    let first = || process::holders(&files).into_iter().next();
    let Some((pid, file)) = first().and_then(|_| {
        // Whatever a program starts has its files open for an instant, until it becomes another.
        std::thread::sleep(Duration::from_millis(100));
        first()
    }) else {
        return Ok(());
    };
    let found = Process::find(pid).ok().flatten();
    let words = found.map(|found| found.arguments()).unwrap_or_default();
    let command: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    Err(Fault::critical(format!(
        "process {pid} ({}) has {} open and is no service of this agent",
        text::one_line(&command.join(" "), 200),
        file.display()
    ))
    .hint("end it, or name it as a service in ops.toml, and run this again")
    .into())
}

/// Puts everything back: stops what runs on the new files, moves, starts what ran before.
fn undo(places: &Places, swap: &mut Swap, services: &Services<'_>) -> Result<()> {
    // On a full disk this may fail; going back takes no space.
    let _ = swap.save(places, Phase::Undoing);
    if !swap.moves.is_empty() {
        for name in &swap.services {
            services.stop(name, true, false)?;
        }
        swap.back(places)?;
    }
    for name in &swap.services {
        services.start(name).with_context(|| format!("the files are back, but {name} does not start"))?;
    }
    swap.close(places)
}

/// Finishes or undoes a restore that was cut short, and says which. None: there was none.
///
/// # Errors
/// When that failed; it can be tried again.
pub fn recover(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Option<String>> {
    if !is_cut_short(&loaded.home)? {
        return Ok(None);
    }
    let _lock = backup::lock(loaded, run)?;
    let places = Places::open(&loaded.home, &loaded.config.backup)?;
    let Some(mut swap) = Swap::load(&loaded.home, &places)? else { return Ok(None) };
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let when = units::local(swap.at);
    // Whoever was told to stop by a person meanwhile stays stopped.
    let mut wanted = Vec::new();
    for name in std::mem::take(&mut swap.services) {
        if loaded.config.service.contains_key(&name) && services.status(&name)?.stopped_by_operator.is_none()
        {
            wanted.push(name);
        }
    }
    swap.services = wanted;
    let said = if swap.phase == Phase::Placed {
        for name in &swap.services {
            services
                .start(name)
                .with_context(|| format!("the restore of {when} is whole, but {name} does not start"))?;
        }
        swap.close(&places)?;
        format!("the restore of {when} (run {}) was cut short; it is finished now", swap.run)
    } else {
        undo(&places, &mut swap, &services).map_err(|error| {
            anyhow!("the restore of {when} was cut short and cannot be undone yet: {error:#}")
        })?;
        format!("the restore of {when} (run {}) was cut short; everything is back as it was before", swap.run)
    };
    if let Some(journal) = journal {
        journal.note(run, &said, State::Warning)?;
    }
    Ok(Some(said))
}
