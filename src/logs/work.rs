//! A rotation under way: what is done, or would be, and what came of it.

use super::adopt::adopt;
use super::ledger::Ledger;
use super::plan::{Action, Care, Leap, Task, order};
use super::remove::{can_delete, delete, same_as_judged};
use super::report::{Done, Outcome};
use super::settle::settle;
use super::writers::Writers;
use super::{archive, compress, cut, tell};
use crate::base::beneath::Refused;
use crate::base::{Home, Run, text};
use crate::config::logs::{After, Discipline};
use crate::config::{Loaded, Logs};
use crate::log_files::names::packed;
use crate::log_files::{Found, Location, Log, find};
use anyhow::{Context, Result};
use chrono::{DateTime, Local, NaiveDate, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(super) struct Work<'a> {
    loaded: &'a Loaded,
    rules: &'a Logs,
    home: &'a Home,
    run: &'a Run,
    pub(super) today: NaiveDate,
    dry: bool,
    writers: Writers,
    /// None: it cannot be read, so nothing is begun that would have to be noted there.
    ledger: Option<Ledger>,
    /// How much of what was done the last look at the logs has seen.
    seen: usize,
    /// The rules of logs that were renamed or cut.
    changed: BTreeSet<String>,
    /// Logs that could not be compressed.
    pub(super) held: BTreeSet<PathBuf>,
    /// In a dry run, logs that there would be, and what they are as yet.
    foreseen: BTreeMap<PathBuf, Location>,
    pub(super) files: Vec<Done>,
}

/// What became of one file: the bytes that are left of it, and where it went.
type Left = (u64, Option<Location>);

