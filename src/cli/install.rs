//! `ops install` and `ops uninstall`: the services, given to systemd or launchd.

use super::Context;
use crate::base::manager::Manager;
use crate::base::privilege::Keep;
use crate::base::process::Process;
use crate::base::units::Span;
use crate::base::{Fault, State, privilege, process};
use crate::service::{Change, Installation, Removal, Services};
use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueEnum};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Which services, and to whom.
#[derive(Arguments, Clone, Debug)]
pub(super) struct Args {
    /// Only this service; all, unless named
    service: Option<String>,
    /// Who is to run them
    #[arg(long, value_enum, default_value = "auto")]
    manager: Choice,
    /// To the system's manager, which runs them as the owner of the home, from the boot on (root's
    /// default)
    #[arg(long, conflicts_with = "user")]
    system: bool,
    /// To your own manager (everybody else's default)
    #[arg(long)]
    user: bool,
    /// Only show what would be written
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Args {
    /// Root's own user manager is not the system's.
    pub(super) fn keep(&self) -> Keep {
        if self.user { Keep::Nothing } else { Keep::Manager }
    }
}

/// Which manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// The one that is here
    Auto,
    /// systemd
    Systemd,
    /// launchd
    Launchd,
}

/// Take the services away from systemd or launchd
#[derive(Arguments, Clone, Debug)]
pub(super) struct RemoveArgs {
    /// Only say what would be taken away
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Body {
    run: String,
    dry_run: bool,
    services: Vec<Installed>,
    /// What the config has no more.
    removed: Vec<Removal>,
}

/// How a service is after that.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Now {
    /// It was started.
    Started,
    /// It ran already.
    Runs,
    /// Its operator stopped it.
    Stopped,
    /// Nothing was done: a dry run.
    Nothing,
}

/// What became of one service.
#[derive(Serialize)]
struct Installed {
    service: String,
    manager: &'static str,
    system: bool,
    unit: String,
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    path: PathBuf,
    change: Change,
    /// The file with settings that its owner had changed in the old one.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    kept: Option<PathBuf>,
    now: Now,
    pid: Option<u32>,
    /// What is in the file.
    text: String,
}

/// Gives the services to a manager, and starts those that do not run.
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    let (manager, system) = choose(context, &args)?;
    let user = if system { Some(owner(loaded.home.root())?) } else { None };
    let services = Services { home: &loaded.home, config: &loaded.config, run: &context.run };
    let _maintenance = (!args.dry_run).then(|| context.maintenance(&loaded, Span::minutes(15)));
    let names = services.names(args.service.as_deref())?;
    // All can be, or nothing is changed.
    for name in &names {
        services.install(name, manager, system, user.as_deref(), true)?;
    }
    let (mut lines, mut removed) = (Vec::new(), Vec::new());
    // Before the others: one of them may be it, under another name.
    let unconfigured = if args.service.is_none() { services.unconfigured()? } else { Vec::new() };
    for one in unconfigured {
        let Some(removal) = services.uninstall(&one.service, args.dry_run)? else { continue };
        lines.push(format!("{}; {}", told(&removal, args.dry_run), one.why()));
        removed.push(removal);
    }
    let mut done = Vec::new();
    for name in names {
        let installation = services.install(&name, manager, system, user.as_deref(), args.dry_run)?;
        let installed = bring_up(context, &services, &name, installation, args.dry_run)?;
        lines.push(installed.told(args.dry_run));
        done.push(installed);
    }
    if done.is_empty() {
        context.note("this agent has no services");
    }
    if context.common.json {
        let run = context.run.id.clone();
        context.print_json(&Body { run, dry_run: args.dry_run, services: done, removed })?;
    } else {
        context.print(&lines.join("\n"))?;
    }
    context.note_environment(&loaded, manager.name());
    if let (false, Some(how)) = (system, manager.beyond_logout()) {
        context.note(&format!(
            "they end when you log out and start when you log in; {how} has them run from the boot on"
        ));
    }
    Ok(State::Ok)
}

/// Which manager, and whether it is the system's.
fn choose(context: &Context, args: &Args) -> Result<(Manager, bool)> {
    let manager = match args.manager {
        Choice::Auto => Manager::usual(),
        Choice::Systemd => Manager::Systemd,
        Choice::Launchd => Manager::Launchd,
    };
    Ok((manager, scope(context, manager, args.system, args.user, args.dry_run)?))
}

/// Whether it is to be the system's manager; either way it answers. What a dry run shows depends on nobody's
/// answer.
pub(super) fn scope(
    context: &Context,
    manager: Manager,
    system: bool,
    user: bool,
    dry_run: bool,
) -> Result<bool> {
    let root = privilege::manages_system();
    // Where neither answers, it is shown as it is where they do.
    let usual = || manager.check(true).is_ok() || (dry_run && manager.check(false).is_err());
    let system = system || (root && !user && usual());
    match manager.check(system) {
        Err(error) if dry_run => context.note(&format!("it could not be done now: {error:#}")),
        answer => answer?,
    }
    Ok(system)
}

/// The name of the user whose home it is.
pub(super) fn owner(home: &Path) -> Result<String> {
    let uid = home.metadata().with_context(|| format!("cannot look at {}", home.display()))?.uid();
    let mut command = Command::new("id");
    command.args(["-un", "--", &uid.to_string()]).env("LC_ALL", "C");
    let output = process::run(command, None, Duration::from_secs(10))?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || name.is_empty() {
        return Err(Fault::unknown(format!("the owner of {} (uid {uid}) has no name", home.display()))
            .hint("give the home to the user as whom the agent is to run: chown -R USER HOME")
            .into());
    }
    Ok(name)
}

