//! `ops`: the one front door.

use super::context::{Common, Context};
use super::{
    agent, alert, backup, config, cron, dashboard, detect, door, health, init, install, logs, report,
    restore, rotate_logs, run, service, troubleshoot, up, upgrade,
};
use crate::base::State;
use crate::base::privilege::{self, Keep};
use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::Path;
use std::process::ExitCode;

/// Keep a long-running AI agent alive, backed up, quiet and visible
#[derive(Parser, Debug)]
#[command(name = "ops", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 warning, 2 critical or failed, 3 could not tell (also: bad usage)."
)]
struct Ops {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make it so: config if there is none, start, first backup, health, page
    Up(up::Args),
    /// Write a commented ops.toml
    Init(init::Args),
    /// Start the agent, or one service of it
    Start(service::StartArgs),
    /// Stop the agent; it stays stopped until it is started again
    Stop(service::StopArgs),
    /// Stop and start the agent, and wait for a new sign of life
    Restart(service::RestartArgs),
    /// Have systemd or launchd start the services, at every boot or login too; what ops.toml has no more ends
    Install(install::Args),
    /// Take the services away from systemd or launchd
    Uninstall(install::RemoveArgs),
    /// List every process that is this agent's, or looks like it, and why; nothing is ended
    Detect(detect::Args),
    /// Find out why the agent does not run as it should, and what to do about it
    Troubleshoot(troubleshoot::Args),
    /// Show the whole picture on one screen; its state is the exit code (also: plain `ops`)
    Status,
    /// Check the agent's health (for Nagios: health-check)
    Health(health::Args),
    /// Show how everything is: on the terminal, as a page, for machines
    Dashboard(dashboard::Args),
    /// Tell what became of the agent: problems, restarts, checks, backups
    Report(report::Args),
    /// Show the last lines of a log, or follow it
    Logs(logs::Args),
    /// Compress old logs, delete older ones, cut those that grew too large
    RotateLogs(rotate_logs::Args),
    /// Have cron run the checks, backups and the rest
    CronInstall(cron::Args),
    /// Take our lines out of the crontab
    CronUninstall(cron::RemoveArgs),
    /// Tell people what changed, restart what died; list, acknowledge, silence, explain
    Alert(alert::Args),
    /// Make a verified backup; list, verify, prune and pin those there are
    Backup(backup::Args),
    /// Bring a backup back, or leave everything as it was
    Restore(restore::Args),
    Upgrade(upgrade::Args),
    Run(run::Args),
    /// Check or show the config
    #[command(subcommand)]
    Config(config::Verb),
    /// Run the built-in reference agent in the foreground
    Agent(agent::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Runs `ops`.
pub fn main() -> ExitCode {
    privilege::pass_no_descriptors();
    if let Some(code) = crate::base::session::exec_session_if_asked() {
        return code;
    }
    if let Some(code) = run::part_if_asked() {
        return code;
    }
    match Ops::try_parse() {
        Ok(Ops { common, verb }) => {
            let context = Context::new(&verb.as_ref().map_or("ops".to_owned(), name), common);
            let (keep, new_home) = verb.as_ref().map_or((Keep::Nothing, None), needs);
            door::as_owner(&context, keep, new_home, |context| dispatch(context, verb))
        }
        Err(error) => door::usage(&error),
    }
}

/// What a verb keeps of root's where the home is somebody else's, and where it would make a home.
fn needs(verb: &Verb) -> (Keep, Option<&'static Path>) {
    match verb {
        Verb::Install(args) => (args.keep(), None),
        Verb::CronInstall(args) => (args.keep(), None),
        Verb::Uninstall(_) | Verb::CronUninstall(_) => (Keep::Manager, None),
        // Of services that the system's manager has, until it is known that there are none.
        Verb::Start(_) | Verb::Stop(_) => (Keep::Manager, None),
        Verb::Restart(args) if !args.backup => (Keep::Manager, None),
        Verb::Init(_) => (Keep::Nothing, Some(Path::new("."))),
        _ => (Keep::Nothing, None),
    }
}

fn dispatch(context: &Context, verb: Option<Verb>) -> Result<State> {
    match verb {
        None | Some(Verb::Status) => dashboard::status(context),
        Some(Verb::Up(args)) => up::run(context, args),
        Some(Verb::Init(args)) => init::run(context, args),
        Some(Verb::Start(args)) => service::start(context, args),
        Some(Verb::Stop(args)) => service::stop(context, args),
        Some(Verb::Restart(args)) => service::restart(context, args),
        Some(Verb::Install(args)) => install::run(context, args),
        Some(Verb::Uninstall(args)) => install::remove(context, args),
        Some(Verb::Detect(args)) => detect::run(context, args),
        Some(Verb::Troubleshoot(args)) => troubleshoot::run(context, args),
        Some(Verb::Health(args)) => health::run(context, args),
        Some(Verb::Dashboard(args)) => dashboard::run(context, args),
        Some(Verb::Report(args)) => report::run(context, args),
        Some(Verb::Logs(args)) => logs::run(context, args),
        Some(Verb::RotateLogs(args)) => rotate_logs::run(context, args),
        Some(Verb::CronInstall(args)) => cron::run(context, args),
        Some(Verb::CronUninstall(args)) => cron::remove(context, args),
        Some(Verb::Alert(args)) => alert::run(context, args),
        Some(Verb::Backup(args)) => backup::run(context, args),
        Some(Verb::Restore(args)) => restore::run(context, args),
        Some(Verb::Upgrade(args)) => upgrade::run(context, args),
        Some(Verb::Run(args)) => run::run(context, args),
        Some(Verb::Config(verb)) => config::run(context, verb),
        Some(Verb::Agent(args)) => agent::run(context, args),
        Some(Verb::Completions { shell }) => completions(context, shell),
        Some(Verb::Man) => manual(context),
    }
}

/// `ops restart`, as locks and logs name this run.
fn name(verb: &Verb) -> String {
    let word = format!("{verb:?}");
    let word = word.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut name = String::from("ops ");
    for (index, c) in word.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

fn completions(context: &Context, shell: clap_complete::Shell) -> Result<State> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Ops::command(), "ops", &mut script);
    context.print(&String::from_utf8_lossy(&script))?;
    Ok(State::Ok)
}

fn manual(context: &Context) -> Result<State> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Ops::command()).render(&mut page)?;
    context.print(&String::from_utf8_lossy(&page))?;
    Ok(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Ops::command().debug_assert();
        assert_eq!(name(&Verb::Man), "ops man");
    }
}
