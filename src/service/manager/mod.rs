//! Managers: what else may run a service, from the boot on and when it crashed.
//!
//! A service that `ops install` gave to one is started and stopped through it from then on, so that
//! it never works against us. Its [`Definition`] runs `ops run --exec`, which becomes the service: who
//! that is stands in the same record, whoever started it.

pub(super) mod asked;
mod edits;
mod install;
mod launchd;
mod systemd;
mod unit;

pub use install::{Change, Installation, Removal, Unconfigured};
pub(super) use install::{install, installed_services, unconfigured, uninstall};

use super::Stopped;
use super::record::Record;
use crate::base::manager::Manager;
use crate::base::own_files::is_missing;
use crate::base::{Fault, Home, privilege};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What a manager knows of a service, as we wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The home it was written for.
    #[serde(with = "crate::base::name::path")]
    pub home: PathBuf,
    /// Whose it is.
    pub manager: Manager,
    /// The system's manager, or else the user's own.
    pub system: bool,
    /// How the manager calls the service.
    pub unit: String,
    /// Its file.
    #[serde(with = "crate::base::name::path")]
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Definition {
    /// The definition of a service that was installed; none: it has no manager.
    pub(super) fn installed(home: &Home, service: &str) -> Result<Option<Definition>> {
        // Somebody took it away by hand: then nothing runs the service any more.
        Ok(Definition::noted(home, service)?.filter(|definition| definition.path.exists()))
    }

    /// [`Definition::installed`], whether its file is still there or not.
    pub(super) fn noted(home: &Home, service: &str) -> Result<Option<Definition>> {
        let path = record(home, service);
        let bytes = match home.read(&path) {
            Err(error) if is_missing(&error) => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let damaged = |why: String| {
            Fault::unknown(format!("{} is damaged: {why}", path.display()))
                .hint("`ops install` writes it anew; remove it if no manager runs the service")
        };
        let noted: Definition = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if noted.unit.is_empty()
            || !noted.manager.can_be_ours(noted.system, &noted.unit, &noted.path)
            || (noted.system && !privilege::may_order(&noted.path))
        {
            return Err(damaged(format!("it names {:?} as {:?}", noted.path, noted.unit)).into());
        }
        // Whoever may write in the home is not to say what of another agent's is stopped and removed.
        if !noted.manager.is_of_home(&noted.path, &noted.home)? {
            return Err(damaged(format!("{} is not of this home", noted.path.display())).into());
        }
        // What is noted in a copy of a home is of the first one.
        Ok(Some(noted).filter(|noted| home.is_or_was(&noted.home)))
    }

    /// "systemd" or "systemd, of the system".
    pub fn manager(&self) -> String {
        let of = if self.system { ", of the system" } else { "" };
        format!("{}{of}", self.manager.name())
    }

    /// Starts the service, and at every boot or login from now on.
    pub(super) fn start(&self) -> Result<()> {
        match self.manager {
            Manager::Systemd => systemd::start(self),
            Manager::Launchd => launchd::start(self),
        }
        .map_err(|error| self.refused("start", &error))
    }

    /// Has the manager start the service at every boot or login; not now.
    pub(super) fn enable(&self) -> Result<()> {
        match self.manager {
            Manager::Systemd => crate::base::systemd::enable(self.system, &self.unit, true),
            Manager::Launchd => crate::base::launchd::enable(self.system, &self.unit, true),
        }
        .map_err(|error| self.refused("enable", &error))
    }

    /// Stops the service, if the manager runs it. With `for_good` it is not started at the next boot.
    pub(super) fn stop(&self, for_good: bool) -> Result<()> {
        match self.manager {
            Manager::Systemd => systemd::stop(self, for_good),
            Manager::Launchd => launchd::stop(self, for_good),
        }
        .map_err(|error| self.refused("stop", &error))
    }

    /// The time from TERM to KILL that its file says.
    fn grace(&self) -> Duration {
        let seconds = match self.manager {
            Manager::Systemd => self.text.split_once("\nTimeoutStopSec="),
            Manager::Launchd => self.text.split_once("<key>ExitTimeOut</key>\n  <integer>"),
        };
        let digits = seconds.and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        // Whoever may write in the home has no word here that lasts for ever.
        Duration::from_secs(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0).min(24 * 3600))
    }

    fn refused(&self, what: &str, error: &anyhow::Error) -> anyhow::Error {
        let message = format!("{} was told to {what} {}: {error:#}", self.manager.name(), self.unit);
        let fault = Fault::critical(message);
        match self.system && !privilege::manages_system() {
            true => {
                let unit = &self.unit;
                fault
                    .hint(format!("the manager of the system obeys root: sudo systemctl {what} {unit}"))
                    .into()
            }
            false => fault.into(),
        }
    }

    /// The process that the manager runs; none: it does not run it.
    pub(super) fn pid(&self) -> Result<Option<u32>> {
        match self.manager {
            Manager::Systemd => systemd::pid(self),
            Manager::Launchd => launchd::pid(self),
        }
    }

    /// Why it is not started, as a clause; none: it is, or will be.
    pub(super) fn failure(&self) -> Result<Option<String>> {
        match self.manager {
            Manager::Systemd => systemd::failure(self),
            Manager::Launchd => launchd::failure(self),
        }
    }

    /// Whether its operator had the manager stop it, or not start it any more, past us. None: it is down by
    /// itself, or our own doing.
    pub(super) fn stopped(&self, home: &Home, service: &str, record: &Record) -> Result<Option<Stopped>> {
        let word = asked::read(home, service);
        let asked = word.as_ref().map(|word| word.invocation.as_str());
        let stopped = match self.manager {
            Manager::Systemd => systemd::stopped(self, asked, record),
            Manager::Launchd => launchd::stopped(self, record),
        }?;
        let at = word.and_then(|word| word.at);
        Ok(stopped.then_some(Stopped { at, with: Some(self.manager) }))
    }

    fn note(&self, home: &Home, service: &str) -> Result<()> {
        home.replace(&record(home, service), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

/// Where it stands that a service was installed.
fn record(home: &Home, service: &str) -> PathBuf {
    home.service_record(service).with_extension("installed")
}
