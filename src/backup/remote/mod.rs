//! Archives beyond this disk: a copy of each in a bucket of S3-compatible storage.
//!
//! [`copy`] brings there what is verified here, wanted by the rule and not there yet, whatever
//! run made it; a copy counts only when the storage itself says that it has the right size and
//! checksum. [`fetch`] brings one back. What the storage knows is written beside each archive
//! there, so another host with the same config finds all of it.

mod client;
mod fetch;
mod store;
mod upload;

pub use fetch::fetch;

use super::names::{ENCRYPTED, time_of_name};
use super::retention::{self, Candidate, Verdict};
use super::sidecar::Sidecar;
use super::{Archive, shelf};
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::one_line;
use crate::base::{Fault, Journal, Run, State, durable, units};
use crate::config::{Keep, Loaded};
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use client::Client;
use rusqlite::params;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use store::Label;

/// An upload that nobody went on with for so long is given up.
const ABANDONED: TimeDelta = TimeDelta::days(1);

/// One archive in the bucket.
#[derive(Clone, Debug, Serialize)]
pub struct Copy {
    /// Its file name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was made: by its label, else by its name.
    #[serde(serialize_with = "time")]
    pub time: DateTime<Utc>,
    /// Its place in the order of making; 0 if it is not ours.
    pub sequence: u64,
    /// Whether its label names this agent. Nothing else is ever pruned.
    pub ours: bool,
    /// Whether it was verified when it was made, and has the size it had then.
    pub verified: bool,
    /// The SHA-256 of the file; empty where it has no label of ours.
    pub sha256: String,
    /// The note that belongs beside it, if it is encrypted.
    #[serde(skip)]
    note: Option<Sidecar>,
}

fn time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&units::rfc3339(*at))
}

impl Copy {
    fn candidate(&self, here: &[Archive]) -> Candidate {
        Candidate {
            name: self.name.clone(),
            time: self.time,
            sequence: self.sequence,
            verified: self.verified,
            pinned: here.iter().any(|archive| archive.name == self.name && archive.pinned),
        }
    }
}

/// What a run did for the copies.
#[derive(Clone, Debug, Serialize)]
pub struct Copied {
    /// Where they are.
    pub remote: String,
    /// The archives that were brought there now.
    pub copied: Vec<String>,
    /// The bytes that were sent for them.
    pub sent: u64,
    /// The archives that are wanted there and are not.
    pub missing: Vec<String>,
    /// The copies that were deleted by the rule.
    pub pruned: Vec<String>,
    /// Unfinished uploads that were given up.
    pub swept: usize,
    /// What a person should look at. The archives here are safe all the same.
    pub problems: Vec<String>,
}

/// The copies there are, with what the rule says of each, newest first.
#[derive(Debug, Serialize)]
pub struct Remote {
    /// Where they are.
    pub remote: String,
    /// The copies.
    pub archives: Vec<Copy>,
    /// The verdicts on those that are ours.
    pub verdicts: Vec<Verdict>,
    /// Whether deleting by them would delete more than looks meant.
    pub drastic: bool,
}

impl Remote {
    /// The copies that would go.
    pub fn leaving(&self) -> impl Iterator<Item = &Copy> {
        let goes = |name: &str| self.verdicts.iter().any(|verdict| !verdict.keep && verdict.name == name);
        self.archives.iter().filter(move |copy| copy.ours && goes(&copy.name))
    }
}

