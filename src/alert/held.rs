//! What keeps people from being told: a lock that another run holds, a note that something of ours is at the
//! agent. Neither may do so for ever, for whoever can write in the home can forge both.

use super::incident::Incident;
use super::store;
use crate::base::durable::{Lock, PATIENCE};
use crate::base::maintenance::Note;
use crate::base::units::local;
use crate::base::{Fault, Journal, Run, State};
use crate::config::{Config, Limits, Loaded};
use crate::health::Finding;
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;
use std::time::Duration;

/// Its name. No check can have it: a colon is not allowed in one.
pub(super) const CHECK: &str = "ops:alerts";

/// So much later than one run another may begin: the lock is new then.
const BETWEEN: TimeDelta = TimeDelta::minutes(5);

/// No maintenance lasts so much longer than an upgrade and its settling time.
const MARGIN: TimeDelta = TimeDelta::hours(5);

/// A run of `alert` that takes longer ends itself. Where the operator lets it last, a forged lock must not.
fn longest_run(config: &Config) -> TimeDelta {
    let limit = config.schedule.limit.alert;
    if limit.0.is_zero() { Limits::default().alert.delta() } else { limit.delta() }
}

/// The lock of alerts; none where it is held for longer than any run lasts, and why.
///
/// # Errors
/// A [`Fault`] of state Unknown while another run may well be at it.
pub(super) fn lock(loaded: &Loaded, run: &Run, journal: &Journal) -> Result<(Option<Lock>, Option<String>)> {
    let home = &loaded.home;
    // The holder's own words prove nothing: when a run came to its end last does.
    let written = || Some(home.metadata(&home.lock("alert")).ok()?.modified().ok()?.into());
    let since = store::finished(journal).ok().flatten().map(|(_, at)| at).or_else(written);
    let overdue = since.filter(|since| run.now - *since > longest_run(&loaded.config) + BETWEEN);
    let patience = if overdue.is_some() { Duration::ZERO } else { PATIENCE };
    let busy = match Lock::take(home, "alert", run, patience) {
        Ok(lock) => return Ok((Some(lock), None)),
        Err(error) if error.is::<Fault>() => error,
        Err(error) => return Err(error),
    };
    match overdue {
        Some(since) => {
            let why = format!(
                "the lock of alerts is held, and no run of alert has ended since {}: {busy:#}",
                local(since)
            );
            Ok((None, Some(why)))
        }
        None => Err(busy),
    }
}

/// The maintenance that holds alerts back; none, and why, once there has been some for longer than any lasts,
/// whatever its notes say.
pub(super) fn maintenance(
    note: Option<Note>,
    config: &Config,
    journal: &Journal,
    now: DateTime<Utc>,
    dry: bool,
) -> (Option<Note>, Option<String>) {
    let since = remembered(journal, now, note.is_some(), dry).unwrap_or(now);
    let longest = MARGIN + config.upgrade.settle.delta();
    match note {
        Some(note) if now - since > longest => {
            let why = format!(
                "{} says that it has been at the agent since {} (run {}); alerts are not held back any longer",
                note.what,
                local(since),
                note.run
            );
            (None, Some(why))
        }
        note => (note, None),
    }
}

/// Since when each run has found some maintenance.
fn remembered(journal: &Journal, now: DateTime<Utc>, held: bool, dry: bool) -> Result<DateTime<Utc>> {
    let connection = journal.connection();
    let query = "SELECT at FROM memories WHERE check_name = ?1 AND what = 'maintenance'";
    let at: Option<i64> = connection.query_row(query, [CHECK], |row| row.get(0)).optional()?;
    match (held, at) {
        (true, Some(at)) => return Ok(DateTime::from_timestamp_millis(at).unwrap_or(now).min(now)),
        (true, None) if !dry => {
            let note =
                "INSERT INTO memories(check_name, what, at, content) VALUES(?1, 'maintenance', ?2, '')";
            connection.execute(note, params![CHECK, now.timestamp_millis()])?;
        }
        (false, Some(_)) if !dry => {
            connection.execute("DELETE FROM memories WHERE check_name = ?1", [CHECK])?;
        }
        _ => {}
    }
    Ok(now)
}

/// What people are told of it, or that it is over.
pub(super) fn finding(why: &[String], incidents: &BTreeMap<String, Incident>) -> Option<Finding> {
    let open = incidents.get(CHECK).is_some_and(|incident| incident.closed.is_none());
    if why.is_empty() && !open {
        return None;
    }
    let (state, summary) = match why {
        [] => (State::Ok, "nothing holds alerts back".to_owned()),
        why => (State::Critical, why.join("; ")),
    };
    Some(Finding {
        check: CHECK.to_owned(),
        kind: "alerts".to_owned(),
        service: None,
        state,
        seen: state,
        looked_at: None,
        summary,
        metrics: Vec::new(),
        remedy: Some(
            "find who holds it: `ops detect`, `fuser .ops/locks/alert.lock`; end that process, and remove a note \
             below .ops/maintenance that nobody needs"
                .to_owned(),
        ),
        critical: true,
        alert: "alerts_held_back".to_owned(),
    })
}
