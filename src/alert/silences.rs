//! Silences in the journal.

use crate::base::units::Span;
use crate::base::{Journal, Run};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

/// A time in which nobody is told anything.
#[derive(Clone, Debug)]
pub struct Silence {
    /// When it was said.
    pub said: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// The last silence that was said, whether it holds or not.
pub(super) fn silence(connection: &Connection) -> Result<Option<Silence>> {
    let row = connection
        .query_row("SELECT at, until, reason FROM silences ORDER BY id DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })
        .optional()
        .context("cannot read the silences in the journal")?;
    Ok(row.and_then(|(said, until, reason)| {
        Some(Silence {
            said: DateTime::from_timestamp_millis(said)?,
            until: DateTime::from_timestamp_millis(until)?,
            reason,
        })
    }))
}

/// Says a silence; one of no length ends the last one.
pub fn say_silence(journal: &Journal, run: &Run, length: Span, reason: &str) -> Result<DateTime<Utc>> {
    let until = run.now.checked_add_signed(length.delta()).unwrap_or(DateTime::<Utc>::MAX_UTC);
    journal
        .connection()
        .execute(
            "INSERT INTO silences(run, at, until, reason) VALUES(?1, ?2, ?3, ?4)",
            params![run.id, run.now.timestamp_millis(), until.timestamp_millis(), reason],
        )
        .context("cannot note the silence in the journal")?;
    Ok(until)
}
