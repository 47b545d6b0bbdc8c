//! Where each key of a check was set: in the file, in its preset, or nowhere.

use super::Loaded;
use super::load::read_trusted;
use super::preset::Preset;
use crate::base::Fault;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Where a key was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In the config, in this line.
    Line(usize),
    /// In the preset of this name.
    Preset(String),
    /// Nowhere: it is as it is unless said otherwise.
    Default,
}

/// The keys of a check that were set somewhere, and where; a key of the file wins over its preset.
///
/// # Errors
/// When the config cannot be read any more.
pub fn origins(loaded: &Loaded, check: &str) -> Result<BTreeMap<String, Origin>> {
    let file = &loaded.config.file;
    let source = read_trusted("config", file, "--config names another file")?;
    let parse = |source: &str, origin: &dyn Fn(usize) -> Origin| -> Result<Vec<(String, Origin)>> {
        let root = DeTable::parse(source)
            .map_err(|error| Fault::unknown(format!("{}: {}", file.display(), error.message())))?;
        let table = |table: &DeTable<'_>| -> Vec<(String, Origin)> {
            table.iter().map(|(key, _)| (key.get_ref().to_string(), origin(key.span().start))).collect()
        };
        let checks = root.get_ref().get("check").map(toml::Spanned::get_ref);
        let Some(DeValue::Table(checks)) = checks else { return Ok(Vec::new()) };
        Ok(match checks.get(check).map(toml::Spanned::get_ref) {
            Some(DeValue::Table(keys)) => table(keys),
            _ => Vec::new(),
        })
    };
    let line = |at: usize| Origin::Line(source.get(..at).unwrap_or(&source).matches('\n').count() + 1);
    let mut origins = BTreeMap::new();
    let folder = file.parent().unwrap_or(Path::new("/"));
    if let Some(preset) = Preset::find(&loaded.config.agent.preset, folder)? {
        origins.extend(parse(&preset.source, &|_| Origin::Preset(preset.name.clone()))?);
    }
    origins.extend(parse(&source, &line)?);
    Ok(origins)
}
