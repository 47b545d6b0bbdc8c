//! `ops run`: supervision in the foreground.

use super::context::{Color, Common, Context};
use super::door;
use super::restore::finish_earlier;
use crate::base::privilege::{self, Places};
use crate::base::{Fault, State};
use crate::config::{self, Loaded, Restart};
use crate::schedule::{self, Job};
use crate::service::Services;
use crate::service::supervise::{self, END, How, LAUNCH, Plan, RESIDENT, Supervised, Timed};
use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, ValueEnum};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const PART: &str = "this is a part of `ops run`, not to be called by itself";

/// Supervise the agent in the foreground, for containers
///
/// Starts the services and starts again what crashes: after 1 s, 2 s, 4 s … up to a minute, and anew from 1 s
/// when it ran for a minute. With more than `max_restarts_per_hour` of [alerts] (3) crashes within an hour, or
/// at once with `recover = false`, a service is given up. One that ends with 0, or one of `success_exit`, is
/// done, unless `restart = "always"`. When none is left
/// `ops run` ends: 0 when all of them ended well, 2 when not.
///
/// `ops stop`, `ops start` and `ops restart` reach the services from elsewhere as always. TERM, INT and QUIT
/// end all of them and `ops run` with 0; HUP, USR1 and USR2 are passed on. Services must stay in the
/// foreground themselves. Every event is a line in logs/restart.log and on stderr.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// Only these; all, unless named. One that its operator stopped is started only when it is named
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    /// Start again what ended well, too
    #[arg(long)]
    pub(super) always: bool,
    /// Run the jobs of [schedule] as well: checks and alerts, backup, rotation, drill, page. When a service is
    /// given up and none is left, alert runs once more
    #[arg(long)]
    pub(super) schedule: bool,
    /// Where the services write to
    #[arg(long, value_enum, default_value = "logs", value_name = "WHERE")]
    pub(super) output: Output,
    /// Become this one service, for a manager that starts it again when it crashes (`ops install` has them
    /// do this)
    #[arg(long, requires = "services", conflicts_with_all = ["always", "schedule", "output"])]
    pub(super) exec: bool,
}

/// Where the services write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// To logs/SERVICE_stdout.log and logs/SERVICE_stderr.log, as with ops start
    Logs,
    /// To the stdout and stderr of ops run itself, for `docker logs` and its like
    Inherit,
}

/// Looks whether it may, then becomes the process that stays: what was read and parsed until here would
/// stay in memory with it.
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    let Loaded { config, home } = &loaded;
    let services = Services { home, config, run: &context.run };
    if args.exec {
        return become_one(context, &services, &args.services);
    }
    let mut names = Vec::new();
    for name in &args.services {
        names.extend(services.names(Some(name))?);
    }
    let named = !names.is_empty();
    if !named {
        names = services.names(None)?;
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(Fault::unknown("this agent has no services: there is nothing to supervise")
            .hint(format!("write [service.NAME] into {}", config.file.display()))
            .into());
    }
    names.iter().try_for_each(|name| services.may_supervise(name))?;
    if args.schedule && (schedule::installed(home)?.is_some() || schedule::installed_timers(home)?.is_some())
    {
        context.note(
            "the jobs of this agent are in the crontab or in timers as well, and would run twice; \
             `ops cron-uninstall` takes them away",
        );
    }
    finish_earlier(context, &loaded, None)?;

    let job = |job: Job| Timed {
        name: job.key().to_owned(),
        when: job.when(&config.schedule).to_owned(),
        at_once: job.at_boot(&config.schedule),
        delay: job.delay(&config.schedule, &context.run.host, home.root()),
        words: job.words().iter().map(|word| (*word).to_owned()).collect(),
    };
    let ops = std::env::current_exe().context("cannot find our own program")?;
    let plan = Plan {
        ops: ops.clone(),
        home: home.clone(),
        config: config.file.clone(),
        services: names.into_iter().map(|name| supervised(config, name, args.always)).collect(),
        named,
        inherit: args.output == Output::Inherit,
        quiet: context.common.quiet,
        jobs: if args.schedule { Job::ALL.map(job).into() } else { Vec::new() },
    };
    let plan = serde_json::to_string(&plan)?;
    let small = config::program("ops-supervise");
    let error = match small.is_file() {
        true => Command::new(small).arg(&plan).exec(),
        false => Command::new(ops).args([RESIDENT, &plan]).exec(),
    };
    Err(error).context("cannot run our own program")
}

