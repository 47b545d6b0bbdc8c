//! Brings a backup back, or leaves everything as it was.
//!
//! [`prepare`] chooses an archive, verifies all of it and looks at what would change; until then
//! nothing is touched. [`Prepared::carry_out`] lays the files ready, stops what runs, moves what
//! is replaced into `.pre-restore.STAMP`, moves the new files in, and starts what ran. Any failure
//! puts everything back. A crash is undone or finished by [`recover`].

mod select;
mod stage;
mod swap;

use crate::backup::reader::Shape;
use crate::backup::verify::{Entry, Origin};
use crate::backup::{self, Contents, manifest::Name};
use crate::base::database::{self, Verdict};
use crate::base::process::{self, Process};
use crate::base::step::step;
use crate::base::units::Size;
use crate::base::{Fault, Journal, Run, State, durable, text, units};
use crate::config::Loaded;
use crate::service::Services;
use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use swap::{Phase, Swap};

/// How long the check of one restored database may take.
const CHECK: Duration = Duration::from_secs(3600);

/// A verified archive and what restoring it would do.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The archive.
    pub archive: PathBuf,
    /// What is in it.
    pub contents: Contents,
    /// What of it is wanted.
    pub wanted: Vec<Entry>,
    /// Files of the home that would be replaced.
    pub replaced: usize,
    /// The services that run now and would be stopped.
    pub running: Vec<String>,
    /// What will not be restored, and other things a person should know.
    pub notes: Vec<String>,
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    _lock: durable::Lock,
}

/// What a restore came to.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// `ok`, or `warning` when there are notes.
    pub state: State,
    /// The archive.
    pub archive: PathBuf,
    /// Files and links that were put in.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were replaced.
    pub replaced: usize,
    /// Where the replaced files are, if there were any.
    pub aside: Option<PathBuf>,
    /// The services that were stopped and run again.
    pub restarted: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Chooses and verifies an archive, and looks at what it would replace. Changes nothing of the
/// agent's.
///
/// `which` is `latest`, a name, a path or a time; `only` are paths of the home, empty for all.
///
/// # Errors
/// When there is no such archive, when it is not whole and harmless, or when something in the
/// home stands in its way.
pub fn prepare<'a>(
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    which: Option<&str>,
    only: &[PathBuf],
) -> Result<Prepared<'a>> {
    let lock = backup::lock(loaded, run)?;
    if loaded.home.restore_journal().exists() {
        return Err(Fault::unknown("an earlier restore was cut short; nothing was changed")
            .hint("run `restore` or `backup` without --dry-run: it finishes or undoes that first")
            .into());
    }
    let archive = select::choose(loaded, journal, which, run.now)?;
    let scratch = loaded.home.staging();
    // We hold the lock, so whatever is there is of a run that is no more.
    let _ = fs::remove_dir_all(&scratch);
    durable::make_folder(&scratch, 0o700)?;
    let contents = backup::verify(&archive, &scratch);
    if let (Err(error), Some(journal)) = (&contents, journal)
        && backup::reader::is_damage(error)
    {
        // Best effort: the refusal itself matters more.
        let _ = backup::record_look(loaded, journal, run, &archive, None, false, false);
    }
    let contents = contents?;
    let home = loaded.home.root();
    let (wanted, notes) = select_entries(loaded, &contents, only)?;
    let mut replaced = 0;
    for entry in &wanted {
        let there = fs::symlink_metadata(home.join(&entry.path)).ok();
        let in_the_way = match (&entry.shape, &there) {
            (_, None) => false,
            (Shape::Folder, Some(_)) => !home.join(&entry.path).is_dir(),
            (_, Some(there)) => there.is_dir(),
        };
        if in_the_way {
            return Err(Fault::unknown(format!(
                "{} is a folder on one side and a file on the other; nothing was changed",
                entry.path.display()
            ))
            .hint("move it away, or restore into another folder with --to")
            .into());
        }
        replaced += usize::from(entry.shape != Shape::Folder && there.is_some());
    }
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let mut running = Vec::new();
    for name in services.names(None)? {
        if services.status(&name)?.process().is_some() {
            running.push(name);
        }
    }
    Ok(Prepared { archive, contents, wanted, replaced, running, notes, loaded, run, journal, _lock: lock })
}

