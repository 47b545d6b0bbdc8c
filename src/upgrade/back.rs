//! Putting everything back: the program by the rollback command, the state by the backup, and what ran
//! runs again.

use super::command::{self, Interrupt, Job};
use super::{Progress, Work, quoted, shown};
use crate::backup::plan;
use crate::base::durable::Lock;
use crate::base::step::step;
use crate::base::upgrade::Note;
use crate::base::{Fault, Run, State, text};
use crate::config::Loaded;
use crate::restore::{self, Selection};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So long a backup that is being made is waited for.
const BACKUP: Duration = Duration::from_secs(30 * 60);

/// So many files are named that are not in the backup.
const NAMED: usize = 5;

/// What could not be put back: each part by itself, so that the rest comes back all the same.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What went wrong, a clause each.
    pub(super) troubles: Vec<String>,
    /// What is to be done by hand, a command each.
    pub(super) remedies: Vec<String>,
    /// What the backup does not have and is there now, as a clause: the command's, or the agent's own.
    pub(super) added: Option<String>,
}

impl Left {
    fn note(&mut self, done: Result<()>, remedy: impl FnOnce() -> String) -> bool {
        let Err(error) = done else { return true };
        self.troubles.push(format!("{error:#}"));
        self.remedies.push(remedy());
        false
    }
}

/// Puts back what an upgrade changed, as far as it got.
pub(super) fn put_back(work: Work<'_>, note: &mut Note, progress: &mut Progress<'_>) -> Left {
    note.back = true;
    // On a full disk it goes back all the same.
    let _ = note.write(&work.loaded.home);
    let note = &*note;
    let mut left = Left::default();
    let (services, loaded) = (work.services(), work.loaded);
    // What was removed from the config meanwhile is none of ours any more.
    let known = |name: &&String| loaded.config.service.contains_key(*name);
    let names: Vec<&String> = note.services.iter().filter(known).collect();
    if note.changed {
        let ended = progress.step("end", || {
            command::end_all(&note.run, || ())?;
            for name in loaded.config.service.keys() {
                services.stop(name, true, false)?;
            }
            step("put back: stopped")?;
            Ok("what ran was ended".to_owned())
        });
        // Files are not taken away from under a process that writes to them.
        if !left.note(ended, || "ops stop --force".to_owned()) {
            left.remedies.extend(by_hand(loaded, note, &names));
            return left;
        }
        let rollback = &loaded.config.upgrade.rollback;
        if !rollback.is_empty() {
            let home = loaded.home.root();
            let job = Job { words: rollback, home, run: &work.run.id, to_stderr: work.to_stderr };
            let done = progress.step("rollback", || {
                job.run(None).context("the rollback command failed")?;
                step("put back: rolled back")?;
                Ok(format!("{} is done", shown(rollback)))
            });
            left.note(done, || {
                format!("cd {} && {}", quoted(&[home.display().to_string()]), quoted(rollback))
            });
        }
        let mut added = None;
        let restored = progress.step("restore", || restore_state(work, note, &mut added));
        left.added = added;
        if !left.note(restored, || restore_command(note)) {
            left.remedies.extend(names.iter().map(|name| format!("ops start {name}")));
            return left;
        }
    }
    for name in names {
        let started = progress.step("start again", || {
            // Whom a person told to stop meanwhile stays stopped.
            if services.status(name)?.stopped_by_operator.is_some() {
                return Ok(format!("{name} stays stopped, as its operator told it"));
            }
            let started = services.start(name)?;
            step("put back: started")?;
            Ok(format!("{name} runs again as pid {}", started.process().identity.pid))
        });
        left.note(started, || format!("ops start {name}"));
    }
    left
}

/// Lets a backup finish that cron began meanwhile: nothing is stopped or changed under it, nor is the agent
/// left half new for its sake. None begins while the note is there.
pub(super) fn await_backup(loaded: &Loaded, run: &Run, interrupt: Option<&Interrupt>) -> Result<()> {
    let deadline = Instant::now() + BACKUP;
    loop {
        match Lock::take(&loaded.home, "backup", run, Duration::from_millis(250)) {
            Err(error) if Instant::now() >= deadline || error.downcast_ref::<Fault>().is_none() => {
                return Err(error);
            }
            Err(_) => interrupt.map_or(Ok(()), Interrupt::check)?,
            Ok(_) => return Ok(()),
        }
    }
}

fn restore_state(work: Work<'_>, note: &Note, added: &mut Option<String>) -> Result<String> {
    let Work { loaded, run, journal, .. } = work;
    await_backup(loaded, run, None)?;
    restore::recover(loaded, run, journal)?;
    let archive = note.archive.0.to_string_lossy();
    // What was damaged before the upgrade is no reason to leave the agent half new.
    let asked = Selection { which: Some(&archive), only: &[], damaged: true };
    let mut prepared = restore::prepare(loaded, run, journal, &asked)?;
    // The backup was made a moment ago, and stopped work with it.
    prepared.into_home(true)?;
    let (entries, damaged) = (&prepared.contents.entries, prepared.contents.not_sound());
    let known = entries.iter().map(|entry| entry.path.as_path()).chain(damaged).map(Path::to_owned).collect();
    let restored = prepared.carry_out(true)?;
    let shown = loaded.home.show(&restored.archive);
    let mut text = format!("{} files of {shown} are back", restored.files);
    if let Some(aside) = restored.aside {
        text.push_str(&format!("; what they replaced is in {}", loaded.home.show(&aside)));
    }
    if restored.state != State::Ok {
        text.push_str(&format!("; note: {}", restored.notes.join("; ")));
    }
    *added = since(loaded, &known);
    if let Some(added) = added {
        text.push_str(&format!("; {added}"));
    }
    Ok(text)
}

/// Names what `[backup]` includes and the backup does not have. It stays: nobody can tell what of it is the
/// command's, and what the agent wrote while it was watched.
fn since(loaded: &Loaded, known: &HashSet<PathBuf>) -> Option<String> {
    let plan = match plan::plan(&loaded.config) {
        Ok(plan) => plan,
        Err(error) => return Some(format!("it cannot be told what is not in the backup: {error:#}")),
    };
    let found = plan.databases.iter().chain(&plan.others).filter(|found| found.shape != plan::Shape::Folder);
    let mut names: Vec<_> = found
        .map(|found| &found.path.0)
        .filter(|path| !known.contains(*path))
        .map(|path| path.display())
        .collect();
    let count = text::count(names.len(), "file");
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!names.is_empty()).then(|| format!("not in the backup, and left as is: {count}: {names}{more}"))
}

fn restore_command(note: &Note) -> String {
    let archive: &PathBuf = &note.archive.0;
    format!("ops restore {}", quoted(&[archive.display().to_string()]))
}

fn by_hand(loaded: &Loaded, note: &Note, names: &[&String]) -> Vec<String> {
    let rollback = &loaded.config.upgrade.rollback;
    let rollback = (!rollback.is_empty()).then(|| quoted(rollback));
    let starts = names.iter().map(|name| format!("ops start {name}"));
    rollback.into_iter().chain([restore_command(note)]).chain(starts).collect()
}
