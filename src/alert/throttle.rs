//! Which of the messages that should be sent may be sent now. A pure function of values.

use super::incident::{Incident, Kind, elapsed};
use crate::base::State;
use chrono::{DateTime, TimeDelta, Utc};

/// A message that should be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// What it says.
    pub kind: Kind,
    /// How bad its incident is.
    pub severity: State,
    /// A first CRITICAL or a recovery: no cap holds it back.
    pub reserved: bool,
}

impl Wish {
    /// The wish to say `kind` of an incident as it stands before anybody is told.
    pub(super) fn of(incident: &Incident, kind: Kind) -> Wish {
        let critical_told = incident.told.as_ref().is_some_and(|told| told.worst == State::Critical);
        let first_critical = incident.severity == State::Critical && !critical_told;
        let gave_up = incident.gave_up && incident.told.as_ref().is_some_and(|told| !told.gave_up);
        Wish {
            kind,
            severity: incident.severity,
            reserved: kind == Kind::Recovered || first_critical || gave_up,
        }
    }
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes out.
    Send,
    /// The hourly cap holds it back.
    Capped,
    /// Alerts are silenced.
    Silenced,
}

/// Judges wishes, in their order: what has a reserved place goes out, of the others the worst
/// first, as long as the hour has room. `sent`: how many messages the last hour saw.
pub(super) fn judge(wishes: &[Wish], sent: usize, max_per_hour: usize, silenced: bool) -> Vec<Verdict> {
    if silenced {
        return vec![Verdict::Silenced; wishes.len()];
    }
    let reserved = wishes.iter().filter(|wish| wish.reserved).count();
    let mut room = max_per_hour.saturating_sub(sent + reserved);
    let mut verdicts = vec![Verdict::Send; wishes.len()];
    let mut others: Vec<usize> = (0..wishes.len()).filter(|&index| !wishes[index].reserved).collect();
    others.sort_by_key(|&index| std::cmp::Reverse(wishes[index].severity.badness(false)));
    for index in others {
        if room == 0 {
            verdicts[index] = Verdict::Capped;
        } else {
            room -= 1;
        }
    }
    verdicts
}

/// Whether a silence holds: from when it was said until it ends. One that was said in the
/// future was said by a clock that is wrong, and does not hold.
pub(super) fn silent(now: DateTime<Utc>, said: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    said <= now && now < until
}

/// How many of these times lie within the last hour.
pub(super) fn within_an_hour(now: DateTime<Utc>, times: &[DateTime<Utc>]) -> usize {
    times.iter().filter(|&&at| elapsed(now, at).is_some_and(|age| age < TimeDelta::hours(1))).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish() -> impl Strategy<Value = Wish> {
        (any::<bool>(), any::<bool>()).prop_map(|(critical, reserved)| Wish {
            kind: Kind::New,
            severity: if critical { State::Critical } else { State::Warning },
            reserved,
        })
    }

    proptest! {
        #[test]
        fn the_cap_holds_and_what_is_reserved_passes(
            wishes in prop::collection::vec(wish(), 0..20), sent in 0usize..12, cap in 0usize..8,
        ) {
            let verdicts = judge(&wishes, sent, cap, false);
            prop_assert_eq!(verdicts.len(), wishes.len());
            let count = |reserved| wishes.iter().zip(&verdicts)
                .filter(|(wish, verdict)| wish.reserved == reserved && **verdict == Verdict::Send).count();
            prop_assert_eq!(count(true), wishes.iter().filter(|wish| wish.reserved).count());
            let others = wishes.len() - count(true);
            prop_assert_eq!(count(false), others.min(cap.saturating_sub(sent + count(true))));
            // No warning takes the place of a critical.
            let of = |severity, sought| wishes.iter().zip(&verdicts)
                .any(|(wish, verdict)| !wish.reserved && wish.severity == severity && *verdict == sought);
            prop_assert!(!(of(State::Critical, Verdict::Capped) && of(State::Warning, Verdict::Send)));
            prop_assert!(judge(&wishes, sent, cap, true).iter().all(|verdict| *verdict == Verdict::Silenced));
        }
    }

    #[test]
    fn a_silence_from_the_future_does_not_hold() {
        let now = Utc::now();
        let hour = TimeDelta::hours(1);
        assert!(silent(now, now - hour, now + hour));
        assert!(silent(now, now, now + hour));
        assert!(!silent(now, now - hour, now), "it is over");
        assert!(!silent(now, now + hour, now + hour * 2));
        assert_eq!(within_an_hour(now, &[now - hour * 2, now - hour, now, now + hour]), 1);
    }
}
