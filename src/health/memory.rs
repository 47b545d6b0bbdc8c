//! What checks remember from one run to the next: rows in the journal, each a JSON document of the
//! check that wrote it.

use crate::base::Journal;
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// All that checks remember, by check and by what it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Memories(BTreeMap<(String, String), (DateTime<Utc>, String)>);

/// Something to remember.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    what: &'static str,
    content: String,
}

impl Memory {
    /// Nothing, if it cannot be spelled.
    pub(super) fn of(what: &'static str, value: &impl Serialize) -> Option<Memory> {
        serde_json::to_string(value).ok().map(|content| Memory { what, content })
    }
}

impl Memories {
    /// What the journal has; nothing, if it cannot be read.
    pub(super) fn load(journal: &Journal) -> Memories {
        let read = || -> rusqlite::Result<_> {
            let mut statement =
                journal.connection().prepare("SELECT check_name, what, at, content FROM memories")?;
            let rows = statement.query_map([], |row| {
                let at = DateTime::from_timestamp_millis(row.get(2)?).unwrap_or_default();
                Ok(((row.get(0)?, row.get(1)?), (at, row.get(3)?)))
            })?;
            rows.collect()
        };
        Memories(read().unwrap_or_default())
    }

    /// What a check remembers, and since when. None also for what another version wrote that cannot be
    /// read any more, and for what a clock wrote that was ahead.
    pub(super) fn recall<T: DeserializeOwned>(
        &self,
        check: &str,
        what: &str,
        now: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, T)> {
        let (at, content) = self.0.get(&(check.to_owned(), what.to_owned())).filter(|(at, _)| *at <= now)?;
        Some((*at, serde_json::from_str(content).ok()?))
    }
}

/// How long a memory stands that does not change.
const STANDS: TimeDelta = TimeDelta::days(1);

impl Memories {
    /// Whether this is remembered already, and was written lately.
    pub(super) fn holds(&self, check: &str, memory: &Memory, now: DateTime<Utc>) -> bool {
        let known = self.0.get(&(check.to_owned(), memory.what.to_owned()));
        known.is_some_and(|(at, content)| *content == memory.content && *at <= now && now - *at < STANDS)
    }
}

/// Writes what a check remembers now, over what it remembered.
pub(super) fn save(connection: &Connection, check: &str, memory: &Memory, now: DateTime<Utc>) -> Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO memories(check_name, what, at, content) VALUES(?1, ?2, ?3, ?4)",
        params![check, memory.what, now.timestamp_millis(), memory.content],
    )?;
    Ok(())
}
