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
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    file: &'a Path,
    config: &'a Config,
    /// What can be done, and is hardly meant.
    warnings: &'a [String],
}

/// Checks or shows the config.
pub(super) fn run(context: &Context, verb: Verb) -> Result<State> {
    let loaded = context.load()?;
    let config = &loaded.config;
    let warnings = config.doubts();
    let shown = Shown { file: &config.file, config, warnings: &warnings };
    let state = match verb {
        Verb::Check if !warnings.is_empty() => State::Warning,
        _ => State::Ok,
    };
    match verb {
        _ if context.common.json => context.print_json(&shown)?,
        Verb::Check => {
            let how = if warnings.is_empty() { "is right" } else { "can be used, with warnings" };
            let mut lines = vec![format!(
                "{} {how}: agent {}, {}, {}",
                config.file.display(),
                config.agent.name,
                text::count(config.service.len(), "service"),
                text::count(config.check.len(), "check"),
            )];
            lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
            context.print(&lines.join("\n"))?;
        }
        Verb::Show => {
            let toml = toml::to_string(config).context("cannot print the config")?;
            context.print(&format!("# {}, with every default\n{toml}", config.file.display()))?;
        }
    }
    Ok(state)
}
