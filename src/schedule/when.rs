//! When a job comes around, and when it did last.

use crate::config::when::{When, parse};
use chrono::{DateTime, Local, TimeDelta, Timelike, Utc};
use croner::Cron;
use croner::parser::CronParser;

/// When a job is due next, in this machine's time zone; none for one that never is, or only at boot.
pub fn next(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let next = pattern(text)?.find_next_occurrence(&now.with_timezone(&Local), false);
    next.ok().map(|at| at.with_timezone(&Utc))
}

/// When a job was due last, whoever runs it. In the hour that the clock leaves out in spring systemd runs
/// nothing, and cron what it likes; of the one that comes twice in autumn the first counts.
pub(super) fn previous(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let Ok(Some(When::Times(times))) = parse(text) else { return None };
    let pattern = pattern(text)?;
    let before = |at: DateTime<Local>| pattern.find_previous_occurrence(&at, true).ok();
    let first = |at: DateTime<Local>| {
        // At the very change chrono may still have the time of before.
        let soon = at + TimeDelta::seconds(1);
        let fits = times.hours.contains(&soon.hour()) && times.minutes.contains(&soon.minute());
        let told = soon.naive_local().and_local_timezone(Local);
        // The hour that comes twice is told in either order.
        let first = told.earliest().into_iter().chain(told.latest()).min().filter(|_| fits)?;
        Some(first - TimeDelta::seconds(1))
    };
    let last = before(now.with_timezone(&Local))?;
    let last = first(last).or_else(|| first(before(last - TimeDelta::seconds(1))?))?;
    Some(last.to_utc())
}

fn pattern(text: &str) -> Option<Cron> {
    let Ok(Some(When::Times(times))) = parse(text) else { return None };
    CronParser::builder().dom_and_dow(!times.either_day).build().parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDateTime, TimeZone};

    #[test]
    fn what_cron_understands_has_its_times() {
        let at =
            |text: &str| Local.from_local_datetime(&text.parse::<NaiveDateTime>().unwrap()).unwrap().to_utc();
        // A Saturday.
        let now = at("2026-11-21T14:07:30");
        for (text, last, following) in [
            ("*/5 * * * *", "2026-11-21T14:05:00", "2026-11-21T14:10:00"),
            ("0 2 * * *", "2026-11-21T02:00:00", "2026-11-22T02:00:00"),
            ("0 4 * * 0", "2026-11-15T04:00:00", "2026-11-22T04:00:00"),
            ("0 9 * * sun", "2026-11-15T09:00:00", "2026-11-22T09:00:00"),
            ("0,30 8-18/2 1-15 jan,Jul mon-fri", "2026-07-31T18:30:00", "2027-01-01T08:00:00"),
            ("@daily", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
            ("@hourly", "2026-11-21T14:00:00", "2026-11-21T15:00:00"),
            // Days of the month and of the week: either will do.
            ("0 0 13 * 5", "2026-11-20T00:00:00", "2026-11-27T00:00:00"),
            // Unless one begins with a star, says crontab(5).
            ("0 0 */10 * 1", "2026-09-21T00:00:00", "2026-12-21T00:00:00"),
        ] {
            assert_eq!(previous(text, now), Some(at(last)), "{text}");
            assert_eq!(next(text, now), Some(at(following)), "{text}");
        }
        for never in ["", "@reboot"] {
            assert_eq!((previous(never, now), next(never, now)), (None, None), "{never}");
        }
    }
}
