//! An incident: one problem of one check, from first sight to recovery. What a new look at the
//! check does to it, and whether people should hear of it, is a pure function of values.

use super::look::{Excuse, Look};
use super::message::Kind;
use super::rules::{Rules, reminder_interval};
use super::throttle::Held;
use crate::base::State;
use crate::base::units::Span;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Steady for this long, it flaps no more; the changes of this long are counted.
const HOUR: TimeDelta = TimeDelta::hours(1);

/// So many changes within an hour are flapping.
const FLAPPING_CHANGES: usize = 4;

/// How many decisions of an incident are remembered.
const TRAIL: usize = 60;

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

/// What one look came to.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The incident as it stands now, if there is or was one to keep.
    pub incident: Option<Incident>,
    /// What people should hear, if the throttle lets it pass.
    pub wish: Option<Kind>,
    /// Why, or why not.
    pub why: String,
}

/// What a look at a check does to its incident. `previous` is the last incident of this check,
/// open or closed; a closed one only lends its history of changes.
pub(super) fn step(
    previous: Option<&Incident>,
    look: &Look,
    now: DateTime<Utc>,
    rules: Rules<'_>,
    run: &str,
) -> Step {
    let open = previous.filter(|incident| incident.closed.is_none());
    let mut incident = match (open, look.state, &look.excuse) {
        (Some(open), _, Some(Excuse::Stopped)) => {
            let mut incident = open.clone();
            incident.close(now);
            let why = "closed silently: stopped by its operator".to_owned();
            return Step { incident: Some(incident), wish: None, why };
        }
        (None, State::Ok, _) | (None, _, Some(_)) => {
            return Step { incident: None, wish: None, why: String::new() };
        }
        (Some(open), _, _) => open.clone(),
        (None, _, None) => Incident::begin(previous, look, now, run),
    };
    let (wish, why) = match (look.state, &look.excuse) {
        (State::Ok, _) => incident.good_look(look, now),
        (_, Some(Excuse::Follows(check))) => {
            incident.held += 1;
            (None, format!("silent: it follows from {check}"))
        }
        _ => incident.bad_look(look, now, rules),
    };
    Step { incident: Some(incident), wish, why }
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

    fn begin(previous: Option<&Incident>, look: &Look, now: DateTime<Utc>, run: &str) -> Incident {
        let severity = severity(look.state, State::Warning);
        let mut incident =
            Incident::bare(look.check.clone(), look.alert.clone(), severity, now, look.summary.clone());
        incident.suspected = look.state == State::Unknown;
        incident.remedy.clone_from(&look.remedy);
        incident.changes = previous.map(|previous| previous.changes.clone()).unwrap_or_default();
        incident.decide(now, run, &format!("opened: {} {}", incident.severity, look.summary));
        if !incident.suspected {
            incident.change(now);
        }
        incident
    }

    /// A bad look: what to say, and why or why not.
    fn bad_look(&mut self, look: &Look, now: DateTime<Utc>, rules: Rules<'_>) -> (Option<Kind>, String) {
        if self.suspected {
            if look.state == State::Unknown && self.held == 0 {
                self.held = 1;
                return (None, "silent: could not tell, but only once so far".to_owned());
            }
            self.suspected = false;
            self.held = 0;
            self.change(now);
        } else if self.good > 0 {
            self.change(now);
            self.relapsed = self.told.is_some();
        }
        self.good = 0;
        self.good_since = None;
        // Not being able to tell is no improvement.
        let severity = severity(look.state, self.severity);
        if severity != self.severity {
            self.change(now);
        }
        self.former.retain(|former| elapsed(now, former.until).is_some_and(|age| age < HOUR));
        if severity != self.severity || look.alert != self.alert {
            self.former.push(Former { alert: self.alert.clone(), severity: self.severity, until: now });
        }
        self.severity = severity;
        self.alert.clone_from(&look.alert);
        self.summary.clone_from(&look.summary);
        self.remedy.clone_from(&look.remedy);
        self.gave_up = look.gave_up;
        self.seen = now;
        self.watch_flapping(now);

        let Some(told) = &self.told else {
            return (Some(Kind::New), "new".to_owned());
        };
        if self.gave_up && !told.gave_up {
            return (Some(Kind::Worse), "recovery gave up".to_owned());
        }
        let known = if self.flapping { told.worst } else { told.severity };
        if badness(self.severity) > badness(known) {
            return (Some(Kind::Worse), format!("worse: {} was told, now {}", known, self.severity));
        }
        if let Some(after) = rules.escalate_after()
            && let Some(critical) = told.critical
            && self.severity == State::Critical
            && self.acknowledged.is_none()
            && self.escalated.is_none()
            && elapsed(now, critical).is_none_or(|age| age >= after)
        {
            return (
                Some(Kind::Escalated),
                format!("nobody acknowledged it within {}", rules.alerts.escalate_after),
            );
        }
        if self.flapping {
            if !told.flapping {
                return (Some(Kind::Flapping), flaps());
            }
            self.held += 1;
            return (None, "silent: it flaps, and that was said".to_owned());
        }
        if self.relapsed {
            return (Some(Kind::Worse), "bad again after a good look".to_owned());
        }
        if self.acknowledged.is_some() {
            self.held += 1;
            return (None, "silent: acknowledged".to_owned());
        }
        let interval = reminder_interval(rules.cooldown(&self.alert), told.reminders);
        if elapsed(now, told.last).is_none_or(|age| age >= interval) {
            return (Some(Kind::Reminder), "the cooldown is over".to_owned());
        }
        self.held += 1;
        let interval = Span(interval.to_std().unwrap_or_default());
        (None, format!("silent: told already, next reminder {interval} after that"))
    }

    /// A good look: what to say, and why or why not.
    fn good_look(&mut self, look: &Look, now: DateTime<Utc>) -> (Option<Kind>, String) {
        if self.suspected {
            self.close(now);
            return (None, "closed silently: it could be told again".to_owned());
        }
        if self.good == 0 {
            self.change(now);
            self.good_since = Some(now);
            self.relapsed = false;
        }
        self.good += 1;
        self.watch_flapping(now);
        if self.flapping {
            return match &self.told {
                Some(told) if told.flapping => (None, "good, but silent until steady for an hour".to_owned()),
                _ => (Some(Kind::Flapping), flaps()),
            };
        }
        if self.provisional && self.good < 2 {
            return (None, "good for the first time since our restart: not believed yet".to_owned());
        }
        if self.provisional && look.unproven {
            return (
                None,
                "it runs since our restart, but gave no sign of life yet: not believed".to_owned(),
            );
        }
        if self.told.is_none() {
            self.close(now);
            return (None, "closed silently: nobody was told that it began".to_owned());
        }
        (Some(Kind::Recovered), "recovered".to_owned())
    }

    /// Notes that people hear of it in this run.
    pub fn tell(&mut self, kind: Kind, uid: &str, now: DateTime<Utc>) {
        if kind == Kind::Escalated {
            // Those who were told before hear nothing of it: what they wait for is as it was.
            self.escalated = Some(now);
            return;
        }
        self.held = 0;
        self.capped = None;
        self.quieted = false;
        self.relapsed = false;
        if self.gave_up {
            self.escalated.get_or_insert(now);
        }
        if self.thread.is_none() {
            self.thread = Some(uid.to_owned());
        }
        if kind == Kind::Recovered {
            self.close(now);
            return;
        }
        let before = self.told.as_ref();
        let worst = before.map_or(self.severity, |told| {
            if badness(told.worst) > badness(self.severity) { told.worst } else { self.severity }
        });
        self.told = Some(Told {
            last: now,
            severity: self.severity,
            worst,
            reminders: match kind {
                Kind::Reminder => before.map_or(0, |told| told.reminders) + 1,
                _ => 0,
            },
            flapping: self.flapping,
            gave_up: self.gave_up,
            critical: before
                .and_then(|told| told.critical)
                .or((self.severity == State::Critical).then_some(now)),
        });
    }

    /// Notes that what should have been said was held back in this run.
    pub(super) fn hold(&mut self, kind: Kind, why: Held) {
        self.held += 1;
        match why {
            Held::Capped if kind == Kind::Reminder => {}
            Held::Capped | Held::Summed => self.capped = Some(kind),
            Held::Quiet => self.quieted = true,
            Held::Silenced => {}
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

    fn change(&mut self, now: DateTime<Utc>) {
        self.changes.push(now);
    }

    fn watch_flapping(&mut self, now: DateTime<Utc>) {
        self.changes.retain(|&at| elapsed(now, at).is_some_and(|age| age < HOUR));
        if self.changes.len() >= FLAPPING_CHANGES {
            self.flapping = true;
        } else if self.changes.is_empty() {
            self.flapping = false;
            if let Some(told) = &mut self.told {
                told.flapping = false;
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

fn severity(state: State, present: State) -> State {
    match state {
        State::Critical => State::Critical,
        State::Warning => State::Warning,
        State::Ok | State::Unknown => present,
    }
}

fn badness(state: State) -> u8 {
    state.badness(false)
}

fn flaps() -> String {
    format!("it flaps: {FLAPPING_CHANGES} changes or more within an hour")
}

#[cfg(test)]
#[path = "incident_tests.rs"]
mod tests;
