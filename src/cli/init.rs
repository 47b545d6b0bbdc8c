//! `ops init`: recognises the agent, and writes a commented `ops.toml`.

use super::Context;
use crate::base::{Fault, State, durable, program};
use crate::config::preset::Preset;
use crate::config::{self, Config};
use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// For which agent.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// The preset to begin with, or the path of one; without it the agent is recognised by its files
    #[arg(long, value_name = "NAME")]
    pub(super) preset: Option<String>,
    /// The agent's name; else that of its preset
    #[arg(long)]
    pub(super) name: Option<String>,
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
    name: String,
    about: String,
}

#[derive(Serialize)]
struct Written<'a> {
    file: PathBuf,
    agent: &'a str,
    preset: &'a str,
    recognised_by: Option<&'a [String]>,
    missing: &'a [String],
}

/// What a new config is to say.
pub(super) struct Choice {
    name: String,
    preset: String,
    /// The files that the agent was recognised by; none where the preset was told, or nothing was found.
    by: Option<Vec<String>>,
    told: bool,
}

impl Choice {
    /// What was asked for, else what lies in the home.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when several agents could be meant.
    pub(super) fn make(home: &Path, preset: Option<&str>, name: Option<&str>) -> Result<Choice> {
        let named = |preset: &str| match (name, preset) {
            (Some(name), _) => name.to_owned(),
            (None, "builtin" | "none") => "agent".to_owned(),
            (None, preset) => {
                Path::new(preset).file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        };
        if let Some(preset) = preset {
            let text = match preset.ends_with(".toml") {
                true => from_home(home, preset)?,
                false => preset.to_owned(),
            };
            return Ok(Choice { name: named(preset), preset: text, by: None, told: true });
        }
        let mut found = config::recognise(home)?;
        if found.len() > 1 {
            let all: Vec<_> =
                found.iter().map(|one| format!("{} by {}", one.preset, one.by.join(", "))).collect();
            let message = format!("{} could be of several agents: {}", home.display(), all.join("; "));
            return Err(Fault::unknown(message).hint("--preset NAME says which").into());
        }
        Ok(match found.pop() {
            Some(one) => {
                Choice { name: named(&one.preset), preset: one.preset, by: Some(one.by), told: false }
            }
            None => Choice { name: named("builtin"), preset: "builtin".to_owned(), by: None, told: false },
        })
    }

    /// Whether it was found by the files of the home.
    pub(super) fn recognised(&self) -> bool {
        self.by.is_some()
    }

    /// What it is, and why.
    pub(super) fn describe(&self) -> String {
        match &self.by {
            Some(by) => format!("{}, recognised by {}", self.preset, by.join(" and ")),
            None if self.told => self.preset.clone(),
            None => "no agent that is known lies there: the built-in one".to_owned(),
        }
    }

    fn text(&self, home: &Path) -> Result<String> {
        let starter = match self.preset.as_str() {
            "none" => Preset::find("builtin", home)?,
            name => Preset::find(name, home)?,
        };
        let Some(starter) = starter else {
            return Err(Fault::unknown(format!("there is no preset '{}'", self.preset))
                .hint("ops init --list shows them; a path to one of your own ends in .toml")
                .into());
        };
        Ok(config::starter(&self.name, &self.preset, &starter.about()?.suggested(home)))
    }
}

/// Writes `ops.toml` into the home (`--home`, else this folder).
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    if args.list {
        return list(context);
    }
    let home = context.common.home.clone().unwrap_or_else(|| PathBuf::from("."));
    let choice = Choice::make(&home, args.preset.as_deref(), args.name.as_deref())?;
    if args.dry_run {
        context.note(&choice.describe());
        context.print(choice.text(&home)?.trim_end())?;
        return Ok(State::Ok);
    }
    let (file, missing) = write(&home, &choice)?;
    if context.common.json {
        context.print_json(&Written {
            file,
            agent: &choice.name,
            preset: &choice.preset,
            recognised_by: choice.by.as_deref(),
            missing: &missing,
        })?;
        return Ok(State::Ok);
    }
    let mut lines = vec![format!("wrote {} ({})", file.display(), choice.describe())];
    lines.extend(missing.iter().map(|line| format!("not found: {line}")));
    let first = if missing.is_empty() { "" } else { "say in it where these are, then " };
    lines.push(format!("next: {first}ops up --home {}", home.display()));
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// The path of a preset as the config is to have it: relative where it lies in the home.
fn from_home(home: &Path, preset: &str) -> Result<String> {
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
    let path = absolute(Path::new(preset))?;
    let path = path.strip_prefix(absolute(home)?).unwrap_or(&path);
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

fn list(context: &Context) -> Result<State> {
    let known = Preset::all().map(|preset| Ok(Known { about: preset.about()?.about, name: preset.name }));
    let presets = Presets { presets: known.collect::<Result<_>>()? };
    if context.common.json {
        context.print_json(&presets)?;
    } else {
        let lines: Vec<_> =
            presets.presets.iter().map(|known| format!("{:<12} {}", known.name, known.about)).collect();
        context.print(&lines.join("\n"))?;
    }
    Ok(State::Ok)
}

/// Writes a new `ops.toml` and reads it back: the file, and what its services need that is not where they
/// say. A file that is there is left alone.
pub(super) fn write(home: &Path, choice: &Choice) -> Result<(PathBuf, Vec<String>)> {
    let home = std::path::absolute(home).with_context(|| format!("cannot find {}", home.display()))?;
    let file = home.join("ops.toml");
    if file.exists() {
        return Err(Fault::unknown(format!("{} is there already; it was not touched", file.display()))
            .hint("edit it, or move it away first")
            .into());
    }
    let text = choice.text(&home)?;
    durable::make_folder(&home, 0o700)?;
    durable::replace(&file, text.as_bytes(), 0o600)?;
    match config::load(&file, None) {
        Ok(loaded) => Ok((file, missing(&loaded.config))),
        Err(error) => {
            let _ = std::fs::remove_file(&file);
            Err(error)
        }
    }
}

/// The programs and scripts of services that are not where they should be.
fn missing(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, service) in &config.service {
        for (index, word) in service.command.iter().enumerate() {
            let there = match word {
                word if word.contains('{') || word.starts_with('-') => true,
                word if word.contains('/') => service.cwd.join(word).exists(),
                word => index > 0 || program::find(word, &service.cwd).is_some(),
            };
            if !there {
                missing.push(format!("{word}, of the service {name}"));
            }
        }
    }
    missing
}
