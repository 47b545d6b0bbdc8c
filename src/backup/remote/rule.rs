//! Which archives belong into the bucket, and which of those there leave it.

use super::client::Client;
use super::copies::{Copy, client, copies, lock, remember};
use super::signing::Keys;
use crate::backup::retention::{self, Candidate, Verdict};
use crate::backup::shelf::{self, Archive};
use crate::base::step::step;
use crate::base::{Journal, Run};
use crate::config::{Keep, Loaded};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::Serialize;

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

/// What is in the bucket, and what the rule says of it. Changes nothing.
///
/// # Errors
/// A [`crate::base::Fault`] when there is no `[backup.s3]`, or the storage refuses or cannot be reached.
pub fn list(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Remote> {
    let client = client(loaded)?;
    let there = copies(&client, loaded, &Keys::read(&loaded.home)?)?;
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

/// The rule of the bucket.
pub(super) fn keep(loaded: &Loaded) -> Keep {
    let backup = &loaded.config.backup;
    backup.s3.as_ref().and_then(|s3| s3.keep).unwrap_or(backup.keep)
}

/// The archives here that a copy may be made of.
pub(super) fn local(loaded: &Loaded, journal: Option<&Journal>) -> Result<Vec<Archive>> {
    let mut here = shelf::list(loaded, journal)?;
    here.retain(|archive| archive.ours && archive.verified);
    Ok(here)
}

/// The archives that are here, wanted there by the rule, and not there. The newest first.
pub(super) fn wanted<'a>(
    here: &'a [Archive],
    there: &[Copy],
    keep: &Keep,
    now: DateTime<Utc>,
) -> Vec<&'a Archive> {
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

/// What the rule says of the copies there are.
pub(super) fn judge(
    client: &Client,
    loaded: &Loaded,
    run: &Run,
    here: &[Archive],
    archives: Vec<Copy>,
) -> Remote {
    let ours: Vec<Candidate> =
        archives.iter().filter(|copy| copy.ours).map(|copy| copy.candidate(here)).collect();
    let verdicts = retention::verdicts(&ours, &keep(loaded), run.now);
    let drastic = retention::is_drastic(&verdicts);
    Remote { remote: client.shown().to_owned(), archives, verdicts, drastic }
}

/// Deletes what the rule lets go. The names of what was are added to `deleted`.
pub(super) fn delete(client: &Client, remote: &Remote, deleted: &mut Vec<String>) -> Result<()> {
    for copy in remote.leaving() {
        step("prune remote")?;
        client.delete(&copy.name)?;
        deleted.push(copy.name.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::flaw::Standing;

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
            standing: Some(Standing::Good),
            flaws: Vec::new(),
            last_with: Vec::new(),
            unjudged: Vec::new(),
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
            origin: crate::backup::remote::Origin::Signed,
            verified: true,
            whole: true,
            label: None,
            sha256: "aa".to_owned(),
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
