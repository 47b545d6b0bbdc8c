//! Brings a backup back, or leaves everything as it was.
//!
//! [`prepare`] chooses an archive and looks by its index at what would change. [`Prepared::carry_out`]
//! reads the archive once: verifies it and lays the files ready. Until that is done nothing is
//! touched. Then it stops what runs, moves what is replaced into `.pre-restore.STAMP`, moves the new
//! files in, and starts what ran. Any failure puts everything back. A crash is undone or finished by
//! [`recover`].

mod aside;
mod beside;
mod dump;
mod exchange;
mod record;
mod room;
mod select;
mod stage;
mod survey;
mod swap;
mod transfer;
mod trial;

pub use aside::{Aside, asides, find_aside, prune_asides, put_back};
pub use dump::{Dumped, take_dump};
pub use exchange::recover;
pub use select::Selection;
use select::Wanted;
pub use survey::Obstacle;
pub use trial::note_drill;

use crate::backup::places::{Places, open_home};
use crate::backup::reader::Shape;
use crate::backup::{
    self, Contents, Entry, Flaw, NotJudged, Origin, Readable,
    manifest::{Manifest, Name},
};
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::units::Size;
use crate::base::{Fault, Journal, Run, State, database, durable, text};
use crate::config::Loaded;
use anyhow::{Context, Result};
use beside::Beside;
use record::STAGING;
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use survey::Survey;
use swap::Swap;

/// Whether a restore was cut short in this home, as its note says: for the fuzz targets.
///
/// # Errors
/// When the note cannot be understood.
#[doc(hidden)]
pub fn was_cut_short(home: &crate::base::Home) -> Result<bool> {
    Ok(Swap::load(home, &Places::only(open_home(home)?))?.is_some())
}

/// An archive and what restoring it would do.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The archive.
    pub archive: PathBuf,
    readable: Readable,
    /// What is in it, as its index says.
    pub contents: Contents,
    /// What of it is wanted.
    pub wanted: Vec<Entry>,
    /// Files that would be replaced.
    pub replaced: usize,
    /// The services that run now and would be stopped.
    pub running: Vec<String>,
    /// What will not be restored, and other things a person should know.
    pub notes: Vec<String>,
    /// Notes on links that are missing only where it does not go into the home.
    links_at_home: Vec<String>,
    /// Whether the archive, or a newer one, has a flaw that the notes tell.
    pub flawed: bool,
    /// Whether all of it is read and verified; else only what is wanted.
    whole: bool,
    places: Places,
    survey: Survey,
    /// What only a restore into the home leaves out.
    held_back: Vec<String>,
    only: Vec<PathBuf>,
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    _lock: durable::Lock,
}

/// How much of the archive was verified: every hash compared, every database opened and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verified {
    /// All of it.
    Archive,
    /// What was restored; the rest was not read.
    Restored,
    /// Nothing: there was no archive, old files came back.
    Nothing,
}

/// What a restore came to.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// `ok`, or `warning` when there are notes.
    pub state: State,
    /// The archive.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub archive: PathBuf,
    /// Files and links that were put in.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How much of the archive was verified.
    pub verified: Verified,
    /// Files that were replaced.
    pub replaced: usize,
    /// Where the replaced files are, if there were any.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub aside: Option<PathBuf>,
    /// The services that were stopped and run again.
    pub restarted: Vec<String>,
    /// Databases among them that could not be judged.
    pub unjudged: Vec<NotJudged>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What is in an archive, chosen as by [`prepare`]: what could be restored of it, and notes on the
