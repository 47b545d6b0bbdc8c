//! The copies in the bucket: what the storage says of each, and what the journal remembers of them.

use super::client::Client;
use super::label::Label;
use super::signing::{Keys, Origin};
use crate::backup::flaw::Standing;
use crate::backup::names::{ENCRYPTED, time_of_name};
use crate::backup::retention::Candidate;
use crate::backup::shelf::Archive;
use crate::backup::sidecar::Sidecar;
use crate::base::{Fault, Journal, Run, durable, units};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::params;
use serde::Serialize;
use std::collections::BTreeMap;

/// One archive in the bucket.
#[derive(Clone, Debug, Serialize)]
pub struct Copy {
    /// Its file name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was made: by its label, else by its name.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// Its place in the order of making; 0 if it is not ours.
    pub sequence: u64,
    /// Whether its label names this agent. Nothing else is ever pruned.
    pub ours: bool,
    /// Where it comes from, as far as its signature proves it.
    pub origin: Origin,
    /// Whether it was verified when it was made, has the size it had then, and is proved to be ours.
    pub verified: bool,
    /// As `verified`, proved or not.
    #[serde(skip)]
    pub(super) whole: bool,
    /// What is written beside it.
    #[serde(skip)]
    pub(super) label: Option<Label>,
    /// The SHA-256 of the file; empty where it has no label of ours.
    pub sha256: String,
}

impl Copy {
    /// Whether it was verified when it was made and has the size it had then, proved or not.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// The note that belongs beside it, if it is encrypted.
    pub(super) fn note(&self) -> Option<&Sidecar> {
        self.label.as_ref()?.note.as_ref()
    }

    pub(super) fn candidate(&self, here: &[Archive]) -> Candidate {
        let same = here.iter().find(|archive| archive.name == self.name);
        Candidate {
            name: self.name.clone(),
            time: self.time,
            sequence: self.sequence,
            verified: self.verified,
            standing: same.and_then(|archive| archive.standing).unwrap_or(Standing::Good),
            pinned: same.is_some_and(|archive| archive.pinned),
            last_with: same.map(|archive| archive.last_with.clone()).unwrap_or_default(),
        }
    }
}

/// Takes the lock of what is in the bucket. Not that of backups: a restore must not wait for a slow
/// line.
pub(super) fn lock(loaded: &Loaded, run: &Run) -> Result<durable::Lock> {
    durable::Lock::take(&loaded.home, "copy", run, durable::PATIENCE)
}

/// Who talks to the bucket of the config.
pub(super) fn client(loaded: &Loaded) -> Result<Client> {
    match &loaded.config.backup.s3 {
        Some(s3) => Client::new(s3),
        None => Err(Fault::unknown("there is no bucket: the config has no [backup.s3]")
            .hint("set endpoint and bucket there; the runbook Backup and Restore shows how")
            .into()),
    }
}

/// Every archive in the bucket, newest first, by what the storage says of each.
pub(super) fn copies(client: &Client, loaded: &Loaded, keys: &Keys) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for name in client.names()? {
        // One that went away meanwhile is not there.
        let Some(head) = client.head(&name)? else { continue };
        copies.push(describe(loaded, keys, name, head.bytes, head.label));
    }
    copies.sort_by(|a, b| (b.time, b.sequence, &b.name).cmp(&(a.time, a.sequence, &a.name)));
    Ok(copies)
}

/// What one says of itself, or else its name.
pub(super) fn describe(loaded: &Loaded, keys: &Keys, name: String, bytes: u64, label: Option<Label>) -> Copy {
    let is_whole =
        |label: &Label| label.bytes == bytes && (label.note.is_some() || !name.ends_with(ENCRYPTED));
    let (of, whole) = (label.as_ref(), label.as_ref().is_some_and(is_whole));
    let origin = of.map_or(Origin::Unsigned, |label| keys.origin(&name, label));
    Copy {
        bytes,
        time: of.map(|label| label.time).or_else(|| time_of_name(&name)).unwrap_or(DateTime::UNIX_EPOCH),
        sequence: of.map_or(0, |label| label.sequence),
        ours: of.is_some_and(|label| label.agent == loaded.config.agent.name),
        origin,
        verified: whole && origin == Origin::Signed,
        whole,
        sha256: of.map(|label| label.sha256.clone()).unwrap_or_default(),
        label,
        name,
    }
}

/// Writes down what is there, for those who ask without the network. Best effort: the next run looks
/// again.
pub(super) fn remember(loaded: &Loaded, run: &Run, journal: Option<&Journal>, there: &[Copy]) {
    let (Some(journal), Some(s3)) = (journal, &loaded.config.backup.s3) else { return };
    let remote = s3.shown();
    let _ = journal.quick_transaction(|connection| {
        connection.execute("DELETE FROM copies", [])?;
        for copy in there.iter().filter(|copy| copy.ours && copy.verified) {
            connection.execute(
                "INSERT OR REPLACE INTO copies(name, remote, at, bytes, seen_at) VALUES(?1, ?2, ?3, ?4, ?5)",
                params![
                    copy.name,
                    remote,
                    copy.time.timestamp_millis(),
                    copy.bytes.cast_signed(),
                    run.now.timestamp_millis()
                ],
            )?;
        }
        Ok(())
    });
}

/// The newest copy that was there when the bucket was last looked at, and when it was made.
pub(super) fn newest_known(loaded: &Loaded, journal: &Journal) -> Option<(String, DateTime<Utc>)> {
    let remote = loaded.config.backup.s3.as_ref()?.shown();
    let query = "SELECT name, at FROM copies WHERE remote = ?1 ORDER BY at DESC LIMIT 1";
    let row = journal.connection().query_row(query, [remote], |row| Ok((row.get(0)?, row.get(1)?)));
    // Best effort: it only warns.
    let (name, at): (String, i64) = row.ok()?;
    Some((name, DateTime::from_timestamp_millis(at)?))
}

/// The names and lengths of the copies, as they were when the bucket was last looked at. None:
/// there is no bucket, or nobody looked yet.
pub fn known(loaded: &Loaded, journal: Option<&Journal>) -> Result<Option<BTreeMap<String, u64>>> {
    let (Some(journal), Some(s3)) = (journal, &loaded.config.backup.s3) else { return Ok(None) };
    let read = || -> rusqlite::Result<BTreeMap<String, u64>> {
        let mut query = journal.connection().prepare("SELECT name, bytes FROM copies WHERE remote = ?1")?;
        query
            .query_map([s3.shown()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?
            .collect()
    };
    let copies = read().context("cannot read the journal")?;
    Ok(Some(copies).filter(|copies| !copies.is_empty()))
}
