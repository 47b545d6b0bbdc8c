//! Brings to the bucket what belongs there.

use super::client::{Client, is_of_the_storage};
use super::copies::{Copy, client, copies, describe, lock, remember};
use super::label::Label;
use super::rule::{delete, judge, keep, local, wanted};
use super::signing::{Keys, Origin};
use super::upload::{self, Brought};
use crate::base::progress::Progress;
use crate::base::text::one_line;
use crate::base::{Fault, Journal, Run, State};
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// An upload that nobody went on with for so long is given up.
const ABANDONED: TimeDelta = TimeDelta::days(1);

/// What a run did for the copies.
#[derive(Clone, Debug, Serialize)]
pub struct Copied {
    /// Where they are.
    pub remote: String,
    /// The archives that were brought there now.
    pub copied: Vec<String>,
    /// The copies that were there and were signed now: those of earlier versions.
    pub signed: Vec<String>,
    /// The bytes that were sent for them.
    pub sent: u64,
    /// The archives that are wanted there and are not.
    pub missing: Vec<String>,
    /// The copies that were deleted by the rule.
    pub pruned: Vec<String>,
    /// Unfinished uploads that were given up.
    pub swept: usize,
    /// Whether the signing key was made now: a new host needs it to restore from there.
    pub new_key: bool,
    /// What a person should look at. The archives here are safe all the same.
    pub problems: Vec<String>,
}

/// Brings to the bucket what belongs there, gives up abandoned uploads, and prunes there if all
/// went well. With `trust` it also signs, as they are, copies there whose origin is not proved and
/// that are not here any more. Never fails: what went wrong is in the problems, and the next run tries
/// again.
pub fn copy(loaded: &Loaded, run: &Run, journal: Option<&Journal>, trust: bool) -> Option<Copied> {
    let s3 = loaded.config.backup.s3.as_ref()?;
    let mut copied = Copied {
        remote: s3.shown(),
        copied: Vec::new(),
        signed: Vec::new(),
        new_key: false,
        sent: 0,
        missing: Vec::new(),
        pruned: Vec::new(),
        swept: 0,
        problems: Vec::new(),
    };
    if let Err(error) = bring_all(loaded, run, journal, trust, &mut copied) {
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

fn bring_all(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    trust: bool,
    copied: &mut Copied,
) -> Result<()> {
    let _lock = lock(loaded, run)?;
    let client = client(loaded)?;
    let (keys, new_key) = Keys::ready(&loaded.home)?;
    copied.new_key = new_key;
    let here = local(loaded, journal)?;
    let mut there = copies(&client, loaded, &keys)?;
    if trust {
        sign_all(&client, loaded, &keys, &mut there, copied)?;
    }
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
        match upload::bring(&client, archive, &loaded.config.agent.name, &keys, &open, &progress) {
            Ok(Brought { label, sent, signed }) => {
                let names = if signed { &mut copied.signed } else { &mut copied.copied };
                names.push(archive.name.clone());
                copied.sent += sent;
                let bytes = label.bytes;
                there.retain(|copy| copy.name != archive.name);
                there.push(describe(loaded, &keys, archive.name.clone(), bytes, Some(label)));
            }
            Err(error) => {
                // The others would fail the same way.
                down = is_of_the_storage(&error);
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

/// Signs copies there as they are, on the word of a person. Their content is compared with what is
/// signed when they are fetched.
fn sign_all(
    client: &Client,
    loaded: &Loaded,
    keys: &Keys,
    there: &mut [Copy],
    copied: &mut Copied,
) -> Result<()> {
    let mut able = None;
    for copy in there.iter_mut().filter(|copy| copy.ours && copy.whole && copy.origin != Origin::Signed) {
        let Some(label) = &copy.label else { continue };
        let label = Label { signature: keys.sign(&copy.name, label), ..label.clone() };
        if able.is_none() {
            able = Some(client.copies_objects(&copy.name, &label)?);
        }
        if able == Some(true) && upload::sign_there(client, keys, &copy.name, &label)? {
            copied.signed.push(copy.name.clone());
            *copy = describe(loaded, keys, copy.name.clone(), copy.bytes, Some(label));
        } else {
            copied.problems.push(format!("the storage does not let {} be signed there", copy.name));
        }
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
