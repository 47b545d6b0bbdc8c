//! Keeps the logs bounded: looks, decides, does, and says what it did.

use super::ledger::Ledger;
use super::plan::{Action, Care, Task, order, over_keep, over_total, verdict};
use super::remove::{delete, remove_rubbish, same_as_judged};
use super::report::{Done, Outcome, Rotation};
use super::writers::Writers;
use super::{archive, compress, cut, tell};
use crate::base::{Home, Run, State, durable, lines, text};
use crate::config::logs::{After, Discipline};
use crate::config::{Loaded, Logs};
use crate::log_files::find;
use crate::log_files::{Found, Log};
use anyhow::Context;
use chrono::{Local, NaiveDate};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Rotates the logs of an agent by `[logs]`. One bad file never stops the rest. The caller holds
/// the lock `rotate`, unless this is a `dry` run.
pub fn rotate(loaded: &Loaded, run: &Run, dry: bool) -> Rotation {
    let rules = &loaded.config.logs;
    let home = &loaded.home;
    let today = run.now.with_timezone(&Local).date_naive();
    let mut work = Work {
        loaded,
        rules,
        home,
        run,
        today,
        dry,
        writers: Writers::default(),
        ledger: None,
        seen: 0,
        changed: BTreeSet::new(),
        files: Vec::new(),
    };
    work.begin();
    let found = find(home, rules);
    let (count, before) = (found.logs.len(), total(&found.logs));
    work.report_strange(&found);
    // What it speaks of may look like rubbish.
    if !dry && work.ledger.is_some() {
        remove_rubbish(&found, home);
    }

    let mut rest = Vec::new();
    let mut tasks = Vec::new();
    for log in found.logs {
        let care = Care::of(&log, rules);
        let long = is_own(home, &log.path) && is_long(&log, care.keep_lines);
        match verdict(&log, long, &care, run.now, today) {
            Some((action, why)) => tasks.push(Task { log, action, why }),
            None => {
                work.look_for_its_writer(&log);
                rest.push(log);
            }
        }
    }
    for log in found.archived {
        work.look_for_its_writer(&log);
        let verdict = verdict(&log, false, &Care::of(&log, rules), run.now, today);
        if let Some((action @ Action::Compress, why)) = verdict {
            tasks.push(Task { log, action, why });
        }
    }
    // What makes room comes first: compressing needs some.
    tasks.sort_by_key(|task| task.action);
    let packed = tasks.partition_point(|task| task.action < Action::Compress);
    let to_compress = tasks.split_off(packed);
    for task in tasks {
        if work.do_one(&task) > 0 {
            rest.push(task.log);
        }
    }
    rest.extend(work.compress(to_compress));
    work.tell();

    for spare in [over_keep, over_total] {
        rest = work.look_again(rest);
        for task in spare(&rest, rules, run.now, today) {
            if work.do_one(&task) == 0 {
                rest.retain(|log| log.path != task.log.path);
            }
        }
    }
    let after = match dry {
        true => before - work.freed().min(before),
        false => total(&work.look_again(rest)),
    };
    let stuck = |file: &Done| {
        file.outcome == Outcome::Failed
            || file.outcome == Outcome::Skipped && matches!(file.action, Some(Action::Cut | Action::Rename))
    };
    Rotation {
        agent: loaded.config.agent.name.clone(),
        run: run.id.clone(),
        state: if work.files.iter().any(stuck) { State::Warning } else { State::Ok },
        dry_run: dry,
        logs: count,
        before,
        after,
        files: work.files,
    }
}

/// A rotation under way.
struct Work<'a> {
    loaded: &'a Loaded,
    rules: &'a Logs,
    home: &'a Home,
    run: &'a Run,
    today: NaiveDate,
    dry: bool,
    writers: Writers,
    /// None: it cannot be read, so nothing is begun that would have to be noted there.
    ledger: Option<Ledger>,
    /// How much of what was done the last look at the logs has seen.
    seen: usize,
    /// The rules of logs that were renamed or cut.
    changed: BTreeSet<String>,
    files: Vec<Done>,
}

/// What became of one file: the bytes that are left of it, and where it went.
type Left = (u64, Option<PathBuf>);

