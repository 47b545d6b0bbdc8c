//! What may become of a message on its way.

use std::time::Duration;

/// What became of one message on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Somebody can read it now; by what it can be found there again, if it can.
    Delivered(Option<String>),
    /// There is nothing to deliver to here (no desktop session): neither success nor failure.
    Unavailable(String),
    /// Not this time; a later run tries again.
    Failed(String),
    /// Not before so long from now: the other side asked for it.
    Later(String, Duration),
    /// The other side will never take it: trying again is of no use.
    Refused(String),
}

impl Outcome {
    /// The word in the journal and in documents.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Outcome::Delivered(_) => "delivered",
            Outcome::Unavailable(_) => "unavailable",
            Outcome::Failed(_) | Outcome::Later(..) => "failed",
            Outcome::Refused(_) => "refused",
        }
    }

    /// Why it was not delivered.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Outcome::Delivered(_) => None,
            Outcome::Unavailable(why)
            | Outcome::Failed(why)
            | Outcome::Later(why, _)
            | Outcome::Refused(why) => Some(why),
        }
    }
}
