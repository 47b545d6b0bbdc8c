//! The age of something, judged by its limits.

use super::Metric;
use crate::base::range::Range;
use crate::base::units::{self, Span};
use chrono::{DateTime, TimeDelta, Utc};

/// A time that is further ahead than this is no matter of clocks that differ a little.
const SKEW: TimeDelta = TimeDelta::minutes(10);

/// How old something is that was made then, and the metric of it. None: it is from the future.
pub(super) fn age(
    now: DateTime<Utc>,
    made: DateTime<Utc>,
    warn: Range,
    crit: Range,
) -> Option<(Span, Metric)> {
    if made > now + SKEW {
        return None;
    }
    let age = units::age(now, made);
    let metric = Metric::age(age).limits(Some(warn), Some(crit));
    Some((age, metric))
}
