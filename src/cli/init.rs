//! `ops init`: recognises the agent, and writes a commented `ops.toml`.

use super::{Context, commands};
use crate::base::{Fault, State, durable, program, text};
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
    dry_run: bool,
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    file: &'a Path,
    agent: &'a str,
    preset: &'a str,
    recognised_by: Option<&'a [String]>,
    /// None: it was not looked, for nothing was written.
    missing: Option<&'a [String]>,
    /// What would be written.
    text: Option<&'a str>,
}

/// Where a new config goes, and the home it is for, both absolute.
pub(super) struct Target {
    pub(super) file: PathBuf,
    home: PathBuf,
}

impl Target {
    /// `ops.toml` in a home, or the file that is asked for; its folder is the home then, unless another is told.
    pub(super) fn find(config: Option<&Path>, home: Option<&Path>) -> Result<Target> {
        let absolute = |path: &Path| {
            std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
        };
        let file = config.map(absolute).transpose()?;
        let home = match (home, &file) {
            (Some(home), _) => absolute(home)?,
            (None, Some(file)) => durable::parent(file).to_owned(),
            (None, None) => absolute(Path::new("."))?,
        };
        Ok(Target { file: file.unwrap_or_else(|| home.join("ops.toml")), home })
    }
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
    pub(super) fn make(target: &Target, preset: Option<&str>, name: Option<&str>) -> Result<Choice> {
        let home = &target.home;
        let named = |preset: &str| match (name, preset) {
            (Some(name), _) => name.to_owned(),
            (None, "builtin" | "none") => "agent".to_owned(),
            (None, preset) => {
                Path::new(preset).file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        };
        let asked = preset.map_or_else(|| name.map(str::to_owned), |preset| Some(named(preset)));
        if let Some(name) = asked.filter(|name| !config::plain_name(name)) {
            let message = format!("'{}' cannot be an agent's name", text::one_line(&name, 100));
            return Err(Fault::unknown(message)
                .hint("--name takes letters, digits, -, _ and ., and does not begin with .")
                .into());
        }
        if let Some(preset) = preset {
            let text = match preset.ends_with(".toml") {
                true => from_folder(durable::parent(&target.file), preset)?,
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

    fn text(&self, target: &Target) -> Result<String> {
        let (home, folder) = (&target.home, durable::parent(&target.file));
        let starter = match self.preset.as_str() {
            "none" => Preset::find("builtin", folder)?,
            name => Preset::find(name, folder)?,
        };
        let Some(starter) = starter else {
            return Err(Fault::unknown(format!(
                "there is no preset '{}'",
                text::one_line(&self.preset, 100)
            ))
            .hint("`ops init --list` shows them; a path to one of your own ends in .toml")
            .into());
        };
        let elsewhere = folder != home.as_path();
        let told = home.to_str().filter(|_| elsewhere);
        if elsewhere && told.is_none() {
            return Err(Fault::unknown(format!("{} is not UTF-8", home.display()))
                .hint("have the config in the home: without --config it is ops.toml there")
                .into());
        }
        Ok(config::starter(&self.name, &self.preset, told, &starter.about()?.suggested(home)))
    }
}

/// Writes the config: `--config`, else `ops.toml` in the home (`--home`, else this folder).
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    if args.list {
        return list(context);
    }
    let common = &context.common;
    let target = Target::find(common.config.as_deref(), common.home.as_deref())?;
    let choice = Choice::make(&target, args.preset.as_deref(), args.name.as_deref())?;
    let text = choice.text(&target)?;
    let mut written = Written {
        dry_run: args.dry_run,
        file: &target.file,
        agent: &choice.name,
        preset: &choice.preset,
        recognised_by: choice.by.as_deref(),
        missing: None,
        text: None,
    };
    if args.dry_run {
        if common.json {
            written.text = Some(&text);
            context.print_json(&written)?;
        } else {
            context.note(&choice.describe());
            context.print(text.trim_end())?;
        }
        return Ok(State::Ok);
    }
    let missing = write(&target, &choice)?;
    if common.json {
        written.missing = Some(&missing);
        context.print_json(&written)?;
        return Ok(State::Ok);
    }
    let mut lines = vec![format!("wrote {} ({})", target.file.display(), choice.describe())];
    lines.extend(missing.iter().map(|line| format!("not found: {line}")));
    let first = if missing.is_empty() { "" } else { "say in it where these are, then " };
    let (config, home) = match common.config {
        Some(_) => (Some(target.file), None),
        None => (None, Some(target.home)),
    };
    lines.push(format!("next: {first}ops up{}", commands::naming(config, home)));
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// The path of a preset as the config in this folder is to have it: relative where it lies below it.
fn from_folder(folder: &Path, preset: &str) -> Result<String> {
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
    let path = absolute(Path::new(preset))?;
    let path = path.strip_prefix(folder).unwrap_or(&path);
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

/// Writes a new config that was read first: what its services need that is not where they say. A file that
/// is there is left alone.
pub(super) fn write(target: &Target, choice: &Choice) -> Result<Vec<String>> {
    let file = &target.file;
    // A link that leads nowhere (yet) is somebody's all the same.
    if file.symlink_metadata().is_ok() {
        return Err(Fault::unknown(format!("{} is there already; it was not touched", file.display()))
            .hint("edit it, or move it away first")
            .into());
    }
    let text = choice.text(target)?;
    let loaded = config::parse(file, &text, None)?;
    durable::make_folder(&target.home, 0o700)?;
    durable::make_folder(durable::parent(file), 0o700)?;
    durable::replace(file, text.as_bytes(), 0o600)?;
    Ok(missing(&loaded.config))
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
