//! Which of the messages that should be sent may be sent now. A pure function of values.

use super::incident::{Incident, elapsed};
use super::kind::Kind;
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
    /// Its incident is or was CRITICAL: no quiet hours hold it back.
    pub urgent: bool,
    /// Quiet hours held its incident back before.
    pub waited: bool,
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
            reserved: matches!(kind, Kind::Recovered | Kind::Escalated) || first_critical || gave_up,
            urgent: incident.severity == State::Critical || critical_told,
            waited: incident.quieted,
        }
    }
}

/// Why what should have been said was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The hour has no room: it comes with the next message.
    Capped,
    /// Another message of this run says it.
    Summed,
    /// Nobody is to be told anything.
    Silenced,
    /// Warnings wait for the morning.
    Quiet,
}

/// What a judgement depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// How many messages the last hour saw.
    pub sent: usize,
    /// How many it may see.
    pub max_per_hour: usize,
    /// Nobody is to be told anything.
    pub silenced: bool,
    /// Warnings wait.
    pub quiet: bool,
}

/// Judges wishes, in their order; none: it goes out. What has a reserved place goes out, of the
/// others the worst first, as long as the hour has room. What waited for the end of the quiet hours
/// becomes one message: the first of it carries the others.
pub(super) fn judge(wishes: &[Wish], room: Room) -> Vec<Option<Held>> {
    if room.silenced {
        return vec![Some(Held::Silenced); wishes.len()];
    }
    let mut verdicts: Vec<Option<Held>> =
        wishes.iter().map(|wish| (room.quiet && !wish.urgent).then_some(Held::Quiet)).collect();
    let free = |verdicts: &[Option<Held>], wanted: fn(&Wish) -> bool| -> Vec<usize> {
        let mut free: Vec<usize> =
            (0..wishes.len()).filter(|&at| verdicts[at].is_none() && wanted(&wishes[at])).collect();
        free.sort_by_key(|&at| std::cmp::Reverse((wishes[at].reserved, wishes[at].severity.badness(false))));
        free
    };
    for at in free(&verdicts, |wish| wish.waited && !wish.urgent).into_iter().skip(1) {
        verdicts[at] = Some(Held::Summed);
    }
    let reserved = free(&verdicts, |wish| wish.reserved).len();
    let left = room.max_per_hour.saturating_sub(room.sent + reserved);
    for at in free(&verdicts, |wish| !wish.reserved).into_iter().skip(left) {
        verdicts[at] = Some(Held::Capped);
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
        any::<(bool, bool, bool)>().prop_map(|(critical, reserved, waited)| Wish {
            kind: Kind::New,
            severity: if critical { State::Critical } else { State::Warning },
            reserved,
            urgent: critical,
            waited,
        })
    }

    proptest! {
        #[test]
        fn the_cap_holds_and_what_is_reserved_passes(
            wishes in prop::collection::vec(wish(), 0..20), sent in 0usize..12, max_per_hour in 0usize..8,
            quiet in any::<bool>(),
        ) {
            let room = Room { sent, max_per_hour, silenced: false, quiet };
            let verdicts = judge(&wishes, room);
            prop_assert_eq!(verdicts.len(), wishes.len());
            let count = |wanted: &dyn Fn(&Wish, Option<Held>) -> bool| wishes.iter().zip(&verdicts)
                .filter(|(wish, verdict)| wanted(wish, **verdict)).count();
            // Quiet hours hold exactly what is not urgent.
            prop_assert_eq!(
                count(&|_, verdict| verdict == Some(Held::Quiet)),
                count(&|wish, _| quiet && !wish.urgent)
            );
            // What waited becomes one message at most.
            let waited = |wish: &Wish| wish.waited && !wish.urgent;
            let summed = count(&|_, verdict| verdict == Some(Held::Summed));
            let of_them = if quiet { 0 } else { count(&|wish, _| waited(wish)) };
            prop_assert_eq!(summed, of_them.saturating_sub(1));
            prop_assert_eq!(count(&|wish, verdict| verdict == Some(Held::Summed) && !waited(wish)), 0);
            // The cap.
            let free = |verdict| matches!(verdict, None | Some(Held::Capped));
            let reserved = count(&|wish, verdict| wish.reserved && free(verdict));
            prop_assert_eq!(count(&|wish, verdict| wish.reserved && verdict.is_none()), reserved);
            let others = count(&|wish, verdict| !wish.reserved && free(verdict));
            prop_assert_eq!(
                count(&|wish, verdict| !wish.reserved && verdict.is_none()),
                others.min(max_per_hour.saturating_sub(sent + reserved))
            );
            // No warning takes the place of a critical.
            let of = |severity, sought| count(&|wish, verdict| {
                !wish.reserved && wish.severity == severity && verdict == sought
            }) > 0;
            prop_assert!(!(of(State::Critical, Some(Held::Capped)) && of(State::Warning, None)));
            let silenced = judge(&wishes, Room { silenced: true, ..room });
            prop_assert!(silenced.iter().all(|verdict| *verdict == Some(Held::Silenced)));
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
