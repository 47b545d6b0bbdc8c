//! Is there room on the disk, and until when?

use super::{Answer, Metric, View};
use crate::base::State;
use crate::base::range::Unit;
use crate::base::units::{Size, Span};
use crate::config::check::Disk;
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};

/// What is remembered as.
const FREE: &str = "free";

/// From how long back the trend is taken.
const TREND: TimeDelta = TimeDelta::days(1);

/// A trend of less than this is a guess.
const LEAST_TREND: TimeDelta = TimeDelta::hours(1);

/// No more often than this is the free space remembered.
const SPACING: TimeDelta = TimeDelta::minutes(10);

/// When how many bytes were free.
type Past = Vec<(DateTime<Utc>, u64)>;

pub(super) fn look(view: &View, name: &str, options: &Disk) -> Result<Answer> {
    let path = &options.path;
    let disk = rustix::fs::statvfs(path).with_context(|| format!("cannot look at {}", path.display()))?;
    // What an ordinary user can still write.
    let free = disk.f_bavail * disk.f_frsize;
    let total = disk.f_blocks * disk.f_frsize;
    let used = 100.0 * (1.0 - free as f64 / total.max(1) as f64);
    let mut metric =
        Metric::new("free", free as f64, Unit::Bytes).limits(Some(options.warn.0), Some(options.crit.0));
    metric.max = Some(total as f64);
    let mut summary = format!("{} free of {} ({used:.0} % used)", Size(free), Size(total));
    let state = metric.judge();
    match state {
        State::Warning => summary.push_str(&format!(", less than {}", Size(options.warn.0.limit() as u64))),
        State::Critical => summary.push_str(&format!(", less than {}", Size(options.crit.0.limit() as u64))),
        _ => {}
    }
    let mut answer = Answer::new(state, summary).metric(metric).metric(Metric::new(
        "used",
        (used * 10.0).round() / 10.0,
        Unit::Percent,
    ));
    // Some file systems have no inode table and say 0 of 0.
    if disk.f_files > 0 {
        let left = (disk.f_favail as f64 / disk.f_files as f64 * 1000.0).round() / 10.0;
        let metric = Metric::new("inodes_free", left, Unit::Percent)
            .limits(Some(options.inodes_warn.0), Some(options.inodes_crit.0));
        answer = worsened(answer, metric, || match disk.f_favail {
            0 => "no inode is left".to_owned(),
            some => format!("only {some} inodes are left ({left} %)"),
        });
    }
    let now = view.run.now;
    let mut past = view.recall::<Past>(name, FREE).map(|(_, past)| past).unwrap_or_default();
    past.retain(|(at, _)| *at <= now && now - *at <= TREND);
    if let Some(left) = full_in(&past, now, free) {
        let metric = Metric::new("full_in", left.as_secs().floor(), Unit::Seconds)
            .limits(options.full_warn.map(|least| least.0), options.full_crit.map(|least| least.0));
        answer = worsened(answer, metric, || format!("full in {left} if it goes on like this"));
    }
    if past.last().is_none_or(|(at, _)| now - *at >= SPACING) {
        past.push((now, free));
        answer = answer.remember(FREE, &past);
    }
    Ok(answer
        .remedy("`ops rotate-logs` frees what the logs take; `ops backup prune` shows what the backups take"))
}

/// With one more number, and what it means if it is bad.
fn worsened(mut answer: Answer, metric: Metric, what: impl FnOnce() -> String) -> Answer {
    let state = metric.judge();
    if state != State::Ok {
        answer.state = answer.state.worse(state);
        answer.summary.push_str(&format!(", {}", what()));
    }
    answer.metric(metric)
}

/// When the disk is full if the trend goes on: the line of least squares through what was free. None:
/// it does not fill up, or not within a hundred days, or too little is known.
fn full_in(past: &[(DateTime<Utc>, u64)], now: DateTime<Utc>, free: u64) -> Option<Span> {
    let first = past.first()?.0;
    if now - first < LEAST_TREND {
        return None;
    }
    let seconds = |at: DateTime<Utc>| (at - first).num_milliseconds() as f64 / 1000.0;
    let points: Vec<(f64, f64)> = past
        .iter()
        .map(|(at, free)| (seconds(*at), *free as f64))
        .chain([(seconds(now), free as f64)])
        .collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = covariance / variance;
    let left = free as f64 / -slope;
    (slope < 0.0 && left < 100.0 * 86_400.0).then(|| Span::seconds(left as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn past(now: DateTime<Utc>, points: &[(i64, u64)]) -> Past {
        points.iter().map(|(minutes, free)| (now - TimeDelta::minutes(*minutes), *free)).collect()
    }

    #[test]
    fn the_trend_tells_when_it_is_full() {
        let now = Utc::now();
        let of = |points: &[(i64, u64)], free| full_in(&past(now, points), now, free);
        assert_eq!(of(&[], 100), None);
        assert_eq!(of(&[(30, 200)], 100), None, "half an hour is no trend");
        assert_eq!(of(&[(60, 200)], 100), Some(Span::seconds(3600)));
        assert_eq!(of(&[(120, 100), (60, 100)], 100), None);
        assert_eq!(of(&[(120, 100), (60, 150)], 200), None, "it empties");
        assert_eq!(of(&[(60, 1)], 0), Some(Span::default()));
    }

    proptest! {
        #[test]
        fn any_past_is_a_time_or_none(points in prop::collection::vec((0i64..1440, any::<u64>()), 0..40), free: u64) {
            let now = Utc::now();
            let mut points = points;
            points.sort_by_key(|point| std::cmp::Reverse(point.0));
            full_in(&past(now, &points), now, free);
        }
    }
}
