//! `[check.NAME]`: one question about the agent. `kind` decides which further keys it has.

mod agent;
mod files;
mod limits;
mod network;
mod own;
mod rules;
mod streak;
mod values;
mod written;

pub use agent::{Heartbeat, Process, Resources, Restarts};
pub use files::{Disk, FileAge, Jsonl, LogErrors, LogSize, Mode, Permissions, Pin, Sha256, Sqlite, Which};
pub use limits::{Bounds, Free, Least, Limit, Most};
pub use network::{Http, Member, Tcp};
pub use own::{BackupAge, CopyAge, DrillAge, Schedule};
pub use rules::{Rules, Words, Zone};
pub use streak::Streak;
pub use values::{Aggregate, Command, Json, Metric, Sql, SystemdUnits};
pub use written::{HttpUrl, Pattern};

use crate::base::secret::Secret;
use crate::base::units::Span;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::path::PathBuf;

/// One check, as configured.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is asked.
    #[serde(flatten)]
    pub kind: Kind,
    /// What every check has.
    #[serde(flatten)]
    pub common: Common,
}

/// The keys that every check has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// Whether it runs.
    pub enabled: bool,
    /// Whether "could not tell" ranks above a warning.
    pub critical: bool,
    /// How long it may take before it counts as "could not tell".
    pub timeout: Span,
    /// In how many of the last runs it must have been bad before that counts: `3 of 5`.
    #[serde(rename = "for")]
    pub streak: Streak,
    /// Not looked again within this: the last answer stands. For what is rate-limited, or costs
    /// the agent something.
    pub every: Option<Span>,
    /// Checks from which this one follows: while one of them is CRITICAL, or its service was stopped
    /// by its operator, nobody is alerted to this one.
    pub after: Vec<String>,
    /// The alert type while it warns; by its kind unless said otherwise.
    pub alert_warning: Option<String>,
    /// The alert type while it is critical or cannot be told.
    pub alert_critical: Option<String>,
}

impl Common {
    /// Their names in the file.
    pub(super) const KEYS: [&str; 8] =
        ["enabled", "critical", "timeout", "for", "every", "after", "alert_warning", "alert_critical"];
}

impl Default for Common {
    fn default() -> Common {
        Common {
            enabled: true,
            critical: false,
            timeout: Span::seconds(8),
            streak: Streak::default(),
            every: None,
            after: Vec::new(),
            alert_warning: None,
            alert_critical: None,
        }
    }
}

/// Lists the kinds once: their enum, their names, what each asks, and how it is read.
macro_rules! kinds {
    ($(#[doc = $question:literal] $name:literal => $kind:ident,)*) => {
        /// The names of the kinds, as written in `kind = "…"`.
        pub const KINDS: &[&str] = &[$($name),*];

        /// The kinds of check.
        #[derive(Clone, Debug, Serialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Kind {
            $(#[doc = $question] $kind($kind),)*
        }

        impl Kind {
            /// The name, as written in `kind = "…"`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Kind::$kind(_) => $name,)*
                }
            }

            /// What it asks.
            pub fn question(&self) -> &'static str {
                match self {
                    $(Kind::$kind(_) => $question.trim_ascii(),)*
                }
            }

            /// Reads the table of a kind, without the keys that every check has.
            pub(super) fn read<'de, D: Deserializer<'de>>(kind: &str, table: D) -> Result<Kind, D::Error> {
                Ok(match kind {
                    $($name => Kind::$kind($kind::deserialize(table)?),)*
                    other => return Err(de::Error::unknown_variant(other, KINDS)),
                })
            }
        }
    };
}

kinds! {
    /// Is the service's process there, and is it really the service?
    "process" => Process,
    /// Does it still get on with its work?
    "heartbeat" => Heartbeat,
    /// Does it take more of the machine than it should?
    "resources" => Resources,
    /// Does it start over and over?
    "restarts" => Restarts,
    /// Are its databases sound?
    "sqlite" => Sqlite,
    /// Are its files of JSON lines whole?
    "jsonl" => Jsonl,
    /// Was a file written lately, or taken away in time?
    "file_age" => FileAge,
    /// Can others read or write what they must not?
    "permissions" => Permissions,
    /// Is a file what it was said to be?
    "pin" => Pin,
    /// Is there room on the disk?
    "disk" => Disk,
    /// Are the logs bounded?
    "log_size" => LogSize,
    /// Do the logs speak of errors?
    "log_errors" => LogErrors,
    /// Does something answer on a port?
    "tcp" => Tcp,
    /// Does something answer a request by HTTP, and rightly?
    "http" => Http,
    /// Is a value in a JSON file as it should be?
    "json" => Json,
    /// Is the value that a query gives as it should be?
    "sql" => Sql,
    /// Is a metric of a Prometheus endpoint as it should be?
    "metric" => Metric,
    /// What does a Nagios plugin say?
    "command" => Command,
    /// Are units of systemd active?
    "systemd_units" => SystemdUnits,
    /// Is there a recent, verified backup?
    "backup_age" => BackupAge,
    /// Was a backup restored on trial lately?
    "drill_age" => DrillAge,
    /// Is there a recent backup in the bucket?
    "copy_age" => CopyAge,
    /// Do our own jobs run when they should?
    "schedule" => Schedule,
}

impl Kind {
    /// The service it asks about, if one.
    pub fn service(&self) -> Option<&str> {
        match self {
            Kind::Process(options) => Some(&options.service),
            Kind::Heartbeat(options) => Some(&options.service),
            Kind::Resources(options) => Some(&options.service),
            Kind::Restarts(options) => Some(&options.service),
            _ => None,
        }
    }

    /// Why its keys contradict each other, if they do.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        match self {
            Kind::Http(http) => {
                http.wrong().or_else(|| http.json.iter().find_map(|member| member.rules().wrong()))
            }
            Kind::Json(json) if !json.only.is_empty() && !json.count => Some("where needs count = true"),
            Kind::Json(json) => json.rules().wrong(),
            Kind::Sql(sql) => sql.rules().wrong(),
            Kind::Metric(metric) if metric.url.is_some() == metric.file.is_some() => {
                Some("a metric is read from a url or a file: one of them must be given")
            }
            Kind::Metric(metric) => metric.rules().wrong(),
            Kind::Command(command) if command.command.first().is_none_or(String::is_empty) => {
                Some("command is empty")
            }
            Kind::SystemdUnits(options) if options.units.is_empty() && !options.failed => {
                Some("units is empty, and failed = true is not given: there is nothing to ask")
            }
            _ => None,
        }
    }

    /// The paths in it that may be relative to the home.
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Kind::Disk(disk) => vec![&mut disk.path],
            Kind::Http(http) => http.ca_file.iter_mut().collect(),
            Kind::Json(json) => vec![&mut json.file],
            Kind::Sql(sql) => vec![&mut sql.database],
            Kind::Metric(metric) => metric.file.iter_mut().chain(&mut metric.ca_file).collect(),
            _ => Vec::new(),
        }
    }

    /// The secrets in it, which may be in files under the home.
    pub(super) fn secrets(&mut self) -> Vec<&mut Secret> {
        match self {
            Kind::Tcp(tcp) => tcp.send.iter_mut().collect(),
            Kind::Http(http) => {
                http.headers.values_mut().chain(&mut http.password).chain(&mut http.body).collect()
            }
            Kind::Metric(metric) => metric.headers.values_mut().collect(),
            Kind::Command(command) => command.env.values_mut().collect(),
            _ => Vec::new(),
        }
    }
}