/// Brings to the bucket what belongs there, gives up abandoned uploads, and prunes there if all
/// went well. Never fails: what went wrong is in the problems, and the next run tries again.
pub fn copy(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Option<Copied> {
    let s3 = loaded.config.backup.s3.as_ref()?;
    let mut copied = Copied {
        remote: s3.shown(),
        copied: Vec::new(),
        sent: 0,
        missing: Vec::new(),
        pruned: Vec::new(),
        swept: 0,
        problems: Vec::new(),
    };
    if let Err(error) = bring_all(loaded, run, journal, &mut copied) {
        copied.problems.push(format!("nothing was copied to {}: {}", copied.remote, say(&error)));
    }
    if let Some(journal) = journal {
        let state = if copied.problems.is_empty() { State::Ok } else { State::Warning };
        let what = match copied.problems.first() {
            Some(problem) => problem.clone(),
            None => format!("copied to {}: {}", copied.remote, copied.copied.join(", ")),
        };
        // Best effort: the copies matter more than the note about them.
        if state != State::Ok || !copied.copied.is_empty() {
            let _ = journal.note(run, &what, state);
        }
    }
    Some(copied)
}

fn say(error: &anyhow::Error) -> String {
    let mut text = one_line(&format!("{error:#}"), 400);
    if let Some(hint) = Fault::of(error).1 {
        text.push_str(&format!(" ({hint})"));
    }
    text
}

fn bring_all(loaded: &Loaded, run: &Run, journal: Option<&Journal>, copied: &mut Copied) -> Result<()> {
    // Not the lock of backups: a restore must not wait for a slow line.
    let _lock = lock(loaded, run)?;
    let client = client(loaded)?;
    let here = local(loaded, journal)?;
    let mut there = copies(&client, loaded)?;
    let mut wanted = wanted(&here, &there, &keep(loaded), run.now);
    // Whoever wants archives encrypted wants none of those from before to leave this host.
    wanted.retain(|archive| archive.encrypted || loaded.config.backup.encrypt_to.is_empty());
    let open = if wanted.is_empty() { None } else { client.uploads()? }.unwrap_or_default();
    let bytes = wanted.iter().map(|archive| archive.bytes).sum();
    let progress = Progress::new("copying", bytes, run.watched);
    let mut down = false;
    for archive in wanted {
        if down {
            copied.missing.push(archive.name.clone());
            continue;
        }
        match upload::bring(&client, archive, &loaded.config.agent.name, &open, &progress) {
            Ok((label, sent)) => {
                copied.copied.push(archive.name.clone());
                copied.sent += sent;
                let bytes = label.bytes;
                there.retain(|copy| copy.name != archive.name);
                there.push(describe(loaded, archive.name.clone(), bytes, Some(label)));
            }
            Err(error) => {
                // The others would fail the same way.
                down = client::is_of_the_storage(&error);
                copied.missing.push(archive.name.clone());
                copied.problems.push(format!(
                    "{} is not copied to {}, it is safe here and the next backup tries again: {}",
                    archive.name,
                    copied.remote,
                    say(&error)
                ));
            }
        }
    }
    progress.finish();
    remember(loaded, run, journal, &there);
    if !copied.problems.is_empty() {
        return Ok(());
    }
    let mut remote = judge(&client, loaded, run, &here, there);
    if remote.drastic {
        copied.problems.push(format!(
            "the rule would delete {} of {} archives in {}, which looks like a slip: `backup prune --remote` does it",
            remote.leaving().count(),
            remote.verdicts.len(),
            copied.remote
        ));
    } else if let Err(error) = delete(&client, &remote, &mut copied.pruned) {
        copied.problems.push(format!("nothing more was pruned in {}: {}", copied.remote, say(&error)));
    }
    if !copied.pruned.is_empty() {
        remote.archives.retain(|copy| !copied.pruned.contains(&copy.name));
        remember(loaded, run, journal, &remote.archives);
    }
    match sweep(&client, run.now) {
        Ok(swept) => copied.swept = swept,
        Err(error) => copied.problems.push(format!(
            "an abandoned upload to {} could not be given up: {}",
            copied.remote,
            say(&error)
        )),
    }
    Ok(())
}

/// What is in the bucket, and what the rule says of it. Changes nothing.
///
/// # Errors
/// A [`Fault`] when there is no `[backup.s3]`, or the storage refuses or cannot be reached.
pub fn list(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Remote> {
    let client = client(loaded)?;
    let there = copies(&client, loaded)?;
    remember(loaded, run, journal, &there);
    Ok(judge(&client, loaded, run, &local(loaded, journal)?, there))
}

/// Deletes in the bucket what the rule lets go, however much it is. Gives the names.
///
/// # Errors
/// As [`list()`]. What was deleted until then stays deleted.
pub fn prune(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Vec<String>> {
    let _lock = lock(loaded, run)?;
    let mut remote = list(loaded, run, journal)?;
    let mut deleted = Vec::new();
    let done = delete(&client(loaded)?, &remote, &mut deleted);
    remote.archives.retain(|copy| !deleted.contains(&copy.name));
    remember(loaded, run, journal, &remote.archives);
    done.map(|()| deleted)
}

/// Writes down what is there, for those who ask without the network. Best effort: the next run looks
/// again.
fn remember(loaded: &Loaded, run: &Run, journal: Option<&Journal>, there: &[Copy]) {
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

fn lock(loaded: &Loaded, run: &Run) -> Result<durable::Lock> {
    durable::Lock::take(&loaded.home, "copy", run, durable::PATIENCE)
}

fn client(loaded: &Loaded) -> Result<Client> {
    match &loaded.config.backup.s3 {
        Some(s3) => Client::new(s3),
        None => Err(Fault::unknown("there is no bucket: the config has no [backup.s3]")
            .hint("set endpoint and bucket there; the runbook Backup and Restore shows how")
            .into()),
    }
}

fn keep(loaded: &Loaded) -> Keep {
    let backup = &loaded.config.backup;
    backup.s3.as_ref().and_then(|s3| s3.keep).unwrap_or(backup.keep)
}

/// The archives here that a copy may be made of.
fn local(loaded: &Loaded, journal: Option<&Journal>) -> Result<Vec<Archive>> {
    let mut here = shelf::list(loaded, journal)?;
    here.retain(|archive| archive.ours && archive.verified);
    Ok(here)
}

/// Every archive in the bucket, newest first, by what the storage says of each.
fn copies(client: &Client, loaded: &Loaded) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for name in client.names()? {
        // One that went away meanwhile is not there.
        let Some(head) = client.head(&name)? else { continue };
        copies.push(describe(loaded, name, head.bytes, head.label));
    }
    copies.sort_by(|a, b| (b.time, b.sequence, &b.name).cmp(&(a.time, a.sequence, &a.name)));
    Ok(copies)
}

fn describe(loaded: &Loaded, name: String, bytes: u64, label: Option<Label>) -> Copy {
    let by_name = time_of_name(&name).unwrap_or(DateTime::UNIX_EPOCH);
    match label {
        Some(label) => Copy {
            bytes,
            time: label.time,
            sequence: label.sequence,
            ours: label.agent == loaded.config.agent.name,
            verified: label.bytes == bytes && (label.note.is_some() || !name.ends_with(ENCRYPTED)),
            sha256: label.sha256,
            note: label.note,
            name,
        },
        None => Copy {
            bytes,
            time: by_name,
            sequence: 0,
            ours: false,
            verified: false,
            sha256: String::new(),
            note: None,
            name,
        },
    }
}

/// The archives that are here, wanted there by the rule, and not there. The newest first.
fn wanted<'a>(here: &'a [Archive], there: &[Copy], keep: &Keep, now: DateTime<Utc>) -> Vec<&'a Archive> {
    let is_there = |archive: &Archive| {
        there.iter().any(|copy| {
            copy.ours
                && copy.verified
                && (&copy.name, copy.bytes, copy.sequence) == (&archive.name, archive.bytes, archive.sequence)
        })
    };
    let mut all: Vec<Candidate> = here.iter().map(Archive::candidate).collect();
    let known = |copy: &&Copy| copy.ours && !here.iter().any(|archive| archive.name == copy.name);
    all.extend(there.iter().filter(known).map(|copy| copy.candidate(here)));
    let verdicts = retention::verdicts(&all, keep, now);
    here.iter()
        .zip(&verdicts)
        .filter(|(archive, verdict)| verdict.keep && !is_there(archive))
        .map(|(archive, _)| archive)
        .collect()
}

fn judge(client: &Client, loaded: &Loaded, run: &Run, here: &[Archive], archives: Vec<Copy>) -> Remote {
    let ours: Vec<Candidate> =
        archives.iter().filter(|copy| copy.ours).map(|copy| copy.candidate(here)).collect();
    let verdicts = retention::verdicts(&ours, &keep(loaded), run.now);
    let drastic = retention::is_drastic(&verdicts);
    Remote { remote: client.shown().to_owned(), archives, verdicts, drastic }
}

fn delete(client: &Client, remote: &Remote, deleted: &mut Vec<String>) -> Result<()> {
    for copy in remote.leaving() {
        step("prune remote")?;
        client.delete(&copy.name)?;
        deleted.push(copy.name.clone());
    }
    Ok(())
}

/// Gives up uploads of ours that nobody goes on with: their parts take room that no list shows.
fn sweep(client: &Client, now: DateTime<Utc>) -> Result<usize> {
    let mut swept = 0;
    for upload in client.uploads()?.unwrap_or_default() {
        if upload.begun.is_some_and(|begun| begun < now - ABANDONED) {
            client.abort(&upload.name, &upload.id)?;
            swept += 1;
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}T03:00:00Z").parse().unwrap()
    }

    fn archive(sequence: u64, day: &str) -> Archive {
        Archive {
            name: format!("{}_030000.tar.gz", day.replace('-', "")),
            path: "x".into(),
            bytes: 10,
            time: at(day),
            sequence,
            files: None,
            content: None,
            ours: true,
            encrypted: false,
            verified: true,
            pinned: false,
            verified_at: None,
            drilled: None,
            problem: None,
        }
    }

    fn copy_of(archive: &Archive) -> Copy {
        Copy {
            name: archive.name.clone(),
            bytes: archive.bytes,
            time: archive.time,
            sequence: archive.sequence,
            ours: true,
            verified: true,
            sha256: "aa".to_owned(),
            note: None,
        }
    }

    #[test]
    fn what_is_wanted_and_not_there_is_brought_the_newest_first() {
        let here = [archive(3, "2026-11-20"), archive(2, "2026-11-19"), archive(1, "2024-01-01")];
        let names = |there: &[Copy]| -> Vec<u64> {
            let wanted = wanted(&here, there, &Keep::default(), at("2026-11-20"));
            wanted.iter().map(|archive| archive.sequence).collect()
        };
        // The rule would not keep the one of 2024, so it is not sent to be deleted again.
        assert_eq!(names(&[]), [3, 2]);
        assert_eq!(names(&[copy_of(&here[0])]), [2]);
        let mut torn = copy_of(&here[0]);
        torn.verified = false;
        assert_eq!(names(&[torn, copy_of(&here[1])]), [3]);
        let mut other = copy_of(&here[1]);
        other.sequence = 77;
        assert_eq!(names(&[copy_of(&here[0]), other]), [2]);
    }

    #[test]
    fn what_is_not_ours_has_no_verdict() {
        let mut copies = vec![copy_of(&archive(2, "2026-11-20")), copy_of(&archive(1, "2020-01-01"))];
        copies[1].ours = false;
        let remote = Remote {
            remote: String::new(),
            verdicts: vec![
                Verdict { name: copies[0].name.clone(), keep: true, reasons: Vec::new() },
                Verdict { name: copies[1].name.clone(), keep: false, reasons: Vec::new() },
            ],
            archives: copies,
            drastic: false,
        };
        assert_eq!(remote.leaving().count(), 0);
    }
}
