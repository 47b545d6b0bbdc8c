//! What is wrong with an archive, as a fact: what a restore of it would not bring back, or would bring
//! back damaged.

use super::manifest::{Database, Lacking, Manifest, Name, Soundness, Unjudged};
use crate::base::database::sidecars;
use crate::base::text::one_line;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// One thing that is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Flaw {
    /// It cannot be read, or not as what it was made.
    Unreadable {
        /// What is wrong.
        why: String,
    },
    /// A database in it is damaged.
    DamagedDatabase {
        /// Its file, relative to the home.
        path: Name,
        /// What its check said.
        why: String,
        /// Whether only its raw files are there, below `.damaged`.
        raw: bool,
    },
    /// A database could not be read when it was made, and is not in it.
    LeftOut {
        /// Its file, relative to the home.
        path: Name,
        /// Why.
        reason: Unjudged,
    },
    /// A database is not in it that an archive before had.
    LackingDatabase {
        /// Its file, relative to the home.
        path: Name,
        /// The newest archive that has it.
        archive: String,
    },
    /// A path is not in it that `include` names.
    MissingInclude {
        /// The include.
        pattern: String,
    },
    /// A dump is not in it, or is empty: its command failed.
    FailedDump {
        /// Its name in the config.
        name: String,
        /// Why, for people.
        why: String,
    },
    /// It is encrypted, and the note beside it gives only numbers.
    Encrypted {
        /// Damaged databases.
        damaged: usize,
        /// Databases, includes and dumps that are missing.
        missing: usize,
    },
}

/// A database that could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotJudged {
    /// Its file, relative to the home.
    pub path: Name,
    /// Why not.
    pub reason: Unjudged,
    /// What SQLite said.
    pub why: String,
}

/// What an archive is good for. The first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its databases are sound, or could not be judged, and it misses nothing.
    Good,
    /// It misses something.
    Incomplete,
    /// A database in it is damaged.
    Damaged,
    /// It cannot be read.
    Unreadable,
}

impl Flaw {
    /// The database that it is about.
    pub(super) fn database(&self) -> Option<&Name> {
        match self {
            Flaw::DamagedDatabase { path, .. }
            | Flaw::LeftOut { path, .. }
            | Flaw::LackingDatabase { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What an archive with this flaw is good for.
    fn standing(&self) -> Standing {
        match self {
            Flaw::Unreadable { .. } => Standing::Unreadable,
            Flaw::DamagedDatabase { .. } => Standing::Damaged,
            Flaw::Encrypted { damaged, .. } if *damaged > 0 => Standing::Damaged,
            Flaw::LeftOut { .. }
            | Flaw::LackingDatabase { .. }
            | Flaw::MissingInclude { .. }
            | Flaw::FailedDump { .. }
            | Flaw::Encrypted { .. } => Standing::Incomplete,
        }
    }
}

impl Standing {
    /// What an archive with these flaws is good for.
    pub fn of(flaws: &[Flaw]) -> Standing {
        flaws.iter().map(Flaw::standing).max().unwrap_or(Standing::Good)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Name| one_line(&path.0.display().to_string(), 300);
        match self {
            Flaw::Unreadable { why } => write!(f, "it cannot be relied on: {}", one_line(why, 300)),
            Flaw::DamagedDatabase { path, why, raw: false } => {
                write!(f, "the database {} in it is damaged: {}", name(path), one_line(why, 160))
            }
            Flaw::DamagedDatabase { path, why, raw: true } => {
                let why = one_line(why, 160);
                write!(
                    f,
                    "the database {} is damaged: only its raw files are in it, below .damaged: {why}",
                    name(path)
                )
            }
            Flaw::LeftOut { path, reason: Unjudged::Locked } => {
                write!(f, "the database {} was locked by its writer and is not in it", name(path))
            }
            Flaw::LeftOut { path, .. } => {
                write!(f, "the database {} could not be read and is not in it", name(path))
            }
            Flaw::LackingDatabase { path, archive } => {
                write!(f, "the database {} is missing; {} has it", name(path), one_line(archive, 100))
            }
            Flaw::MissingInclude { pattern } => {
                write!(f, "{} is missing, which include in [backup] names", one_line(pattern, 300))
            }
            Flaw::FailedDump { name, why } => {
                write!(f, "the dump {} failed: {}", one_line(name, 100), one_line(why, 300))
            }
            Flaw::Encrypted { damaged, missing } => {
                write!(
                    f,
                    "{damaged} of its databases are damaged, and {missing} files that should be in it are missing"
                )
            }
        }
    }
}

impl fmt::Display for NotJudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, why) = (one_line(&self.path.0.display().to_string(), 300), one_line(&self.why, 160));
        write!(f, "the database {path} could not be judged ({why}); it is restored as it was saved")
    }
}

