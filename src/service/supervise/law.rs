//! When a service that ended is started again: with growing pauses, and not for ever. Pure.

use std::time::{Duration, Instant};

/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// No pause is longer; and whoever ran for so long begins anew with the first.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Crashes are counted within this.
const HOUR: Duration = Duration::from_secs(3600);

/// What follows from an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is started again after this.
    After(Duration),
    /// It is done: it said so itself.
    Finished,
    /// It crashed too often.
    GivenUp,
}

/// One service, as the law sees it.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    /// One that ends well is started again as well.
    always: bool,
    /// More crashes than this within an hour, and it is given up.
    most: usize,
    /// When it crashed, within the last hour.
    crashes: Vec<Instant>,
    /// Ends in a row that came soon after their start.
    quick: u32,
}

impl Keeper {
    pub(super) fn new(always: bool, most: usize) -> Keeper {
        Keeper { always, most, crashes: Vec::new(), quick: 0 }
    }

    /// Its operator started it: what was is forgotten.
    pub(super) fn forget(&mut self) {
        self.crashes.clear();
        self.quick = 0;
    }

    /// How often it crashed within the last hour.
    pub(super) fn crashes(&self) -> usize {
        self.crashes.len()
    }

    /// It ended, having run for so long.
    pub(super) fn ended(&mut self, now: Instant, ran: Duration, good: bool) -> Next {
        self.crashes.retain(|at| now.saturating_duration_since(*at) < HOUR);
        if !good {
            self.crashes.push(now);
        } else if !self.always {
            return Next::Finished;
        }
        if self.crashes.len() > self.most {
            return Next::GivenUp;
        }
        self.quick = if ran >= LONGEST_PAUSE { 1 } else { self.quick.saturating_add(1) };
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.quick - 1).min(16));
        Next::After(pause.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_one() {
        let mut keeper = Keeper::new(false, 100);
        let now = Instant::now();
        let pauses: Vec<_> = (0..8).map(|_| keeper.ended(now, seconds(0), false)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60].map(|pause| Next::After(seconds(pause))));
        assert_eq!(keeper.ended(now, seconds(60), false), Next::After(seconds(1)));
        assert_eq!(keeper.ended(now, seconds(59), false), Next::After(seconds(2)));
        keeper.forget();
        assert_eq!(keeper.ended(now, seconds(0), false), Next::After(seconds(1)));
    }

    #[test]
    fn more_than_three_crashes_within_an_hour_are_too_many() {
        let mut keeper = Keeper::new(false, 3);
        let now = Instant::now();
        for minutes in [0, 10, 20] {
            assert!(matches!(keeper.ended(now + seconds(minutes * 60), seconds(0), false), Next::After(_)));
        }
        assert_eq!(keeper.clone().ended(now + seconds(59 * 60), seconds(0), false), Next::GivenUp);
        assert_eq!(keeper.ended(now + seconds(61 * 60), seconds(2000), false), Next::After(seconds(1)));
        assert_eq!(keeper.crashes(), 3);
        assert_eq!(Keeper::new(true, 0).ended(now, seconds(9999), false), Next::GivenUp);
    }

    #[test]
    fn whoever_ends_well_is_done_or_comes_again_but_never_in_a_rush() {
        let now = Instant::now();
        assert_eq!(Keeper::new(false, 3).ended(now, seconds(0), true), Next::Finished);
        let mut always = Keeper::new(true, 3);
        let pauses: Vec<_> = (0..8).map(|_| always.ended(now, seconds(0), true)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60].map(|pause| Next::After(seconds(pause))));
        assert_eq!(always.crashes(), 0);
    }

    proptest! {
        /// Whatever the ends, no hour sees more restarts after a crash than it may.
        #[test]
        fn no_hour_sees_too_many(
            ends in prop::collection::vec((0u64..2000, any::<bool>()), 0..100), most in 0usize..6, always in any::<bool>(),
        ) {
            let mut keeper = Keeper::new(always, most);
            let mut now = Instant::now();
            let mut restarts: Vec<Instant> = Vec::new();
            for (ran, good) in ends {
                now += seconds(ran);
                let Next::After(pause) = keeper.ended(now, seconds(ran), good) else { break };
                prop_assert!(pause >= FIRST_PAUSE && pause <= LONGEST_PAUSE);
                if !good {
                    restarts.push(now);
                }
                let recent = restarts.iter().filter(|at| now - **at < HOUR).count();
                prop_assert!(recent <= most);
                now += pause;
            }
        }
    }
}
