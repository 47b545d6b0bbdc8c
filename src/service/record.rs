//! What we know of a service from one run to the next: `.ops/service/NAME.json`.

use super::Services;
use super::tree::Mark;
use crate::base::Home;
use crate::base::process::Identity;
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The record of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The process we started last.
    pub identity: Option<Identity>,
    /// When we started it.
    pub started: Option<DateTime<Utc>>,
    /// By which run.
    pub run: String,
    /// Why it could not be started, before there was any process of it.
    pub failed: Option<String>,
    /// When its operator stopped it; none once it was started again.
    pub stopped_by_operator: Option<DateTime<Utc>>,
    /// We were told to end it: its next start is no sign of a crash.
    pub ended: bool,
    /// Whom we told to end with TERM, until it has: it may do so at any time.
    pub stopping: Option<Stopping>,
    /// The one before it was ended so.
    pub asked_for: bool,
    /// A supervisor started it.
    pub supervised: bool,
    /// Its manager started it, and we told that nothing of it since.
    pub managed: bool,
    /// Its operator's last stop by us had its manager start it no more at the next boot.
    pub disabled: bool,
    /// The run that asks its supervisor to start it, until that is done.
    pub asked: Option<String>,
    /// Why the supervisor could not, when it was asked last.
    pub refused: Option<String>,
}

/// A process that was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopping {
    /// Which.
    pub identity: Identity,
    /// When.
    pub at: DateTime<Utc>,
}

impl Record {
    /// Of a service that this run starts now.
    pub(super) fn of(services: &Services<'_>, service: &str, identity: Identity) -> Record {
        let run = services.run.id.clone();
        let before = Record::read(services.home, service);
        let told = before.stopping.map(|stopping| stopping.identity);
        let asked_for = before.ended || (told.is_some() && told == before.identity);
        Record { identity: Some(identity), started: Some(Utc::now()), run, asked_for, ..Record::default() }
    }

    /// Reads the record. One that is missing or damaged says nothing: the pid file and the
    /// command line then have to do.
    pub(super) fn read(home: &Home, service: &str) -> Record {
        home.read(&home.service_record(service))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Whether a mark is of this service. A home that was moved while it runs has its old name in it,
    /// but the run is the same; where there still is a home of that name, this one is a copy of it.
    pub(super) fn owns(&self, mark: &Mark, service: &str, home: &str) -> bool {
        let moved = || mark.run == self.run && !self.run.is_empty() && !Path::new(&mark.home).exists();
        mark.service == service && (mark.home == home || moved())
    }

    pub(super) fn write(&self, home: &Home, service: &str) -> Result<()> {
        home.replace(&home.service_record(service), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_this_home_wherever_it_was_moved_but_not_of_one_that_it_was_copied_from() {
        let other = tempfile::tempdir().unwrap();
        let record = Record { run: "r1".to_owned(), ..Record::default() };
        let owns = |service: &str, run: &str, home: &Path| {
            let mark =
                Mark { service: service.to_owned(), run: run.to_owned(), home: home.display().to_string() };
            record.owns(&mark, "bot", "/srv/bot")
        };
        assert!(owns("bot", "r0", Path::new("/srv/bot")), "an earlier run");
        assert!(!owns("email", "r1", Path::new("/srv/bot")));
        assert!(owns("bot", "r1", Path::new("/nowhere/moved-from")));
        assert!(!owns("bot", "r0", Path::new("/nowhere/moved-from")));
        assert!(!owns("bot", "r1", other.path()), "a copy");
    }
}
