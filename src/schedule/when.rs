//! The time of a job as crontab(5) writes it: checked before cron refuses the whole file, and when it
//! comes around.

use chrono::{DateTime, Local, Utc};
use croner::Cron;
use std::str::FromStr;

/// The words that stand for five fields.
const WORDS: [&str; 8] =
    [AT_BOOT, "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// The word for a job that runs once, when the machine, or the container, starts.
pub const AT_BOOT: &str = "@reboot";

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What one field may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of the week", least: 0, most: 7, names: &DAYS },
];

/// Whether cron understands a time; an empty one means "not at all".
///
/// # Errors
/// What is wrong with it, and in which field.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || WORDS.contains(&text) {
        return Ok(());
    }
    if text.starts_with('@') {
        return Err(format!("'{text}' is none of {}", WORDS.join(", ")));
    }
    // What else counts as white space (a newline!) would break the crontab.
    let parts: Vec<&str> = text.split([' ', '\t']).filter(|part| !part.is_empty()).collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("it has {} fields, not five", parts.len()));
    }
    FIELDS
        .iter()
        .zip(parts)
        .try_for_each(|(field, part)| part.split(',').try_for_each(|item| field.check(item)))
}

/// When a job is due next, in this machine's time zone; none for one that never is, or only at boot.
pub fn next(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let next = Cron::from_str(text).ok()?.find_next_occurrence(&now.with_timezone(&Local), false);
    next.ok().map(|at| at.with_timezone(&Utc))
}

/// When a job was due last.
pub(super) fn previous(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let last = Cron::from_str(text).ok()?.find_previous_occurrence(&now.with_timezone(&Local), true);
    last.ok().map(|at| at.with_timezone(&Utc))
}

impl Field {
    fn check(&self, item: &str) -> Result<(), String> {
        let wrong = |why: &str| format!("'{}' is no {}: {why}", item.escape_default(), self.name);
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        if let Some(step) = step {
            let step = number(step).ok_or_else(|| wrong("the step after / is no number"))?;
            if step == 0 || step > self.most {
                return Err(wrong(&format!("the step is from 1 to {}", self.most)));
            }
        }
        if range == "*" {
            return Ok(());
        }
        match range.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (self.value(from).map_err(&wrong)?, self.value(to).map_err(&wrong)?);
                if from > to { Err(wrong("the range goes backwards")) } else { Ok(()) }
            }
            None if step.is_some() => Err(wrong("a step needs a range or *")),
            None => self.value(range).map(|_| ()).map_err(&wrong),
        }
    }

    fn value(&self, text: &str) -> Result<u32, &'static str> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.map(|index| index as u32 + self.least).or_else(|| number(text));
        match value {
            None => Err("that is no number"),
            Some(value) if value < self.least || value > self.most => Err("that is out of range"),
            Some(value) => Ok(value),
        }
    }
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDateTime, TimeZone};

    #[test]
    fn what_cron_understands() {
        for good in [
            "",
            "* * * * *",
            "*/5 * * * *",
            "0 2 * * *",
            "0,30 8-18/2 1-15 jan,Jul mon-fri",
            "59 23 31 12 7",
            " 0\t0  1 1 0 ",
            "@daily",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, word) in [
            ("* * * *", "4 fields"),
            ("* * * * * *", "6 fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of the week"),
            ("*/0 * * * *", "step"),
            ("5/10 * * * *", "step"),
            ("9-5 * * * *", "backwards"),
            ("+5 * * * *", "no number"),
            ("-5 * * * *", "no number"),
            ("1,,2 * * * *", "no number"),
            ("99999999999 * * * *", "no number"),
            ("* * * foo *", "no number"),
            ("* * * * *\nMAILTO=x", "day of the week"),
            ("*\n* * * *", "4 fields"),
            ("% * * * *", "no number"),
            ("@often", "@hourly"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

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
        ] {
            assert_eq!(previous(text, now), Some(at(last)), "{text}");
            assert_eq!(next(text, now), Some(at(following)), "{text}");
        }
        for never in ["", "@reboot", "0 0 31 2 *"] {
            assert_eq!((previous(never, now), next(never, now)), (None, None), "{never}");
        }
    }
}
