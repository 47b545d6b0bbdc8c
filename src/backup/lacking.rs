//! Which databases an archive is expected to have: those that the archive before had, and those that one
//! lacked already. Which archives stay because of that.

use super::catalog::Catalog;
use super::flaw::Flaw;
use super::globs::Globs;
use super::manifest::{Database, Lacking, Manifest, Name};
use super::plan;
use super::shelf::Archive;
use crate::config::Config;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// What an archive says of databases.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Had {
    /// Those that are in it.
    databases: Vec<Name>,
    /// Those of them that are damaged.
    #[serde(default)]
    damaged: Vec<Name>,
    /// Those that could not be read then.
    left_out: Vec<Name>,
    /// Those that it lacks.
    lacking: Vec<Lacking>,
}

impl Had {
    pub(super) fn of(manifest: &Manifest) -> Had {
        let names = |which: &dyn Fn(&Database) -> bool| -> Vec<Name> {
            let databases = manifest.databases.iter().filter(|database| which(database));
            databases.map(|database| database.path.clone()).collect()
        };
        Had {
            databases: names(&|database| !database.is_left_out()),
            damaged: names(&Database::is_damaged),
            left_out: names(&Database::is_left_out),
            lacking: manifest.lacking.clone(),
        }
    }

    /// The databases that the archive after `last`, which has these, is to have: all that the config does
    /// not leave out.
    pub(super) fn expected(
        self,
        config: &Config,
        last: &Archive,
        catalog: &Catalog,
        now: DateTime<Utc>,
    ) -> Vec<Lacking> {
        let new = |path: Name, archive: &Archive| Lacking {
            path,
            archive: archive.name.clone(),
            time: archive.time,
            since: now,
        };
        let damaged: HashSet<&Name> = self.damaged.iter().collect();
        let had = self.databases.iter().map(|path| {
            let sound = damaged.contains(path).then(|| catalog.newest_with(&path.0)).flatten();
            new(path.clone(), sound.unwrap_or(last))
        });
        let left_out = self.left_out.iter();
        let left_out = left_out
            .filter_map(|path| catalog.newest_with(&path.0).map(|archive| new(path.clone(), archive)));
        let all: Vec<Lacking> = had.chain(left_out).chain(self.lacking.iter().cloned()).collect();
        let paths: Vec<&Path> = all.iter().map(|lacking| lacking.path.0.as_path()).collect();
        let expected = expected(config, &paths);
        all.into_iter().zip(expected).filter_map(|(lacking, expected)| expected.then_some(lacking)).collect()
    }
}

/// Which of these databases a backup misses when they are not there: those that the config neither leaves
/// out nor calls optional.
pub(super) fn expected(config: &Config, paths: &[&Path]) -> Vec<bool> {
    let Ok(optional) = Globs::new(&config.backup.optional, &[]) else { return vec![false; paths.len()] };
    let wanted = plan::wanted(config, paths);
    paths.iter().zip(wanted).map(|(path, wanted)| wanted && !optional.takes(path)).collect()
}

/// Marks the archives that stay for a database that is flawed in the newest one: for each the last archive
/// that has it whole.
pub(super) fn mark_last(archives: &mut [Archive]) {
    let mut made: Vec<usize> =
        (0..archives.len()).filter(|&at| archives[at].ours && archives[at].verified).collect();
    made.sort_by_key(|&at| std::cmp::Reverse(archives[at].sequence));
    let Some((&newest, older)) = made.split_first() else { return };
    let lasts: Vec<(usize, Name)> = archives[newest]
        .flaws
        .iter()
        .filter_map(|flaw| {
            let path = flaw.database()?;
            let named = |at: &&usize| matches!(flaw, Flaw::LackingDatabase { archive, .. } if *archive == archives[**at].name);
            let whole = |at: &&usize| !archives[**at].flaws.iter().any(|flaw| flaw.database() == Some(path));
            let last = older.iter().find(named).or_else(|| older.iter().find(whole))?;
            Some((*last, path.clone()))
        })
        .collect();
    for (at, path) in lasts {
        archives[at].last_with.push(path);
    }
}
