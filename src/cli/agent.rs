//! `ops agent`: the built-in reference agent, in the foreground.

use super::Context;
use crate::agent::{self, Misbehaviour};
use crate::base::units::Span;
use crate::base::{Home, State};
use crate::config::BuiltinAgent;
use anyhow::Result;
use clap::Args as ClapArgs;

/// How it lives. What is given here goes before `[builtin_agent]`.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// How often its heart beats, such as 1m
    #[arg(long, value_name = "SPAN", value_parser = Span::parse)]
    pub(super) heartbeat: Option<Span>,
    /// How often it draws facts from its episodes
    #[arg(long, value_name = "SPAN", value_parser = Span::parse)]
    pub(super) consolidate: Option<Span>,
    /// How to go wrong.
    #[command(flatten)]
    pub(super) misbehaviour: Misbehaviour,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the config again. It is an agent like any other:
/// in a home without a config it lives by its defaults.
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let bare = match (&context.common.config, &context.common.home) {
        (None, Some(home)) if !home.join("ops.toml").exists() => Some(Home::new(std::path::absolute(home)?)),
        _ => None,
    };
    let home = match &bare {
        Some(home) => home.clone(),
        None => context.load()?.home,
    };
    let settings = || -> Result<BuiltinAgent> {
        let mut settings = match &bare {
            Some(_) => BuiltinAgent::default(),
            None => context.load()?.config.builtin_agent,
        };
        settings.heartbeat = args.heartbeat.unwrap_or(settings.heartbeat);
        settings.consolidate = args.consolidate.unwrap_or(settings.consolidate);
        Ok(settings)
    };
    agent::run(&home, &settings, args.misbehaviour.clone())?;
    Ok(State::Ok)
}
