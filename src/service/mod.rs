//! The processes of the agent: who they are, start, stop, restart.

use crate::base::process::Process;
use crate::base::{Home, Run};
use crate::config::Config;
use anyhow::Result;
use chrono::{DateTime, Utc};

/// How a service is.
#[derive(Clone, Debug)]
pub enum Liveness {
    /// Its process is there and provably the service's.
    Running(Process),
    /// It is not there; why we think so, as a clause ("process 123 is gone").
    Dead(String),
    /// Its pid file names a live process that is not the service.
    Stranger {
        /// The pid in the file.
        pid: u32,
        /// What runs under that pid.
        command: String,
    },
}

/// One service, looked at.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub service: String,
    /// How it is.
    pub liveness: Liveness,
    /// When its operator stopped it, if that was the last thing said: then it is not to be
    /// restarted by us.
    pub stopped_by_operator: Option<DateTime<Utc>>,
}

/// What a start came to.
#[derive(Clone, Debug)]
pub enum Started {
    /// It ran already.
    Already(Process),
    /// It was started and is ready.
    New(Process),
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
    /// Looks at one service. Changes nothing.
    pub fn status(&self, _service: &str) -> Result<Status> {
        anyhow::bail!("under construction")
    }

    /// Starts a service and waits until it is ready.
    pub fn start(&self, _service: &str) -> Result<Started> {
        anyhow::bail!("under construction")
    }

    /// Stops a service: TERM, grace, and with `force` KILL. False: it did not run.
    /// `remember`: an operator's word, so nothing of ours starts it again by itself.
    pub fn stop(&self, _service: &str, _force: bool, _remember: bool) -> Result<bool> {
        anyhow::bail!("under construction")
    }

    /// Stops, starts, and waits for a sign of life newer than the start.
    pub fn restart(&self, _service: &str, _force: bool) -> Result<Process> {
        anyhow::bail!("under construction")
    }
}

/// x
pub fn exec_session_if_asked() -> Option<std::process::ExitCode> {
    None
}
