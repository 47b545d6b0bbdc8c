//! Checks of our own work.

use super::limits::{Most, SECONDS};
use serde::{Deserialize, Serialize};

/// `kind = "backup_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackupAge {
    /// Age of the newest verified archive above which to warn.
    #[serde(default = "Most::day_and_a_bit")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::three_days")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "drill_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DrillAge {
    /// Age of the last good drill, or of the first backup where there was none, above which to warn.
    #[serde(default = "Most::week_and_a_day")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::month")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "copy_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CopyAge {
    /// Age of the newest archive in the bucket, or of the first backup where there was none yet, above
    /// which to warn.
    #[serde(default = "Most::day_and_a_bit")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::three_days")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "schedule"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// How late a job may be before that is a warning.
    #[serde(default = "Most::quarter")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::hour")]
    pub crit: Most<{ SECONDS }>,
}
