//! The processes of the agent: who they are, start, stop, restart.
//!
//! A pid is a claim. A service runs only if a live process is provably its own: we started it
//! and it still has that pid and that start time, or its pid file names a process that could
//! have written it and whose command line fits. Nothing else is ever signalled.

mod detect;
mod double;
mod exec;
mod fit;
mod identify;
mod manager;
mod ports;
mod ready;
mod record;
mod start;
mod stop;
pub mod supervise;
mod tree;

pub use detect::{Detected, Detection, Kind};
pub use manager::{Change, Definition, Installation, Removal, Unconfigured};

use crate::base::durable::{Lock, PATIENCE};
use crate::base::manager::Manager;
use crate::base::process::{Identity, Process};
use crate::base::watchdog::{self, Hold};
use crate::base::{Fault, Home, Run, text, units, upgrade};
use crate::config::{self, Config};
use anyhow::Result;
use chrono::{DateTime, Utc};
use record::Record;

/// How a service is.
#[derive(Clone, Debug)]
pub enum Liveness {
    /// Its process is there and provably the service's.
    Running(Process),
    /// It is not there; why we think so, as a clause ("process 123 is gone").
    Dead(String),
    /// Its pid file names a live process that is not provably the service.
    Stranger {
        /// The pid in the file.
        pid: u32,
        /// What runs under that pid.
        command: String,
        /// It may be the service after all, started in another way: its arguments are the
        /// service's.
        resembles: bool,
    },
}

/// One service, looked at.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub service: String,
    /// How it is.
    pub liveness: Liveness,
    /// The service runs, but its pid file names this other live process.
    pub pid_file_names: Option<(u32, String)>,
    /// Its operator stopped it, and that was the last thing said: then it is not to be restarted
    /// by us.
    pub stopped_by_operator: Option<Stopped>,
}

/// An operator's stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// When, if that is known.
    pub at: Option<DateTime<Utc>>,
    /// The manager that was told; none: it was `ops stop`.
    pub with: Option<Manager>,
}

impl Stopped {
    /// "by its operator 5m ago", "by its operator with systemctl".
    pub fn told(&self, now: DateTime<Utc>) -> String {
        let with = self.with.map_or(String::new(), |manager| format!(" with {}", manager.program()));
        let ago = self.at.map_or(String::new(), |at| format!(" {} ago", units::age(now, at)));
        format!("by its operator{with}{ago}")
    }
}

impl Status {
    /// Its process, if it runs.
    pub fn process(&self) -> Option<&Process> {
        match &self.liveness {
            Liveness::Running(process) => Some(process),
            _ => None,
        }
    }
}

/// What a start came to.
#[derive(Clone, Debug)]
pub enum Started {
    /// It ran already.
    Already(Process),
    /// It was started and is ready.
    New(Process),
}

impl Started {
    /// The process, whichever it is.
    pub fn process(&self) -> &Process {
        match self {
            Started::Already(process) | Started::New(process) => process,
        }
    }
}

/// A service that was told to end (TERM) and runs on: it may end at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingStop {
    /// The service.
    pub service: String,
    /// Its process.
    pub pid: u32,
    /// When it was told.
    pub since: DateTime<Utc>,
}

impl PendingStop {
    /// As a clause.
    pub fn describe(&self) -> String {
        let (name, pid, since) = (&self.service, self.pid, units::local(self.since));
        format!("{name} (pid {pid}) was told to stop {since} and has not ended yet: it may at any time")
    }
}

/// The services of one agent, for one run.
#[derive(Clone, Copy, Debug)]
pub struct Services<'a> {
    /// The agent's home.
    pub home: &'a Home,
    /// Its config.
    pub config: &'a Config,
    /// This run.
    pub run: &'a Run,
}

