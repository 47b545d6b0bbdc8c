//! Keeps the logs bounded: looks, decides, does, and says what it did.

use super::plan::{
    Action, Care, Leap, Moment, Task, is_settled_part, leap, must_be_held, over_keep, over_total, squeezed,
    too_much, verdict,
};
use super::remove::remove_rubbish;
use super::report::{Done, Outcome, Rotation};
use super::work::Work;
use super::writers::sees_all;
use crate::base::units::Size;
use crate::base::{Home, Run, State, lines, watchdog};
use crate::config::Loaded;
use crate::log_files::{Log, find, is_archived};
use chrono::Local;
use std::path::Path;

/// How a rotation is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Nothing is changed: what would be is said.
    pub dry: bool,
    /// What is too old goes even if nothing but a leap of time tells so.
    pub yes: bool,
}

/// Rotates the logs of an agent by `[logs]`. One bad file never stops the rest. The caller holds
/// the lock `rotate`, unless this is a `dry` run.
pub fn rotate(loaded: &Loaded, run: &Run, how: How) -> Rotation {
    let (rules, home, now) = (&loaded.config.logs, &loaded.home, run.now);
    let mut work = Work::new(loaded, run, how.dry);
    let today = work.today;
    work.begin();
    watchdog::phase("looking for logs");
    let found = find(home, rules);
    let (count, before) = (found.logs.len(), total(&found.logs));
    work.report_strange(&found);
    // What it speaks of may look like rubbish.
    if !how.dry && work.knows_rubbish() {
        remove_rubbish(&found, home);
    }
    let leap = leap(&found.logs, rules, now, today).filter(|_| !how.yes);
    let leap = work.holds(leap, now);
    if let Some((Leap { count, gap, .. }, until)) = leap {
        let why = format!(
            "{count} logs are too old at once, and none ends in the {gap} after them: was the clock set ahead? They stay until \
             {}; `rotate-logs --yes` deletes them now",
            until.with_timezone(&Local).format("%Y-%m-%d")
        );
        work.warn("[logs] delete_after", Action::Delete, why);
    }

    let mut rest = Vec::new();
    let mut tasks = Vec::new();
    for log in found.logs {
        let care = Care::of(&log, rules);
        let long = is_own(home, &log.path) && is_long(&log, care.keep_lines);
        match verdict(&log, long, leap.is_none(), &care, now, today) {
            Some((action, why))
                if action != Action::Cut || !must_be_held(&log, today) || work.is_held(&log) =>
            {
                tasks.push(Task { log, action, why });
            }
            _ => {
                work.look_for_its_writer(&log);
                rest.push(log);
            }
        }
    }
    let at = Moment { now, today, sees_all: sees_all() };
    for log in found.archived {
        work.look_for_its_writer(&log);
        let verdict = verdict(&log, false, false, &Care::of(&log, rules), now, today);
        let compress = verdict.filter(|(action, _)| *action == Action::Compress).map(|(_, why)| why);
        let settled = || is_settled_part(&log, rules, at).then(|| "archived".to_owned());
        if let Some(why) = compress.or_else(settled) {
            tasks.push(Task { log, action: Action::Compress, why });
        }
    }
    watchdog::phase("cutting and compressing logs");
    // What makes room comes first: compressing needs some.
    tasks.sort_by_key(|task| task.action);
    let packed = tasks.partition_point(|task| task.action < Action::Compress);
    let to_compress = tasks.split_off(packed);
    for task in tasks {
        rest.extend(work.do_one(task));
    }
    rest.extend(work.compress(to_compress));
    rest.retain(|log| !is_archived(home, &log.path));
    work.tell();

    rest = work.look_again(rest);
    let more = over_keep(&rest, rules, at);
    rest = work.without(rest, more);
    let mut early = squeezed(&rest, rules, at);
    early.retain(|task| !work.held.contains(&task.log.path));
    rest.retain(|log| !early.iter().any(|task| task.log.path == log.path));
    rest.extend(work.compress(early));
    rest = work.look_again(rest);
    let more = over_total(&rest, rules, &work.held, at);
    rest = work.without(rest, more);
    rest = work.look_again(rest);
    if let Some(why) = too_much(&rest, rules) {
        let largest = rest.iter().max_by_key(|log| log.bytes);
        let largest = largest.map_or(String::new(), |log| {
            format!(", such as {} with {}", home.show(&log.path), Size(log.bytes))
        });
        work.warn(
            "[logs] max_total",
            Action::Delete,
            format!("{why}: the rest is in use, held open, state, or was written too lately{largest}"),
        );
    }
    let stuck = |file: &Done| {
        file.outcome == Outcome::Failed
            || file.outcome == Outcome::Skipped
                && matches!(file.action, Some(Action::Cut | Action::Rename | Action::Delete))
    };
    Rotation {
        agent: loaded.config.agent.name.clone(),
        run: run.id.clone(),
        state: if work.files.iter().any(stuck) { State::Warning } else { State::Ok },
        dry_run: how.dry,
        logs: count,
        before,
        after: total(&rest),
        files: work.files,
    }
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
        && log
            .at
            .open()
            .and_then(|file| lines::start_of_last(&file, log.bytes, most, log.bytes))
            .is_ok_and(|start| start > 0)
}
