//! When a line was written and how bad it is, as agents and our own programs say it.
//!
//! | line | who writes so |
//! | --- | --- |
//! | `[2026-11-20 09:30:01] [CRITICAL] …`, `[2026-11-20 09:30:01] …` | our programs, Dharmic |
//! | `[2026-11-20T09:48:26.296576+00:00] …` | Macha |
//! | `2026/11/20 09:46:01 INFO …` | GoMikroBot (Go) |
//! | `2026-11-20 09:42:26,040 [INFO] …` | Machina's bot (Python) |
//! | `[09:41:41] INFO …` | Machina's autonomic engine |
//! | `{"timestamp":"2026-11-20T09:26:27.512Z","level":"info",…}` | Mama, and most JSON logs |
//! | `time=2026-11-20T09:46:01Z level=INFO …` | Go's slog as text |

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// How bad a line is, from mildest to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Also what is finer yet.
    #[value(alias = "trace")]
    Debug,
    /// The course of things; also notices.
    #[value(alias = "notice")]
    Info,
    /// Worth a look.
    #[value(alias = "warn")]
    Warning,
    /// Something failed.
    #[value(alias = "err")]
    Error,
    /// It cannot go on.
    #[value(aliases = ["crit", "fatal", "panic"])]
    Critical,
}

/// A time as it stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// With its offset.
    Exact(DateTime<Utc>),
    /// Without: local time.
    Local(NaiveDateTime),
    /// Without a date, too.
    Time(NaiveTime),
}

/// What a line says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// When it was written. A line without belongs to the one before it.
    pub(super) stamp: Option<Stamp>,
    /// How bad it is; a guess from its words where it has no level of its own.
    pub(super) level: Option<Level>,
}

/// Clocks are set and threads overtake each other: so much later than what follows a line may be.
const DISORDER: TimeDelta = TimeDelta::minutes(5);

/// How far into a line its level is looked for, in bytes.
const LEVEL_WITHIN: usize = 200;

impl Stamp {
    /// The moment that is meant, if what follows was written at `not_after`: without a date the
    /// last such time before it, in an hour that a clock change repeats the later one that fits.
    ///
    /// Nothing for a local time that a clock change skipped.
    pub(super) fn resolve(self, not_after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let limit = not_after.checked_add_signed(DISORDER)?;
        let local = |naive: NaiveDateTime| {
            let times = naive.and_local_timezone(Local);
            let latest = times.latest()?.to_utc();
            if latest <= limit { Some(latest) } else { times.earliest().map(|at| at.to_utc()) }
        };
        match self {
            Stamp::Exact(at) => Some(at),
            Stamp::Local(naive) => local(naive),
            Stamp::Time(time) => {
                let day = limit.with_timezone(&Local).date_naive();
                let mut days = [Some(day), day.pred_opt()].into_iter().flatten();
                days.find_map(|day| local(day.and_time(time)).filter(|at| *at <= limit))
            }
        }
    }
}

/// Reads what a line says of itself.
pub(super) fn marks(line: &str) -> Marks {
    let line = without_colours(line);
    if line.starts_with('{') {
        return of_json(&line).unwrap_or_default();
    }
    let (stamp, rest) = match stamp_at_start(&line) {
        Some((stamp, rest)) => (Some(stamp), rest),
        None => (None, &*line),
    };
    Marks { stamp, level: level_in(rest) }
}

/// Many programs colour their levels even in files.
fn without_colours(line: &str) -> Cow<'_, str> {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default();
    if first.len() == line.len() {
        return Cow::Borrowed(line);
    }
    let mut plain = first.to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain.push_str(after.strip_prefix('m').unwrap_or(part));
    }
    Cow::Owned(plain)
}

