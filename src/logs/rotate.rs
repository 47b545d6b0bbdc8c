//! Keeps the logs bounded: looks, decides, does, and says what it did.

use super::find::{Found, Log, find};
use super::plan::{Action, Task, over_total, verdict};
use super::writers::Writers;
use super::{compress, cut};
use crate::base::units::Size;
use crate::base::{Home, Run, State, lines, text};
use crate::config::{Loaded, Logs};
use chrono::Local;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How it went with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It would have been done, but nothing was to be changed.
    Planned,
    /// It was left alone, for a reason.
    Skipped,
    /// It was tried and failed, or the file cannot be looked at.
    Failed,
}

/// What happened to one file.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// The file, relative to the home.
    pub file: String,
    /// What was to be done; none for a file that could not even be judged.
    pub action: Option<Action>,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was done, skipped, or failed.
    pub why: String,
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}

/// One rotation.
#[derive(Clone, Debug, Serialize)]
pub struct Rotation {
    /// The agent's name.
    pub agent: String,
    /// This run.
    pub run: String,
    /// Warning, if a file could not be dealt with.
    pub state: State,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// How many logs there are.
    pub logs: usize,
    /// What they take together, in bytes, before and after.
    pub before: u64,
    /// The same, after.
    pub after: u64,
    /// The files that something was done to, or could not be.
    pub files: Vec<Done>,
}

/// Rotates the logs of an agent by `[logs]`. One bad file never stops the rest. The caller holds
/// the lock `rotate`, unless this is a `dry` run.
pub fn rotate(loaded: &Loaded, run: &Run, dry: bool) -> Rotation {
    let rules = &loaded.config.logs;
    let home = &loaded.home;
    let mut work = Work { home, rules, dry, writers: Writers::default(), files: Vec::new() };
    let found = find(home, rules);
    let (count, before) = (found.logs.len(), total(&found.logs));
    work.report_strange(&found);
    if !dry {
        remove_rubbish(&found.logs, home);
    }

    let today = run.now.with_timezone(&Local).date_naive();
    let mut rest = Vec::new();
    let mut tasks = Vec::new();
    for log in found.logs {
        let long = is_own(home, &log.path) && is_long(&log, rules.keep_lines);
        match verdict(&log, long, rules, run.now, today) {
            Some((action, why)) => tasks.push(Task { log, action, why }),
            None => rest.push(log),
        }
    }
    // What makes room comes first: compressing needs some.
    tasks.sort_by_key(|task| task.action);
    for task in tasks {
        let after = work.do_one(&task);
        // In a dry run its size is not known: a tenth is usual for text.
        let bytes = if dry && task.action == Action::Compress { task.log.bytes / 10 } else { after };
        let compressed = task.log.compressed || task.action == Action::Compress;
        if after > 0 {
            rest.push(Log { bytes, compressed, ..task.log });
        }
    }
    if !dry {
        rest = find(home, rules).logs;
    }
    for task in over_total(&rest, rules.max_total) {
        work.do_one(&task);
    }
    let after = if dry { before - work.freed().min(before) } else { total(&find(home, rules).logs) };
    let bad = work.files.iter().any(|file| file.outcome == Outcome::Failed);
    Rotation {
        agent: loaded.config.agent.name.clone(),
        run: run.id.clone(),
        state: if bad { State::Warning } else { State::Ok },
        dry_run: dry,
        logs: count,
        before,
        after,
        files: work.files,
    }
}

impl Rotation {
    /// What was done, in one line: `2 compressed, 1 cut, 3 deleted, 1 failed; 1.2 GB before, 30 MB after`.
    pub fn summary(&self) -> String {
        let number = |action: Action, word: &str| {
            let done = |file: &&Done| {
                file.action == Some(action) && matches!(file.outcome, Outcome::Done | Outcome::Planned)
            };
            let number = self.files.iter().filter(done).count();
            (number > 0).then(|| format!("{number} {word}"))
        };
        let outcome = |outcome: Outcome, word: &str| {
            let number = self.files.iter().filter(|file| file.outcome == outcome).count();
            (number > 0).then(|| format!("{number} {word}"))
        };
        let parts: Vec<String> = [
            number(Action::Compress, "compressed"),
            number(Action::Cut, "cut"),
            number(Action::Delete, "deleted"),
            outcome(Outcome::Skipped, "left alone"),
            outcome(Outcome::Failed, "failed"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let what = if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") };
        format!(
            "{what}; {}, {} before, {} after",
            text::count(self.logs, "log"),
            Size(self.before),
            Size(self.after)
        )
    }
}

/// A rotation under way.
struct Work<'a> {
    home: &'a Home,
    rules: &'a Logs,
    dry: bool,
    writers: Writers,
    files: Vec<Done>,
}

impl Work<'_> {
    fn report_strange(&mut self, found: &Found) {
        let outcomes = found
            .strange
            .iter()
            .map(|strange| (strange, Outcome::Skipped))
            .chain(found.failed.iter().map(|failed| (failed, Outcome::Failed)));
        for ((path, why), outcome) in outcomes {
            let file = text::sanitize(&self.home.show(path));
            self.files.push(Done { file, action: None, outcome, why: why.clone(), before: 0, after: 0 });
        }
    }

