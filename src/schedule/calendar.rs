//! The times of a job as systemd (`OnCalendar=`) and launchd (`StartCalendarInterval`) write them.

use crate::config::when::Times;
use std::collections::BTreeSet;

/// The days of the week, as systemd calls them, from Sunday on.
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// More than this many moments a year make no sense to write down one by one.
const MOST: usize = 1500;

/// Days of the month, or days of the week; none: all of them.
type Days<'a> = Option<&'a BTreeSet<u32>>;

/// The days on which a time fits, as pairs of both kinds that a calendar can ask for together.
fn days(times: &Times) -> Vec<(Days<'_>, Days<'_>)> {
    let days = Some(&times.days).filter(|days| days.len() < 31);
    let weekdays = Some(&times.weekdays).filter(|days| days.len() < 7);
    match (days, weekdays) {
        // All days of one kind, and some of the other: either will do, so every day does.
        (None, _) | (_, None) if times.either_day => vec![(None, None)],
        (Some(days), Some(weekdays)) if times.either_day => vec![(Some(days), None), (None, Some(weekdays))],
        both => vec![both],
    }
}

/// What systemd is to be given, a line each.
pub(super) fn on_calendar(times: &Times) -> Vec<String> {
    let list = |values: &BTreeSet<u32>, all: usize| match values.len() == all {
        true => "*".to_owned(),
        false => values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    };
    let line = |(days, weekdays): (Days<'_>, Days<'_>)| {
        let weekdays = weekdays.map_or(String::new(), |weekdays| {
            let names: Vec<_> = weekdays.iter().map(|&day| DAYS[day as usize]).collect();
            format!("{} ", names.join(","))
        });
        format!(
            "{weekdays}*-{}-{} {}:{}:00",
            list(&times.months, 12),
            days.map_or("*".to_owned(), |days| list(days, 31)),
            list(&times.hours, 24),
            list(&times.minutes, 60)
        )
    };
    days(times).into_iter().map(line).collect()
}

/// One moment that comes around: names and values; what is not named may be anything.
pub(super) type Interval = Vec<(&'static str, u32)>;

/// What launchd is to be given: it fires at each of these.
///
/// # Errors
/// When they are too many.
pub(super) fn intervals(times: &Times) -> Result<Vec<Interval>, String> {
    let mut all = Vec::new();
    for (days, weekdays) in days(times) {
        let mut found: Vec<Interval> = vec![Vec::new()];
        for (name, values) in [
            ("Month", Some(&times.months).filter(|months| months.len() < 12)),
            ("Day", days),
            ("Weekday", weekdays),
            ("Hour", Some(&times.hours).filter(|hours| hours.len() < 24)),
            ("Minute", Some(&times.minutes).filter(|minutes| minutes.len() < 60)),
        ] {
            let Some(values) = values else { continue };
            found = found
                .iter()
                .flat_map(|before| {
                    values.iter().map(move |&value| [before.as_slice(), &[(name, value)]].concat())
                })
                .collect();
        }
        all.extend(found);
        if all.len() > MOST {
            return Err(format!(
                "launchd would have to be told of {} moments: write a simpler time",
                all.len()
            ));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::when::{When, parse};

    fn times(text: &str) -> Times {
        match parse(text).unwrap().unwrap() {
            When::Times(times) => times,
            When::Boot => panic!("{text}"),
        }
    }

    #[test]
    fn for_systemd() {
        for (text, lines) in [
            ("* * * * *", &["*-*-* *:*:00"][..]),
            ("*/20 * * * *", &["*-*-* *:0,20,40:00"]),
            ("0 2 * * *", &["*-*-* 2:0:00"]),
            ("0 9 * * 0", &["Sun *-*-* 9:0:00"]),
            ("0 9 * * 7", &["Sun *-*-* 9:0:00"]),
            (
                "15 8-10 1 jan,jul mon-fri",
                &["*-1,7-1 8,9,10:15:00", "Mon,Tue,Wed,Thu,Fri *-1,7-* 8,9,10:15:00"],
            ),
            // A star on either side: both must fit.
            ("0 0 */15 * 1", &["Mon *-*-1,16,31 0:0:00"]),
            ("0 0 1-31 * 1", &["*-*-* 0:0:00"]),
            ("0 0 1 * 0-6", &["*-*-* 0:0:00"]),
            ("@weekly", &["Sun *-*-* 0:0:00"]),
        ] {
            assert_eq!(on_calendar(&times(text)), lines, "{text}");
        }
    }

    #[test]
    fn for_launchd() {
        assert_eq!(intervals(&times("* * * * *")).unwrap(), [vec![]]);
        assert_eq!(intervals(&times("0 2 * * *")).unwrap(), [vec![("Hour", 2), ("Minute", 0)]]);
        assert_eq!(
            intervals(&times("*/30 * * * 0")).unwrap(),
            [vec![("Weekday", 0), ("Minute", 0)], vec![("Weekday", 0), ("Minute", 30)]]
        );
        assert_eq!(
            intervals(&times("0 0 13 * 5")).unwrap(),
            [vec![("Day", 13), ("Hour", 0), ("Minute", 0)], vec![("Weekday", 5), ("Hour", 0), ("Minute", 0)]]
        );
        assert!(intervals(&times("1-59 1-23 1-30 * *")).unwrap_err().contains("simpler"));
    }
}
