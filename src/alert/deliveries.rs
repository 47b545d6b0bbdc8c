//! What became of messages, in the journal.

use super::message::Message;
use super::outcome::Outcome;
use crate::base::units::Span;
use crate::base::{Journal, Run};
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};

/// Notes what became of a message on a channel.
pub(super) fn record(
    journal: &Journal,
    run: &Run,
    message: i64,
    channel: &str,
    outcome: &Outcome,
) -> Result<()> {
    let reference = match outcome {
        Outcome::Delivered(reference) => reference.as_deref(),
        _ => None,
    };
    let not_before = match outcome {
        // Whoever wants more than a day is asked again after that.
        Outcome::Later(_, wait) => {
            Some((run.now + Span(*wait).delta().min(TimeDelta::hours(23))).timestamp_millis())
        }
        _ => None,
    };
    journal
        .connection()
        .execute(
            "INSERT INTO deliveries(message, channel, attempts, at, outcome, error, reference, not_before)
             VALUES(?1, ?2, 1, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT(message, channel) DO UPDATE SET attempts = attempts + 1,
             at = excluded.at, outcome = excluded.outcome, error = excluded.error,
             reference = excluded.reference, not_before = excluded.not_before",
            params![
                message,
                channel,
                run.now.timestamp_millis(),
                outcome.word(),
                outcome.error(),
                reference,
                not_before
            ],
        )
        .context("cannot note a delivery in the journal")?;
    Ok(())
}

/// Nothing more is to be done about a message.
pub(super) fn settle(journal: &Journal, message: i64) -> Result<()> {
    journal
        .connection()
        .execute("UPDATE messages SET settled = 1 WHERE id = ?1", [message])
        .context("cannot settle a message in the journal")?;
    Ok(())
}

/// When the messages of the last two hours were made.
pub(super) fn sent(connection: &Connection, now: DateTime<Utc>) -> Result<Vec<DateTime<Utc>>> {
    let mut statement = connection.prepare("SELECT at FROM messages WHERE at > ?1")?;
    let since = (now - TimeDelta::hours(2)).timestamp_millis();
    let rows = statement.query_map([since], |row| row.get::<_, i64>(0))?;
    let times: Vec<i64> = rows.collect::<rusqlite::Result<_>>().context("cannot read the messages")?;
    Ok(times.into_iter().filter_map(DateTime::from_timestamp_millis).collect())
}

/// A message as it is listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The message.
    pub message: Message,
    /// Nothing more is tried.
    pub settled: bool,
    /// Channel, outcome, error.
    pub deliveries: Vec<(String, String, Option<String>)>,
}

/// The last messages, newest first.
pub fn messages(journal: &Journal, most: usize) -> Result<Vec<Listed>> {
    let connection = journal.connection();
    let mut statement =
        connection.prepare("SELECT id, content, settled FROM messages ORDER BY id DESC LIMIT ?1")?;
    let rows: Vec<(i64, String, bool)> = statement
        .query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement =
        connection.prepare("SELECT channel, outcome, error FROM deliveries WHERE message = ?1")?;
    let mut listed = Vec::new();
    for (id, content, settled) in rows {
        let Ok(message) = serde_json::from_str(&content) else { continue };
        let deliveries = statement
            .query_map([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        listed.push(Listed { message, settled, deliveries });
    }
    Ok(listed)
}
