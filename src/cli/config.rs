//! `ops config check` and `ops config show`.

use super::Context;
use crate::base::{State, text};
use crate::config::Config;
use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;
use std::path::Path;

/// What to do with the config.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum Verb {
    /// Say whether it is right, and if not, where and why
    Check,
    /// Print all of it, with every default; secrets are redacted
    Show,
}

#[derive(Serialize)]
struct Shown<'a> {
    file: &'a Path,
    config: &'a Config,
}

/// Checks or shows the config.
pub(super) fn run(context: &Context, verb: Verb) -> Result<State> {
    let loaded = context.load()?;
    let config = &loaded.config;
    let shown = Shown { file: &config.file, config };
    match verb {
        _ if context.common.json => context.print_json(&shown)?,
        Verb::Check => context.print(&format!(
            "{} is right: agent {}, {}, {}",
            config.file.display(),
            config.agent.name,
            text::count(config.service.len(), "service"),
            text::count(config.check.len(), "check"),
        ))?,
        Verb::Show => {
            let toml = toml::to_string(config).context("cannot print the config")?;
            context.print(&format!("# {}, with every default\n{toml}", config.file.display()))?;
        }
    }
    Ok(State::Ok)
}