impl<'a> Work<'a> {
    pub(super) fn new(loaded: &'a Loaded, run: &'a Run, dry: bool) -> Work<'a> {
        Work {
            loaded,
            rules: &loaded.config.logs,
            home: &loaded.home,
            run,
            today: run.now.with_timezone(&Local).date_naive(),
            dry,
            writers: Writers::default(),
            ledger: None,
            seen: 0,
            changed: BTreeSet::new(),
            held: BTreeSet::new(),
            foreseen: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// Finishes what a run before this one was at.
    pub(super) fn begin(&mut self) {
        let ledger = Ledger::read(self.home, self.rules).and_then(|mut ledger| {
            if !self.dry {
                archive::finish(self.home, self.rules, &mut ledger)
                    .context("cannot finish what a run before was at")?;
            }
            Ok(ledger)
        });
        match ledger {
            Ok(ledger) => {
                self.changed.extend(ledger.tell.iter().cloned());
                self.ledger = Some(ledger);
            }
            Err(error) => {
                let (outcome, mut why) = judge(&error);
                if !self.dry && is_refused(&error) {
                    // Whoever put it there is not to stop rotation with it.
                    if let Ok(aside) = Ledger::set_aside(self.home) {
                        why.push_str(&format!(
                            "; it is {} now: remove it when you have looked at it",
                            self.home.show(&aside)
                        ));
                        self.ledger = Some(Ledger::default());
                    }
                }
                self.say(&self.home.rotation(), None, outcome, why, 0, 0);
            }
        }
    }

    /// Whether nothing that was noted may speak of what looks like rubbish.
    pub(super) fn knows_rubbish(&self) -> bool {
        self.ledger.is_some() && !Ledger::is_refused(self.home)
    }

    /// Whether a leap of time keeps logs from going by their age, and until when. When it was first seen is noted.
    pub(super) fn holds(&mut self, leap: Option<Leap>, now: DateTime<Utc>) -> Option<(Leap, DateTime<Utc>)> {
        let until = |seen| leap.map(|leap| (leap, leap.until(seen, now)));
        let Some(ledger) = &mut self.ledger else {
            return until(None).map(|(leap, (until, _))| (leap, until));
        };
        let held = until(ledger.leap);
        let seen = held.map(|(_, (_, seen))| seen);
        if seen != ledger.leap {
            ledger.leap = seen;
            let written = if self.dry { Ok(()) } else { ledger.write(self.home) };
            if let Err(error) = written {
                let (outcome, why) = judge(&error);
                self.say(&self.home.rotation(), None, outcome, why, 0, 0);
            }
        }
        held.map(|(leap, (until, _))| (leap, until)).filter(|(_, until)| now < *until)
    }

    /// Says what cannot be helped of the logs together.
    pub(super) fn warn(&mut self, key: &str, action: Action, why: String) {
        self.say(Path::new(key), Some(action), Outcome::Skipped, why, 0, 0);
    }

    /// Whether somebody has a log open for writing.
    pub(super) fn is_held(&mut self, log: &Log) -> bool {
        log.at.metadata().is_ok_and(|meta| self.writers.of(&log.path, &meta).is_some())
    }

    /// Says so if a log that was renamed on another day is still written: nothing bounds it then.
    pub(super) fn look_for_its_writer(&mut self, log: &Log) {
        let renamed =
            log.number().is_some() && !log.compressed && log.day.is_some_and(|day| day != self.today);
        let discipline = Care::of(log, self.rules).discipline;
        if !renamed || discipline != Discipline::Rename {
            return;
        }
        let Ok(meta) = log.at.metadata() else { return };
        if let Some(writer) = self.writers.of(&log.path, &meta) {
            let why = format!(
                "{} (pid {}) still writes to it under its new name: tell it with after, or set discipline = \"copytruncate\"",
                writer.name, writer.pid
            );
            self.say(&log.path, Some(Action::Rename), Outcome::Skipped, why, log.bytes, log.bytes);
        }
    }

    pub(super) fn report_strange(&mut self, found: &Found) {
        let outcomes = found
            .strange
            .iter()
            .map(|strange| (strange, Outcome::Skipped))
            .chain(found.failed.iter().map(|failed| (failed, Outcome::Failed)));
        for ((path, why), outcome) in outcomes {
            self.say(path, None, outcome, why.clone(), 0, 0);
        }
    }

    fn say(
        &mut self,
        path: &Path,
        action: Option<Action>,
        outcome: Outcome,
        why: String,
        before: u64,
        after: u64,
    ) {
        let file = self.home.show(path);
        self.files.push(Done { file, action, outcome, why, to: None, before, after });
    }

    /// Notes, before a log is renamed or cut, that its writer is to be told.
    fn owe(&mut self, log: &Log) -> anyhow::Result<()> {
        let Some(rule) = log.rule.as_ref().filter(|rule| self.after(rule).is_some()) else { return Ok(()) };
        let ledger = noting(&mut self.ledger)?;
        if ledger.tell.insert(rule.clone()) && !self.dry { ledger.write(self.home) } else { Ok(()) }
    }

    fn after(&self, rule: &str) -> Option<&After> {
        self.rules.rule.get(rule)?.after.as_ref()
    }

    /// Does one thing to one file, and gives what is there of it then.
    pub(super) fn do_one(&mut self, Task { log, action, why }: Task) -> Option<Log> {
        if self.stays(&log, action) {
            return Some(log);
        }
        let tried = if self.dry { self.foresee(&log, action) } else { self.attempt(&log, action) };
        let (outcome, why, after, to) = match tried {
            Ok((after, to)) => {
                if action != Action::Delete {
                    self.changed.extend(log.rule.clone());
                }
                (if self.dry { Outcome::Planned } else { Outcome::Done }, why, after, to)
            }
            Err(error) => {
                let (outcome, why) = judge(&error);
                self.say(&log.path, Some(action), outcome, why, log.bytes, log.bytes);
                return Some(log);
            }
        };
        self.say(&log.path, Some(action), outcome, why, log.bytes, after);
        if let (Some(done), Some(to)) = (self.files.last_mut(), &to) {
            done.to = Some(self.home.show(&to.path()));
        }
        match (action, to) {
            (Action::Delete, _) => None,
            // It is in the archive then.
            (Action::Rename, _) if log.state => None,
            (Action::Rename, Some(to)) => Some(self.stand_in(log, to, after)),
            _ => Some(Log { bytes: after, ..log }),
        }
    }

    /// Deletes some of the logs, and gives the others.
    pub(super) fn without(&mut self, mut logs: Vec<Log>, tasks: Vec<Task>) -> Vec<Log> {
        for task in tasks {
            let path = task.log.path.clone();
            if self.do_one(task).is_none() {
                logs.retain(|log| log.path != path);
            }
        }
        logs
    }

    /// The log that there is of this one by another name.
    fn stand_in(&mut self, log: Log, at: Location, bytes: u64) -> Log {
        let real = self.foreseen.get(&log.path).unwrap_or(&log.at).clone();
        self.foreseen.insert(at.path(), real);
        Log { bytes, ..log.renamed(at) }
    }

    /// Whether a log has other names, and is not only ours to change.
    fn stays(&mut self, log: &Log, action: Action) -> bool {
        let stays = log.links > 1 && action != Action::Delete;
        if stays {
            let why = format!("it has {} names (hard links)", log.links);
            self.say(&log.path, Some(action), Outcome::Skipped, why, log.bytes, log.bytes);
        }
        stays
    }

    /// What would come of it, found out by all that can be without changing anything.
    fn foresee(&mut self, log: &Log, action: Action) -> Result<Left> {
        let care = Care::of(log, self.rules);
        if action != Action::Delete {
            self.owe(log)?;
        }
        let left = |gone| (log.bytes.saturating_sub(gone), None);
        match action {
            Action::Cut if log.state => {
                noting(&mut self.ledger)?;
                archive::foresee(&log.at, &care, &mut self.writers).map(left)
            }
            Action::Cut => {
                cut::foresee(&log.at, care.keep_lines, care.max_size.0 / 2, &mut self.writers).map(left)
            }
            Action::Rename => {
                same_as_judged(log)?;
                let given: Vec<&Path> = self.foreseen.keys().map(PathBuf::as_path).collect();
                let to = archive::foresee_name(&log.at, &self.folder(log)?, self.today, &given)?;
                Ok((log.bytes, Some(to)))
            }
            Action::Delete if !self.foreseen.contains_key(&log.path) => {
                can_delete(log, &mut self.writers).map(|()| (0, None))
            }
            Action::Delete => Ok((0, None)),
            Action::Compress | Action::Tell => Ok(left(0)),
        }
    }

    /// Where a log goes when it is renamed.
    fn folder(&self, log: &Log) -> Result<Location> {
        match log.state {
            true => archive::folder(self.home, log, self.today)
                .with_context(|| format!("cannot open {}", self.home.root().display())),
            false => Ok(log.at.folder()),
        }
    }

    fn attempt(&mut self, log: &Log, action: Action) -> Result<Left> {
        let care = Care::of(log, self.rules);
        if action != Action::Delete {
            self.owe(log)?;
        }
        match action {
            Action::Cut if log.state => {
                let ledger = noting(&mut self.ledger)?;
                let (gone, to) = archive::cut(
                    self.home,
                    self.rules,
                    self.run,
                    log,
                    self.today,
                    ledger,
                    &mut self.writers,
                )?;
                Ok((log.bytes.saturating_sub(gone), Some(to)))
            }
            Action::Cut => {
                let gone = cut::cut(&log.at, care.keep_lines, care.max_size.0 / 2, &mut self.writers)?;
                Ok((log.bytes.saturating_sub(gone), None))
            }
            Action::Rename => {
                let folder = self.folder(log)?;
                let _undisturbed =
                    log.state.then(|| archive::undisturbed(self.home, self.run)).transpose()?;
                same_as_judged(log)?;
                settle(log, &mut self.writers)
                    .with_context(|| format!("cannot rename {}", log.path.display()))?;
                Ok((log.bytes, Some(archive::rename(&log.at, &folder, self.today)?)))
            }
            Action::Delete => delete(log, &mut self.writers).map(|()| (0, None)),
            Action::Compress | Action::Tell => Ok((log.bytes, None)),
        }
    }

    /// Compresses logs, and gives those that there are then as far as that is known.
    pub(super) fn compress(&mut self, tasks: Vec<Task>) -> Vec<Log> {
        let mut there = Vec::new();
        let mut ready = Vec::new();
        for task in tasks {
            if self.stays(&task.log, task.action) { there.push(task.log) } else { ready.push(task) }
        }
        // The numbers that we give go with time.
        ready.sort_by_cached_key(|task| order(&task.log));
        let mut tasks = Vec::new();
        for task in ready {
            match if self.dry { Ok(task.log.clone()) } else { self.adopt(&task) } {
                Ok(log) => tasks.push(Task { log, ..task }),
                Err(error) => there.push(self.not_compressed(task, &error)),
            }
        }
        let results = match self.dry {
            true => {
                let real = |task: &'_ Task| self.foreseen.get(&task.log.path).unwrap_or(&task.log.at).clone();
                let real: Vec<Location> = tasks.iter().map(real).collect();
                compress::foresee(&real, &mut self.writers)
            }
            false => {
                let logs: Vec<Log> = tasks.iter().map(|task| task.log.clone()).collect();
                compress::compress(&logs, &mut self.writers)
            }
        };
        for (task, result) in tasks.into_iter().zip(results) {
            match result {
                Ok(after) => {
                    let outcome = if self.dry { Outcome::Planned } else { Outcome::Done };
                    self.say(&task.log.path, Some(task.action), outcome, task.why, task.log.bytes, after);
                    let at = task.log.at.beside(packed(task.log.name(), 0));
                    there.push(self.stand_in(task.log, at, after));
                }
                Err(error) => there.push(self.not_compressed(task, &error)),
            }
        }
        there
    }

    fn not_compressed(&mut self, Task { log, action, .. }: Task, error: &anyhow::Error) -> Log {
        let (outcome, why) = judge(error);
        self.held.insert(log.path.clone());
        self.say(&log.path, Some(action), outcome, why, log.bytes, log.bytes);
        log
    }

    /// Makes a log that its logger counts ours.
    fn adopt(&mut self, task: &Task) -> Result<Log> {
        match task.log.shifts() {
            true => adopt(&task.log, &mut self.writers),
            false => Ok(task.log.clone()),
        }
    }

    /// Tells the writers of what was renamed or cut, now or by a run that was cut short before it
    /// could. What fails is owed still.
    pub(super) fn tell(&mut self) {
        let Some(mut ledger) = self.ledger.take() else { return };
        for rule in std::mem::take(&mut ledger.tell) {
            // It may no longer be in the config; or all that was tried failed.
            let Some(after) = self.after(&rule).cloned().filter(|_| self.changed.contains(&rule)) else {
                continue;
            };
            let (outcome, why) = match self.dry {
                true => (Outcome::Planned, tell::plan(&after)),
                false => match tell::tell(self.loaded, self.run, &after) {
                    Ok(done) => (Outcome::Done, done),
                    Err(error) => {
                        ledger.tell.insert(rule.clone());
                        (Outcome::Failed, format!("{error:#}"))
                    }
                },
            };
            let place = PathBuf::from(format!("[logs.rule.{rule}]"));
            self.say(&place, Some(Action::Tell), outcome, text::one_line(&why, 300), 0, 0);
        }
        if !self.dry
            && let Err(error) = ledger.write(self.home)
        {
            let (outcome, why) = judge(&error);
            self.say(&self.home.rotation(), None, outcome, why, 0, 0);
        }
        self.ledger = Some(ledger);
    }

    /// The logs that there are now, if anything was done since the last look.
    pub(super) fn look_again(&mut self, logs: Vec<Log>) -> Vec<Log> {
        let done = self.files.iter().filter(|file| file.outcome == Outcome::Done).count();
        if self.dry || done == self.seen {
            return logs;
        }
        self.seen = done;
        find(self.home, self.rules).logs
    }
}

fn noting(ledger: &mut Option<Ledger>) -> anyhow::Result<&mut Ledger> {
    ledger.as_mut().context("what a run before was at has to be finished first")
}

fn causes(error: &anyhow::Error) -> impl Iterator<Item = &std::io::Error> {
    error.chain().filter_map(|cause| cause.downcast_ref())
}

/// Whether a file is none of ours: a link, a FIFO, or one that leads elsewhere.
fn is_refused(error: &anyhow::Error) -> bool {
    causes(error).any(|cause| Refused::of(cause).is_some())
}

/// Whether something was left alone for a reason, or failed; and why.
fn judge(error: &anyhow::Error) -> (Outcome, String) {
    let busy = causes(error).any(|cause| cause.kind() == ErrorKind::ResourceBusy);
    let outcome = if busy { Outcome::Skipped } else { Outcome::Failed };
    let why = if busy { error.root_cause().to_string() } else { format!("{error:#}") };
    (outcome, text::one_line(&why, 300))
}