/// rest. Nothing is written, but one that is encrypted is decrypted first, into a folder that goes
/// again; an archive of ours is known by its index alone.
///
/// # Errors
/// When there is no such archive, or it is damaged as far as it was read.
pub fn look(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    which: Option<&str>,
    only: &[PathBuf],
) -> Result<Listing> {
    let (archive, mut newer) = select::choose(loaded, journal, which, run.now)?;
    let contents = if backup::is_encrypted(&archive) {
        let _lock = backup::lock(loaded, run)?;
        let scratch = loaded.home.staging();
        durable::make_folder(&scratch, 0o700)?;
        let readable = backup::ready(&loaded.config.backup, &archive, &scratch)?;
        backup::read_contents(readable.path())?
    } else {
        backup::read_contents(&archive)?
    };
    // Shown, not restored: damage is no reason to refuse.
    let asked = Selection { which, only, damaged: true };
    let Wanted { entries, notes, links_at_home } = select::entries(loaded, &archive, &contents, &asked)?;
    newer.extend(notes.into_iter().chain(links_at_home));
    newer.extend(select::judge(loaded, journal, &archive, &contents, &asked)?);
    let raw = contents.only_raw().map(|entry| entry.member.clone()).collect();
    let Contents { origin, flaws, unjudged, manifest, .. } = contents;
    Ok(Listing { archive, origin, entries, raw, flaws, unjudged, notes: newer, manifest })
}

/// What is in an archive.
#[derive(Debug)]
pub struct Listing {
    /// The archive.
    pub archive: PathBuf,
    /// Who made it.
    pub origin: Origin,
    /// What can be restored of it.
    pub entries: Vec<Entry>,
    /// Those of them that are raw files of damaged databases, by their name in the archive.
    pub raw: HashSet<PathBuf>,
    /// What is wrong with it.
    pub flaws: Vec<Flaw>,
    /// Databases in it that could not be judged.
    pub unjudged: Vec<NotJudged>,
    /// What cannot, and other things a person should know.
    pub notes: Vec<String>,
    /// What it says of itself, if it is one of ours.
    pub manifest: Option<Manifest>,
}

/// Chooses an archive, and looks at what it would replace. Changes nothing of the agent's. Of an
/// archive of ours only the index is read.
///
/// # Errors
/// When there is no such archive, when it is not whole and harmless as far as it was read, when a database
/// in it is damaged and that was not asked for, or when something in the home stands in its way.
pub fn prepare<'a>(
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    asked: &Selection<'_>,
) -> Result<Prepared<'a>> {
    let lock = backup::lock(loaded, run)?;
    if record::is_cut_short(&loaded.home)? {
        return Err(Fault::unknown("an earlier restore was cut short; nothing was changed")
            .hint("run `restore` or `backup` without --dry-run: it finishes or undoes that first")
            .into());
    }
    let (archive, newer) = select::choose(loaded, journal, asked.which, run.now)?;
    let damaged = |error: &anyhow::Error| condemn(loaded, run, journal, &archive, error);
    let scratch = loaded.home.staging();
    // We hold the lock, so whatever is there is of a run that is no more.
    let places = Places::open(&loaded.home, &loaded.config.backup)?;
    let _ = places.home.remove_tree(STAGING);
    let made = places.home.make_dir(STAGING, 0o700).map(drop);
    made.with_context(|| format!("cannot create the folder {}", scratch.display())).map_err(|error| {
        let bytes = Contents::peek(&archive).ok().flatten().map_or(0, |contents| contents.bytes());
        room::untouched(error, loaded.home.root(), bytes)
    })?;
    let readable = backup::ready(&loaded.config.backup, &archive, &scratch).inspect_err(damaged)?;
    let contents = match Contents::peek(readable.path()).inspect_err(damaged)? {
        Some(contents) => contents,
        // It has no index: all of it is read, and verified.
        None => backup::verify(readable.path(), &scratch).inspect_err(damaged)?,
    };
    let flaws = select::judge(loaded, journal, &archive, &contents, asked)?;
    let flawed = !newer.is_empty() || !flaws.is_empty();
    let Wanted { entries: mut wanted, notes, links_at_home } =
        select::entries(loaded, &archive, &contents, asked)?;
    wanted.extend(select::folders_above(&contents, &wanted));
    let notes = newer.into_iter().chain(flaws).chain(notes).collect();
    let running = exchange::running(loaded, run)?;
    // Archives of earlier versions do not say where in them a file is.
    let known = |entry: &Entry| entry.shape != Shape::File || entry.at.is_some();
    let whole = asked.only.is_empty() || !wanted.iter().all(known);
    Ok(Prepared {
        archive,
        readable,
        contents,
        wanted,
        replaced: 0,
        running,
        notes,
        links_at_home,
        flawed,
        whole,
        places,
        survey: Survey::default(),
        held_back: Vec::new(),
        only: asked.only.to_vec(),
        loaded,
        run,
        journal,
        _lock: lock,
    })
}

