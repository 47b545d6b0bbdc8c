//! What the dashboard shows, as plain values.

use super::{History, Objective};
use crate::base::{State, units};
use crate::health::Report;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The agent's name.
    pub agent: String,
    /// Its home.
    pub home: String,
    /// The host.
    pub host: String,
    /// The run that looked.
    pub run: String,
    /// When it looked.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// The version of this program.
    pub version: &'static str,
    /// How often an open page loads itself again, in seconds; 0: never.
    pub refresh: u64,
    /// The worst of the checks.
    pub state: State,
    /// That, in one line.
    pub headline: String,
    /// The services, by name.
    pub services: Vec<Service>,
    /// All checks, made just now.
    pub health: Report,
    /// The agent's databases.
    pub databases: Vec<File>,
    /// Its logs.
    pub logs: Logs,
    /// The file system of the home.
    pub disk: Option<Disk>,
    /// The backups.
    pub backups: Backups,
    /// The incidents that are open; none as well without a journal.
    pub incidents: Vec<Incident>,
    /// The last lines of `logs/alerts.log`, newest first.
    pub alerts: Vec<Event>,
    /// How it was.
    pub history: History,
    /// How it should be, and is.
    pub objectives: Vec<Objective>,
}

/// One service.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Ok if it runs.
    pub state: State,
    /// `running`, `stopped` (by its operator), `dead`, `stranger` (its pid file names another
    /// process), `unknown`.
    pub condition: &'static str,
    /// Why we think so, and what is at it; empty for one that simply runs.
    pub detail: String,
    /// Who stands behind it: `systemd`, `launchd`, `ops run`; none as well as long as one that was installed
    /// runs as it did before.
    pub manager: Option<&'static str>,
    /// What runs, if it does.
    pub process: Option<Process>,
    /// Its last sign of life, if it writes a status file.
    pub heartbeat: Option<Heartbeat>,
}

/// A running process.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it started.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub started: DateTime<Utc>,
    /// How long it runs, in seconds.
    pub uptime: u64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Processor time used so far, in seconds.
    pub cpu: f64,
    /// The same as a share of its uptime, in percent.
    pub cpu_percent: f64,
    /// Threads.
    pub threads: u32,
}

/// A sign of life.
#[derive(Clone, Debug, Serialize)]
pub struct Heartbeat {
    /// What the agent says of itself.
    pub status: String,
    /// When.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub at: Option<DateTime<Utc>>,
    /// How long ago, in seconds; negative: in the future.
    pub age: Option<i64>,
    /// Seconds between two.
    pub interval: Option<f64>,
}

/// A file and its size.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    /// Its name, relative to the home.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// The logs, all together.
#[derive(Clone, Debug, Serialize)]
pub struct Logs {
    /// How many files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Recent error lines, as the checks of kind `log_errors` count them.
    pub errors: Option<u64>,
}

/// A file system.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// Bytes an ordinary user can still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
    /// How full it is, in percent.
    pub used_percent: f64,
}

/// The backups.
#[derive(Clone, Debug, Serialize)]
pub struct Backups {
    /// The folder.
    pub folder: String,
    /// How many archives.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The one that a restore takes; where there is none, the newest.
    pub newest: Option<Archive>,
    /// What is wrong with newer ones.
    pub flaws: Vec<String>,
}

/// One archive.
#[derive(Clone, Debug, Serialize)]
pub struct Archive {
    /// Its file name.
    pub name: String,
    /// When it was made.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub at: DateTime<Utc>,
    /// How long ago, in seconds.
    pub age: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it was read back and found good, its databases too.
    pub verified: bool,
}

/// A problem from first sight to recovery.
#[derive(Clone, Debug, Serialize)]
pub struct Incident {
    /// Its alert type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How bad.
    pub severity: State,
    /// First seen.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub since: DateTime<Utc>,
    /// What it is about.
    pub summary: String,
}

/// A line of a text log of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// As written: local time.
    pub time: String,
    /// `INFO`, `WARNING`, `CRITICAL`, `OK`, …
    pub level: String,
    /// The rest.
    pub text: String,
}
