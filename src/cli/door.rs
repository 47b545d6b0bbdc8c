//! From `main` to a verb and back: parse, run, turn the result into an exit code.

use super::commands;
use super::context::{Common, Context};
use crate::base::State;
use crate::base::privilege::{self, Keep, Places};
use crate::base::session;
use crate::config;
use anyhow::Result;
use clap::{Args, Command, FromArgMatches};
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Runs a small program: its arguments `A` beside the common ones, and its one verb.
pub fn door<A: Args>(
    name: &'static str,
    about: &'static str,
    verb: fn(&Context, A) -> Result<State>,
) -> ExitCode {
    privilege::pass_no_descriptors();
    if let Some(code) = session::exec_session_if_asked() {
        return code;
    }
    let command = A::augment_args(Common::augment_args(command(name, about)));
    let matches = match command.try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let parsed =
        Common::from_arg_matches(&matches).and_then(|common| Ok((common, A::from_arg_matches(&matches)?)));
    match parsed {
        Ok((common, args)) => {
            as_owner(&Context::new(name, common), Keep::Nothing, None, |context| verb(context, args))
        }
        Err(error) => usage(&error),
    }
}

/// The bare command of a program, named and versioned.
pub(super) fn command(name: &'static str, about: &'static str) -> Command {
    Command::new(name).version(env!("CARGO_PKG_VERSION")).about(about).max_term_width(100)
}

/// Help and version go to stdout with 0; a usage error is 3, as Nagios reads 2 as CRITICAL.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let state = if error.use_stderr() { State::Unknown } else { State::Ok };
    ExitCode::from(state.code())
}

/// Runs a verb as the owner of what it is about, if we are root. `new_home`: where a home is to be, if neither
/// option nor config says so.
pub(super) fn as_owner(
    context: &Context,
    keep: Keep,
    new_home: Option<&Path>,
    verb: impl FnOnce(&Context) -> Result<State>,
) -> ExitCode {
    let common = &context.common;
    match become_owner(common.config.as_deref(), common.home.as_deref(), new_home, keep) {
        Ok(None) => finish(context, verb),
        Ok(Some(code)) => code,
        Err(error) => finish(context, |_| Err(error)),
    }
}

/// Becomes the owner of a home and a config, before either is read. Root's own config is read for the home it
/// names.
pub(super) fn become_owner(
    config: Option<&Path>,
    home: Option<&Path>,
    new_home: Option<&Path>,
    keep: Keep,
) -> Result<Option<ExitCode>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let typed = commands::typed(config, home);
    let config = config::find(config, home).ok();
    let named = config.as_deref().filter(|_| home.is_none()).and_then(config::home_named);
    let home = home.map(Path::to_owned).or(named);
    let home = home.or_else(|| new_home.filter(|_| config.is_none()).map(Path::to_owned));
    privilege::become_owner(&Places { home, config, typed }, keep)
}

/// Runs a verb and reports its failure.
pub(super) fn finish(context: &Context, verb: impl FnOnce(&Context) -> Result<State>) -> ExitCode {
    let state = match verb(context) {
        Ok(state) => state,
        Err(error) if is_broken_pipe(&error) => State::Ok,
        Err(error) => context.report(&error),
    };
    ExitCode::from(state.code())
}

/// Whoever read our output has seen enough: no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
