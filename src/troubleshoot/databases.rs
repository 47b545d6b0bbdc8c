//! The agent's databases: whole, not empty, and nothing left beside them by a process that died.

use super::cause::{Cause, Found, quoted};
use super::copy;
use super::permissions;
use super::view::View;
use crate::base::database::{self, Verdict};
use crate::base::units::Size;
use crate::base::{Home, State, process};
use crate::config::{Config, Kind};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use walkdir::WalkDir;

/// How long all scans may take together.
const BUDGET: Duration = Duration::from_secs(12);

/// So many are looked at where no check names any.
const MOST: usize = 50;

struct Facts {
    name: String,
    path: PathBuf,
    bytes: u64,
    wal: u64,
    /// A rollback journal that was not played back.
    journal: bool,
    /// Whether a process has it open, as far as can be told.
    held: bool,
    /// What SQLite says; not asked of one that is empty.
    verdict: Result<Verdict, String>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.at_home() else { return Ok(Found::default()) };
    let (home, config) = (&loaded.home, &loaded.config);
    let mut causes: Vec<Cause> = missing(home, config);
    let named = permissions::databases(home, config);
    let asked = config.check.values().any(|check| matches!(check.kind, Kind::Sqlite(_)));
    let paths = if asked { named } else { found_in(home) };
    let canonical = |path: &PathBuf| path.canonicalize().ok();
    let holders = process::holders(&paths.iter().filter_map(canonical).collect());
    let begun = Instant::now();
    for path in paths {
        let real = canonical(&path);
        let held = holders.iter().any(|(_, held)| Some(held) == real.as_ref());
        causes.extend(judge(&look(home, &path, held, BUDGET.saturating_sub(begun.elapsed()))));
    }
    Ok(causes.into())
}

/// The databases that must be there and are not.
fn missing(home: &Home, config: &Config) -> Vec<Cause> {
    let checks = config.check.values().filter(|check| check.common.enabled);
    let patterns = checks.flat_map(|check| match &check.kind {
        Kind::Sqlite(options) => options.paths.as_slice(),
        _ => &[],
    });
    let literal =
        patterns.filter(|pattern| !pattern.contains(['*', '?', '['])).map(|pattern| home.path(pattern));
    let gone = literal.filter(|path| matches!(path.try_exists(), Ok(false)));
    gone.map(|path| {
        let name = home.show(&path);
        Cause::new("database_missing", State::Warning, 65, format!("the database {name} is not there"))
            .run("ops backup list")
            .run("ops restore latest --list")
            .advise("an agent that never ran has not made it yet; else it was moved or deleted, and a backup has it")
    })
    .collect()
}

/// What looks like a database in a home of which no check names any.
fn found_in(home: &Home) -> BTreeSet<PathBuf> {
    const OTHERS: [&str; 6] = [".ops", ".git", "node_modules", ".venv", "venv", "backups"];
    let beside = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() > 0 && (OTHERS.contains(&&*name) || name.starts_with(".pre-restore."))
    };
    WalkDir::new(home.root())
        .max_depth(4)
        .into_iter()
        .filter_entry(|entry| !beside(entry))
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| {
            let named =
                [".db", ".sqlite", ".sqlite3"].iter().any(|end| path.to_string_lossy().ends_with(end));
            named && database::is_sqlite(path).unwrap_or(false)
        })
        .take(MOST)
        .collect()
}

fn look(home: &Home, path: &Path, held: bool, budget: Duration) -> Facts {
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let [wal, _, journal] = database::sidecars(path);
    let (bytes, wal) = (size(path), size(&wal));
    let hot = !held && size(&journal) > 0;
    let verdict = match () {
        () if bytes == 0 || hot => Ok(Verdict::Sound),
        () => check(path, wal > 0 && !held, budget).map_err(|error| format!("{error:#}")),
    };
    Facts { name: home.show(path), path: path.to_owned(), bytes, wal, journal: hot, held, verdict }
}

/// A WAL that nobody has open would be played back by whoever opens it first: a copy of it is asked.
fn check(path: &Path, left: bool, budget: Duration) -> Result<Verdict> {
    if !database::is_sqlite(path)? {
        return Ok(Verdict::Damaged("it is not an SQLite database".to_owned()));
    }
    if !left {
        return database::quick_check(path, budget);
    }
    let folder = tempfile::tempdir()?;
    database::quick_check(&copy::database(path, folder.path())?, budget)
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let Facts { name, bytes, wal, .. } = facts;
    let keep = quoted(&facts.path.display().to_string());
    let corrupt = |text: String| {
        Cause::new("database_corrupt", State::Critical, 13, text)
            .run("ops stop")
            .run(format!("cp -p {keep}* /var/tmp/"))
            .run("ops restore latest --dry-run")
            .run("ops restore latest")
            .advise("the longer it is written to, the more is lost; the second command keeps the damaged one for a rescue")
    };
    if *bytes == 0 && *wal == 0 {
        return vec![
            corrupt(format!("the database {name} is empty: it has no byte"))
                .seen("a full disk, a crash at its making, or a copy that failed"),
        ];
    }
    let mut causes = Vec::new();
    match &facts.verdict {
        Ok(Verdict::Sound) => {}
        Ok(Verdict::Damaged(lines)) => causes
            .push(corrupt(format!("the database {name} is damaged")).seen(format!("SQLite says: {lines}"))),
        Err(why) => causes.push(Cause::untold(&format!("the database {name}"), why)),
    }
    let rest = match (facts.held, facts.journal, *wal > 0) {
        (false, true, _) => "a rollback journal: it was broken off in the middle of a write".to_owned(),
        (false, false, true) => format!("a -wal file of {}, which is not in the main file yet", Size(*wal)),
        _ => return causes,
    };
    causes.push(
        Cause::new("database_left_open", State::Warning, 95, format!("the process that had {name} open died: it left {rest}"))
            .run("ops start")
            .advise("whoever opens it next plays that back; never delete it, and never copy the main file alone: ops backup takes all of it"),
    );
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_may_lack() {
        let facts = |bytes, wal, journal, held, verdict| Facts {
            name: "a.db".to_owned(),
            path: "/h/a.db".into(),
            bytes,
            wal,
            journal,
            held,
            verdict,
        };
        let damaged = || Ok(Verdict::Damaged("row missing".to_owned()));
        for (facts, expected) in [
            (facts(1, 0, false, false, Ok(Verdict::Sound)), &[][..]),
            (facts(1, 9, false, true, Ok(Verdict::Sound)), &[]),
            (facts(1, 9, false, false, Ok(Verdict::Sound)), &["database_left_open"]),
            (facts(0, 9, false, true, Ok(Verdict::Sound)), &[]),
            (facts(0, 0, false, false, Ok(Verdict::Sound)), &["database_corrupt"]),
            (facts(1, 0, true, false, Ok(Verdict::Sound)), &["database_left_open"]),
            (facts(1, 0, false, false, damaged()), &["database_corrupt"]),
            (facts(1, 0, false, false, Err("locked".to_owned())), &["could_not_tell"]),
        ] {
            let ids: Vec<_> = judge(&facts).iter().map(|cause| cause.id).collect();
            assert_eq!(ids, expected);
        }
    }
}
