//! Which archive is meant: `latest`, a name, a path, or a time.

use crate::backup;
use crate::base::units::{self, parse_time};
use crate::base::{Fault, Journal};
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, Days, Local, NaiveDate, NaiveTime, Utc};
use std::path::PathBuf;

/// Finds the archive. A time means the newest good archive made before it.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is none such.
pub(super) fn choose(
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: Option<&str>,
    now: DateTime<Utc>,
) -> Result<PathBuf> {
    let which = which.unwrap_or("latest");
    let not_found = match backup::find(loaded, journal, which) {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    let Some(before) = moment(which, now.with_timezone(&Local)) else { return Err(not_found) };
    let archives = backup::list(loaded, journal)?;
    let mut candidates =
        archives.iter().filter(|archive| archive.time <= before && archive.problem.is_none());
    match candidates.next() {
        Some(archive) => Ok(archive.path.clone()),
        None => Err(Fault::unknown(format!("there is no good archive from before {}", units::local(before)))
            .hint("`backup list` shows the archives there are")
            .into()),
    }
}

/// The time that people mean: the end of a day, or the moment itself.
fn moment(text: &str, now: DateTime<Local>) -> Option<DateTime<Utc>> {
    let day = match text {
        "today" => Some(now.date_naive()),
        "yesterday" => now.date_naive().checked_sub_days(Days::new(1)),
        text => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok(),
    };
    if let Some(day) = day {
        let midnight = day.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN);
        // Where a clock change skips midnight, the first moment after it.
        let end = (0..4).find_map(|hours| {
            (midnight + chrono::TimeDelta::hours(hours)).and_local_timezone(Local).earliest()
        })?;
        return Some(end.with_timezone(&Utc) - chrono::TimeDelta::milliseconds(1));
    }
    parse_time(text).or_else(|| parse_time(&format!("{text}:00")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_say_them() {
        let now = parse_time("2026-11-20 09:30:00").unwrap().with_timezone(&Local);
        let at = |text: &str| moment(text, now).map(units::local);
        assert_eq!(at("2026-11-19 02:00").as_deref(), Some("2026-11-19 02:00:00"));
        assert_eq!(at("2026-11-19T02:00:05").as_deref(), Some("2026-11-19 02:00:05"));
        assert_eq!(at("yesterday").as_deref(), Some("2026-11-19 23:59:59"));
        assert_eq!(at("2026-11-01").as_deref(), Some("2026-11-01 23:59:59"));
        assert_eq!(at("someday"), None);
        assert_eq!(at("9999999-01-01"), None);
    }
}
