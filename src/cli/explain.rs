//! `--list` and `--explain` of the checks.

use super::Context;
use crate::base::units::local;
use crate::base::{State, render::paint, text};
use crate::config::{self, Loaded, Origin};
use crate::health::{self, Earlier};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use toml::Value;

/// How many results are shown.
const SHOWN: usize = 10;

/// Prints every check, and what it asks.
pub(super) fn list(context: &Context, loaded: &Loaded) -> Result<State> {
    #[derive(Serialize)]
    struct Line<'a> {
        check: &'a str,
        enabled: bool,
        kind: &'static str,
        asks: &'static str,
    }
    #[derive(Serialize)]
    struct Listing<'a> {
        checks: Vec<Line<'a>>,
    }
    let mut checks = Vec::new();
    for (name, check) in &loaded.config.check {
        let (kind, asks) = (check.kind.name(), check.kind.question());
        checks.push(Line { check: name, enabled: check.common.enabled, kind, asks });
    }
    if context.common.json {
        context.print_json(&Listing { checks })?;
        return Ok(State::Ok);
    }
    if checks.is_empty() {
        context.print("there are no checks")?;
        return Ok(State::Ok);
    }
    let names = checks.iter().map(|line| line.check.len()).max().unwrap_or(0);
    let kinds = checks.iter().map(|line| line.kind.len()).max().unwrap_or(0);
    let lines = checks.iter().map(|line| {
        let off = if line.enabled { "" } else { " (off)" };
        format!("{:<names$}  {:<kinds$}  {}{off}", line.check, line.kind, line.asks)
    });
    context.print(&lines.collect::<Vec<_>>().join("\n"))?;
    Ok(State::Ok)
}

/// Prints all about one check.
pub(super) fn one(context: &Context, loaded: &Loaded, name: &str) -> Result<State> {
    #[derive(Serialize)]
    struct Explained<'a> {
        check: &'a str,
        kind: &'static str,
        asks: &'static str,
        keys: BTreeMap<String, Key>,
        results: Vec<Earlier>,
    }
    #[derive(Serialize)]
    struct Key {
        value: Value,
        set: Origin,
    }
    let check = &loaded.config.check[name];
    let origins = config::origins(loaded, name)?;
    let values = Value::try_from(check).context("cannot spell the check")?;
    let keys: BTreeMap<String, Key> = values
        .as_table()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "kind")
        .map(|(key, value)| {
            let set = origins.get(key).cloned().unwrap_or(Origin::Default);
            (key.clone(), Key { value: value.clone(), set })
        })
        .collect();
    let journal = context.journal(loaded);
    let results = journal.map_or(Ok(Vec::new()), |journal| health::earlier(&journal, name, SHOWN))?;
    let (kind, asks) = (check.kind.name(), check.kind.question());
    if context.common.json {
        context.print_json(&Explained { check: name, kind, asks, keys, results })?;
        return Ok(State::Ok);
    }
    let file = loaded.home.show(&loaded.config.file);
    let mut lines = vec![format!("{name} ({kind}): {asks}"), String::new()];
    let width = keys.keys().map(String::len).max().unwrap_or(0);
    let values = keys.values().map(|key| key.value.to_string().chars().count()).max().unwrap_or(0).min(40);
    for (key, Key { value, set }) in &keys {
        let set = match set {
            Origin::Line(line) => format!("{file}:{line}"),
            Origin::Preset(preset) => format!("preset {preset}"),
            Origin::Default => "default".to_owned(),
        };
        lines.push(format!("  {key:<width$}  {:<values$}  {set}", text::one_line(&value.to_string(), 200)));
    }
    lines.push(String::new());
    if results.is_empty() {
        lines.push("it was not looked at yet".to_owned());
    }
    lines.extend(results.iter().map(|result| spell(context, result)));
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// `2026-11-20 09:30:01  CRITICAL  7380  (UNKNOWN, not for long enough to count)`.
fn spell(context: &Context, result: &Earlier) -> String {
    let word = paint(context.colored(), result.state, &format!("{:<8}", result.state));
    let value = result.value.map_or(String::new(), |value| format!("  {value}"));
    let summary = match (&result.summary, result.seen) {
        (Some(summary), _) => format!("  {}", text::one_line(summary, 200)),
        (None, None) => "  not looked at in this run".to_owned(),
        _ => String::new(),
    };
    format!("  {}  {word}{value}{summary}", local(result.time))
}
