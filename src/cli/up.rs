//! `ops up`: make it so. Config if there is none, start, first backup, health, page.
//!
//! Run again it changes nothing that is right already, and says so.

use super::{Context, init, service};
use crate::backup::{Standing, catalog, plan};
use crate::base::units::Span;
use crate::base::{Fault, Home, Journal, State, durable, format, text};
use crate::config::{self, Loaded};
use crate::dashboard::{self, Snapshot};
use crate::health::{self, nagios, table};
use crate::service::{Services, Started};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the first backup waits for what the agent makes when it starts.
const FIRST_STATE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Nothing to choose: it is one command
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// Show what would be done, do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// What was done, for machines.
#[derive(Serialize)]
struct Done<'a> {
    state: State,
    agent: &'a str,
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    home: &'a Path,
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    config: &'a Path,
    config_created: bool,
    services: Vec<Service>,
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    backup: Option<PathBuf>,
    backup_made: bool,
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    page: &'a Path,
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    status: &'a Path,
    report: &'a health::Report,
}

#[derive(Serialize)]
struct Service {
    name: String,
    pid: u32,
    started: bool,
}

/// Brings an agent up, from whatever is there.
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let found = config::find(context.common.config.as_deref(), context.common.home.as_deref()).ok();
    if args.dry_run {
        return dry_run(context, found.as_deref());
    }
    let (file, created) = match found {
        Some(file) => (file, false),
        None => {
            let home = new_home(context);
            let target = init::Target::find(None, Some(&home))?;
            let choice = init::Choice::make(&target, None, None)?;
            if choice.recognised() {
                context.note(&choice.describe());
            }
            init::write(&target, &choice)?;
            (target.file, true)
        }
    };
    let loaded = config::load(&file, context.common.home.as_deref())?;
    durable::make_folder(loaded.home.root(), 0o700)?;
    format::check(&loaded.home)?;
    let journal = context.journal(&loaded);

    super::restore::finish_earlier(context, &loaded, journal.as_ref())?;
    let services = Services { home: &loaded.home, config: &loaded.config, run: &context.run };
    let started = start_all(context, &loaded, &services)?;
    let (archive, made) = first_backup(context, &loaded, journal.as_ref())?;

    let mut snapshot = dashboard::gather(&loaded, &context.run, journal.as_ref());
    if let Err(error) = health::record(&loaded.home, journal.as_ref(), &context.run, &snapshot.health) {
        context.note(&format!("no history is kept: {error:#}"));
    }
    context.tell(&mut snapshot.health);
    let page = dashboard::write_page(&loaded, &snapshot)?;

    if context.common.json {
        let services = started
            .iter()
            .map(|(name, started)| Service {
                name: name.clone(),
                pid: started.process().identity.pid,
                started: matches!(started, Started::New(_)),
            })
            .collect();
        context.print_json(&Done {
            state: snapshot.state,
            agent: &loaded.config.agent.name,
            home: loaded.home.root(),
            config: &loaded.config.file,
            config_created: created,
            services,
            backup: archive,
            backup_made: made.is_some(),
            page: &page,
            status: &loaded.home.status_json(),
            report: &snapshot.health,
        })?;
    } else {
        let backup = match (made, archive) {
            (Some(line), _) => line,
            (None, Some(path)) => format!("there is one: {}", loaded.home.show(&path)),
            (None, None) => "none".to_owned(),
        };
        context.print(&screen(context, &loaded, created, &started, &backup, &snapshot))?;
    }
    Ok(snapshot.state)
}

/// Starts all services. One that fails does not keep the others from being tried.
fn start_all(context: &Context, loaded: &Loaded, services: &Services<'_>) -> Result<Vec<(String, Started)>> {
    let _maintenance = context.maintenance(loaded, Span::minutes(15));
    let (mut started, mut failed) = (Vec::new(), Vec::new());
    for name in services.names(None)? {
        match services.start(&name) {
            Ok(one) => started.push((name, one)),
            Err(error) => failed.push(error),
        }
    }
    failed.sort_by_key(|error| Fault::of(error).0.badness(false));
    let Some(worst) = failed.pop() else { return Ok(started) };
    for (name, one) in &started {
        context.note(&format!("{name}: {}", service::describe(services, one)));
    }
    failed.iter().for_each(|error| context.complain(error));
    Err(worst)
}

/// Where a new home goes: `--home`, else `~/.agent-ops`.
fn new_home(context: &Context) -> PathBuf {
    let user = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".agent-ops");
    context.common.home.clone().unwrap_or_else(user)
}

/// Makes a backup unless there is a good one. The archive, and the line about a new one.
fn first_backup(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
) -> Result<(Option<PathBuf>, Option<String>)> {
    let catalog = catalog::status(loaded, journal)?;
    if let Some(latest) = catalog.latest().filter(|latest| latest.standing == Some(Standing::Good)) {
        return Ok((Some(latest.path.clone()), None));
    }
    await_state(context, loaded)?;
    let made = super::backup::make_and_log(context, loaded, journal)?;
    let line = made.line(&loaded.home);
    Ok((Some(made.archive), Some(line)))
}