impl Work<'_> {
    /// Finishes what a run before this one was at.
    fn begin(&mut self) {
        let ledger = Ledger::read(self.home).and_then(|mut ledger| {
            if !self.dry {
                archive::finish(self.home, &mut ledger).context("cannot finish what a run before was at")?;
            }
            Ok(ledger)
        });
        match ledger {
            Ok(ledger) => {
                self.changed.extend(ledger.tell.iter().cloned());
                self.ledger = Some(ledger);
            }
            Err(error) => {
                let (outcome, why) = judge(&error);
                self.say(&self.home.rotation(), None, outcome, why, 0, 0);
            }
        }
    }

    /// Says so if a log that was renamed on another day is still written: nothing bounds it then.
    fn look_for_its_writer(&mut self, log: &Log) {
        let renamed =
            log.number().is_some() && !log.compressed && log.day.is_some_and(|day| day != self.today);
        let discipline = Care::of(log, self.rules).discipline;
        if !renamed || discipline != Discipline::Rename {
            return;
        }
        let Ok(meta) = fs::symlink_metadata(&log.path) else { return };
        if let Some(writer) = self.writers.of(&log.path, &meta) {
            let why = format!(
                "{} (pid {}) still writes to it under its new name: tell it with after, or set discipline = \"copytruncate\"",
                writer.name, writer.pid
            );
            self.say(&log.path, Some(Action::Rename), Outcome::Skipped, why, log.bytes, log.bytes);
        }
    }

    fn report_strange(&mut self, found: &Found) {
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
        let file = text::sanitize(&self.home.show(path));
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

    /// Does one thing to one file, and gives the bytes that are left of it.
    fn do_one(&mut self, Task { log, action, why }: &Task) -> u64 {
        if self.stays(log, *action) {
            return log.bytes;
        }
        let (outcome, why, after, to) = match self.attempt(log, *action) {
            Ok((after, to)) => {
                if *action != Action::Delete {
                    self.changed.extend(log.rule.clone());
                }
                let outcome = if self.dry { Outcome::Planned } else { Outcome::Done };
                (outcome, why.clone(), after, to)
            }
            Err(error) => {
                let (outcome, why) = judge(&error);
                (outcome, why, log.bytes, None)
            }
        };
        self.say(&log.path, Some(*action), outcome, why, log.bytes, after);
        if let (Some(done), Some(to)) = (self.files.last_mut(), to) {
            done.to = Some(text::sanitize(&self.home.show(&to)));
        }
        after
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

    fn attempt(&mut self, log: &Log, action: Action) -> anyhow::Result<Left> {
        let care = Care::of(log, self.rules);
        if action != Action::Delete {
            self.owe(log)?;
        }
        if self.dry {
            return Ok((if action == Action::Delete { 0 } else { log.bytes }, None));
        }
        match action {
            Action::Cut if log.state => {
                let ledger = noting(&mut self.ledger)?;
                let (gone, to) = archive::cut(
                    self.home,
                    self.run,
                    &log.path,
                    &care,
                    self.today,
                    ledger,
                    &mut self.writers,
                )?;
                Ok((log.bytes.saturating_sub(gone), Some(to)))
            }
            Action::Cut => {
                let gone = cut::cut(&log.path, care.keep_lines, care.max_size.0 / 2, &mut self.writers)?;
                Ok((log.bytes.saturating_sub(gone), None))
            }
            Action::Rename => {
                let folder = match log.state {
                    true => archive::folder(self.home, &log.path, self.today),
                    false => durable::parent(&log.path).to_owned(),
                };
                let _undisturbed =
                    log.state.then(|| archive::undisturbed(self.home, self.run)).transpose()?;
                same_as_judged(log)?;
                Ok((log.bytes, Some(archive::rename(&log.path, &folder, self.today)?)))
            }
            Action::Delete => delete(log, &mut self.writers).map(|()| (0, None)),
            Action::Compress | Action::Tell => Ok((log.bytes, None)),
        }
    }

    /// Compresses logs, and gives those that there are then as far as that is known.
    fn compress(&mut self, tasks: Vec<Task>) -> Vec<Log> {
        let mut tasks: Vec<Task> =
            tasks.into_iter().filter(|task| !self.stays(&task.log, task.action)).collect();
        // The numbers that we give go with time.
        tasks.sort_by_cached_key(|task| order(&task.log));
        if !self.dry {
            tasks.retain_mut(|task| self.adopt(task));
        }
        let logs: Vec<Log> = tasks.iter().map(|task| task.log.clone()).collect();
        let results = match self.dry {
            true => Vec::new(),
            false => compress::compress(&logs, &mut self.writers),
        };
        let mut results = results.into_iter();
        let mut there = Vec::new();
        for Task { log, action, why } in tasks {
            // In a dry run its size is not known: a tenth is usual for text.
            let (outcome, why, after, left) = match results.next() {
                None => (Outcome::Planned, why, log.bytes, log.bytes / 10),
                Some(Ok(after)) => (Outcome::Done, why, after, after),
                Some(Err(error)) => {
                    let (outcome, why) = judge(&error);
                    (outcome, why, log.bytes, log.bytes)
                }
            };
            self.say(&log.path, Some(action), outcome, why, log.bytes, after);
            there.push(Log { bytes: left, compressed: true, ..log });
        }
        there
    }

    /// Makes a log that its logger counts ours. Whether it can be dealt with.
    fn adopt(&mut self, task: &mut Task) -> bool {
        if !task.log.shifts() {
            return true;
        }
        match archive::adopt(&task.log, &mut self.writers) {
            Ok(log) => {
                task.log = log;
                true
            }
            Err(error) => {
                let (outcome, why) = judge(&error);
                let bytes = task.log.bytes;
                self.say(&task.log.path, Some(task.action), outcome, why, bytes, bytes);
                false
            }
        }
    }

    /// Tells the writers of what was renamed or cut, now or by a run that was cut short before it
    /// could. What fails is owed still.
    fn tell(&mut self) {
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
    fn look_again(&mut self, logs: Vec<Log>) -> Vec<Log> {
        let done = self.files.iter().filter(|file| file.outcome == Outcome::Done).count();
        if self.dry || done == self.seen {
            return logs;
        }
        self.seen = done;
        find(self.home, self.rules).logs
    }

    fn freed(&self) -> u64 {
        self.files.iter().map(|file| file.before.saturating_sub(file.after)).sum()
    }
}

fn noting(ledger: &mut Option<Ledger>) -> anyhow::Result<&mut Ledger> {
    ledger.as_mut().context("what a run before was at has to be finished first")
}

/// Whether something was left alone for a reason, or failed; and why.
fn judge(error: &anyhow::Error) -> (Outcome, String) {
    let busy = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == ErrorKind::ResourceBusy);
    let outcome = if busy { Outcome::Skipped } else { Outcome::Failed };
    let why = if busy { error.root_cause().to_string() } else { format!("{error:#}") };
    (outcome, text::one_line(&why, 300))
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