fn of_json(line: &str) -> Option<Marks> {
    #[derive(Deserialize)]
    struct Fields {
        timestamp: Option<Value>,
        ts: Option<Value>,
        time: Option<Value>,
        #[serde(rename = "@timestamp")]
        at_timestamp: Option<Value>,
        ts_ms: Option<Value>,
        level: Option<Value>,
        severity: Option<Value>,
    }
    let fields: Fields = serde_json::from_str(line).ok()?;
    let times = [fields.timestamp, fields.ts, fields.time, fields.at_timestamp, fields.ts_ms];
    let stamp = times.iter().flatten().find_map(|value| match value {
        Value::String(text) => stamp_at_start(text).map(|(stamp, _)| stamp),
        Value::Number(number) => since_1970(number.as_f64()?).map(Stamp::Exact),
        _ => None,
    });
    let level = [fields.level, fields.severity].iter().flatten().find_map(|value| match value {
        Value::String(word) => level_of(word),
        // The numbers of bunyan and pino.
        Value::Number(number) => match number.as_u64()? {
            0..30 => Some(Level::Debug),
            30..40 => Some(Level::Info),
            40..50 => Some(Level::Warning),
            50..60 => Some(Level::Error),
            _ => Some(Level::Critical),
        },
        _ => None,
    });
    Some(Marks { stamp, level })
}

/// A number of seconds, or, where that would be after the year 5000, of milliseconds.
fn since_1970(number: f64) -> Option<DateTime<Utc>> {
    let millis = if number.abs() < 1e11 { number * 1e3 } else { number };
    DateTime::from_timestamp_millis(millis as i64)
}

/// The stamp that a text begins with, and what comes after it.
fn stamp_at_start(text: &str) -> Option<(Stamp, &str)> {
    let text = text.strip_prefix("time=").or_else(|| text.strip_prefix("ts=")).unwrap_or(text);
    let text = text.strip_prefix('"').unwrap_or(text);
    let (bracket, text) = match text.strip_prefix('[') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let mut scan = Scan { rest: text };
    let date = scan.date();
    let time = scan.time()?;
    let offset = scan.offset();
    let rest = match bracket {
        true => scan.rest.strip_prefix(']')?,
        // `12:30:45x` is no time.
        false if scan.rest.starts_with(|c: char| c.is_alphanumeric()) => return None,
        false => scan.rest,
    };
    let stamp = match (date, offset) {
        (None, _) => Stamp::Time(time),
        (Some(date), None) => Stamp::Local(date.and_time(time)),
        (Some(date), Some(offset)) => {
            Stamp::Exact(date.and_time(time).and_local_timezone(offset).single()?.to_utc())
        }
    };
    Some((stamp, rest))
}

/// What of a text is still to be read. What does not fit is not taken.
struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    /// So many digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let number = self.rest.get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        self.rest = &self.rest[digits..];
        number.parse().ok()
    }

    fn one_of(&mut self, wanted: &[char]) -> Option<char> {
        let found = self.rest.chars().next().filter(|c| wanted.contains(c))?;
        self.rest = &self.rest[found.len_utf8()..];
        Some(found)
    }

    /// `2026-11-20` or `2026/11/20`, with the `T` or space that comes after it.
    fn date(&mut self) -> Option<NaiveDate> {
        let start = self.rest;
        let mut read = || {
            let year = self.number(4)?;
            let between = self.one_of(&['-', '/'])?;
            let month = self.number(2)?;
            self.one_of(&[between])?;
            let day = self.number(2)?;
            self.one_of(&['T', 't', ' '])?;
            NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day).filter(|date| date.year() > 1969)
        };
        let date = read();
        if date.is_none() {
            self.rest = start;
        }
        date
    }

    /// `09:41:41`, with a fraction after a point or a comma.
    fn time(&mut self) -> Option<NaiveTime> {
        let hour = self.number(2)?;
        self.one_of(&[':'])?;
        let minute = self.number(2)?;
        self.one_of(&[':'])?;
        // A leap second has no place of its own.
        let second = self.number(2)?.min(59);
        let mut nanos = 0;
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        if let Some(fraction) = self.rest.strip_prefix(['.', ',']).filter(|text| digits(text) > 0) {
            let (fraction, rest) = fraction.split_at(digits(fraction));
            self.rest = rest;
            nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        }
        NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)
    }

    /// `Z`, `UTC`, `+01:00` or `+0100`, after a space or none.
    fn offset(&mut self) -> Option<FixedOffset> {
        let start = self.rest;
        let mut read = || {
            let _ = self.one_of(&[' ']);
            if let Some(rest) = self.rest.strip_prefix("UTC").or_else(|| self.rest.strip_prefix(['Z', 'z'])) {
                self.rest = rest;
                return (!rest.starts_with(|c: char| c.is_alphanumeric()))
                    .then(|| FixedOffset::east_opt(0))?;
            }
            let sign = if self.one_of(&['+', '-'])? == '+' { 1 } else { -1 };
            let hours = self.number(2)?;
            let _ = self.one_of(&[':']);
            let minutes = self.number(2)?;
            FixedOffset::east_opt(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?)
        };
        let offset = read();
        if offset.is_none() {
            self.rest = start;
        }
        offset
    }
}

