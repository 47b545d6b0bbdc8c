//! Whether a service hangs: it is there, and does nothing. Busy is not hung: any sign of life is a
//! veto, and what cannot be told is one too.

use super::incident::elapsed;
use crate::base::beneath::{SMALL, read_small_file};
use crate::base::process::{self, Identity, Process};
use crate::base::text::hex;
use crate::base::{Home, Journal};
use crate::config::Config;
use crate::logs;
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// So long it must have stood still: two looks right after each other prove nothing.
const STILL_FOR: TimeDelta = TimeDelta::minutes(4);

/// Further apart, two looks are not about the same hang: the machine may have slept.
const TOO_LONG: TimeDelta = TimeDelta::hours(1);

/// A timer that wakes up to find nothing to do takes less processor time than this, in ms a minute.
const IDLE: u64 = 10;

/// Our own logs: they grow although the agent hangs.
const OURS: [&str; 6] = ["alerts", "backup", "cron", "health_check", "restart", "rotation"];

/// The veto of a look that comes too early: the next one is held against the same first one.
pub(super) const NOT_LONG_ENOUGH: &str = "it has not stood still for long enough";

/// What a service leaves when it works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// When it was looked at.
    pub(super) at: DateTime<Utc>,
    /// The process.
    pub(super) process: Identity,
    /// It was stopped by a signal: somebody holds it.
    pub(super) stopped: bool,
    /// Processor time of its session so far, in ms.
    pub(super) cpu: u64,
    /// The processes of its session.
    pub(super) members: Vec<u32>,
    /// A hash of names, lengths and times of its logs.
    pub(super) logs: String,
    /// A hash of its status file; none, if it cannot be read.
    pub(super) status: Option<String>,
}

/// Whether it hangs, by what was seen when its heartbeat was found stale, and by now. `Err`: the
/// veto.
pub(super) fn judge(stale: bool, before: Option<&Evidence>, now: &Evidence) -> Result<String, &'static str> {
    if !stale {
        return Err("its heart beats");
    }
    if now.stopped {
        return Err("it was stopped by a signal: somebody holds it");
    }
    let Some(before) = before.filter(|before| before.process == now.process) else {
        return Err("it was not seen standing still before");
    };
    let Some(still) = elapsed(now.at, before.at).filter(|still| *still <= TOO_LONG) else {
        return Err("it was not seen standing still lately");
    };
    if still < STILL_FOR {
        return Err(NOT_LONG_ENOUGH);
    }
    if now.cpu.saturating_sub(before.cpu) > IDLE * still.num_minutes().unsigned_abs() {
        return Err("it uses the processor");
    }
    if now.members != before.members {
        return Err("it starts and ends processes");
    }
    if now.logs != before.logs {
        return Err("its logs grow");
    }
    if now.status.is_none() || now.status != before.status {
        return Err("its status file changes, or cannot be read");
    }
    let minutes = still.num_minutes();
    Ok(format!("it hangs: its heartbeat is stale, and for {minutes}m it used no processor and wrote nothing"))
}

/// Looks at a service.
pub(super) fn gather(
    home: &Home,
    config: &Config,
    service: &str,
    process: &Process,
    now: DateTime<Utc>,
) -> Result<Evidence> {
    let mut session = process::all()?;
    session.retain(|member| {
        member.identity.pid == process.identity.pid || member.session == process.identity.pid
    });
    let mut members: Vec<u32> = session.iter().map(|member| member.identity.pid).collect();
    members.sort_unstable();
    let mut hash = Sha256::new();
    let ours = OURS.map(|name| home.log(name));
    for log in logs::find(home, &config.logs).logs.iter().filter(|log| !ours.contains(&log.path)) {
        hash.update(format!("{} {} {}\n", log.path.display(), log.bytes, log.modified));
    }
    let file = config.service.get(service).and_then(|service| service.status_file.as_ref());
    let status = file.and_then(|path| read_small_file(path, SMALL).ok());
    Ok(Evidence {
        at: now,
        process: process.identity.clone(),
        stopped: process.stopped,
        cpu: session.iter().map(|member| member.cpu.as_millis() as u64).sum(),
        members,
        logs: hex(&hash.finalize()),
        status: status.map(|bytes| hex(&Sha256::digest(bytes))),
    })
}

