//! Checks of what answers on the network.

use super::limits::{Most, SECONDS};
use serde::{Deserialize, Serialize};

/// `kind = "tcp"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`.
    pub address: String,
    /// How long the connection may take to be made.
    #[serde(default = "Most::second")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical: no connection within this time is critical too.
    #[serde(default = "Most::five_seconds")]
    pub crit: Most<{ SECONDS }>,
}