impl Manifest {
    /// Everything that is wrong with the archive, by its manifest.
    pub fn flaws(&self) -> Vec<Flaw> {
        let damaged = self.databases.iter().filter(|database| database.is_damaged());
        let mut only_raw: HashSet<&Path> = damaged.map(|database| database.path.0.as_path()).collect();
        if !only_raw.is_empty() {
            for item in &self.files {
                only_raw.remove(item.path.0.as_path());
            }
        }
        let mut flaws: Vec<Flaw> =
            self.databases.iter().filter_map(|database| flaw_of(database, &only_raw)).collect();
        // Schema 1 names those that could not be copied nowhere else.
        let raw: HashSet<&Path> = self.damaged.iter().map(|item| item.path.0.as_path()).collect();
        let beside: HashSet<_> = raw.iter().flat_map(|path| sidecars(path)).collect();
        let known: HashSet<&Path> = self.databases.iter().map(|database| database.path.0.as_path()).collect();
        let unnamed = self.damaged.iter().filter(|item| {
            let path = item.path.0.as_path();
            !known.contains(path) && !beside.contains(path)
        });
        flaws.extend(unnamed.map(|item| Flaw::DamagedDatabase {
            path: item.path.clone(),
            why: "it could not be copied".to_owned(),
            raw: true,
        }));
        flaws.extend(self.lacking.iter().map(|Lacking { path, archive, .. }| {
            let (path, archive) = (path.clone(), archive.clone());
            if self.has_file(&path.0) {
                let why = format!("it is no database any more; {archive} has it");
                Flaw::DamagedDatabase { path, why, raw: false }
            } else {
                Flaw::LackingDatabase { path, archive }
            }
        }));
        let missing = self.includes.iter().filter(|include| include.is_missing());
        flaws.extend(missing.map(|include| Flaw::MissingInclude { pattern: include.pattern.clone() }));
        let failed = self.no_dumps.iter().map(|dump| (&dump.name, dump.why.clone()));
        let empty = self.dumps.iter().filter(|dump| dump.file.size() == 0);
        let empty = empty.map(|dump| (&dump.name, "its command wrote nothing".to_owned()));
        flaws.extend(failed.chain(empty).map(|(name, why)| Flaw::FailedDump { name: name.clone(), why }));
        flaws
    }

    /// The databases in the archive that could not be judged.
    pub fn not_judged(&self) -> Vec<NotJudged> {
        let not_judged = |database: &Database| match database.soundness {
            Soundness::Unjudged(reason) if !database.is_left_out() => {
                Some(NotJudged { path: database.path.clone(), reason, why: database.integrity.clone() })
            }
            _ => None,
        };
        self.databases.iter().filter_map(not_judged).collect()
    }
}

fn flaw_of(database: &Database, only_raw: &HashSet<&Path>) -> Option<Flaw> {
    let path = database.path.clone();
    match database.soundness {
        Soundness::Damaged => {
            let raw = only_raw.contains(database.path.0.as_path());
            Some(Flaw::DamagedDatabase { path, why: database.integrity.clone(), raw })
        }
        Soundness::Unjudged(reason) if database.is_left_out() => Some(Flaw::LeftOut { path, reason }),
        Soundness::Sound | Soundness::Unjudged(_) => None,
    }
}