/// Waits until the agent has made what it always has: a backup without that would hardly be one.
fn await_state(context: &Context, loaded: &Loaded) -> Result<()> {
    let until = Instant::now() + FIRST_STATE;
    let mut missing = plan::not_there_yet(&loaded.config)?;
    if !missing.is_empty() {
        context.detail(&format!("waiting up to {} for {}", Span(FIRST_STATE), shown(loaded, &missing)));
    }
    while !missing.is_empty() && Instant::now() < until {
        std::thread::sleep(LOOK_AGAIN);
        missing = plan::not_there_yet(&loaded.config)?;
    }
    if !missing.is_empty() {
        let missing = shown(loaded, &missing);
        context
            .note(&format!("look at this: the agent has not made {missing}: the first backup is without it"));
    }
    Ok(())
}

fn shown(loaded: &Loaded, paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| loaded.home.show(path)).collect();
    text::one_line(&shown.join(", "), 300)
}

fn dry_run(context: &Context, found: Option<&Path>) -> Result<State> {
    let text = match found {
        None => {
            let home = new_home(context);
            let target = init::Target::find(None, Some(&home))?;
            let what = init::Choice::make(&target, None, None)?.describe();
            format!(
                "would write {} ({what}), start the agent there, make a first backup and the page",
                target.file.display()
            )
        }
        Some(file) => format!(
            "would start what does not run yet of the agent in {}, make a first backup if there is none, and the page",
            file.display()
        ),
    };
    context.print(&format!("{text}; nothing was done (dry run)"))?;
    Ok(State::Ok)
}

/// One screen: what runs, what was found, where things are, what to type next.
fn screen(
    context: &Context,
    loaded: &Loaded,
    created: bool,
    started: &[(String, Started)],
    backup: &str,
    snapshot: &Snapshot,
) -> String {
    let Loaded { config, home } = loaded;
    let services = Services { home, config, run: &context.run };
    let nothing_new = !created && started.iter().all(|(_, started)| matches!(started, Started::Already(_)));
    let mut text = match nothing_new {
        true => format!("{} is up already; nothing had to be done.\n\n", config.agent.name),
        false => format!("{} is up.\n\n", config.agent.name),
    };
    let columns = context.screen().map_or(usize::MAX, |(_, columns)| columns);
    let mut line = |label: &str, what: &str| {
        let mut label = label;
        // A path alone stays whole: it is there to be copied.
        let room = if what.contains(' ') { columns.saturating_sub(13).max(20) } else { usize::MAX };
        for piece in text::wrap(what, room) {
            text.push_str(&format!("  {label:<10} {piece}\n"));
            label = "";
        }
    };
    let new = if created { " (new)" } else { "" };
    line("config", &format!("{}{new}", config.file.display()));
    for (name, started) in started {
        line(name, &service::describe(&services, started));
    }
    line("backup", backup);
    line("page", &home.dashboard_page().display().to_string());
    line("status", &home.status_json().display().to_string());
    line("logs", &home.logs().display().to_string());

    text.push('\n');
    // With the two blanks before it, and what stands above and below it.
    let room = context.screen().map(|(_, columns)| columns.saturating_sub(2));
    let rest = text.lines().count() + 12;
    let fits = context.screen().is_none_or(|(rows, _)| rest + snapshot.health.findings.len() <= rows);
    let table = match fits {
        true => table::render(&snapshot.health, context.colored(), room),
        false => table::brief(&snapshot.health, context.colored(), room),
    };
    for row in table.lines() {
        text.push_str(&format!("  {row}\n"));
    }
    text.push_str(&format!("  {}\n\nNext:\n", nagios::headline(&snapshot.health)));
    let ops = command(context, home);
    for (verb, what) in [
        ("status", "the whole picture on one screen"),
        ("logs -f", "what the agent says"),
        ("cron-install", "checks, alerts, backups and rotation by cron"),
        ("install", "start it at every boot, by systemd or launchd"),
        ("restore latest", "bring the last backup back"),
        ("stop", "stop it; nothing starts it again until you do"),
    ] {
        let command = format!("  {ops} {verb:<16} ");
        let left = columns.saturating_sub(command.chars().count());
        text.push_str(format!("{command}{}", text::one_line(what, left)).trim_end());
        text.push('\n');
    }
    text
}

/// How to call `ops` for this home: by its path if it is not on PATH, with `--home` if it would
/// not be found otherwise.
fn command(context: &Context, home: &Home) -> String {
    let me = config::program("ops");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).any(|folder| folder.join("ops") == me);
    let program = if on_path { "ops".to_owned() } else { me.display().to_string() };
    match (&context.common.home, &context.common.config) {
        (None, None) => program,
        (None, Some(config)) => format!("{program} -c {}", config.display()),
        _ => format!("{program} --home {}", home.root().display()),
    }
}
