//! Which archive a restore would take, and what is wrong with it and with newer ones: the one answer that
//! every command, check and view gives.

use super::flaw::{Flaw, Standing};
use super::index::peek;
use super::manifest::Database;
use super::records::Records;
use super::shelf::{self, Archive};
use crate::base::Journal;
use crate::base::text::count;
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::path::Path;

/// The archives there are, and the one that a restore takes.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// All in the backup folder, the newest first.
    pub archives: Vec<Archive>,
    /// The one that `latest` means: of those that are good for most, the one made last.
    pub latest: Option<usize>,
}

/// Looks at the archives of this agent.
///
/// # Errors
/// When the backup folder or the journal cannot be read. An archive that cannot be read is none.
pub fn status(loaded: &Loaded, journal: Option<&Journal>) -> Result<Catalog> {
    Ok(Catalog::of(shelf::list(loaded, journal)?))
}

/// [`status`], given what the journal knows: for those who cannot ask it now.
///
/// # Errors
/// As of [`status`].
pub fn status_knowing(loaded: &Loaded, records: &Records) -> Result<Catalog> {
    Ok(Catalog::of(shelf::list_knowing(loaded, records, &mut |_, _, _| {})?))
}

impl Catalog {
    fn of(archives: Vec<Archive>) -> Catalog {
        let rank = |archive: &Archive| {
            // By the order of making: a clock that was wrong once does not matter.
            let standing = archive.standing.filter(|standing| *standing != Standing::Unreadable)?;
            Some((std::cmp::Reverse(standing), archive.sequence))
        };
        let ranked =
            archives.iter().enumerate().filter_map(|(number, archive)| Some((rank(archive)?, number)));
        let latest = ranked.max().map(|(_, number)| number);
        Catalog { archives, latest }
    }

    /// The archive that a restore takes.
    pub fn latest(&self) -> Option<&Archive> {
        self.archives.get(self.latest?)
    }

    /// Archives of this agent that were made after that one, and why a restore does not take them. The
    /// newest first.
    pub fn newer(&self) -> impl Iterator<Item = &Archive> {
        let latest = self.latest();
        self.archives.iter().filter(move |archive| {
            archive.ours
                && !archive.flaws.is_empty()
                && latest.is_none_or(|latest| match archive.sequence {
                    // Nothing tells its place but its name.
                    0 => archive.time >= latest.time && archive.name != latest.name,
                    sequence => sequence > latest.sequence,
                })
        })
    }

    /// The archives that were made before a time.
    pub fn before(self, time: DateTime<Utc>) -> Catalog {
        Catalog::of(self.archives.into_iter().filter(|archive| archive.time <= time).collect())
    }

    /// What is wrong with archives that are newer than `latest`, for people.
    pub fn newer_flaws(&self) -> Vec<String> {
        let mut newer = self.newer();
        let first = newer.next().map(|archive| {
            let flaws: Vec<_> = archive.flaws.iter().take(3).map(Flaw::to_string).collect();
            let more = match archive.flaws.len().saturating_sub(3) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            format!("the newer backup {} is {}: {}{more}", archive.name, archive.word(), flaws.join("; "))
        });
        let more = newer.count();
        let more = (more > 0).then(|| {
            format!(
                "{} between it and the last good one {} flaws too",
                count(more, "backup"),
                if more == 1 { "has" } else { "have" }
            )
        });
        first.into_iter().chain(more).collect()
    }

    /// The newest archive of this agent in which this file of the home is a database that is not damaged.
    /// Archives are opened for this, but for those that are encrypted.
    pub fn newest_with(&self, path: &Path) -> Option<&Archive> {
        let mut ours: Vec<&Archive> =
            self.archives.iter().filter(|archive| archive.ours && archive.verified).collect();
        ours.sort_by_key(|archive| std::cmp::Reverse(archive.sequence));
        ours.into_iter().filter(|archive| !archive.encrypted).find(|archive| {
            let Ok(Some(manifest)) = peek(&archive.path) else { return false };
            let good = |database: &Database| database.path.0 == path && !database.is_damaged();
            manifest.databases.iter().any(good) && manifest.files.iter().any(|item| item.path.0 == path)
        })
    }
}

impl Archive {
    /// What it is good for, in a word.
    pub fn word(&self) -> &'static str {
        match self.standing {
            None => "of another agent or program",
            Some(Standing::Good) => "good",
            Some(Standing::Incomplete) => "incomplete",
            Some(Standing::Damaged) => "damaged",
            Some(Standing::Unreadable) => "unreadable",
        }
    }
}
