//! Which databases an archive is expected to have: those that the archive before had, and those that one
//! lacked already.

use super::catalog::Catalog;
use super::manifest::{Lacking, Manifest, Name};
use super::plan;
use super::shelf::Archive;
use crate::config::Config;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How long a database is missed. After that it is taken for gone for good.
const MISSED_FOR: TimeDelta = TimeDelta::days(7);

/// What an archive says of databases.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Had {
    /// Those that are in it.
    databases: Vec<Name>,
    /// Those that could not be read then.
    left_out: Vec<Name>,
    /// Those that it lacks.
    lacking: Vec<Lacking>,
}

impl Had {
    pub(super) fn of(manifest: &Manifest) -> Had {
        let (left_out, there): (Vec<_>, Vec<_>) =
            manifest.databases.iter().partition(|database| database.is_left_out());
        let names = |databases: Vec<&super::manifest::Database>| {
            databases.into_iter().map(|database| database.path.clone()).collect()
        };
        Had { databases: names(there), left_out: names(left_out), lacking: manifest.lacking.clone() }
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
        let had = self.databases.into_iter().map(|path| new(path, last));
        let left_out = self.left_out.into_iter();
        let left_out =
            left_out.filter_map(|path| catalog.newest_with(&path.0).map(|archive| new(path, archive)));
        let missed = self.lacking.into_iter().filter(|lacking| now - lacking.since < MISSED_FOR);
        let all: Vec<Lacking> = had.chain(left_out).chain(missed).collect();
        let paths: Vec<&Path> = all.iter().map(|lacking| lacking.path.0.as_path()).collect();
        let wanted = plan::wanted(config, &paths);
        all.into_iter().zip(wanted).filter_map(|(lacking, wanted)| wanted.then_some(lacking)).collect()
    }
}
