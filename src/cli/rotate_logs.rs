//! `ops rotate-logs`, and the program `rotate-logs`: keep the logs bounded.

use super::watched::watched;
use super::{Context, commands};
use crate::base::durable::{Lock, PATIENCE};
use crate::base::units::Size;
use crate::base::{Fault, Journal, State, events, text};
use crate::config::Loaded;
use crate::logs::{self, Action, Done, How, Outcome};
use crate::schedule::Job;
use anyhow::Result;
use clap::Args as Arguments;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// Compress old logs, delete older ones, cut or rename those that grew too large
///
/// How each log is treated is said in [logs] and [logs.rule.NAME] of the config: see docs/config.md, also for the file
/// systems on which a log that is held open is better renamed than cut. State streams go to archive/YYYYMMDD/ first.
/// Links, special files and files with several names are left alone, and that is said.
/// Exit code 1: a log could not be dealt with, or is too large and has to stay so.
#[derive(Arguments, Clone, Debug)]
pub struct Args {
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Delete also what is too old only because nothing was logged for so long
    #[arg(short, long)]
    pub yes: bool,
}

/// Rotates; warns if a file could not be dealt with.
pub fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    if args.dry_run {
        return rotate(context, &loaded, &args);
    }
    watched(context, &loaded, Job::RotateLogs, || rotate(context, &loaded, &args))
}

fn rotate(context: &Context, loaded: &Loaded, args: &Args) -> Result<State> {
    let _lock = match args.dry_run {
        true => None,
        false => Some(
            Lock::take(&loaded.home, "rotate", &context.run, PATIENCE)
                .map_err(|error| whose(context, loaded, error))?,
        ),
    };
    let rotation = logs::rotate(loaded, &context.run, How { dry: args.dry_run, yes: args.yes });

    if !args.dry_run {
        let level = if rotation.state == State::Ok { "INFO" } else { "WARNING" };
        let written =
            events::append(&loaded.home, "rotation", &context.run, level, "Rotation", &rotation.summary());
        if let Err(error) = written {
            context.note(&format!("{error:#}"));
        }
        let failures = rotation.files.iter().filter(|file| file.outcome == Outcome::Failed);
        for file in failures {
            let _ = events::append(&loaded.home, "rotation", &context.run, "ERROR", &file.file, &file.why);
        }
        if rotation.files.iter().any(|file| file.outcome == Outcome::Done) {
            let noted = Journal::open(&loaded.home)
                .and_then(|journal| journal.note(&context.run, &rotation.summary(), rotation.state));
            if let Err(error) = noted {
                context.note(&format!("{error:#}"));
            }
        }
    }

    if context.common.json {
        context.print_json(&rotation)?;
    } else {
        let mut out = String::new();
        for file in &rotation.files {
            out.push_str(&line(file));
            out.push('\n');
        }
        if !context.common.quiet || rotation.state != State::Ok {
            out.push_str(&format!("{}{}", if args.dry_run { "would be: " } else { "" }, rotation.summary()));
        }
        if !out.is_empty() {
            context.print(&out)?;
        }
    }
    Ok(rotation.state)
}

/// Adds, to what failed because the home is somebody else's, who is to do it.
fn whose(context: &Context, loaded: &Loaded, error: anyhow::Error) -> anyhow::Error {
    let denied = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == ErrorKind::PermissionDenied);
    let home = loaded.home.root();
    let other = home.metadata().ok().map(|meta| meta.uid());
    let other = other.filter(|uid| *uid != rustix::process::geteuid().as_raw());
    let Some(uid) = other.filter(|_| denied) else { return error };
    let options = commands::naming(context.common.config.clone(), Some(home.to_owned()));
    let remedy = format!(
        "the home {} is another user's: sudo -u '#{uid}' rotate-logs{options}",
        text::sanitize(&home.display().to_string())
    );
    Fault::critical(format!("{error:#}")).hint(remedy).into()
}

fn line(file: &Done) -> String {
    let verb = match (file.outcome, file.action) {
        (Outcome::Failed, _) => "failed",
        (Outcome::Skipped, _) | (_, None) => "left alone",
        (_, Some(Action::Compress)) => "compress",
        (_, Some(Action::Rename)) => "rename",
        (_, Some(Action::Tell)) => "then",
        (_, Some(Action::Cut)) => "cut",
        (_, Some(Action::Delete)) => "delete",
    };
    if file.action == Some(Action::Tell) && file.outcome != Outcome::Failed {
        return format!("{verb:<10}  {}  ({})", file.file, file.why);
    }
    let sizes = match file.outcome {
        Outcome::Done if file.action == Some(Action::Rename) => format!("{}, ", Size(file.before)),
        Outcome::Done => format!("{} to {}, ", Size(file.before), Size(file.after)),
        Outcome::Planned if file.before == file.after => format!("{}, ", Size(file.before)),
        Outcome::Planned => format!("{} to about {}, ", Size(file.before), Size(file.after)),
        Outcome::Skipped | Outcome::Failed => String::new(),
    };
    let to = file.to.as_ref().map_or(String::new(), |to| format!(" → {to}"));
    format!("{verb:<10}  {}{to}  ({sizes}{})", file.file, text::sanitize(&file.why))
}