/// `--exec`
fn become_one(context: &Context, services: &Services<'_>, names: &[String]) -> Result<State> {
    let [name] = names else {
        return Err(Fault::unknown("--exec becomes one service, not several").into());
    };
    let running = services.exec(name)?;
    context.note(&format!("{name} runs already, as pid {}; nothing was started", running.identity.pid));
    Ok(State::Ok)
}

fn supervised(config: &config::Config, name: String, always: bool) -> Supervised {
    let service = config.service.get(&name).cloned().unwrap_or_default();
    Supervised {
        name,
        grace: service.stop_grace.0,
        most: if service.recover { config.alerts.max_restarts_per_hour } else { 0 },
        always: always || service.restart == Restart::Always,
        success: service.success_exit,
    }
}

/// The programs that `ops run` consists of, each known by a secret word.
pub(super) fn part_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let word = arguments.next()?;
    let word = [RESIDENT, LAUNCH, END].into_iter().find(|known| word == *known)?;
    let rest: Vec<OsString> = arguments.collect();
    if word == RESIDENT {
        return Some(stay(rest.first()));
    }
    let mut code = None;
    let context = bare();
    let exit = door::finish(&context, |context| {
        code = part(context, word, &rest)?;
        Ok(State::Ok)
    });
    Some(code.map_or(exit, ExitCode::from))
}

/// The program `ops-supervise`: its argument is the plan.
pub fn resident() -> ExitCode {
    crate::base::privilege::pass_no_descriptors();
    stay(std::env::args_os().nth(1).as_ref())
}

fn stay(plan: Option<&OsString>) -> ExitCode {
    door::finish(&bare(), |context| {
        let plan = plan.and_then(|plan| serde_json::from_str::<Plan>(plan.to_str()?).ok());
        let plan = plan.ok_or_else(|| Fault::unknown(PART))?;
        own(plan.home.root(), &plan.config)?;
        supervise::resident(&plan, &context.run, &schedule::next)
    })
}

/// Parts of `ops run` have no options.
fn bare() -> Context {
    let (config, home) = (None, None);
    let common = Common { config, home, json: false, quiet: false, verbose: 0, color: Color::Never };
    Context::new("ops run", common)
}

/// `ops run` became the owner of the home before it ran its parts.
fn own(home: &Path, config: &Path) -> Result<()> {
    let places = Places { home: Some(home.to_owned()), config: Some(config.to_owned()), typed: Vec::new() };
    match privilege::owner(&places)? {
        Some(_) => Err(Fault::unknown(PART).into()),
        None => Ok(()),
    }
}

/// Becomes a service, or ends it. Gives an exit code of its own.
fn part(context: &Context, word: &str, arguments: &[OsString]) -> Result<Option<u8>> {
    let [home, config, name, rest @ ..] = arguments else {
        return Err(Fault::unknown(PART).into());
    };
    own(Path::new(home), Path::new(config))?;
    let loaded = config::load(&PathBuf::from(config), Some(&PathBuf::from(home)))?;
    let services = Services { home: &loaded.home, config: &loaded.config, run: &context.run };
    let name = name.to_string_lossy();
    if word == END {
        return supervise::end(&services, &name).map(|()| None);
    }
    let how = rest.first().map(|how| how.to_string_lossy()).unwrap_or_default();
    let how: How = how.parse().map_err(Fault::unknown)?;
    let inherit = rest.get(1).is_some();
    supervise::launch(&services, &name, &how, inherit).map(|launched| Some(launched as u8))
}