/// What of an archive is wanted and may be restored, and notes on the rest.
fn select_entries(
    loaded: &Loaded,
    contents: &Contents,
    only: &[PathBuf],
) -> Result<(Vec<Entry>, Vec<String>)> {
    let home = loaded.home.root();
    let only: Vec<&Path> = only.iter().map(|path| path.strip_prefix(home).unwrap_or(path)).collect();
    for path in &only {
        if !contents.entries.iter().any(|entry| entry.path.starts_with(path)) {
            return Err(Fault::unknown(format!("the archive has no {}", path.display()))
                .hint("`restore --list` shows what is in it")
                .into());
        }
    }
    let databases = contents.entries.iter().filter(|entry| entry.database);
    let shm: BTreeSet<PathBuf> = databases
        .map(|database| {
            let [_, shm, _] = database::sidecars(&database.path);
            shm
        })
        .collect();
    let mut notes = Vec::new();
    let mut left_out = BTreeSet::new();
    let backups = loaded.config.backup.dir.strip_prefix(home).ok().filter(|dir| *dir != Path::new(""));
    let wanted = contents.entries.iter().filter(|entry| {
        let asked = only.is_empty() || only.iter().any(|path| entry.path.starts_with(path));
        // Our own state and the archives are not the agent's, whatever a foreign archive says.
        let ours = entry.path.starts_with(".ops")
            || backups.is_some_and(|dir| entry.path.starts_with(dir))
            || entry.path.iter().next().is_some_and(|top| top.to_string_lossy().starts_with(".pre-restore."));
        if asked && ours {
            left_out.insert(entry.path.iter().next().unwrap_or_default().to_owned());
        }
        let there = home.join(&entry.path);
        let shared_memory = shm.contains(&entry.path);
        if asked && entry.outward {
            let target = if let Shape::Link(target) = &entry.shape { target.clone() } else { PathBuf::new() };
            if fs::read_link(&there).ok().as_ref() != Some(&target) {
                notes.push(format!(
                    "the link {} leads out of the home, to {}, and is not restored",
                    entry.path.display(),
                    target.display()
                ));
            }
        }
        asked && !ours && !entry.outward && !shared_memory
    });
    let wanted: Vec<Entry> = wanted.cloned().collect();
    notes.extend(
        left_out
            .iter()
            .map(|top| format!("{} of the archive is ours, not the agent's: left out", top.display())),
    );
    if contents.origin != Origin::Ours {
        notes.extend(contents.notes.iter().cloned());
    }
    if wanted.iter().all(|entry| entry.shape == Shape::Folder) {
        return Err(Fault::unknown("there is nothing in the archive to restore".to_owned()).into());
    }
    Ok((wanted, notes))
}

