//! The agent's databases: whole, not empty, and nothing left beside them by a process that died.

use super::cause::{Cause, Found, quoted};
use super::copy;
use super::permissions;
use super::view::View;
use crate::backup::catalog::{self, Catalog};
use crate::base::database::{self, Unjudged, Verdict};
use crate::base::units::Size;
use crate::base::{Home, State, process, units};
use crate::config::{Config, Kind};
use crate::service::Status;
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
    mending: Mending,
    /// Where it can come back from, if it is lost.
    source: Source,
}

impl Facts {
    /// Whether it is empty or damaged.
    fn is_lost(&self) -> bool {
        (self.bytes == 0 && self.wal == 0) || matches!(self.verdict, Ok(Verdict::Damaged(_)))
    }
}

/// What goes around a remedy that must have the database to itself.
#[derive(Clone)]
struct Mending {
    /// Its operator stopped the agent before: then it is not started afterwards either.
    stopped: bool,
    /// Where a damaged one is kept: a folder of ours, which nobody else may enter, no backup takes and no
    /// check looks into.
    keep: PathBuf,
}

impl Mending {
    fn run(&self, cause: Cause, commands: impl IntoIterator<Item = String>) -> Cause {
        let around = |command: &str| (!self.stopped).then(|| command.to_owned());
        around("ops stop").into_iter().chain(commands).chain(around("ops start")).fold(cause, Cause::run)
    }
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.at_home() else { return Ok(Found::default()) };
    let (home, config) = (&loaded.home, &loaded.config);
    let how = |status: &Result<Status, String>| status.as_ref().ok().cloned();
    let stopped = |status: &Status| status.stopped_by_operator.is_some() && status.process().is_none();
    let mending = Mending {
        stopped: view.each().all(|(.., status)| how(status).is_some_and(|status| stopped(&status))),
        keep: home.ops().join(format!("damaged-{}", units::stamp(view.run.now))),
    };
    let catalog = catalog::status(loaded, view.journal().as_ref()).ok();
    let from = |path: &Path| {
        let inside = path.strip_prefix(home.root()).ok();
        Source::of(catalog.as_ref(), inside)
    };
    let past = Past {
        ran: view
            .each()
            .any(|(_, name, ..)| view.runs(name) || view.services(loaded).last_start(name).is_some()),
        saved: catalog.as_ref().is_some_and(|catalog| !catalog.archives.is_empty()),
    };
    let mut causes: Vec<Cause> = missing(home, config)
        .iter()
        .map(|path| judge_missing(&home.show(path), &from(path), &past, &mending))
        .collect();
    let named = permissions::databases(home, config);
    let asked = config.check.values().any(|check| matches!(check.kind, Kind::Sqlite(_)));
    let paths = if asked { named } else { found_in(home) };
    let canonical = |path: &PathBuf| path.canonicalize().ok();
    let holders = process::holders(&paths.iter().filter_map(canonical).collect());
    // Who has it open is not told everywhere, nor of another user's processes: then one that runs may.
    let me = rustix::process::geteuid();
    let processes = view.each().filter_map(|(_, _, _, status)| status.as_ref().ok()?.process());
    let users: Vec<u32> = processes.map(|process| process.uid).collect();
    let running = !users.is_empty();
    let blind = cfg!(target_os = "macos") || users.iter().any(|user| !me.is_root() && *user != me.as_raw());
    let begun = Instant::now();
    for path in paths {
        let real = canonical(&path);
        let held = holders.iter().any(|(_, held)| Some(held) == real.as_ref()) || (blind && running);
        let budget = BUDGET.saturating_sub(begun.elapsed());
        let mut facts = look(home, &path, held, budget, mending.clone());
        if facts.is_lost() {
            facts.source = from(&path);
        }
        causes.extend(judge(&facts));
    }
    Ok(causes.into())
}

/// The databases that must be there and are not.
fn missing(home: &Home, config: &Config) -> Vec<PathBuf> {
    let checks = config.check.values().filter(|check| check.common.enabled);
    let patterns = checks.flat_map(|check| match &check.kind {
        Kind::Sqlite(options) => options.paths.as_slice(),
        _ => &[],
    });
    let literal =
        patterns.filter(|pattern| !pattern.contains(['*', '?', '['])).map(|pattern| home.path(pattern));
    literal.filter(|path| matches!(path.try_exists(), Ok(false))).collect()
}

/// What tells whether a database that is not there once was.
struct Past {
    /// A service runs, or was started once.
    ran: bool,
    /// There are backups.
    saved: bool,
}

/// Which archive has a database that is damaged or missing.
enum Source {
    /// The one that a restore takes.
    Latest,
    /// An older one.
    Older(String),
    /// None that can be read here.
    None,
}

