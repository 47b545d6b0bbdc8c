//! What a new look at a check does to its incident, and whether people should hear of it: a pure function
//! of values.

use super::incident::{Former, Incident, Told, elapsed};
use super::kind::Kind;
use super::look::{Excuse, Look};
use super::rules::{Rules, reminder_interval};
use super::throttle::Held;
use crate::base::State;
use crate::base::units::Span;
use chrono::{DateTime, TimeDelta, Utc};

/// Steady for this long, it flaps no more; the changes of this long are counted.
const HOUR: TimeDelta = TimeDelta::hours(1);

/// So many changes within an hour are flapping.
const FLAPPING_CHANGES: usize = 4;

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
#[path = "step_tests.rs"]
mod tests;
