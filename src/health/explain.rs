//! What a check is about, and how it went lately.

use crate::base::{Journal, State, units};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::params;
use serde::Serialize;

/// One earlier look of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Earlier {
    /// When.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// The state that counted.
    pub state: State,
    /// What the look found; none, if `every` said that it was not due.
    pub seen: Option<State>,
    /// Its first number.
    pub value: Option<f64>,
    /// What it said, if it was not well.
    pub summary: Option<String>,
}

/// The last looks of a check, newest first.
///
/// # Errors
/// When the journal cannot be read.
pub fn earlier(journal: &Journal, check: &str, most: usize) -> Result<Vec<Earlier>> {
    let read = || -> rusqlite::Result<Vec<Earlier>> {
        let mut statement = journal.connection().prepare(
            "SELECT at, samples.state, seen, value, summary FROM runs
             JOIN samples ON samples.run = runs.id AND check_name = ?1 ORDER BY runs.id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![check, most as i64], |row| {
            Ok(Earlier {
                time: DateTime::from_timestamp_millis(row.get(0)?).unwrap_or_default(),
                state: State::from_code(row.get(1)?),
                seen: row.get::<_, Option<i64>>(2)?.map(State::from_code),
                value: row.get(3)?,
                summary: row.get(4)?,
            })
        })?;
        rows.collect()
    };
    read().context("cannot read the journal")
}
