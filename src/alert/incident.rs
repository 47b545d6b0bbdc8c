//! An incident: one problem of one check, from first sight to recovery, and what people know of it.

use super::kind::Kind;
use crate::base::State;
use crate::base::units::Span;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How many decisions of an incident are remembered.
pub(super) const TRAIL: usize = 60;

/// What an incident went by before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Former {
    /// Its alert type then.
    pub alert: String,
    /// Its severity then.
    pub severity: State,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// What people were told of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When last.
    pub last: DateTime<Utc>,
    /// The severity then.
    pub severity: State,
    /// The worst severity ever told.
    pub worst: State,
    /// Reminders since the last news.
    pub reminders: u32,
    /// Whether it was said that it flaps.
    pub flapping: bool,
    /// Whether it was said that recovery gave up.
    pub gave_up: bool,
    /// When a CRITICAL was told for the first time.
    #[serde(default)]
    pub critical: Option<DateTime<Utc>>,
}

/// One decision, with how often it was taken in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When last.
    pub at: DateTime<Utc>,
    /// In which run.
    pub run: String,
    /// How often in a row.
    pub times: u32,
    /// What was decided, and why.
    pub what: String,
}

/// One problem of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its row in the journal; none before it is stored.
    #[serde(skip)]
    pub id: Option<i64>,
    /// The check's name.
    pub check: String,
    /// The alert type, as last seen.
    pub alert: String,
    /// Warning or Critical, as last seen.
    pub severity: State,
    /// The check's line, as last seen bad.
    pub summary: String,
    /// What to do about it, as last seen bad.
    pub remedy: Option<String>,
    /// First seen.
    pub opened: DateTime<Utc>,
    /// Last seen bad.
    pub seen: DateTime<Utc>,
    /// Over since.
    pub closed: Option<DateTime<Utc>>,
    /// What people know; none: nothing yet.
    pub told: Option<Told>,
    /// Runs since the last message in which it was bad and nothing was said.
    pub held: u32,
    /// What the hourly cap held back.
    pub capped: Option<Kind>,
    /// Only "could not tell", and only once so far.
    pub suspected: bool,
    /// Good looks in a row, since it was last bad.
    pub good: u32,
    /// The first of them.
    pub good_since: Option<DateTime<Utc>>,
    /// We restarted its service: one good look is no proof yet.
    pub provisional: bool,
    /// Bad again after a good look, and nobody was told.
    pub relapsed: bool,
    /// Somebody is at it: no reminders.
    pub acknowledged: Option<DateTime<Utc>>,
    /// It comes and goes.
    pub flapping: bool,
    /// Recovery has given up.
    pub gave_up: bool,
    /// When it changed, within the last hour or so.
    pub changes: Vec<DateTime<Utc>>,
    /// The uid of its first message: what the others are answers to.
    pub thread: Option<String>,
    /// When it was told to those who are next.
    #[serde(default)]
    pub escalated: Option<DateTime<Utc>>,
    /// Something of it waits for the end of the quiet hours.
    #[serde(default)]
    pub quieted: bool,
    /// What it went by within the last hour.
    #[serde(default)]
    pub former: Vec<Former>,
    /// What was decided and why, oldest first.
    pub trail: Vec<Decision>,
}

impl Incident {
    /// An incident that was just seen, and nothing more.
    pub fn bare(
        check: String,
        alert: String,
        severity: State,
        opened: DateTime<Utc>,
        summary: String,
    ) -> Incident {
        Incident {
            id: None,
            check,
            alert,
            severity,
            summary,
            remedy: None,
            opened,
            seen: opened,
            closed: None,
            told: None,
            held: 0,
            capped: None,
            suspected: false,
            good: 0,
            good_since: None,
            provisional: false,
            relapsed: false,
            acknowledged: None,
            flapping: false,
            gave_up: false,
            changes: Vec::new(),
            thread: None,
            escalated: None,
            quieted: false,
            former: Vec::new(),
            trail: Vec::new(),
        }
    }

    /// Since when it is good, as far as machines are concerned: they need not wait until people may
    /// be told.
    pub(super) fn ended(&self) -> Option<DateTime<Utc>> {
        self.closed.or(self.good_since.filter(|_| !self.provisional && !self.flapping))
    }

    /// Ends it.
    pub fn close(&mut self, now: DateTime<Utc>) {
        self.closed = Some(now);
    }

    /// How long it lasted, or has lasted.
    pub fn duration(&self, now: DateTime<Utc>) -> Span {
        crate::base::units::age(self.good_since.or(self.closed).unwrap_or(now), self.opened)
    }

    /// Remembers a decision. The same one again only counts.
    pub fn decide(&mut self, at: DateTime<Utc>, run: &str, what: &str) {
        match self.trail.last_mut() {
            Some(last) if last.what == what => {
                last.at = at;
                run.clone_into(&mut last.run);
                last.times += 1;
            }
            _ => {
                let excess = (self.trail.len() + 1).saturating_sub(TRAIL);
                self.trail.drain(..excess);
                self.trail.push(Decision { at, run: run.to_owned(), times: 1, what: what.to_owned() });
            }
        }
    }
}

/// The time since `then`; none if that lies in the future, for then the clock was wrong and
/// nothing may wait for it.
pub(super) fn elapsed(now: DateTime<Utc>, then: DateTime<Utc>) -> Option<TimeDelta> {
    let age = now - then;
    (age >= TimeDelta::zero()).then_some(age)
}
