//! How much a counter grew within a time, from what earlier runs saw of it: the velocity of tokens,
//! of cost, of failures.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Into how many parts the time is divided at most: seen more often, later points replace earlier ones.
const PARTS: i32 = 200;

/// What is remembered of a counter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Growth {
    /// What the counter said last.
    last: f64,
    /// All growth since the first point.
    total: f64,
    /// When it had grown by how much; in order of time.
    points: Vec<(DateTime<Utc>, f64)>,
}

/// How much a counter grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grown {
    /// By so much.
    pub(super) by: f64,
    /// Whether all of the time was seen; else it is the growth since the first look.
    pub(super) whole: bool,
    /// Whether it was ever looked at before.
    pub(super) known: bool,
}

impl Growth {
    /// Takes a look at the counter. One that fell began again at nothing, as after a restart.
    pub(super) fn observe(&mut self, now: DateTime<Utc>, value: f64, per: TimeDelta) {
        // What a clock wrote that was ahead.
        self.points.retain(|(at, _)| *at < now);
        if self.points.is_empty() {
            *self = Growth { last: value, total: 0.0, points: vec![(now, 0.0)] };
            return;
        }
        self.total += if value >= self.last { value - self.last } else { value.max(0.0) };
        self.last = value;
        let close = self.points.len() >= 2 && now - self.points[self.points.len() - 2].0 < per / PARTS;
        if close {
            self.points.pop();
        }
        self.points.push((now, self.total));
        self.forget(now - per);
    }

    /// Forgets what lies before a time, but for the last point before it.
    fn forget(&mut self, before: DateTime<Utc>) {
        let first = self.points.iter().rposition(|(at, _)| *at <= before).unwrap_or(0);
        self.points.drain(..first);
        let base = self.points[0].1;
        self.points.iter_mut().for_each(|(_, total)| *total -= base);
        self.total -= base;
    }

    /// The growth within a time before the last look.
    pub(super) fn within(&self, per: TimeDelta) -> Grown {
        let Some(&(now, total)) = self.points.last() else {
            return Grown { by: 0.0, whole: false, known: false };
        };
        let from = now - per;
        let known = self.points.len() > 1;
        let Some(before) = self.points.iter().rposition(|(at, _)| *at <= from) else {
            return Grown { by: total - self.points[0].1, whole: false, known };
        };
        let (at, start) = self.points[before];
        // Between two looks it grew evenly, as far as anybody knows.
        let passed = self.points.get(before + 1).map_or(0.0, |&(next, end)| {
            let share = seconds(from - at) / seconds(next - at).max(f64::MIN_POSITIVE);
            (end - start) * share.clamp(0.0, 1.0)
        });
        Grown { by: total - start - passed, whole: true, known }
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.num_milliseconds() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: TimeDelta = TimeDelta::hours(1);

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + minutes * 60, 0).unwrap()
    }

    fn seen(looks: &[(i64, f64)]) -> Growth {
        let mut growth = Growth::default();
        looks.iter().for_each(|&(minute, value)| growth.observe(at(minute), value, HOUR));
        growth
    }

    #[test]
    fn growth_of_an_hour() {
        assert_eq!(seen(&[]).within(HOUR), Grown { by: 0.0, whole: false, known: false });
        assert_eq!(seen(&[(0, 500.0)]).within(HOUR), Grown { by: 0.0, whole: false, known: false });
        assert_eq!(
            seen(&[(0, 500.0), (5, 530.0)]).within(HOUR),
            Grown { by: 30.0, whole: false, known: true }
        );
        let looks: Vec<_> = (0..=24).map(|n| (n * 5, 100.0 + n as f64 * 10.0)).collect();
        assert_eq!(seen(&looks).within(HOUR), Grown { by: 120.0, whole: true, known: true });
        // Not looked for ten hours: the mean.
        assert_eq!(seen(&[(0, 0.0), (600, 100.0)]).within(HOUR).by, 10.0);
    }

    #[test]
    fn a_counter_that_fell_began_again() {
        assert_eq!(seen(&[(0, 900.0), (5, 1000.0), (10, 30.0), (15, 40.0)]).within(HOUR).by, 140.0);
        // A clock that went back forgets what is ahead of it, not what came before.
        assert_eq!(seen(&[(0, 10.0), (50, 20.0), (5, 25.0)]).within(HOUR).by, 15.0);
        assert_eq!(
            seen(&[(50, 20.0), (5, 25.0)]).within(HOUR),
            Grown { by: 0.0, whole: false, known: false }
        );
    }

    proptest! {
        #[test]
        fn a_steady_counter_grows_at_its_pace(step in 1i64..20, rate in 0.0f64..1000.0, begin in 0.0f64..1e9, looks in 2i64..200) {
            let growth = seen(&(0..looks).map(|n| (n * step, begin + rate * (n * step) as f64)).collect::<Vec<_>>());
            let grown = growth.within(HOUR);
            let minutes = 60.min((looks - 1) * step);
            prop_assert_eq!(grown.whole, (looks - 1) * step >= 60);
            prop_assert!((grown.by - rate * minutes as f64).abs() <= 1e-6 * begin.max(1.0), "{grown:?}");
        }

        #[test]
        fn whatever_is_seen_it_never_shrinks_nor_outgrows_memory(looks in prop::collection::vec((-50i64..500, 0.0f64..1e6), 1..600)) {
            let mut growth = Growth::default();
            for (minute, value) in &looks {
                growth.observe(at(*minute), *value, HOUR);
                let grown = growth.within(HOUR);
                prop_assert!(grown.by >= -1e-3 && grown.by.is_finite());
                prop_assert!(growth.points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            }
        }

        #[test]
        fn looking_more_often_changes_nothing(extra in prop::collection::vec(1i64..3600, 0..2000)) {
            // One a second, growing by one each.
            let mut seconds: Vec<i64> = extra;
            seconds.extend([0, 3600, 7200]);
            seconds.sort_unstable();
            seconds.dedup();
            let mut growth = Growth::default();
            for second in seconds {
                growth.observe(at(0) + TimeDelta::seconds(second), second as f64, HOUR);
                prop_assert!(growth.points.len() <= 2 * PARTS as usize + 3);
            }
            prop_assert!((growth.within(HOUR).by - 3600.0).abs() < 1e-6);
        }
    }
}