impl Prepared<'_> {
    /// The bytes of what is wanted.
    pub fn bytes(&self) -> u64 {
        self.wanted.iter().map(|entry| entry.size).sum()
    }

    /// How many files and links are wanted.
    pub fn count(&self) -> usize {
        self.wanted.iter().filter(|entry| entry.shape != Shape::Folder).count()
    }

    /// Restores into the home. `force`: services that do not stop are killed.
    ///
    /// # Errors
    /// When it could not be done. Then everything is as it was, and what ran runs again; where
    /// that failed too, the message says what is left to do.
    pub fn carry_out(self, force: bool) -> Result<Restored> {
        let home = self.loaded.home.root();
        let staging = self.loaded.home.staging().join(&self.run.id);
        self.need_room(home)?;
        durable::make_folder(&staging, 0o700)?;
        let staged = stage::stage(&self.archive, &self.wanted, &staging);
        if let Err(error) = staged {
            let _ = fs::remove_dir_all(&staging);
            return Err(error.context("nothing was changed"));
        }
        step("staged")?;

        let services = Services { home: &self.loaded.home, config: &self.loaded.config, run: self.run };
        let mut swap = self.swap_to(staging);
        if let Err(error) = self.swap(&mut swap, &services, force) {
            return Err(self.undo(swap, &services, error));
        }
        swap.close(&self.loaded.home)?;
        let aside = Some(swap.aside.0).filter(|aside| aside.is_dir());
        if let Some(journal) = self.journal {
            let what =
                format!("restored {} from {}", text::count(self.count(), "file"), self.archive.display());
            journal.note(self.run, &what, State::Ok)?;
        }
        Ok(Restored {
            state: if self.notes.is_empty() { State::Ok } else { State::Warning },
            files: self.count(),
            bytes: self.bytes(),
            replaced: self.replaced,
            aside,
            restarted: swap.services,
            archive: self.archive,
            notes: self.notes,
        })
    }

    /// The swap, without a move yet.
    fn swap_to(&self, staging: PathBuf) -> Swap {
        let home = self.loaded.home.root();
        let stamp = units::stamp(self.run.now);
        let names = std::iter::once(stamp.clone()).chain((1..).map(|n| format!("{stamp}_{n}")));
        let mut asides = names.map(|name| home.join(format!(".pre-restore.{name}")));
        let aside = asides.find(|path| fs::symlink_metadata(path).is_err());
        Swap {
            archive: Name(self.archive.clone()),
            run: self.run.id.clone(),
            at: self.run.now,
            phase: Phase::Swapping,
            stage: Name(staging),
            aside: Name(aside.unwrap_or_else(|| home.join(".pre-restore"))),
            services: self.running.clone(),
            moves: Vec::new(),
            folders: Vec::new(),
        }
    }

    /// Writes down every move, as the home is now that nothing writes to it.
    fn plan_moves(&self, swap: &mut Swap) {
        let home = self.loaded.home.root();
        let paths = |want: fn(&Entry) -> bool| -> Vec<&Path> {
            self.wanted.iter().filter(|entry| want(entry)).map(|entry| entry.path.as_path()).collect()
        };
        let files = paths(|entry| entry.shape != Shape::Folder);
        let mut folders = BTreeSet::new();
        for entry in &self.wanted {
            let skip = usize::from(entry.shape != Shape::Folder);
            folders.extend(entry.path.ancestors().skip(skip).filter(|up| !home.join(up).is_dir()));
        }
        swap.moves = swap::moves(home, &files, &paths(|entry| entry.database));
        swap.folders = folders.into_iter().map(|path| Name(path.to_owned())).collect();
    }

    fn swap(&self, swap: &mut Swap, services: &Services<'_>, force: bool) -> Result<()> {
        let home = self.loaded.home.root();
        // Before anything stops: should we end here, the next run starts it again.
        swap.save(&self.loaded.home, Phase::Swapping)?;
        for name in &swap.services {
            services.stop(name, force, false).map_err(|error| {
                Fault::critical(format!("{name} does not stop: {error:#}"))
                    .hint("--force kills what does not stop")
            })?;
            step("stopped")?;
        }
        self.plan_moves(swap);
        need_nobody(home, swap)?;
        swap.save(&self.loaded.home, Phase::Swapping)?;
        let made = stage::make_folders(&self.wanted, home)?;
        swap.forward(home)?;
        stage::set_folder_modes(&self.wanted, &made, home)?;
        swap.save(&self.loaded.home, Phase::Placed)?;
        for name in &swap.services {
            services.start(name).with_context(|| format!("{name} does not start on the restored files"))?;
            step("started")?;
        }
        Ok(())
    }

    /// Puts everything back and says so.
    fn undo(&self, mut swap: Swap, services: &Services<'_>, cause: anyhow::Error) -> anyhow::Error {
        match undo(&self.loaded.home, &mut swap, services) {
            Ok(()) => {
                let mut message = format!("{cause:#}; everything was put back as it was");
                if !swap.services.is_empty() {
                    message.push_str(&format!(", {} runs again", swap.services.join(", ")));
                }
                let fault = Fault::critical(message);
                match Fault::of(&cause).1 {
                    Some(hint) => fault.hint(hint).into(),
                    None => fault.into(),
                }
            }
            Err(error) => Fault::critical(format!("{cause:#}; and it could not all be put back: {error:#}"))
                .hint(format!(
                    "run `restore` or `backup` again: it goes on putting back; the old files are in {}",
                    swap.aside.0.display()
                ))
                .into(),
        }
    }

    /// Unpacks into another folder. Nothing in it is replaced, nothing is stopped.
    pub fn carry_out_to(self, folder: &Path) -> Result<Restored> {
        let folder = std::path::absolute(folder)?;
        for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
            if fs::symlink_metadata(folder.join(&entry.path)).is_ok() {
                return Err(Fault::unknown(format!(
                    "{} is there already; nothing was changed",
                    folder.join(&entry.path).display()
                ))
                .hint("--to takes a new or empty folder")
                .into());
            }
        }
        durable::make_folder(&folder, 0o700)?;
        self.need_room(&folder)?;
        let staging = tempfile::Builder::new()
            .prefix(".part-restore-")
            .tempdir_in(&folder)
            .with_context(|| format!("cannot create a folder in {}", folder.display()))?;
        stage::stage(&self.archive, &self.wanted, staging.path())?;
        let made = stage::make_folders(&self.wanted, &folder)?;
        for entry in self.wanted.iter().filter(|entry| entry.shape != Shape::Folder) {
            let target = folder.join(&entry.path);
            durable::make_folder(durable::parent(&target), 0o755)?;
            stage::move_path(&staging.path().join(&entry.path), &target)?;
        }
        stage::set_folder_modes(&self.wanted, &made, &folder)?;
        Ok(Restored {
            state: if self.notes.is_empty() { State::Ok } else { State::Warning },
            files: self.count(),
            bytes: self.bytes(),
            replaced: 0,
            aside: None,
            restarted: Vec::new(),
            archive: self.archive,
            notes: self.notes,
        })
    }

    /// Restores on trial into a scratch folder, checks every file and database there, and notes
    /// the result.
    pub fn drill(self) -> Result<Restored> {
        let scratch = self.loaded.home.staging();
        self.need_room(&scratch)?;
        let folder = tempfile::Builder::new()
            .prefix("drill-")
            .tempdir_in(&scratch)
            .with_context(|| format!("cannot create a folder in {}", scratch.display()))?;
        let tried = self.try_out(folder.path());
        if let Some(journal) = self.journal {
            let manifest = self.contents.manifest.as_ref();
            backup::record_look(
                self.loaded,
                journal,
                self.run,
                &self.archive,
                manifest,
                tried.is_ok(),
                true,
            )?;
            let state = if tried.is_ok() { State::Ok } else { State::Critical };
            journal.note(self.run, &format!("drilled {}", self.archive.display()), state)?;
        }
        tried?;
        Ok(Restored {
            state: State::Ok,
            files: self.count(),
            bytes: self.bytes(),
            replaced: 0,
            aside: None,
            restarted: Vec::new(),
            archive: self.archive,
            notes: self.notes,
        })
    }

    fn try_out(&self, folder: &Path) -> Result<()> {
        stage::stage(&self.archive, &self.wanted, folder)?;
        let damaged: BTreeSet<&Path> = self
            .contents
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.databases)
            .filter(|database| !database.is_sound())
            .map(|database| database.path.0.as_path())
            .collect();
        for entry in
            self.wanted.iter().filter(|entry| entry.database && !damaged.contains(entry.path.as_path()))
        {
            let mut connection = database::open_read_only(&folder.join(&entry.path))?;
            if let Verdict::Damaged(text) = database::check(&mut connection, "integrity_check", CHECK)? {
                return Err(Fault::critical(format!(
                    "the restored {} is damaged: {text}",
                    entry.path.display()
                ))
                .into());
            }
        }
        Ok(())
    }

    fn need_room(&self, folder: &Path) -> Result<()> {
        let (needed, free) = (self.bytes(), backup::free_space(folder)?);
        if needed > free {
            return Err(Fault::critical(format!(
                "no room in {}: {} are needed and {} are free; nothing was changed",
                folder.display(),
                Size(needed),
                Size(free)
            ))
            .into());
        }
        Ok(())
    }
}

