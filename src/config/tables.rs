//! The tables of `ops.toml` and of presets, as they are written there.

use super::check::{Check, Common, KINDS, Kind};
use super::{Agent, Alerts, Backup, BuiltinAgent, Dashboard, Logs, Schedule, Service, Upgrade};
use crate::base::Fault;
use anyhow::Result;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, ValueDeserializer};

/// The tables of `ops.toml`. Checks are read one by one: their keys depend on their kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) agent: Agent,
    #[serde(default)]
    pub(super) service: BTreeMap<String, Service>,
    #[serde(default, rename = "check")]
    _check: IgnoredAny,
    #[serde(default)]
    pub(super) backup: Backup,
    #[serde(default)]
    pub(super) logs: Logs,
    #[serde(default)]
    pub(super) alerts: Alerts,
    #[serde(default)]
    pub(super) dashboard: Dashboard,
    #[serde(default)]
    pub(super) schedule: Schedule,
    #[serde(default)]
    pub(super) upgrade: Upgrade,
    #[serde(default)]
    pub(super) builtin_agent: BuiltinAgent,
}

/// Makes the fault of something wrong at a place of the file.
pub(super) type WrongAt<'a> = dyn Fn(Option<Range<usize>>, &str) -> Fault + 'a;

/// Where each `[table]` and `[table.NAME]` stands, for errors about what it means.
pub(super) fn table_places(root: &DeTable<'_>) -> HashMap<String, Range<usize>> {
    let mut places = HashMap::new();
    for (name, value) in root {
        places.insert(name.get_ref().to_string(), name.span());
        if let DeValue::Table(inner) = value.get_ref() {
            for (key, _) in inner {
                places.insert(format!("{}.{}", name.get_ref(), key.get_ref()), key.span());
            }
        }
    }
    places
}

/// Takes the checks out of a table. Their keys are said by their kinds.
pub(super) fn read_checks(root: &mut DeTable<'_>, wrong: &WrongAt<'_>) -> Result<BTreeMap<String, Check>> {
    let mut checks = BTreeMap::new();
    let Some(DeValue::Table(tables)) = root.get_mut("check").map(Spanned::get_mut) else { return Ok(checks) };
    for (name, value) in std::mem::take(tables) {
        let span = value.span();
        let DeValue::Table(mut table) = value.into_inner() else {
            return Err(wrong(Some(span), &format!("check.{} is not a table", name.get_ref())).into());
        };
        let Some(kind) = table.remove("kind") else {
            return Err(wrong(Some(name.span()), &format!("the check '{}' has no kind", name.get_ref()))
                .hint(format!("kinds: {}", KINDS.join(", ")))
                .into());
        };
        let kind_span = kind.span();
        let Some(kind) = kind.get_ref().as_str().map(str::to_owned) else {
            return Err(wrong(Some(kind_span), "kind is not a string").into());
        };
        let mut common = DeTable::new();
        for key in Common::KEYS {
            if let Some((key, value)) = table.remove_entry(key) {
                common.insert(key, value);
            }
        }
        let place = |error: toml::de::Error| wrong(error.span().or(Some(kind_span.clone())), error.message());
        let common =
            Common::deserialize(Deserializer::from(Spanned::new(span.clone(), common))).map_err(place)?;
        let rest = ValueDeserializer::from(Spanned::new(span, DeValue::Table(table)));
        let kind = Kind::read(&kind, rest).map_err(place)?;
        checks.insert(name.get_ref().to_string(), Check { kind, common });
    }
    Ok(checks)
}