/// Starts a service that was installed and does not run; one that its operator stopped stays stopped.
fn bring_up(
    context: &Context,
    services: &Services<'_>,
    name: &str,
    installation: Installation,
    dry: bool,
) -> Result<Installed> {
    let Installation { definition, change, kept, again } = installation;
    if let Some((path, settings)) = &kept {
        let would = if dry { "would go on" } else { "go on" };
        context.note(&format!(
            "settings that were changed in {} {would} in {}:\n{}",
            definition.path.display(),
            path.display(),
            settings.trim_end()
        ));
    }
    for setting in again {
        context.note(&format!(
            "{} had been taken out of {}, and is in it again",
            setting,
            definition.path.display()
        ));
    }
    let before = services.status(name)?;
    let (now, pid) = match before.process() {
        Some(process) => (Now::Runs, Some(process.identity.pid)),
        None if dry => (Now::Nothing, None),
        None if before.stopped_by_operator.is_some() => (Now::Stopped, None),
        None => (Now::Started, Some(services.start(name)?.process().identity.pid)),
    };
    Ok(Installed {
        service: name.to_owned(),
        manager: definition.manager.name(),
        system: definition.system,
        unit: definition.unit,
        path: definition.path,
        change,
        kept: kept.map(|(path, _)| path),
        now,
        pid,
        text: definition.text,
    })
}

impl Installed {
    /// A line for people; in a dry run also what would be in the file.
    fn told(&self, dry: bool) -> String {
        let path = self.path.display();
        let file = match (self.change, dry) {
            (Change::Written, false) => format!("wrote {path}"),
            (Change::Updated, false) => format!("brought {path} up to date"),
            (Change::Unchanged, _) => format!("{path} is right already"),
            (Change::Written, true) => format!("would write {path}"),
            (Change::Updated, true) => format!("would bring {path} up to date"),
        };
        let pid = self.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        let now = match self.now {
            Now::Started => format!("; started{pid}"),
            Now::Runs if self.change == Change::Unchanged => format!("; running{pid}"),
            Now::Runs => format!("; goes on running{pid} as it is until `ops restart {}`", self.service),
            Now::Stopped => "; stays stopped, as its operator said".to_owned(),
            Now::Nothing => String::new(),
        };
        let text = match dry && self.change != Change::Unchanged {
            true => format!("\n{}", self.text.trim_end()),
            false => String::new(),
        };
        format!("{}: {file}{now}{text}", self.service)
    }
}

#[derive(Serialize)]
struct Removals {
    run: String,
    dry_run: bool,
    removed: Vec<Removal>,
}

/// A line for people.
fn told(removal: &Removal, dry: bool) -> String {
    let would = if dry { "would remove" } else { "removed" };
    let mut line = format!("{}: {would} {}", removal.service, removal.path.display());
    if let Some(kept) = &removal.kept {
        line.push_str(&format!(", which was changed since: kept as {}", kept.display()));
    }
    line
}

/// Has a service go on that ran, without its manager, which ends what it runs itself; what becomes of it.
fn goes_on(
    services: &Services<'_>,
    name: &str,
    before: &Process,
    ends: Result<Option<bool>>,
    dry: bool,
) -> Result<String> {
    let old = before.identity.pid;
    if dry {
        return Ok(match ends {
            Ok(Some(false)) => format!("it would run on without a manager (pid {old})"),
            _ => format!("it would be restarted (pid {old}), and run on without a manager"),
        });
    }
    let process = services.start(name)?.process().clone();
    let pid = process.identity.pid;
    Ok(match process.identity == before.identity {
        true => format!("it runs on without a manager (pid {pid})"),
        false => format!("it was restarted, and runs on without a manager (pid {pid}, before {old})"),
    })
}

/// Takes away what was installed. A service that ran goes on without a manager.
pub(super) fn remove(context: &Context, args: RemoveArgs) -> Result<State> {
    let loaded = context.load()?;
    let services = Services { home: &loaded.home, config: &loaded.config, run: &context.run };
    let _maintenance = (!args.dry_run).then(|| context.maintenance(&loaded, Span::minutes(15)));
    let (mut lines, mut removed) = (Vec::new(), Vec::new());
    let mut state = State::Ok;
    for name in services.installed_names()? {
        let known = loaded.config.service.contains_key(&name);
        let before = if known { services.status(&name)?.process().cloned() } else { None };
        let ends = before.as_ref().map(|process| services.runs_by_manager(&name, process)).transpose();
        let Some(removal) = services.uninstall(&name, args.dry_run)? else { continue };
        let mut line = told(&removal, args.dry_run);
        if let Some(before) = before {
            match goes_on(&services, &name, &before, ends, args.dry_run) {
                Ok(now) => line.push_str(&format!("; {now}")),
                // What was asked for is done all the same.
                Err(error) => {
                    context.complain(&error);
                    line.push_str("; its manager ended it, and it was not started again");
                    state = State::Warning;
                }
            }
        }
        lines.push(line);
        removed.push(removal);
    }
    if context.common.json {
        context.print_json(&Removals { run: context.run.id.clone(), dry_run: args.dry_run, removed })?;
    } else if lines.is_empty() {
        context.print("No manager has anything of this agent; nothing was changed.")?;
    } else {
        context.print(&lines.join("\n"))?;
    }
    Ok(state)
}
