//! Checks of the agent's own processes.

use super::limits::Limit;
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
}
