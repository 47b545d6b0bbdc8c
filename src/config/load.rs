//! Reads `ops.toml` over its preset, and resolves every path.

use super::expand::{self, Lookup};
use super::layer::{choose_preset, merge, stands_alone};
use super::resolve::{add_streams, clean, complete_s3, resolve, tilde};
use super::tables::{File, read_checks, table_places};
use super::validate::validate;
use super::{Config, disabled, includes, place};
use crate::base::beneath::{SMALL, read_small_file};
use crate::base::{Fault, Home, durable, trust};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue, Deserializer};

/// A config, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The agent's home.
    pub home: Home,
}

/// What cron and managers set themselves, as it is everywhere.
const EVERYWHERE: [&str; 4] = ["HOME", "LOGNAME", "PATH", "USER"];

/// Reads a config over its preset. `home` (from `--home`) replaces the one in the file.
///
/// # Errors
/// A [`Fault`] of state Unknown with file, line and column for whatever is wrong in it.
pub fn load(file: &Path, home: Option<&Path>) -> Result<Loaded> {
    let file = std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))?;
    let source = read_trusted("config", &file, "--config names another file")?;
    parse(&file, &source, home)
}

/// Reads a file that decides what we run: only if nobody but us and root can change it.
pub(super) fn read_trusted(what: &str, path: &Path, hint: &str) -> Result<String> {
    let bytes = read_small_file(path, SMALL).map_err(|error| {
        Fault::unknown(format!("cannot read the {what} {}: {error}", path.display())).hint(hint)
    })?;
    trust::check(what, path)?;
    let not_text = |at| Fault::unknown(format!("{}: byte {at} is not UTF-8", path.display()));
    String::from_utf8(bytes).map_err(|error| not_text(error.utf8_error().valid_up_to()).into())
}

/// The home that a config names, as far as that can be told without its environment file: asked before anything
/// else of it is believed.
pub fn home_named(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    let source = read_trusted("config", &file, "").ok()?;
    let root = DeTable::parse(&source).ok()?;
    let home = root.get_ref().get("agent").and_then(|agent| agent.get_ref().get("home")?.get_ref().as_str());
    let home = expand::expand(home.unwrap_or_default(), &|name| std::env::var(name).ok()).ok()?;
    Some(clean(&durable::parent(&file).join(tilde(Path::new(&home)))))
}

/// [`load`], of a text that is to be the config of this absolute path.
pub fn parse(file: &Path, source: &str, home: Option<&Path>) -> Result<Loaded> {
    // Whatever the agent's own config says, it is watched: what cannot be used of it counts as not said.
    read(file, source, home, true).or_else(|_| read(file, source, home, false))
}

