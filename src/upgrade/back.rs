//! Putting everything back: the program by the rollback command, the state by the backup, and what ran
//! runs again.

use super::command::{self, Job};
use super::note::Note;
use super::{Progress, Work, quoted, shown};
use crate::base::State;
use crate::base::durable::Lock;
use crate::base::step::step;
use crate::config::Loaded;
use crate::restore;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// So long a backup that is being made is waited for.
const BACKUP: Duration = Duration::from_secs(30 * 60);

/// What could not be put back: each part by itself, so that the rest comes back all the same.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What went wrong, a clause each.
    pub(super) troubles: Vec<String>,
    /// What is to be done by hand, a command each.
    pub(super) remedies: Vec<String>,
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
pub(super) fn put_back(work: Work<'_>, note: &Note, progress: &mut Progress<'_>) -> Left {
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
        let restored = progress.step("restore", || restore_state(work, note));
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

fn restore_state(work: Work<'_>, note: &Note) -> Result<String> {
    let Work { loaded, run, journal, .. } = work;
    // One that cron began meanwhile is let finish: for its sake the agent is not left half new.
    drop(Lock::take(&loaded.home, "backup", run, BACKUP)?);
    restore::recover(loaded, run, journal)?;
    let archive = note.archive.0.to_string_lossy();
    let restored = restore::prepare(loaded, run, journal, Some(&archive), &[])?.carry_out(true)?;
    let shown = loaded.home.show(&restored.archive);
    let mut text = format!("{} files of {shown} are back", restored.files);
    if let Some(aside) = restored.aside {
        text.push_str(&format!("; what they replaced is in {}", loaded.home.show(&aside)));
    }
    if restored.state != State::Ok {
        text.push_str(&format!("; note: {}", restored.notes.join("; ")));
    }
    Ok(text)
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
