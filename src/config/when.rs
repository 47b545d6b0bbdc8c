//! The time of a job as crontab(5) writes it, read before cron refuses the whole file.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The words that stand for five fields.
const WORDS: [(&str, &str); 8] = [
    ("@reboot", ""),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

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

/// What a time says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// When the machine starts.
    Boot,
    /// At all minutes that fit.
    Times(Times),
}

/// The values of the five fields, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// From 0 to 59.
    pub minutes: BTreeSet<u32>,
    /// From 0 to 23.
    pub hours: BTreeSet<u32>,
    /// From 1 to 31.
    pub days: BTreeSet<u32>,
    /// From 1 to 12.
    pub months: BTreeSet<u32>,
    /// From 0, Sunday, to 6.
    pub weekdays: BTreeSet<u32>,
    /// Neither kind of day begins with `*`: then either will do, else both must fit.
    pub either_day: bool,
}

/// Reads a time; none: "not at all", which is an empty one, or one for days that are in no year.
///
/// # Errors
/// What cron would not understand in it, and in which field.
pub fn parse(text: &str) -> Result<Option<When>, String> {
    let text = match WORDS.iter().find(|(word, _)| *word == text) {
        Some((_, "")) => return Ok(Some(When::Boot)),
        Some((_, fields)) => fields,
        None if text.is_empty() => return Ok(None),
        None if text.starts_with('@') => {
            return Err(format!("'{text}' is none of {}", WORDS.map(|(word, _)| word).join(", ")));
        }
        None => text,
    };
    // What else counts as white space (a newline!) would break the crontab.
    let parts: Vec<&str> = text.split([' ', '\t']).filter(|part| !part.is_empty()).collect();
    let [minutes, hours, days, months, weekdays] = *parts.as_slice() else {
        return Err(format!("it has {} fields, not five", parts.len()));
    };
    let either_day = !days.starts_with('*') && !weekdays.starts_with('*');
    let weekdays = FIELDS[4].values(weekdays)?.into_iter().map(|day| day % 7).collect();
    let times = Times {
        minutes: FIELDS[0].values(minutes)?,
        hours: FIELDS[1].values(hours)?,
        days: FIELDS[2].values(days)?,
        months: FIELDS[3].values(months)?,
        weekdays,
        either_day,
    };
    Ok(if times.never() { None } else { Some(When::Times(times)) })
}

impl Times {
    /// Whether there is no day that fits: the 30th of February.
    fn never(&self) -> bool {
        let longest = |month: &u32| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let first = self.days.first().copied().unwrap_or(32);
        !self.either_day && self.months.iter().all(|month| first > longest(month))
    }
}

impl Field {
    /// The values that a field names, separated by commas.
    fn values(&self, part: &str) -> Result<BTreeSet<u32>, String> {
        let mut values = BTreeSet::new();
        for item in part.split(',') {
            let (range, step) = self.item(item)?;
            values.extend(range.step_by(step));
        }
        Ok(values)
    }

    /// One range, and its step.
    fn item(&self, item: &str) -> Result<(RangeInclusive<u32>, usize), String> {
        let wrong = |why: &str| format!("'{}' is no {}: {why}", item.escape_default(), self.name);
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let width = match step {
            Some(step) => {
                let step = number(step).ok_or_else(|| wrong("the step after / is no number"))?;
                if step == 0 || step > self.most {
                    return Err(wrong(&format!("the step is from 1 to {}", self.most)));
                }
                step as usize
            }
            None => 1,
        };
        if range == "*" {
            // 7 is Sunday, as 0 is.
            return Ok((self.least..=self.most.min(if self.names == DAYS { 6 } else { u32::MAX }), width));
        }
        match range.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (self.value(from).map_err(&wrong)?, self.value(to).map_err(&wrong)?);
                if from > to { Err(wrong("the range goes backwards")) } else { Ok((from..=to, width)) }
            }
            None if step.is_some() => Err(wrong("a step needs a range or *")),
            None => self.value(range).map(|value| (value..=value, width)).map_err(&wrong),
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

    #[test]
    fn what_cron_understands() {
        for never in ["", "0 2 30 2 *", "0 0 31 2,4,6,9,11 *"] {
            assert_eq!(parse(never), Ok(None), "{never}");
        }
        for good in [
            "* * * * *",
            "*/5 * * * *",
            "0 2 * * *",
            "0,30 8-18/2 1-15 jan,Jul mon-fri",
            "59 23 31 12 7",
            " 0\t0  1 1 0 ",
            "@daily",
            "0 2 29 2 *",
            "0 2 30,29 2 *",
            "0 2 31 2,3 *",
            // The day of the week will do.
            "0 2 30 2 1",
        ] {
            assert!(matches!(parse(good), Ok(Some(_))), "{good}: {:?}", parse(good));
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
            let error = parse(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