    /// Does one thing to one file, and gives the bytes that are left of it.
    fn do_one(&mut self, task: &Task) -> u64 {
        let (outcome, why, after) = self.attempt(task);
        let file = text::sanitize(&self.home.show(&task.log.path));
        let (action, before) = (Some(task.action), task.log.bytes);
        self.files.push(Done { file, action, outcome, why, before, after });
        after
    }

    fn attempt(&mut self, Task { log, action, why }: &Task) -> (Outcome, String, u64) {
        let (action, why) = (*action, why.clone());
        if log.links > 1 && action != Action::Delete {
            return (Outcome::Skipped, format!("it has {} names (hard links)", log.links), log.bytes);
        }
        if self.dry {
            let after = if action == Action::Delete { 0 } else { log.bytes };
            return (Outcome::Planned, why, after);
        }
        let result = match action {
            Action::Compress => compress::compress(&log.path, &mut self.writers),
            Action::Cut => {
                cut::cut(&log.path, self.rules.keep_lines, self.rules.max_size.0, &mut self.writers)
                    .map(|gone| log.bytes.saturating_sub(gone))
            }
            Action::Delete => delete(log).map(|()| 0),
        };
        match result {
            Ok(after) => (Outcome::Done, why, after),
            Err(error) => {
                let busy = error
                    .chain()
                    .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
                    .any(|cause| cause.kind() == ErrorKind::ResourceBusy);
                let outcome = if busy { Outcome::Skipped } else { Outcome::Failed };
                let why = if busy { error.root_cause().to_string() } else { format!("{error:#}") };
                (outcome, text::one_line(&why, 300), log.bytes)
            }
        }
    }

    fn freed(&self) -> u64 {
        self.files.iter().map(|file| file.before.saturating_sub(file.after)).sum()
    }
}

/// Deletes a log, if it is still the file that was judged.
fn delete(log: &Log) -> anyhow::Result<()> {
    use anyhow::Context;
    let work = || {
        let meta = fs::symlink_metadata(&log.path)?;
        if !meta.is_file() || meta.modified()? != SystemTime::from(log.modified) {
            return Err(std::io::Error::new(ErrorKind::ResourceBusy, "it was written meanwhile"));
        }
        fs::remove_file(&log.path)
    };
    work().with_context(|| format!("cannot delete {}", log.path.display()))
}

fn total(logs: &[Log]) -> u64 {
    logs.iter().map(|log| log.bytes).sum()
}

/// Whether it is one of the text logs that we write ourselves: they are kept short.
fn is_own(home: &Home, path: &Path) -> bool {
    ["alerts", "health_check", "backup", "rotation", "restart", "cron"]
        .iter()
        .any(|name| home.log(name) == path)
}

/// Whether it has more than ten times the lines that stay when it is cut.
fn is_long(log: &Log, keep: usize) -> bool {
    let most = keep.saturating_mul(10);
    // A line takes at least its newline.
    log.bytes > most as u64
        && lines::open(&log.path)
            .and_then(|file| lines::start_of_last(&file, log.bytes, most, log.bytes))
            .is_ok_and(|start| start > 0)
}

/// Removes what runs that were killed left in the folders of the logs: half-written files, a
/// day old at least.
fn remove_rubbish(logs: &[Log], home: &Home) {
    let folders: BTreeSet<_> =
        logs.iter().filter_map(|log| log.path.parent()).map(Path::to_owned).chain([home.logs()]).collect();
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(b".part-") {
            continue;
        }
        let old = |meta: &fs::Metadata| {
            let modified = meta.modified().ok();
            meta.is_file()
                && meta.nlink() == 1
                && modified
                    .and_then(|at| at.elapsed().ok())
                    .is_some_and(|age| age > Duration::from_secs(86_400))
        };
        if entry.metadata().is_ok_and(|meta| old(&meta)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
