//! What a message says about its incident.

use serde::{Deserialize, Serialize};

/// What a message says about its incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It began.
    New,
    /// It got worse, failed again after a restart, or recovery gave up.
    Worse,
    /// It still is.
    Reminder,
    /// It is over.
    Recovered,
    /// It comes and goes.
    Flapping,
    /// Nobody acknowledged it: others are told.
    Escalated,
    /// Somebody tries the channels.
    Test,
}

impl Kind {
    /// The word in the journal and in documents.
    pub fn word(self) -> &'static str {
        match self {
            Kind::New => "new",
            Kind::Worse => "worse",
            Kind::Reminder => "reminder",
            Kind::Recovered => "recovered",
            Kind::Flapping => "flapping",
            Kind::Escalated => "escalated",
            Kind::Test => "test",
        }
    }
}
