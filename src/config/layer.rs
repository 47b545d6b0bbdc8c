//! A config over its preset: which one it is, and what of it counts.

use super::expand::Lookup;
use super::preset::Preset;
use super::tables::{File, WrongAt, read_checks};
use crate::base::Fault;
use anyhow::Result;
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// The preset that a config names, or gets without naming one.
pub(super) fn choose_preset(
    root: &Spanned<DeTable<'_>>,
    folder: &Path,
    wrong: &WrongAt<'_>,
) -> Result<Option<Preset>> {
    let table = root.get_ref();
    let named = table.get("agent").and_then(|agent| agent.get_ref().get("preset"));
    match named.map(|value| (value.span(), value.get_ref().as_str())) {
        None if table.contains_key("service") => Ok(None),
        None => Preset::find("builtin", folder),
        Some((_, Some("none"))) => Ok(None),
        Some((span, Some(name))) => match Preset::find(name, folder) {
            Ok(None) => {
                let known: Vec<_> = Preset::all().map(|preset| preset.name).collect();
                let known = known.join(", ");
                Err(wrong(Some(span), &format!("there is no preset '{name}'"))
                    .hint(format!("presets: {known}, none, or a path to one that ends in .toml"))
                    .into())
            }
            Err(error) => {
                let fault = wrong(Some(span), &format!("{error:#}"));
                Err(match Fault::of(&error).1 {
                    Some(hint) => fault.hint(hint),
                    None => fault,
                }
                .into())
            }
            found => found,
        },
        // A value of the wrong type is reported when the table is read.
        Some((_, None)) => Ok(None),
    }
}

/// Reads a preset of the user's own by itself: in the merged tables an error of it would point into
/// another file.
pub(super) fn stands_alone(preset: &Preset, lookup: &Lookup<'_>) -> Result<()> {
    let mut root = Spanned::new(0..0, preset.tables(lookup)?);
    let wrong = |span: Option<Range<usize>>, message: &str| preset.wrong(span, message);
    if let Some((key, _)) = root.get_ref().get_key_value("agent") {
        return Err(wrong(Some(key.span()), "[agent] is for ops.toml: a preset has none").into());
    }
    if root.get_ref().is_empty() {
        return Err(wrong(None, "there is nothing in it")
            .hint("docs/presets.md has one in ten lines")
            .into());
    }
    read_checks(root.get_mut(), &wrong)?;
    File::deserialize(Deserializer::from(root)).map_err(|error| wrong(error.span(), error.message()))?;
    Ok(())
}

/// Adds to a table what only the preset has, key by key.
pub(super) fn merge<'i>(into: &mut DeTable<'i>, from: DeTable<'i>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(mine), value) => {
                if let (DeValue::Table(mine), DeValue::Table(theirs)) = (mine.get_mut(), value.into_inner()) {
                    merge(mine, theirs);
                }
            }
        }
    }
}
