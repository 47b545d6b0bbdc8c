//! What all probes look at: the agent, how its services are, and a copy of the journal.

use super::{copy, crew};
use crate::base::beneath::open_named;
use crate::base::database::{self, Verdict};
use crate::base::maintenance::Maintenance;
use crate::base::own_files::is_missing;
use crate::base::{Fault, Home, Journal, Run, State, units};
use crate::config::{self, Loaded, Service};
use crate::service::{Liveness, Services, Status};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long the config, and after it the home, may take to answer at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The agent that is examined.
#[derive(Clone, Debug)]
pub struct Subject {
    /// This run.
    pub run: Run,
    /// What is known of it; none: there is no config, and nobody said where its home is.
    pub agent: Option<Loaded>,
    /// Why its config cannot be read, and what to do.
    pub broken: Option<(String, Option<String>)>,
}

impl Subject {
    /// Finds and reads the config as every program of ours does. What is wrong with it is a cause, not an
    /// error.
    pub fn find(run: &Run, config: Option<&Path>, home: Option<&Path>) -> Subject {
        let asked = (run.clone(), config.map(Path::to_owned), home.map(Path::to_owned));
        let look = move || Subject::read(&asked.0, asked.1.as_deref(), asked.2.as_deref());
        crew::within(PATIENCE, look).unwrap_or_else(|| Subject {
            run: run.clone(),
            agent: None,
            broken: Some((
                format!("no answer within {}", units::Span(PATIENCE)),
                Some("the disk that it is on hangs: mount, df and dmesg tell which".to_owned()),
            )),
        })
    }

    fn read(run: &Run, config: Option<&Path>, home: Option<&Path>) -> Subject {
        let fault =
            |error: &anyhow::Error| Some((format!("{error:#}"), Fault::of(error).1.map(str::to_owned)));
        let (agent, broken) = match config::find(config, home) {
            Ok(file) => match config::load(&file, home) {
                Ok(loaded) => (Some(loaded), None),
                Err(error) => (Some(config::bare(&file, home)), fault(&error)),
            },
            Err(error) => (home.map(|home| config::bare(&home.join("ops.toml"), Some(home))), fault(&error)),
        };
        Subject { run: run.clone(), agent, broken }
    }
}

/// What is known of our own history.
pub(super) enum Past {
    /// There is none yet.
    None,
    /// A copy of the journal, under this home.
    Copied(Home),
    /// It is damaged; what SQLite says.
    Damaged(String),
    /// It cannot be read, and why.
    Unreadable(String),
}

/// One look at what several probes ask about.
pub(super) struct View {
    pub(super) run: Run,
    pub(super) agent: Option<Loaded>,
    pub(super) broken: Option<(String, Option<String>)>,
    pub(super) past: Past,
    status: BTreeMap<String, Result<Status, String>>,
}

impl View {
    /// Looks, and gives what holds the copy of the journal: it goes with that, even if a probe hangs.
    pub(super) fn new(subject: &Subject) -> (View, Option<TempDir>) {
        let Subject { run, agent, broken } = subject.clone();
        let mut copies = None;
        let mut view = View { run, agent, broken, past: Past::None, status: BTreeMap::new() };
        if let Some(loaded) = &view.agent {
            let services = view.services(loaded);
            let look = |name: &String| services.status(name).map_err(|error| format!("{error:#}"));
            view.status = loaded.config.service.keys().map(|name| (name.clone(), look(name))).collect();
            (view.past, copies) = past(&loaded.home);
        }
        (view, copies)
    }

    /// What is worth knowing, before anything was looked at.
    pub(super) fn notes(&self) -> Vec<String> {
        let note = self.agent.as_ref().and_then(|loaded| Maintenance::now(&loaded.home, self.run.now));
        let said = note.map(|note| {
            format!(
                "{} is at the agent, since {}: look again when it is done",
                note.what,
                units::local(note.since)
            )
        });
        said.into_iter().collect()
    }

    pub(super) fn services<'a>(&'a self, loaded: &'a Loaded) -> Services<'a> {
        Services { home: &loaded.home, config: &loaded.config, run: &self.run }
    }