/// `asking`: whether the agent's own config is believed.
fn read(file: &Path, source: &str, home: Option<&Path>, asking: bool) -> Result<Loaded> {
    let wrong = |span: Option<Range<usize>>, message: &str| place::fault(file, source, span, message);
    let mut root = DeTable::parse(source).map_err(|error| wrong(error.span(), error.message()))?;

    // The home and the environment file come first: the rest may use what is in them.
    let environment = |name: &str| std::env::var(name).ok();
    if let Some(agent) = root.get_mut().get_mut("agent")
        && let DeValue::Table(agent) = agent.get_mut()
    {
        expand::table(agent, &environment).map_err(|(span, message)| wrong(Some(span), &message))?;
    }
    let written = |key: &str| {
        root.get_ref()
            .get("agent")
            .and_then(|agent| agent.get_ref().get(key)?.get_ref().as_str())
            .map(str::to_owned)
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let home = match home {
        Some(home) => std::path::absolute(home).with_context(|| format!("cannot find {}", home.display()))?,
        None => folder.join(tilde(Path::new(&written("home").unwrap_or_default()))),
    };
    let home = Home::new(clean(&home));
    let variables = match written("env_file") {
        Some(path) => read_env_file(&home.path(tilde(Path::new(&path))))?,
        None => BTreeMap::new(),
    };
    let table = root.get_ref().get("backup").and_then(|backup| backup.get_ref().as_table());
    let dir_is_named = table.is_some_and(|backup| backup.contains_key("dir"));
    let base = choose_preset(&root, folder, &wrong)?;
    let asked = base.as_ref().map_or(Ok(BTreeMap::new()), |base| base.asked(home.root()))?;
    let asked = if asking { asked } else { BTreeMap::new() };
    let borrowed = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| match environment(name) {
        Some(value) => {
            if variables.get(name) != Some(&value) && !EVERYWHERE.contains(&name) {
                borrowed.borrow_mut().insert(name.to_owned());
            }
            Some(value)
        }
        None => variables.get(name).or_else(|| asked.get(name)).cloned(),
    };
    // What is in [agent] was read already: twice would be once too often for `$${`.
    for (_, value) in root.get_mut().iter_mut().filter(|(key, _)| key.get_ref() != "agent") {
        expand::expand_value(value, &lookup as &Lookup<'_>)
            .map_err(|(span, message)| wrong(Some(span), &message))?;
    }

    recipients_are_written(root.get_ref()).map_err(|(span, message)| wrong(Some(span), &message))?;

    // Of the file only: what stands in a preset has no place in it.
    let places = table_places(root.get_ref());
    let own = base.as_ref().filter(|base| base.file.is_some());
    let mut own_places = HashMap::new();
    if let Some(base) = &base {
        let tables = base.tables(&lookup)?;
        if own.is_some() {
            stands_alone(base, &lookup)?;
            own_places = table_places(&tables);
        }
        merge(root.get_mut(), tables);
        // Whoever wants copies wants to know when they stop.
        let has_bucket =
            root.get_ref().get("backup").is_some_and(|backup| backup.get_ref().get("s3").is_some());
        if has_bucket && let Ok(check) = DeTable::parse("[check.copy]\nkind = \"copy_age\"\n") {
            merge(root.get_mut(), check.into_inner());
        }
    }

    let check = read_checks(root.get_mut(), &wrong)?;
    let read =
        File::deserialize(Deserializer::from(root)).map_err(|error| wrong(error.span(), error.message()))?;
    let mut config = Config {
        file: file.to_owned(),
        agent: read.agent,
        service: read.service,
        disabled: Vec::new(),
        from_environment: BTreeSet::new(),
        check,
        backup: super::Backup { dir_is_named, ..read.backup },
        logs: read.logs,
        alerts: read.alerts,
        dashboard: read.dashboard,
        schedule: read.schedule,
        upgrade: read.upgrade,
        builtin_agent: read.builtin_agent,
    };
    config.agent.preset = base.as_ref().map_or("none", |preset| &preset.name).to_owned();
    let wrong_in =
        |(table, message): (String, String)| match (places.get(&table), own, own_places.get(&table)) {
            (None, Some(preset), Some(place)) => preset.wrong(Some(place.clone()), &message),
            (place, ..) => wrong(place.cloned(), &message),
        };
    validate(&config).map_err(wrong_in)?;
    disabled::drop_disabled(&mut config);
    resolve(&mut config, &home);
    includes::wrong(&config).map_err(|why| wrong_in(("backup.include".to_owned(), why)))?;
    if let Some(s3) = &mut config.backup.s3 {
        complete_s3(s3, &config.agent.name, &lookup);
    }
    add_streams(&mut config);
    config.from_environment = borrowed.take();
    let home = config.logs.dir.iter().cloned().fold(home, Home::with_logs);
    Ok(Loaded { config, home })
}

/// A variable brings keys to encrypt to, but no file of them.
fn recipients_are_written(root: &DeTable<'_>) -> Result<(), expand::Wrong> {
    let to = root.get("backup").and_then(|backup| backup.get_ref().get("encrypt_to"));
    let all = to.into_iter().flat_map(|to| match to.get_ref() {
        DeValue::Array(all) => all.iter().collect(),
        _ => vec![to],
    });
    for one in all {
        if one.span().is_empty() {
            return Err((
                one.span(),
                "encrypt_to: a file of recipients is written as file:PATH, not by a variable".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Reads the variables of an environment file.
pub fn read_env_file(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = read_trusted("env_file", path, "set env_file in [agent], or take it out")?;
    expand::env_file(&text)
        .map_err(|(line, message)| Fault::unknown(format!("{}:{line}: {message}", path.display())).into())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
