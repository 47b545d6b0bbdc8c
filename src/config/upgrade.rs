//! `[upgrade]`: how the agent's program is brought up to date, and back.

use crate::base::units::Span;
use serde::{Deserialize, Serialize};

/// `[upgrade]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    /// What upgrades it, program and arguments, when `ops upgrade` is given no `-- CMD`.
    pub command: Vec<String>,
    /// What brings the program back, when it has to: state comes from the backup.
    pub rollback: Vec<String>,
    /// How long the agent must live, and be well, before it counts as upgraded.
    pub settle: Span,
}

impl Default for Upgrade {
    fn default() -> Upgrade {
        Upgrade { command: Vec::new(), rollback: Vec::new(), settle: Span::minutes(1) }
    }
}
