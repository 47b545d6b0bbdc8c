//! What a check found, before it has a name.

use super::memory::Memory;
use super::{Finding, Metric, sqlite};
use crate::base::{State, text, units};
use crate::config::{Check, Kind};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The answer of one look.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Answer {
    pub(super) state: State,
    pub(super) summary: String,
    pub(super) metrics: Vec<Metric>,
    pub(super) remedy: Option<String>,
    /// Databases that were found sound.
    #[serde(skip)]
    pub(super) scans: sqlite::Scans,
    /// What the check wants to know in the next run.
    #[serde(skip)]
    pub(super) memory: Option<Memory>,
    /// When it was looked, if not in this run.
    #[serde(skip)]
    pub(super) looked_at: Option<DateTime<Utc>>,
}

impl Answer {
    pub(super) fn new(state: State, summary: impl Into<String>) -> Answer {
        Answer {
            state,
            summary: summary.into(),
            metrics: Vec::new(),
            remedy: None,
            scans: sqlite::Scans::default(),
            memory: None,
            looked_at: None,
        }
    }

    pub(super) fn unknown(summary: impl Into<String>) -> Answer {
        Answer::new(State::Unknown, summary)
    }

    pub(super) fn metric(mut self, metric: Metric) -> Answer {
        self.metrics.push(metric);
        self
    }

    /// What to do, where something is to be done.
    pub(super) fn remedy(mut self, remedy: &str) -> Answer {
        if self.state != State::Ok {
            self.remedy = Some(remedy.to_owned());
        }
        self
    }

    /// What the check finds as its memory in the next run, under the same name.
    pub(super) fn remember(mut self, what: &'static str, value: &impl Serialize) -> Answer {
        self.memory = Memory::of(what, value);
        self
    }

    /// The finding, in a state that may be another than what was seen: see [`super::streak`].
    pub(super) fn into_finding(
        mut self,
        name: &str,
        check: &Check,
        state: State,
        now: DateTime<Utc>,
    ) -> Finding {
        if let Some(at) = self.looked_at {
            self.summary.push_str(&format!(", seen {} ago", units::age(now, at)));
        }
        let summary = match (self.state == state, state) {
            (true, _) => self.summary,
            (false, State::Ok) => format!("{} ({}, not for long enough to count)", self.summary, self.state),
            (false, _) => format!("{} ({} now, {state} too often lately)", self.summary, self.state),
        };
        Finding {
            check: name.to_owned(),
            kind: check.kind.name().to_owned(),
            service: check.kind.service().map(str::to_owned),
            state,
            seen: self.state,
            looked_at: self.looked_at,
            summary: text::one_line(&summary, 300),
            metrics: self.metrics,
            remedy: self.remedy.filter(|_| state != State::Ok),
            critical: check.common.critical,
            alert: alert_type(name, check, state),
        }
    }
}

/// The alert type of a check in a state: as configured, else by its kind, else its own name.
fn alert_type(name: &str, check: &Check, state: State) -> String {
    let warns = state == State::Warning;
    let configured = if warns { &check.common.alert_warning } else { &check.common.alert_critical };
    if let Some(configured) = configured {
        return configured.clone();
    }
    match (&check.kind, warns) {
        (Kind::Process(_), _) => "daemon_critical",
        (Kind::Heartbeat(_), _) => "daemon_degraded",
        (Kind::Sqlite(_), _) => "memory_corrupt",
        (Kind::Disk(_), true) => "disk_low",
        (Kind::Disk(_), false) => "disk_critical",
        _ => name,
    }
    .to_owned()
}