/// What a restore into the home leaves out, for people.
struct Target {
    /// It is as it should be.
    held_back: Vec<String>,
    /// Somebody should look at it.
    notes: Vec<String>,
}

/// Looks at where everything is to go.
fn survey_of(places: &Places, wanted: &[Entry]) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut beside = Beside::new(places);
    let mut look_at = |path: &Path, shape: Option<&Shape>| {
        let looked = survey.look_at(places, path, shape);
        looked.with_context(|| format!("cannot look at {}", path.display()))
    };
    for entry in wanted {
        look_at(&entry.path, Some(&entry.shape))?;
        let sidecars = match entry.shape {
            Shape::File if entry.database => database::sidecars(&entry.path).to_vec(),
            Shape::File => beside.of(&entry.path)?,
            _ => Vec::new(),
        };
        sidecars.iter().try_for_each(|sidecar| look_at(sidecar, None))?;
    }
    Ok(survey)
}

/// Journals that an archive is damaged, if that is what is wrong.
fn condemn(loaded: &Loaded, run: &Run, journal: Option<&Journal>, archive: &Path, error: &anyhow::Error) {
    if let (true, Some(journal)) = (Fault::is_of_damage(error), journal) {
        // Best effort: the refusal itself matters more.
        let _ = backup::record_look(loaded, journal, run, archive, None, false, false);
    }
}