/// The first word of a text that is plainly a level: `[info]`, `INFO`, `Warning:`, `level=warn`;
/// or what Python, JavaScript, Go and Rust say of an error that nobody caught.
fn level_in(text: &str) -> Option<Level> {
    let mut end = text.len().min(LEVEL_WITHIN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end]
        .split_whitespace()
        .find_map(|token| {
            let named = token.strip_prefix("level=").map(|word| word.trim_matches('"'));
            let bracketed = token.strip_prefix('[').and_then(|word| word.split(']').next());
            if let Some(level) = named.or(bracketed).and_then(level_of) {
                return Some(level);
            }
            let bare = token.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let says = token[token.find(bare)? + bare.len()..].starts_with(':');
            if says && (bare.ends_with("Error") || bare.ends_with("Exception")) || bare == "Traceback" {
                return Some(Level::Error);
            }
            // In the middle of a sentence an error may be that of another, or none.
            let loud = bare.len() > 2 && bare.bytes().all(|byte| byte.is_ascii_uppercase());
            (loud || says).then(|| level_of(bare)).flatten().filter(|_| !matches!(bare, "UNKNOWN" | "NOTICE"))
        })
        .or_else(|| last_words(&text[..end]))
}

/// What shells, C++ and JavaScript say of a crash, and what many say of a failure, without a level.
fn last_words(text: &str) -> Option<Level> {
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if any(&["Segmentation fault", "core dumped", "terminate called", "Out of memory"]) {
        return Some(Level::Critical);
    }
    if any(&["Uncaught ", "uncaughtException", "Unhandled ", "UnhandledPromiseRejection"]) {
        return Some(Level::Error);
    }
    // `0 failed: ` and `failed: 0` are good news.
    let (before, after) = text.split_once(" failed:")?;
    let none = |word: Option<&str>| matches!(word, Some("0" | "0," | "no" | "none"));
    let good = none(before.split_whitespace().next_back()) || none(after.split_whitespace().next());
    (!good).then_some(Level::Error)
}