/// Refuses to take files away from under a process: it would go on writing into those set aside.
fn need_nobody(home: &Path, swap: &Swap) -> Result<()> {
    let replaced = swap.moves.iter().filter(|one| one.had);
    let files = replaced.filter_map(|one| fs::canonicalize(home.join(&one.path.0)).ok()).collect();
    let Some((pid, file)) = process::holders(&files).into_iter().next() else { return Ok(()) };
    let found = Process::find(pid).ok().flatten();
    let words = found.map(|found| found.arguments()).unwrap_or_default();
    let command: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    Err(Fault::critical(format!(
        "process {pid} ({}) has {} open and is no service of this agent",
        text::one_line(&command.join(" "), 200),
        file.display()
    ))
    .hint("end it, or name it as a service in ops.toml, and run this again")
    .into())
}

/// Puts everything back: stops what runs on the new files, moves, starts what ran before.
fn undo(home: &crate::base::Home, swap: &mut Swap, services: &Services<'_>) -> Result<()> {
    // On a full disk this may fail; going back takes no space.
    let _ = swap.save(home, Phase::Undoing);
    if !swap.moves.is_empty() {
        for name in &swap.services {
            services.stop(name, true, false)?;
        }
        swap.back(home.root())?;
    }
    for name in &swap.services {
        services.start(name).with_context(|| format!("the files are back, but {name} does not start"))?;
    }
    swap.close(home)
}

/// Finishes or undoes a restore that was cut short, and says which. None: there was none.
///
/// # Errors
/// When that failed; it can be tried again.
pub fn recover(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Result<Option<String>> {
    if !loaded.home.restore_journal().exists() {
        return Ok(None);
    }
    let _lock = backup::lock(loaded, run)?;
    let Some(mut swap) = Swap::load(&loaded.home)? else { return Ok(None) };
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let when = units::local(swap.at);
    // Whoever was told to stop by a person meanwhile stays stopped.
    let mut wanted = Vec::new();
    for name in std::mem::take(&mut swap.services) {
        if loaded.config.service.contains_key(&name) && services.status(&name)?.stopped_by_operator.is_none()
        {
            wanted.push(name);
        }
    }
    swap.services = wanted;
    let said = if swap.phase == Phase::Placed {
        for name in &swap.services {
            services
                .start(name)
                .with_context(|| format!("the restore of {when} is whole, but {name} does not start"))?;
        }
        swap.close(&loaded.home)?;
        format!("the restore of {when} (run {}) was cut short; it is finished now", swap.run)
    } else {
        undo(&loaded.home, &mut swap, &services).map_err(|error| {
            anyhow!("the restore of {when} was cut short and cannot be undone yet: {error:#}")
        })?;
        format!("the restore of {when} (run {}) was cut short; everything is back as it was before", swap.run)
    };
    if let Some(journal) = journal {
        journal.note(run, &said, State::Warning)?;
    }
    Ok(Some(said))
}
