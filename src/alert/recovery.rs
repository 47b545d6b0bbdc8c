//! Restarting what died by itself: with growing pauses, and not for ever.

use super::incident::elapsed;
use super::look::Restart;
use super::throttle::within_an_hour;
use crate::base::Journal;
use crate::base::process::Process;
use crate::base::status_file::StatusFile;
use crate::base::step::step;
use crate::service::{Services, Started};
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a restart waits for the first heartbeat of a service that counts as started without.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(5);

/// How long to wait before the first, second … attempt within an hour.
const PAUSES: [TimeDelta; 4] =
    [TimeDelta::zero(), TimeDelta::minutes(1), TimeDelta::minutes(5), TimeDelta::minutes(15)];

/// What marks our attempts among the restarts in the journal.
const CAUSE: &str = "died: ";

/// Whether to start a dead service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// In this run.
    Now,
    /// In a later one: the pause is not over.
    Later,
    /// Not before it ran, or its operator started it.
    Never,
}

/// Decides by the attempts so far. Each was one crash, and it is down once more: with more than
/// `max_per_hour` crashes within an hour nothing is tried again.
pub(super) fn decide(
    attempts: &[DateTime<Utc>],
    gave_up: bool,
    max_per_hour: usize,
    now: DateTime<Utc>,
) -> Attempt {
    let recent = within_an_hour(now, attempts);
    if gave_up || recent >= max_per_hour {
        return Attempt::Never;
    }
    let pause = PAUSES[recent.min(PAUSES.len() - 1)];
    // An attempt in the future was noted by a clock that is wrong: it delays nothing.
    let waited = attempts.iter().filter_map(|&at| elapsed(now, at)).min();
    if waited.is_none_or(|waited| waited >= pause) { Attempt::Now } else { Attempt::Later }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// Whether it runs again.
    pub good: bool,
    /// "restarted as pid 12", "could not be restarted: …".
    pub text: String,
}

/// Starts a service. The attempt is in the journal before it begins, so that one which kills us
/// counts as well.
pub(super) fn restart(services: &Services<'_>, journal: &Journal, restart: &Restart) -> Tried {
    let service = restart.service.as_str();
    // Its operator may have stopped it since we looked: a start would undo that.
    if services.status(service).is_ok_and(|status| status.stopped_by_operator.is_some()) {
        return Tried { good: true, text: "left alone: its operator stopped it just now".to_owned() };
    }
    let row = begin(services, journal, service, &restart.cause);
    let _ = step("restart begun");
    let recovered = if restart.hung {
        services.recover_hung(service).map(Started::New)
    } else {
        services.recover(service)
    };
    let (tried, pid) = match recovered {
        Ok(Started::New(process)) => {
            let pid = process.identity.pid;
            let sign = first_heartbeat(services, service, &process);
            (Tried { good: true, text: format!("restarted as pid {pid}{sign}") }, Some(pid))
        }
        Ok(Started::Already(process)) => {
            let pid = process.identity.pid;
            (Tried { good: true, text: format!("it runs again already, as pid {pid}") }, Some(pid))
        }
        Err(error) => (Tried { good: false, text: format!("could not be restarted: {error:#}") }, None),
    };
    if let Ok(row) = row {
        let _ = journal
            .connection()
            .execute("UPDATE restarts SET pid = ?1, good = ?2 WHERE id = ?3", params![pid, tried.good, row]);
    }
    tried
}

/// What became of the first heartbeat: alive is not well. Nothing to say of a service that has no
/// status file, or that was awaited until its file said `running`.
fn first_heartbeat(services: &Services<'_>, name: &str, process: &Process) -> &'static str {
    let service = services.config.service.get(name);
    let Some((service, path)) = service.and_then(|service| Some((service, service.status_file.as_ref()?)))
    else {
        return "";
    };
    if service.ready == "status" {
        return "";
    }
    let deadline = Instant::now() + FIRST_HEARTBEAT.min(service.ready_timeout.0);
    while !beats(path, process) {
        if Instant::now() >= deadline {
            return ", but its heart did not beat yet";
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ", and its heart beats"
}

/// Whether a status file has a sign of life of this process, and not of the one before it.
pub(super) fn beats(path: &Path, process: &Process) -> bool {
    // Start times are exact to a second or so.
    let since = process.started - TimeDelta::seconds(2);
    StatusFile::read(path).is_ok_and(|file| {
        let own = file.pid.is_none_or(|pid| pid == process.identity.pid);
        own && file.sign_of_life().is_some_and(|at| at >= since)
    })
}

fn begin(services: &Services<'_>, journal: &Journal, service: &str, cause: &str) -> Result<i64> {
    journal
        .connection()
        .execute(
            "INSERT INTO restarts(run, at, service, cause, good) VALUES(?1, ?2, ?3, ?4, 0)",
            params![services.run.id, services.run.now.timestamp_millis(), service, format!("{CAUSE}{cause}")],
        )
        .context("cannot note the restart in the journal")?;
    Ok(journal.connection().last_insert_rowid())
}

/// When recovery tried to start each service, in the last day.
pub(super) fn attempts(
    connection: &Connection,
    now: DateTime<Utc>,
) -> Result<BTreeMap<String, Vec<DateTime<Utc>>>> {
    let mut found: BTreeMap<String, Vec<DateTime<Utc>>> = BTreeMap::new();
    let mut statement = connection.prepare(
        "SELECT service, at FROM restarts WHERE at > ?1 AND substr(cause, 1, length(?2)) = ?2 ORDER BY at",
    )?;
    let since = (now - TimeDelta::days(1)).timestamp_millis();
    let rows = statement
        .query_map(params![since, CAUSE], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (service, at) = row?;
        found.entry(service).or_default().extend(DateTime::from_timestamp_millis(at));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_grow_and_then_it_ends() {
        let now = Utc::now();
        let ago = |minutes: &[i64]| -> Vec<_> {
            minutes.iter().map(|&minutes| now - TimeDelta::minutes(minutes)).collect()
        };
        for (attempts, gave_up, expected) in [
            (ago(&[]), false, Attempt::Now),
            (ago(&[0]), false, Attempt::Later),
            (ago(&[1]), false, Attempt::Now),
            (ago(&[10, 4]), false, Attempt::Later),
            (ago(&[10, 5]), false, Attempt::Now),
            (ago(&[30, 20, 10]), false, Attempt::Never),
            // Four restarts in seven months are no loop.
            (ago(&[300_000, 200_000, 100_000, 90_000]), false, Attempt::Now),
            (ago(&[61]), true, Attempt::Never),
            // The clock went back.
            (ago(&[-300, -200, -100]), false, Attempt::Now),
        ] {
            assert_eq!(decide(&attempts, gave_up, 3, now), expected, "{attempts:?}");
        }
        assert_eq!(decide(&[], false, 0, now), Attempt::Never);
    }

    proptest! {
        /// Whatever the crashes, no hour sees more attempts than it may.
        #[test]
        fn no_hour_sees_too_many(gaps in prop::collection::vec(0i64..900, 0..200), most in 1usize..8) {
            let mut now = Utc::now();
            let mut attempts = Vec::new();
            for gap in gaps {
                now += TimeDelta::seconds(gap);
                if decide(&attempts, false, most, now) == Attempt::Now {
                    attempts.push(now);
                }
                prop_assert!(within_an_hour(now, &attempts) <= most);
            }
        }
    }
}
