//! `[check.NAME]`: one question about the agent. `kind` decides which further keys it has.

mod agent;
mod files;
mod limits;
mod network;
mod own;
mod streak;

pub use agent::{Heartbeat, Process};
pub use files::{Disk, LogErrors, LogSize, Sqlite};
pub use limits::{Free, Limit, Most};
pub use network::Tcp;
pub use own::{BackupAge, DrillAge};
pub use streak::Streak;

use crate::base::units::Span;
use serde::{Deserialize, Deserializer, Serialize, de};

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

/// Lists the kinds once: their enum, their names, and how each is read.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:literal => $kind:ident,)*) => {
        /// The names of the kinds, as written in `kind = "…"`.
        pub const KINDS: &[&str] = &[$($name),*];

        /// The kinds of check.
        #[derive(Clone, Debug, Serialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Kind {
            $($(#[$doc])* $kind($kind),)*
        }

        impl Kind {
            /// The name, as written in `kind = "…"`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Kind::$kind(_) => $name,)*
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
    /// Are its databases sound?
    "sqlite" => Sqlite,
    /// Is there room on the disk?
    "disk" => Disk,
    /// Are the logs bounded?
    "log_size" => LogSize,
    /// Do the logs speak of errors?
    "log_errors" => LogErrors,
    /// Does something answer on a port?
    "tcp" => Tcp,
    /// Is there a recent, verified backup?
    "backup_age" => BackupAge,
    /// Was a backup restored on trial lately?
    "drill_age" => DrillAge,
}