/// The name of a service in the journal: no check can have it, for a colon is not allowed in one.
fn key(service: &str) -> String {
    format!("service:{service}")
}

const WHAT: &str = "standing still";

/// What was seen of a service when its heartbeat was found stale.
pub(super) fn recall(journal: &Journal, service: &str) -> Option<Evidence> {
    let content: String = journal
        .connection()
        .query_row(
            "SELECT content FROM memories WHERE check_name = ?1 AND what = ?2",
            params![key(service), WHAT],
            |row| row.get(0),
        )
        .ok()?;
    serde_json::from_str(&content).ok()
}

/// Remembers the first of several looks at a service that stands still; none: it does not.
pub(super) fn remember(journal: &Journal, service: &str, evidence: Option<&Evidence>) -> Result<()> {
    let connection = journal.connection();
    match evidence {
        Some(evidence) => connection.execute(
            "INSERT OR REPLACE INTO memories(check_name, what, at, content) VALUES(?1, ?2, ?3, ?4)",
            params![key(service), WHAT, evidence.at.timestamp_millis(), serde_json::to_string(evidence)?],
        ),
        None => connection
            .execute("DELETE FROM memories WHERE check_name = ?1 AND what = ?2", params![key(service), WHAT]),
    }
    .context("cannot note in the journal how a service was seen")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(minutes: i64) -> Evidence {
        Evidence {
            at: DateTime::from_timestamp(1_800_000_000 + minutes * 60, 0).unwrap(),
            process: Identity { pid: 42, start: 7, boot: "a".to_owned() },
            stopped: false,
            cpu: 1000,
            members: vec![42, 43],
            logs: "l".to_owned(),
            status: Some("s".to_owned()),
        }
    }

    #[test]
    fn every_evidence_must_agree() {
        let before = still(0);
        assert!(judge(true, Some(&before), &still(5)).unwrap().contains("for 5m"));
        assert!(judge(true, Some(&before), &Evidence { cpu: 1050, ..still(5) }).is_ok(), "a timer");
        let other = Identity { pid: 42, start: 8, boot: "a".to_owned() };
        let rebooted = Identity { boot: "b".to_owned(), ..before.process.clone() };
        for (stale, before, now, veto) in [
            (false, Some(&before), still(5), "its heart beats"),
            (true, None, still(5), "not seen"),
            (true, Some(&before), still(3), "long enough"),
            (true, Some(&before), still(61), "lately"),
            (true, Some(&before), still(-5), "lately"),
            (true, Some(&before), Evidence { stopped: true, ..still(5) }, "somebody holds it"),
            (true, Some(&before), Evidence { process: other, ..still(5) }, "not seen"),
            (true, Some(&before), Evidence { process: rebooted, ..still(5) }, "not seen"),
            (true, Some(&before), Evidence { cpu: 1051, ..still(5) }, "processor"),
            (true, Some(&before), Evidence { members: vec![42], ..still(5) }, "processes"),
            (true, Some(&before), Evidence { logs: "m".to_owned(), ..still(5) }, "logs"),
            (true, Some(&before), Evidence { status: Some("t".to_owned()), ..still(5) }, "status file"),
            (true, Some(&before), Evidence { status: None, ..still(5) }, "status file"),
        ] {
            let said = judge(stale, before, &now).unwrap_err();
            assert!(said.contains(veto), "{now:?}: {said}");
        }
        let none = Evidence { status: None, ..still(0) };
        assert!(judge(true, Some(&none), &Evidence { status: None, ..still(5) }).is_err(), "no status file");
    }
}
