//! A note that something of ours is at the agent: nobody is alerted meanwhile, nothing is restarted.
//!
//! It is released when the work is done, it is void as soon as the process that took it is gone, and
//! it ends by itself.

use super::process::{Identity, Process};
use super::units::Span;
use super::{Home, Run};
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// No note is believed for longer than this, whoever wrote it.
const LONGEST: TimeDelta = TimeDelta::days(7);

/// A note that holds as long as this lives.
#[derive(Debug)]
pub struct Maintenance {
    home: Home,
    path: PathBuf,
}

/// What the note says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// What is done, such as `ops restart`.
    pub what: String,
    /// The run that does it.
    pub run: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it ends, whatever happens.
    pub until: DateTime<Utc>,
    process: Identity,
}

impl Maintenance {
    /// Takes a note for work that takes no longer than `limit`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(home: &Home, run: &Run, limit: Span) -> Result<Maintenance> {
        let what = "cannot note that maintenance begins";
        let me = Process::find(std::process::id())?.context(what)?;
        let note = Note {
            what: run.program.clone(),
            run: run.id.clone(),
            since: run.now,
            until: run.now.checked_add_signed(limit.delta()).unwrap_or(DateTime::<Utc>::MAX_UTC),
            process: me.identity,
        };
        for (path, _) in notes(home).into_iter().filter(|(_, note)| note.as_ref().is_none_or(Note::is_void)) {
            // Somebody's who was killed.
            let _ = home.remove(&path);
        }
        let path = folder(home).join(format!("{}.json", run.id));
        home.replace(&path, &serde_json::to_vec_pretty(&note)?, 0o600).context(what)?;
        Ok(Maintenance { home: home.clone(), path })
    }

    /// The note that holds now; of several the one that ends last.
    pub fn now(home: &Home, now: DateTime<Utc>) -> Option<Note> {
        let notes = notes(home).into_iter().filter_map(|(_, note)| note);
        let owner = home.dir().and_then(|home| home.metadata("")).map(|meta| meta.uid()).ok();
        notes.filter(|note| note.holds(now, owner)).max_by_key(|note| note.until)
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        let _ = self.home.remove(&self.path);
    }
}

impl Note {
    /// Of one who is at it still, a clock that was set back meanwhile changes nothing; one from farther in
    /// the future than it lasts was taken by a clock that was wrong.
    fn holds(&self, now: DateTime<Utc>, owner: Option<u32>) -> bool {
        let lasts = self.until - self.since;
        lasts <= LONGEST && self.since - now < lasts && now < self.until && self.is_at_it(owner)
    }

    /// Whether its process is there, and is one of ours: of this user or of the owner of the home.
    fn is_at_it(&self, owner: Option<u32>) -> bool {
        let Ok(Some(process)) = self.process.find() else { return false };
        let is_ours = process.uid == rustix::process::geteuid().as_raw() || Some(process.uid) == owner;
        is_ours && process.identity.pid != 1
    }

    /// Whether its process is gone. One that cannot be looked at may be there.
    fn is_void(&self) -> bool {
        matches!(self.process.find(), Ok(None))
    }
}

fn folder(home: &Home) -> PathBuf {
    home.ops().join("maintenance")
}

fn notes(home: &Home) -> Vec<(PathBuf, Option<Note>)> {
    let folder = folder(home);
    let names = home.place(&folder).and_then(|(dir, rel)| dir.entries(rel));
    let paths = names.into_iter().flatten().flatten().map(|entry| folder.join(entry.name));
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths
        .map(|path| {
            let note = home.read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            (path, note)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_holds_until_it_is_released_or_over() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let run = Run::begin("ops restart");
        let now = run.now;
        assert!(Maintenance::now(&home, now).is_none());
        let held = Maintenance::begin(&home, &run, Span::minutes(10)).unwrap();
        assert_eq!(Maintenance::now(&home, now).unwrap().what, "ops restart");
        assert!(Maintenance::now(&home, now + TimeDelta::minutes(10)).is_none(), "it ends by itself");
        assert!(Maintenance::now(&home, now - TimeDelta::minutes(9)).is_some(), "the clock was set back");
        assert!(Maintenance::now(&home, now - TimeDelta::minutes(10)).is_none(), "not from the future");
        drop(held);
        assert!(Maintenance::now(&home, now).is_none());
    }

    #[test]
    fn a_forged_note_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let run = Run::begin("ops restart");
        let held = Maintenance::begin(&home, &run, Span::minutes(10)).unwrap();
        let genuine: Note = serde_json::from_slice(&fs::read(&held.path).unwrap()).unwrap();
        let forged = |change: &dyn Fn(&mut Note)| {
            let mut note = genuine.clone();
            change(&mut note);
            fs::write(&held.path, serde_json::to_vec(&note).unwrap()).unwrap();
            Maintenance::now(&home, run.now)
        };
        assert!(forged(&|_| {}).is_some());
        let year = run.now + TimeDelta::days(365 * 7000);
        assert_eq!(forged(&|note| note.until = year), None, "for ever");
        assert_eq!(forged(&|note| note.process.pid = 999_999_999), None, "of nobody");
        assert_eq!(forged(&|note| note.process.start += 1), None, "of another process");
        let init = Process::find(1).unwrap().unwrap().identity;
        assert_eq!(forged(&|note| note.process = init.clone()), None, "of the system");
    }

    #[test]
    fn the_note_of_one_that_was_killed_is_void_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let run = Run::begin("ops upgrade");
        std::mem::forget(Maintenance::begin(&home, &run, Span::days(1)).unwrap());
        let path = folder(&home).join(format!("{}.json", run.id));
        let mut note: Note = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        note.process.start += 1;
        fs::write(&path, serde_json::to_vec(&note).unwrap()).unwrap();
        assert!(Maintenance::now(&home, run.now).is_none());
        fs::write(folder(&home).join("torn.json"), "{").unwrap();
        let _held = Maintenance::begin(&home, &Run::begin("ops stop"), Span::minutes(1)).unwrap();
        assert_eq!(fs::read_dir(folder(&home)).unwrap().count(), 1);
    }
}
