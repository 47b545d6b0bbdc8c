//! Incidents in the journal, and the messages of them that are still to be delivered.

use super::incident::Incident;
use super::kind::Kind;
use super::message::Message;
use crate::base::units::Span;
use crate::base::{Journal, Run, State};
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// One incident as it changed in this run, and what is to be said of it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The incident.
    pub incident: Incident,
    /// What is to be said.
    pub message: Option<Message>,
}

/// A message that is not settled, and where it got so far.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its row; none if it could not be stored.
    pub id: Option<i64>,
    /// The message.
    pub message: Message,
    /// Channels that took it, or will never.
    pub done: BTreeMap<String, bool>,
    /// By what the earlier ones of its incident are found on each channel, the first one first.
    pub earlier: BTreeMap<String, Vec<String>>,
    /// Whether this run made it.
    pub fresh: bool,
}

/// What is to be delivered, and what is not any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    /// The messages that are not settled; none in a silence.
    pub waiting: Vec<Waiting>,
    /// Channels that asked to be left alone, and until when.
    pub paused: BTreeMap<String, DateTime<Utc>>,
    /// Messages that were tried for long enough, and by whom they were not taken.
    pub given_up: Vec<(Message, String)>,
}

/// The last incident of each check: open, or closed within a day.
pub(super) fn incidents(connection: &Connection, now: DateTime<Utc>) -> Result<BTreeMap<String, Incident>> {
    let mut statement = connection.prepare(
        "SELECT id, record, check_name, type, severity, opened_at, seen_at, closed_at, summary
         FROM incidents WHERE id IN (
           SELECT max(id) FROM incidents WHERE closed_at IS NULL OR closed_at > ?1 GROUP BY check_name)",
    )?;
    let since = (now - TimeDelta::days(1)).timestamp_millis();
    let rows = statement.query_map([since], incident)?;
    rows.map(|row| row.map(|incident| (incident.check.clone(), incident)))
        .collect::<rusqlite::Result<_>>()
        .context("cannot read the incidents in the journal")
}

/// Incidents of a check or an alert type, newest first.
pub fn find(journal: &Journal, name: &str, most: usize) -> Result<Vec<Incident>> {
    let mut statement = journal.connection().prepare(
        "SELECT id, record, check_name, type, severity, opened_at, seen_at, closed_at, summary
         FROM incidents WHERE check_name = ?1 OR type = ?1
         ORDER BY closed_at IS NULL DESC, id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![name, i64::try_from(most).unwrap_or(i64::MAX)], incident)?;
    rows.collect::<rusqlite::Result<_>>().context("cannot read the incidents in the journal")
}

/// Stores what a run decided, in one transaction: incidents, and messages before anybody gets
/// them. Gives the messages of this run, and those of before that are still to be delivered.
pub(super) fn store(
    journal: &Journal,
    run: &Run,
    changes: &mut [Change],
    silenced: bool,
    retry_for: Span,
) -> Result<Outbox> {
    journal.transaction(|connection| {
        for change in changes {
            let incident = store_incident(connection, &change.incident)?;
            change.incident.id = Some(incident);
            if let Some(message) = &change.message {
                // It says all that the older ones of its incident would have said.
                connection.execute(
                    "UPDATE messages SET settled = 1 WHERE settled = 0 AND incident = ?1",
                    [incident],
                )?;
                store_message(connection, run, Some(incident), message)?;
            }
        }
        let given_up = expire(connection, run.now, retry_for)?;
        let waiting = if silenced { Vec::new() } else { waiting(connection, run)? };
        Ok(Outbox { waiting, paused: paused(connection, run.now)?, given_up })
    })
}

/// Stores an incident by itself.
pub(super) fn save(journal: &Journal, incident: &Incident) -> Result<()> {
    journal.transaction(|connection| store_incident(connection, incident).map(|_| ()))
}

fn store_incident(connection: &Connection, incident: &Incident) -> Result<i64> {
    let record = serde_json::to_string(incident)?;
    let closed = incident.closed.map(|at| at.timestamp_millis());
    if let Some(id) = incident.id {
        connection
            .execute(
                "UPDATE incidents SET type = ?2, severity = ?3, seen_at = ?4, closed_at = ?5, summary = ?6,
                 record = ?7 WHERE id = ?1",
                params![
                    id,
                    incident.alert,
                    incident.severity.code(),
                    incident.seen.timestamp_millis(),
                    closed,
                    incident.summary,
                    record
                ],
            )
            .context("cannot store an incident")?;
        return Ok(id);
    }
    connection
        .execute(
            "INSERT INTO incidents(check_name, type, severity, opened_at, seen_at, closed_at, summary, record)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                incident.check,
                incident.alert,
                incident.severity.code(),
                incident.opened.timestamp_millis(),
                incident.seen.timestamp_millis(),
                closed,
                incident.summary,
                record
            ],
        )
        .context("cannot store an incident")?;
    Ok(connection.last_insert_rowid())
}

fn store_message(connection: &Connection, run: &Run, incident: Option<i64>, message: &Message) -> Result<()> {
    connection
        .execute(
            "INSERT INTO messages(uid, run, incident, type, kind, severity, at, content)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                message.uid,
                run.id,
                incident,
                message.alert,
                message.kind.word(),
                message.severity.code(),
                message.at.timestamp_millis(),
                serde_json::to_string(message)?
            ],
        )
        .context("cannot store a message")?;
    Ok(())
}

