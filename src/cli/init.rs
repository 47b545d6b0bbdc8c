//! `ops init`: writes a commented `ops.toml`.

use super::Context;
use crate::base::{Fault, State, durable};
use crate::config::{self, preset};
use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// For which agent.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// The preset to begin with
    #[arg(long, default_value = "builtin", value_name = "NAME")]
    pub(super) preset: String,
    /// The agent's name
    #[arg(long, default_value = "agent")]
    pub(super) name: String,
    /// Show the presets there are
    #[arg(long)]
    pub(super) list: bool,
    /// Print the file, write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct Presets {
    presets: Vec<Known>,
}

#[derive(Serialize)]
struct Known {
    name: &'static str,
    about: &'static str,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    preset: String,
}

/// Writes `ops.toml` into the home (`--home`, else this folder).
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    if args.list {
        let presets =
            Presets { presets: preset::ALL.iter().map(|p| Known { name: p.name, about: p.about }).collect() };
        if context.common.json {
            context.print_json(&presets)?;
        } else {
            let lines: Vec<_> =
                presets.presets.iter().map(|known| format!("{:<12} {}", known.name, known.about)).collect();
            context.print(&lines.join("\n"))?;
        }
        return Ok(State::Ok);
    }
    let home = context.common.home.clone().unwrap_or_else(|| PathBuf::from("."));
    if args.dry_run {
        context.print(&config::starter(&args.name, &args.preset))?;
        return Ok(State::Ok);
    }
    let file = write(&home, &args.name, &args.preset)?;
    if context.common.json {
        context.print_json(&Written { file, preset: args.preset })?;
    } else {
        context.print(&format!("wrote {}; next: ops up --home {}", file.display(), home.display()))?;
    }
    Ok(State::Ok)
}

/// Writes a new `ops.toml` and reads it back. One that is there is left alone.
pub(super) fn write(home: &Path, name: &str, preset: &str) -> Result<PathBuf> {
    let home = std::path::absolute(home).with_context(|| format!("cannot find {}", home.display()))?;
    let file = home.join("ops.toml");
    if file.exists() {
        return Err(Fault::unknown(format!("{} is there already; it was not touched", file.display()))
            .hint("edit it, or move it away first")
            .into());
    }
    if preset != "none" && preset::find(preset).is_none() {
        return Err(Fault::unknown(format!("there is no preset '{preset}'"))
            .hint("ops init --list shows them")
            .into());
    }
    durable::make_folder(&home, 0o700)?;
    durable::replace(&file, config::starter(name, preset).as_bytes(), 0o600)?;
    if let Err(error) = config::load(&file, None) {
        let _ = std::fs::remove_file(&file);
        return Err(error);
    }
    Ok(file)
}