impl Prepared<'_> {
    /// The bytes of what is wanted.
    pub fn bytes(&self) -> u64 {
        self.wanted.iter().fold(0, |bytes, entry| bytes.saturating_add(entry.size))
    }

    /// How many files and links are wanted.
    pub fn count(&self) -> usize {
        self.wanted.iter().filter(|entry| entry.shape != Shape::Folder).count()
    }

    /// The databases among what is wanted that could not be judged.
    pub fn unjudged(&self) -> impl Iterator<Item = &NotJudged> {
        let wanted: HashSet<&Path> = self.wanted.iter().map(|entry| entry.path.as_path()).collect();
        self.contents.unjudged.iter().filter(move |database| wanted.contains(database.path.0.as_path()))
    }

    /// Verifies all of the archive, and changes nothing.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn verify(&self) -> Result<()> {
        let scratch = self.loaded.home.staging();
        let progress = Progress::new("verifying", self.contents.bytes(), self.run.watched);
        let verified = backup::unpack(self.readable.path(), &self.contents, &scratch, &mut |entry, _| {
            progress.add(entry.size);
            Ok(None)
        });
        verified.map(drop).inspect_err(|error| self.condemn(error))
    }

    fn condemn(&self, error: &anyhow::Error) {
        condemn(self.loaded, self.run, self.journal, &self.archive, error);
    }

    /// Says that it is to go into the home: leaves out what does not belong there, and looks at what is in
    /// the way. `queues`: work that waited then is to be done again.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when something stands in the way, or nothing is left.
    pub fn into_home(&mut self, queues: bool) -> Result<()> {
        let Target { held_back, notes } = self.leave_out(queues)?;
        self.held_back = held_back;
        self.notes.extend(notes);
        if self.count() == 0 {
            return Err(Fault::unknown("nothing of it belongs into the home; nothing was changed")
                .hint(self.held_back.first().or(self.notes.last()).cloned().unwrap_or_default())
                .into());
        }
        if self.only.is_empty() {
            self.notes.extend(stage::kept_folders(&self.wanted, &self.places));
        }
        self.survey = survey_of(&self.places, &self.wanted)?;
        self.replaced = self.survey.there;
        self.survey.need_clear_way()
    }

    /// Says that it is to go into another folder: what is not restored and is in the home is missing there.
    pub fn into_folder(&mut self) {
        self.notes.append(&mut self.links_at_home);
    }

    /// What people should know before a restore into the home, besides the notes.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.held_back.clone();
        let outside = self.wanted.iter().filter(|entry| entry.path.is_absolute());
        let outside: Vec<_> = outside.filter(|entry| entry.shape != Shape::Folder).collect();
        if let [first, ..] = outside[..] {
            remarks.push(format!(
                "{} outside the home, such as {}",
                text::count(outside.len(), "file"),
                first.path.display()
            ));
        }
        remarks.extend(self.survey.notes());
        let dumps = self.contents.manifest.iter().flat_map(|manifest| &manifest.dumps);
        let archive = self.archive.file_name().unwrap_or_default().display().to_string();
        remarks.extend(dumps.map(|dump| {
            let (name, size) = (&dump.name, Size(dump.file.size()));
            let how = match self.loaded.config.backup.dump.get(name).filter(|dump| !dump.restore.is_empty()) {
                Some(dump) => format!(" and --load gives it to `{}`", backup::shown_command(&dump.restore)),
                None => String::new(),
            };
            format!("the dump {name} ({size}) is not loaded: `restore {archive} --dump {name}` writes it to stdout,{how}")
                .trim_end_matches(',')
                .to_owned()
        }));
        remarks
    }

    /// Restores into the home. `force`: services that do not stop are killed.
    ///
    /// # Errors
    /// When it could not be done. Then everything is as it was, and what ran runs again; where
    /// that failed too, the message says what is left to do.
    pub fn carry_out(mut self, force: bool) -> Result<Restored> {
        let home = &self.loaded.home;
        self.survey.need_clear_way()?;
        let staged = Path::new(STAGING).join(&self.run.id);
        let staging = home.path(&staged);
        self.need_room(home.root())?;
        let made = self.places.home.make_dir(&staged, 0o700).map(drop);
        made.with_context(|| format!("cannot create the folder {}", staging.display()))?;
        match self.stage(&staging) {
            Ok(notes) => self.notes.extend(notes),
            Err(error) => {
                let _ = self.places.home.remove_tree(&staged);
                return Err(error);
            }
        }
        step("staged")?;

        let (archive, running) = (Name(self.archive.clone()), self.running.clone());
        let mut swap = Swap::begin(&self.places.home, self.run, archive, staged, running)?;
        let (places, wanted) = (&self.places, &self.wanted);
        let notes = exchange::exchange(self.loaded, self.run, places, &mut swap, wanted, force, |swap| {
            self.plan_moves(swap)
        })?;
        self.notes.extend(notes);
        let aside = swap.old_files(home);
        if let Some(journal) = self.journal {
            let what =
                format!("restored {} from {}", text::count(self.count(), "file"), self.archive.display());
            journal.note(self.run, &what, State::Ok)?;
        }
        let state = if self.notes.is_empty() { State::Ok } else { State::Warning };
        Ok(self.restored(state, aside, swap.services))
    }

    /// Writes down every move, as the home is now that nothing writes to it.
    fn plan_moves(&self, swap: &mut Swap) -> Result<()> {
        let paths = |want: fn(&Entry) -> bool| -> Vec<&Path> {
            self.wanted.iter().filter(|entry| want(entry)).map(|entry| entry.path.as_path()).collect()
        };
        let files = paths(|entry| entry.shape != Shape::Folder);
        let folders = paths(|entry| entry.shape == Shape::Folder);
        let regular = paths(|entry| entry.shape == Shape::File);
        swap.moves = swap::moves(&self.places, &files, &regular)?;
        swap.folders = swap::missing_folders(&self.places, &files, &folders);
        Ok(())
    }

    /// What it came to. Only what took the place of something has replaced it.
    fn restored(self, state: State, aside: Option<PathBuf>, restarted: Vec<String>) -> Restored {
        Restored {
            state,
            files: self.count(),
            bytes: self.bytes(),
            verified: if self.whole { Verified::Archive } else { Verified::Restored },
            replaced: if aside.is_some() { self.replaced } else { 0 },
            aside,
            restarted,
            unjudged: self.unjudged().cloned().collect(),
            archive: self.archive,
            notes: self.notes,
        }
    }
}