/// Puts what was tried into a message that waits.
pub(super) fn amend(journal: &Journal, message: &Message) -> Result<()> {
    journal
        .connection()
        .execute(
            "UPDATE messages SET content = ?2 WHERE uid = ?1",
            params![message.uid, serde_json::to_string(message)?],
        )
        .context("cannot store a message")?;
    Ok(())
}

/// Settles what is not worth sending any more (of an incident that is over that is all but the
/// recovery), and gives up on what some channel did not take for so long: that is what it gives.
fn expire(connection: &Connection, now: DateTime<Utc>, retry_for: Span) -> Result<Vec<(Message, String)>> {
    connection.execute(
        "UPDATE messages SET settled = 1 WHERE settled = 0 AND kind <> 'recovered'
         AND NOT EXISTS(SELECT 1 FROM incidents WHERE id = messages.incident AND closed_at IS NULL)",
        [],
    )?;
    let before = (now - retry_for.delta()).timestamp_millis();
    let mut statement = connection.prepare(
        "SELECT content, group_concat(channel || ': ' || coalesce(error, outcome) || ' (tried '
           || attempts || CASE attempts WHEN 1 THEN ' time)' ELSE ' times)' END, '; ')
         FROM messages JOIN deliveries ON message = id AND outcome = 'failed'
         WHERE settled = 0 AND messages.at < ?1 GROUP BY id",
    )?;
    let rows: Vec<(String, String)> = statement
        .query_map([before], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    connection.execute("UPDATE messages SET settled = 1 WHERE settled = 0 AND at < ?1", [before])?;
    let given_up =
        rows.into_iter().filter_map(|(content, why)| Some((serde_json::from_str(&content).ok()?, why)));
    Ok(given_up.collect())
}

/// Channels that may not be asked yet. A time that is further off was noted by a clock that was
/// wrong.
fn paused(connection: &Connection, now: DateTime<Utc>) -> Result<BTreeMap<String, DateTime<Utc>>> {
    let mut statement = connection.prepare(
        "SELECT channel, max(not_before) FROM deliveries WHERE not_before > ?1 AND not_before < ?2 GROUP BY channel",
    )?;
    let tomorrow = now + TimeDelta::days(1);
    let rows = statement.query_map([now.timestamp_millis(), tomorrow.timestamp_millis()], |row| {
        Ok((row.get(0)?, time(row.get(1)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn waiting(connection: &Connection, run: &Run) -> Result<Vec<Waiting>> {
    let mut statement = connection
        .prepare("SELECT id, run, content, incident FROM messages WHERE settled = 0 ORDER BY id")?;
    let rows: Vec<(i64, String, String, Option<i64>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut waiting = Vec::new();
    for (id, made_by, content, incident) in rows {
        let Ok(message) = serde_json::from_str::<Message>(&content) else {
            // Of another version: it cannot be spelled any more.
            connection.execute("UPDATE messages SET settled = 1 WHERE id = ?1", [id])?;
            continue;
        };
        let mut statement = connection.prepare(
            "SELECT channel, outcome FROM deliveries WHERE message = ?1 AND outcome IN ('delivered', 'refused')",
        )?;
        let done = statement
            .query_map([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)? == "delivered")))?
            .collect::<rusqlite::Result<_>>()?;
        let mut statement = connection.prepare(
            "SELECT channel, reference FROM deliveries JOIN messages ON id = message
             WHERE incident = ?1 AND id < ?2 AND reference IS NOT NULL ORDER BY id",
        )?;
        let mut earlier: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in statement.query_map(params![incident, id], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (channel, reference) = row?;
            earlier.entry(channel).or_default().push(reference);
        }
        waiting.push(Waiting { id: Some(id), message, done, earlier, fresh: made_by == run.id });
    }
    Ok(waiting)
}

/// The run of `alert` that came to its end last, and when it began; none: there was none.
pub(super) fn finished(journal: &Journal) -> Result<Option<(String, DateTime<Utc>)>> {
    journal
        .connection()
        .query_row("SELECT run, at FROM jobs WHERE name = ?1", [JOB], |row| {
            Ok((row.get(0)?, time(row.get(1)?)))
        })
        .optional()
        .context("cannot read the journal")
}

/// What a run of `alert` is called among the jobs of the schedule.
pub(super) const JOB: &str = "alert";

fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    let id = row.get(0)?;
    let record: String = row.get(1)?;
    let closed = row.get::<_, Option<i64>>(7)?.map(time);
    if let Ok(incident) = serde_json::from_str::<Incident>(&record) {
        return Ok(Incident { id: Some(id), closed, ..incident });
    }
    // A record that cannot be read: what stands in the columns must do, and that somebody was told.
    let severity = State::from_code(row.get(4)?);
    let seen = time(row.get(6)?);
    let mut incident = Incident::bare(row.get(2)?, row.get(3)?, severity, time(row.get(5)?), row.get(8)?);
    incident.tell(Kind::New, "", seen);
    Ok(Incident { id: Some(id), seen, closed, thread: None, ..incident })
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}
