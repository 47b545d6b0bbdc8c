//! The age of something, judged by its limits, and times that no clock should have written yet.

use super::Metric;
use crate::base::range::Range;
use crate::base::units::{self, Span};
use chrono::{DateTime, TimeDelta, Utc};

/// A time this far in the future was written by a clock that is wrong. Less is a clock that was set.
pub(super) const SKEW: TimeDelta = TimeDelta::seconds(60);
/// The same of what comes once a day: that a clock was set meanwhile may be seen for longer.
const RARE_SKEW: TimeDelta = TimeDelta::minutes(10);

/// How old something is that is made once a day or less often, and the metric of it. None: it is from the future.
pub(super) fn age(
    now: DateTime<Utc>,
    made: DateTime<Utc>,
    warn: Range,
    crit: Range,
) -> Option<(Span, Metric)> {
    if made > now + RARE_SKEW {
        return None;
    }
    let age = units::age(now, made);
    let metric = Metric::age(age).limits(Some(warn), Some(crit));
    Some((age, metric))
}