impl Source {
    /// The newest archive that has the file at this path of the home, undamaged.
    fn of(catalog: Option<&Catalog>, path: Option<&Path>) -> Source {
        let Some((catalog, path)) = catalog.zip(path) else { return Source::None };
        let latest = catalog.latest().map(|latest| &latest.name);
        match catalog.newest_with(path) {
            Some(archive) if Some(&archive.name) == latest => Source::Latest,
            Some(archive) => Source::Older(archive.name.clone()),
            None if catalog.latest().is_some_and(|latest| latest.encrypted) => Source::Latest,
            None => Source::None,
        }
    }

    /// How the database is brought back: looked at first, then done.
    fn commands(&self, name: &str) -> Vec<String> {
        let archive = match self {
            Source::Latest => "latest",
            Source::Older(archive) => archive,
            Source::None => return vec!["ops backup list".to_owned()],
        };
        let restore = format!("ops restore {archive} --only {}", quoted(name));
        vec![format!("{restore} --dry-run"), restore]
    }
}

fn judge_missing(name: &str, source: &Source, past: &Past, mending: &Mending) -> Cause {
    let text = format!("the database {name} is not there");
    if !past.ran && !past.saved {
        return Cause::new("database_missing", State::Warning, 65, text)
            .run("ops backup list")
            .advise("an agent that never ran has not made it yet; else it was moved or deleted");
    }
    let cause = Cause::new("database_missing", State::Critical, 13, text);
    if matches!(source, Source::None) {
        return cause.run("ops backup list").advise(
            "was it moved or deleted? put it back before the agent starts: it may make an empty one instead",
        );
    }
    mending
        .run(cause, source.commands(name))
        .advise("it was moved or deleted; an agent that starts without it may make an empty one instead")
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

fn look(home: &Home, path: &Path, held: bool, budget: Duration, mending: Mending) -> Facts {
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let [wal, _, journal] = database::sidecars(path);
    let (bytes, wal) = (size(path), size(&wal));
    let hot = !held && size(&journal) > 0;
    let verdict = match () {
        () if bytes == 0 || hot => Ok(Verdict::Sound),
        () => check(path, wal > 0 && !held, budget).map_err(|error| format!("{error:#}")),
    };
    Facts {
        name: home.show(path),
        path: path.to_owned(),
        bytes,
        wal,
        journal: hot,
        held,
        verdict,
        mending,
        source: Source::None,
    }
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
    let damaged = quoted(&facts.path.display().to_string());
    // One each: a folder that is there already may be another's.
    let file = facts.path.file_name().unwrap_or_default().to_string_lossy();
    let folder = quoted(&format!("{}-{file}", facts.mending.keep.display()));
    let corrupt = |text: String| {
        let keep = format!("mkdir -m 700 {folder} && cp -p {damaged}* {folder}/");
        let commands = std::iter::once(keep).chain(facts.source.commands(name));
        facts.mending.run(Cause::new("database_corrupt", State::Critical, 13, text), commands).advise(
            "the longer it is written to, the more is lost; the damaged one is kept for a rescue, where only its \
             owner can read it: delete that folder when you need it no more",
        )
    };
    if *bytes == 0 && *wal == 0 {
        return vec![
            corrupt(format!("the database {name} is empty: it has no byte"))
                .seen("a full disk, a crash at its making, or a copy that failed"),
        ];
    }
    let mut causes = Vec::new();
    match &facts.verdict {
        // All but a virtual table was checked.
        Ok(Verdict::Sound | Verdict::Unjudged(Unjudged::Module, _)) => {}
        Ok(Verdict::Damaged(lines)) => causes
            .push(corrupt(format!("the database {name} is damaged")).seen(format!("SQLite says: {lines}"))),
        Ok(Verdict::Unjudged(_, why)) | Err(why) => {
            causes.push(Cause::untold(&format!("the database {name}"), why));
        }
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

    fn mending(stopped: bool) -> Mending {
        Mending { stopped, keep: "/h/.ops/damaged-1".into() }
    }

    #[test]
    fn one_that_is_not_there_comes_from_a_backup_if_there_is_one() {
        let judged = |ran, saved, stopped| {
            let source = if saved { Source::Latest } else { Source::None };
            let cause = judge_missing("a b.db", &source, &Past { ran, saved }, &mending(stopped));
            (cause.state, cause.remedy)
        };
        assert_eq!(judged(false, false, false).0, State::Warning, "it never ran");
        assert_eq!(judged(true, false, false), (State::Critical, vec!["ops backup list".to_owned()]));
        let restore = ["ops restore latest --only 'a b.db' --dry-run", "ops restore latest --only 'a b.db'"];
        assert_eq!(judged(true, true, false).1, [&["ops stop"], &restore[..], &["ops start"]].concat());
        assert_eq!(judged(true, true, true).1, restore);
    }

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
            mending: mending(false),
            source: Source::Latest,
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