fn level_of(word: &str) -> Option<Level> {
    Some(match word.to_ascii_lowercase().as_str() {
        "trace" | "debug" | "dbg" => Level::Debug,
        "info" | "information" | "notice" | "ok" => Level::Info,
        // Our own word for what could not be told.
        "warn" | "warning" | "unknown" => Level::Warning,
        "error" | "err" | "severe" => Level::Error,
        "critical" | "crit" | "fatal" | "panic" | "alert" | "emerg" | "emergency" => Level::Critical,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn the_formats_of_the_agents_and_our_own() {
        let local = |text: &str| {
            Some(Stamp::Local(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap()))
        };
        let exact = |text: &str| Some(Stamp::Exact(utc(text)));
        let time = |text: &str| Some(Stamp::Time(text.parse().unwrap()));
        use Level::{Critical, Debug, Error, Info, Warning};
        for (line, stamp, level) in [
            // Our own.
            (
                "[2026-11-20 09:30:01] [CRITICAL] Daemon - gone (run a1)",
                local("2026-11-20 09:30:01"),
                Some(Critical),
            ),
            ("[2026-11-20 09:30:01] [OK] Backup - done", local("2026-11-20 09:30:01"), Some(Info)),
            ("[2026-11-20 09:30:01] [UNKNOWN] x", local("2026-11-20 09:30:01"), Some(Warning)),
            // Dharmic.
            ("[2026-11-20 09:33:10] [DAEMON] Heartbeat sent", local("2026-11-20 09:33:10"), None),
            ("[2026-11-20 09:33:10] [DAEMON] ERROR: no key", local("2026-11-20 09:33:10"), Some(Error)),
            ("[2026-11-20 09:33:10] started", local("2026-11-20 09:33:10"), None),
            // GoMikroBot.
            ("2026/11/20 09:46:01 INFO Agent loop started", local("2026-11-20 09:46:01"), Some(Info)),
            ("🤖 Bot says: hello", None, None),
            // Machina.
            ("2026-11-20 09:42:26,040 [INFO] polling", local("2026-11-20 09:42:26.040"), Some(Info)),
            ("[09:41:41] INFO tick", time("09:41:41"), Some(Info)),
            ("09:41:41.5 WARN tick", time("09:41:41.5"), Some(Warning)),
            // Macha.
            (
                "[2026-11-20T09:48:26.296576+00:00] ERROR in orchestration cycle: x",
                exact("2026-11-20T09:48:26.296576Z"),
                Some(Error),
            ),
            (
                "[2026-11-20T09:48:26.296576] Warning: slow",
                local("2026-11-20 09:48:26.296576"),
                Some(Warning),
            ),
            ("Traceback (most recent call last):", None, Some(Error)),
            ("  File \"a.py\", line 3, in run", None, None),
            ("ValueError: no such thing", None, Some(Error)),
            // Mama, and other JSON.
            (
                r#"{"timestamp":"2026-11-20T09:26:27.512Z","level":"info","module":"x","message":"ERROR"}"#,
                exact("2026-11-20T09:26:27.512Z"),
                Some(Info),
            ),
            (r#"{"ts":1700000000.5,"level":50}"#, exact("2023-11-14T22:13:20.5Z"), Some(Error)),
            (r#"{"ts_ms":1700000000000,"success":false}"#, exact("2023-11-14T22:13:20Z"), None),
            (
                r#"{"time":"2026-11-20T09:26:27+01:00","severity":"WARN"}"#,
                exact("2026-11-20T08:26:27Z"),
                Some(Warning),
            ),
            (r#"{"timestamp":null,"level":{}}"#, None, None),
            ("{", None, None),
            // Others.
            ("time=2026-11-20T09:46:01.000Z level=WARN msg=x", exact("2026-11-20T09:46:01Z"), Some(Warning)),
            (
                "\x1b[2m2026-11-20T09:46:01Z\x1b[0m \x1b[32m DEBUG\x1b[0m a: b",
                exact("2026-11-20T09:46:01Z"),
                Some(Debug),
            ),
            ("2026-11-20 09:46:01 +0100 FATAL x", exact("2026-11-20T08:46:01Z"), Some(Critical)),
            ("2026-11-20 09:46:01 - app - ERROR - x", local("2026-11-20 09:46:01"), Some(Error)),
            ("2026-11-20 09:46:01 no error so far", local("2026-11-20 09:46:01"), None),
            ("panic: runtime error", None, Some(Critical)),
            ("Segmentation fault (core dumped)", None, Some(Critical)),
            ("./run.sh: line 3: 4711 Segmentation fault      ./agent", None, Some(Critical)),
            ("terminate called after throwing an instance of 'std::bad_alloc'", None, Some(Critical)),
            ("Uncaught Exception: ECONNREFUSED", None, Some(Error)),
            (
                "[2026-11-20 09:33:10] [DAEMON] Heartbeat failed: timeout",
                local("2026-11-20 09:33:10"),
                Some(Error),
            ),
            ("[09:41:41] INFO login failed: x", time("09:41:41"), Some(Info)),
            ("12 passed, 0 failed: fine", None, None),
            ("tests failed: 0", None, None),
            // None, though alike.
            ("2026-13-20 09:46:01 x", None, None),
            ("2026-11-20 29:46:01 x", None, None),
            ("[2026-11-20 09:46:01 x", None, None),
            ("2026-11-20", None, None),
            ("12:30:45x", None, None),
            ("", None, None),
        ] {
            assert_eq!(marks(line), Marks { stamp, level }, "{line}");
        }
    }

    #[test]
    fn a_time_without_a_date_is_the_last_one_before_what_follows() {
        let noon = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let not_after = noon.and_local_timezone(Local).unwrap().to_utc();
        for (time, day) in [("11:59:59", 20), ("12:00:30", 20), ("12:06:00", 19), ("23:59:59", 19)] {
            let at = Stamp::Time(time.parse().unwrap()).resolve(not_after).unwrap();
            assert_eq!(at.with_timezone(&Local).day(), day, "{time}");
        }
        assert!(Stamp::Time(NaiveTime::MIN).resolve(DateTime::<Utc>::MAX_UTC).is_none());
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_not(line in "[\\[{]?[0-9T:, +Zé/\"-]{0,40}.{0,10}") {
            let found = marks(&line);
            let _ = found.stamp.and_then(|stamp| stamp.resolve(Utc::now()));
        }
    }
}
