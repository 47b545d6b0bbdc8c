//! `ops agent`: the built-in reference agent, in the foreground.

use super::Context;
use crate::agent::{self, Misbehaviour};
use crate::base::State;
use crate::base::units::Span;
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

/// Runs until SIGTERM or SIGINT; SIGHUP reads the config again.
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    let settings = || -> Result<BuiltinAgent> {
        let mut settings = context.load()?.config.builtin_agent;
        settings.heartbeat = args.heartbeat.unwrap_or(settings.heartbeat);
        settings.consolidate = args.consolidate.unwrap_or(settings.consolidate);
        Ok(settings)
    };
    agent::run(&loaded.home, &settings, args.misbehaviour.clone())?;
    Ok(State::Ok)
}
