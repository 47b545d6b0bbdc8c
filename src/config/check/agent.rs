//! Checks of the agent's own processes.

use super::limits::{BYTES, Bounds, COUNT, Limit, Most, PERCENT, SECONDS};
use crate::base::units::Span;
use serde::{Deserialize, Serialize};

/// `kind = "process"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Whose process.
    pub service: String,
}

/// `kind = "heartbeat"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Whose status file.
    pub service: String,
    /// An age, or a multiple of the interval that the status file states.
    #[serde(default = "Limit::twice")]
    pub warn: Limit,
    /// The same, for critical.
    #[serde(default = "Limit::four_times")]
    pub crit: Limit,
    /// A counter in the status file that grows with the work done, such as `details.tasks_done`. One
    /// that stands still for longer than the limits is as bad as an old heartbeat.
    #[serde(default)]
    pub progress: Option<String>,
}

/// `kind = "resources"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Whose process.
    pub service: String,
    /// Whether the processes that it started count as well.
    #[serde(default)]
    pub tree: bool,
    /// Resident memory.
    #[serde(default)]
    pub rss: Option<Bounds<BYTES>>,
    /// Processor time since the last run, in percent of one processor.
    #[serde(default)]
    pub cpu: Option<Bounds<PERCENT>>,
    /// Threads.
    #[serde(default)]
    pub threads: Option<Bounds<COUNT>>,
    /// Open files, sockets and pipes, in percent of how many it may have.
    #[serde(default = "Bounds::nearly_all")]
    pub fds: Bounds<PERCENT>,
    /// Memory mappings, in percent of how many it may have.
    #[serde(default = "Bounds::nearly_all")]
    pub maps: Bounds<PERCENT>,
    /// How long it has run: some leak, and are to be restarted now and then.
    #[serde(default)]
    pub uptime: Option<Bounds<SECONDS>>,
}

/// `kind = "restarts"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// Whose.
    pub service: String,
    /// Within how long they are counted.
    #[serde(default = "day")]
    pub per: Span,
    /// More than this are a warning.
    #[serde(default = "Most::one")]
    pub warn: Most<{ COUNT }>,
    /// More than this are critical.
    #[serde(default = "Most::three")]
    pub crit: Most<{ COUNT }>,
}

fn day() -> Span {
    Span::days(1)
}