    /// The agent, if its home is there to be looked at.
    pub(super) fn at_home(&self) -> Option<&Loaded> {
        self.agent.as_ref().filter(|loaded| loaded.home.root().is_dir())
    }

    /// The agent, if it is known what it should be, and its home is there.
    pub(super) fn whole(&self) -> Option<&Loaded> {
        self.at_home().filter(|_| self.broken.is_none())
    }

    /// The copy of the journal.
    pub(super) fn journal(&self) -> Option<Journal> {
        match &self.past {
            Past::Copied(home) => Journal::open_to_read(home),
            _ => None,
        }
    }

    /// The owner of the home, where that is not who looks: what is done here should be done as that user.
    pub(super) fn other_owner(&self) -> Option<u32> {
        let root = self.agent.as_ref()?.home.root();
        let owner = match root.metadata() {
            Ok(meta) => meta.uid(),
            // Of what may not be looked at, the owner of what is above it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                root.ancestors().find_map(|folder| folder.metadata().ok())?.uid()
            }
            Err(_) => return None,
        };
        Some(owner).filter(|owner| *owner != rustix::process::geteuid().as_raw())
    }

    /// Whether the config, and with it the home, may not be looked at.
    pub(super) fn closed(&self) -> bool {
        let Some(loaded) = &self.agent else { return false };
        let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
        open_named(&loaded.config.file).is_err_and(denied)
    }

    /// Each service of a config that can be read, and how it is.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Loaded, &str, &Service, &Result<Status, String>)> {
        self.whole().into_iter().flat_map(move |loaded| {
            let of =
                move |(name, service)| Some((loaded, String::as_str(name), service, self.status.get(name)?));
            loaded.config.service.iter().filter_map(of)
        })
    }

    /// How bad it is for a service to lack something: one that runs does without for now, and one that
    /// its operator stopped is not missed.
    pub(super) fn gravity(&self, service: &str) -> State {
        match self.status.get(service) {
            Some(Ok(status)) if is_down(status) => State::Critical,
            _ => State::Warning,
        }
    }

    /// Who must be able to write in the home: those whom its services run as, else its owner.
    pub(super) fn users(&self, owner: u32) -> BTreeSet<u32> {
        let running = self.status.values().filter_map(|status| Some(status.as_ref().ok()?.process()?.uid));
        let users: BTreeSet<u32> = running.collect();
        if users.is_empty() { BTreeSet::from([owner]) } else { users }
    }

    pub(super) fn runs(&self, service: &str) -> bool {
        self.status.get(service).is_some_and(|status| {
            status.as_ref().is_ok_and(|status| matches!(status.liveness, Liveness::Running(_)))
        })
    }
}

/// Whether a service should run and does not.
fn is_down(status: &Status) -> bool {
    !matches!(status.liveness, Liveness::Running(_)) && status.stopped_by_operator.is_none()
}

fn past(home: &Home) -> (Past, Option<TempDir>) {
    let path = home.journal();
    match home.metadata(&path) {
        Ok(_) => {}
        Err(error) if is_missing(&error) => return (Past::None, None),
        Err(error) => return (Past::Unreadable(error.to_string()), None),
    }
    let copied = || -> Result<(Past, TempDir)> {
        let folder = tempfile::tempdir().context("there is no temporary folder for a copy of it")?;
        let home = Home::new(folder.path().to_owned());
        home.make_folder(&home.ops())?;
        let copy: PathBuf = copy::database(&path, &home.ops())?;
        Ok(match database::quick_check(&copy, Duration::from_secs(3))? {
            Verdict::Damaged(lines) => (Past::Damaged(lines), folder),
            Verdict::Unjudged(_, why) => (Past::Unreadable(why), folder),
            Verdict::Sound if Journal::open_to_read(&home).is_none() => {
                (Past::Unreadable("it is of another version of these programs".to_owned()), folder)
            }
            Verdict::Sound => (Past::Copied(home), folder),
        })
    };
    match copied() {
        Ok((past, folder)) => (past, Some(folder)),
        Err(error) => (Past::Unreadable(format!("{error:#}")), None),
    }
}