impl Services<'_> {
    /// The names: all, or the one that is asked for.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when there is no such service.
    pub fn names(&self, only: Option<&str>) -> Result<Vec<String>> {
        let known = self.config.service.keys();
        let Some(name) = only else { return Ok(known.cloned().collect()) };
        self.service(name)?;
        Ok(vec![name.to_owned()])
    }

    /// Looks at one service. Changes nothing.
    pub fn status(&self, name: &str) -> Result<Status> {
        identify::look(self, name)
    }

    /// Whether `ops run` supervises a service now: then it alone starts it again.
    pub fn supervised(&self, name: &str) -> bool {
        supervise::supervisor(self, name).is_some()
    }

    /// Whether `ops run` may take a service up.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when another supervises it, or it runs by itself.
    pub fn may_supervise(&self, name: &str) -> Result<()> {
        self.service(name)?;
        supervise::may_supervise(self, name)
    }

    /// Every process that is the agent's, or looks like it. Signals none.
    pub fn detect(&self) -> Result<Detection> {
        detect::detect(self)
    }

    /// What its manager has of a service; none: nothing but us starts it.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn installed(&self, name: &str) -> Result<Option<Definition>> {
        Definition::installed(self.home, name)
    }

    /// Whether its manager runs a service as this process; one that ran when it was installed is not yet its.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn runs_by_manager(&self, name: &str, process: &Process) -> Result<bool> {
        let record = Record::read(self.home, name);
        if record.managed && record.identity.as_ref() == Some(&process.identity) {
            return Ok(true);
        }
        let Some(definition) = Definition::noted(self.home, name)? else { return Ok(false) };
        Ok(definition.pid()? == Some(process.identity.pid))
    }

    /// The names of services that have a manager, or had one, whether the config still has them or not.
    pub fn installed_names(&self) -> Result<Vec<String>> {
        manager::installed_services(self.home)
    }

    /// The services that a manager has, and the config has not: it runs them until they are uninstalled.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn unconfigured(&self) -> Result<Vec<Unconfigured>> {
        manager::unconfigured(self)
    }

    /// Gives a service to a manager of the user's, or of the `system`, there to run as `user`. From
    /// then on it is started and stopped through it, and at every boot or login, unless its operator
    /// stopped it. One that runs goes on as it is until it is restarted. A dry run changes nothing.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when it is with another manager already, or a file is in the way.
    pub fn install(
        &self,
        name: &str,
        manager: Manager,
        system: bool,
        user: Option<&str>,
        dry: bool,
    ) -> Result<Installation> {
        let _lock = if dry { None } else { Some(self.lock(name)?) };
        let definition = Definition::of(self, name, manager, system, user)?;
        let enabled = match self.status(name)?.stopped_by_operator {
            None => Some(true),
            Some(Stopped { with: None, .. }) => Some(false),
            // As its operator left it.
            Some(Stopped { with: Some(_), .. }) => None,
        };
        manager::install(self, name, definition, enabled, dry)
    }

    /// Takes away what [`Services::install`] wrote, and ends the service if its manager runs it. None:
    /// it has no manager. A dry run changes nothing.
    ///
    /// # Errors
    /// When something of it cannot be taken away.
    pub fn uninstall(&self, name: &str, dry: bool) -> Result<Option<Removal>> {
        manager::uninstall(self, name, dry)
    }

    /// Becomes the service, for a manager whose child we are. Returns the process as which it runs
    /// already, if it does.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn exec(&self, name: &str) -> Result<Process> {
        exec::exec(self, name)
    }

    /// Starts a service and waits until it is ready. The operator wants it to run from now on, whether this
    /// start comes to something or not.
    ///
    /// # Errors
    /// When it ends at once or is not ready in time, with the last lines of its log; when
    /// something is in the way that may be the service itself, or is left of its last run; while an
    /// upgrade is under way.
    pub fn start(&self, name: &str) -> Result<Started> {
        let _lock = self.lock(name)?;
        start::want(self, name)?;
        self.refuse_half_new(name)?;
        start::start(self, name, false).inspect_err(|error| self.note_failure(name, error))
    }

    /// [`Services::start`] of a service that died: what is left of its last run is killed.
    pub fn recover(&self, name: &str) -> Result<Started> {
        let _lock = self.lock(name)?;
        self.refuse_half_new(name)?;
        start::start(self, name, true).inspect_err(|error| self.note_failure(name, error))
    }

    /// Stops a service: TERM, grace, and with `force` KILL to all that is left of it. False:
    /// nothing of it ran. With `remember` it is an operator's word: nothing of ours starts it again
    /// by itself.
    ///
    /// # Errors
    /// When something of it is left afterwards, or a port of it is still taken.
    pub fn stop(&self, name: &str, force: bool, remember: bool) -> Result<bool> {
        let _lock = self.lock(name)?;
        stop::stop(self, name, force, remember)
    }

    /// Stops, starts, and waits for a sign of life newer than the start. The operator wants it to run from now
    /// on, as with [`Services::start`].
    pub fn restart(&self, name: &str, force: bool) -> Result<Process> {
        let _lock = self.lock(name)?;
        start::want(self, name)?;
        self.refuse_half_new(name)?;
        self.may_start(name)?;
        stop::stop(self, name, force, false)?;
        let started = start::start(self, name, force).inspect_err(|error| self.note_failure(name, error))?;
        Ok(started.process().clone())
    }

    /// Whether a start of it could be refused for what it says of others: asked before a service is stopped
    /// that is to run again.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when something beside it may be the service as well.
    pub fn may_start(&self, name: &str) -> Result<()> {
        double::refuse_beside(self, name, &self.status(name)?.liveness)
    }

    /// Which process may be a service that is taken to be dead, as a clause. Looks at all there are.
    pub fn double(&self, name: &str) -> Option<String> {
        double::described(self, name)
    }

    /// For the first start of all, of which nothing else tells.
    fn note_failure(&self, name: &str, error: &anyhow::Error) {
        let record = Record::read(self.home, name);
        if record.identity.is_none() {
            let failed = Some(text::one_line(&format!("{error:#}"), 200));
            // Whoever asked for the start is told either way.
            let _ = Record { failed, ..record }.write(self.home, name);
        }
    }

    /// Nothing is started that an upgrade is just changing, but by the upgrade itself.
    fn refuse_half_new(&self, name: &str) -> Result<()> {
        let Some(note) = upgrade::of_another(self.home) else { return Ok(()) };
        Err(Fault::unknown(format!("{name} was not started: {}", note.told()))
            .hint("it starts what ran before when it is done; `ops status` tells how it is")
            .into())
    }

    /// Kills a service that hangs, and starts it again: no restart that anybody asked for.
    pub fn recover_hung(&self, name: &str) -> Result<Process> {
        let _lock = self.lock(name)?;
        self.refuse_half_new(name)?;
        self.may_start(name)?;
        let stopped = stop::stop(self, name, true, false);
        Record { ended: false, ..Record::read(self.home, name) }.write(self.home, name)?;
        stopped?;
        Ok(start::start(self, name, true)?.process().clone())
    }

    /// Whether a service was told to end and has not yet, as far as is known.
    pub fn pending_stop(&self, name: &str) -> Option<PendingStop> {
        let stopping = Record::read(self.home, name).stopping?;
        let process = stopping.identity.find().ok()??;
        Some(PendingStop { service: name.to_owned(), pid: process.identity.pid, since: stopping.at })
    }

    /// [`Services::pending_stop`] of several, as a clause; none: there is none.
    pub fn pending_stops<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> Option<String> {
        let all: Vec<_> = names.into_iter().filter_map(|name| self.pending_stop(name)).collect();
        (!all.is_empty()).then(|| all.iter().map(PendingStop::describe).collect::<Vec<_>>().join("; "))
    }

    /// Whether this process replaced one that we were told to end: then it is no sign of a crash.
    pub fn was_asked_for(&self, name: &str, identity: &Identity) -> bool {
        let record = Record::read(self.home, name);
        record.asked_for && record.identity.as_ref() == Some(identity)
    }

    fn service(&self, name: &str) -> Result<&config::Service> {
        self.config.service.get(name).ok_or_else(|| {
            if self.config.disabled.iter().any(|disabled| disabled == name) {
                let file = self.config.file.display();
                return Fault::unknown(format!("the service '{name}' is not enabled"))
                    .hint(format!("write enabled = true into [service.{name}] of {file}"))
                    .into();
            }
            let known: Vec<&str> = self.config.service.keys().map(String::as_str).collect();
            let hint = match text::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("services: {}", known.join(", ")),
            };
            Fault::unknown(format!("there is no service '{}'", text::sanitize(name))).hint(hint).into()
        })
    }

    /// The files that the output of a service is appended to: stdout, stderr.
    fn output(&self, name: &str) -> [std::path::PathBuf; 2] {
        ["stdout", "stderr"].map(|stream| self.home.log(&format!("{name}_{stream}")))
    }

    /// While this is held, the run is not ended by its watchdog: a service between stop and start would stay down.
    fn lock(&self, name: &str) -> Result<(Hold, Lock)> {
        self.service(name)?;
        let hold = watchdog::hold();
        let lock = Lock::take(self.home, &format!("service-{name}"), self.run, PATIENCE)?;
        watchdog::phase(format!("the service {name}"));
        Ok((hold, lock))
    }

    /// A word of the config with `{ops}`, `{home}` and `{config}` filled in.
    fn fill(&self, word: &str) -> String {
        let fill = [
            ("{ops}", config::program("ops")),
            ("{home}", self.home.root().to_owned()),
            ("{config}", self.config.file.clone()),
        ];
        fill.iter()
            .fold(word.to_owned(), |word, (name, path)| word.replace(name, &path.display().to_string()))
    }

    /// The process that we started last as this service, and when; none: never, or it is not known.
    pub fn last_start(&self, name: &str) -> Option<(Identity, Option<DateTime<Utc>>)> {
        let record = Record::read(self.home, name);
        Some((record.identity?, record.started))
    }

    /// The command of a service, as it is run.
    pub fn command(&self, service: &config::Service) -> Vec<String> {
        service.command.iter().map(|word| self.fill(word)).collect()
    }
}

/// Reads what is noted of a service: for the fuzz targets.
#[doc(hidden)]
pub fn read_record(home: &crate::base::Home, service: &str) {
    let _ = record::Record::read(home, service);
}
