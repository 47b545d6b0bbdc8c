//! Durations and sizes as people write and read them, and local time.

use chrono::{DateTime, Local, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::Duration;

/// A length of time as written in a config: `30s`, `2h 30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    /// So many minutes.
    pub const fn minutes(minutes: u64) -> Span {
        Span::seconds(minutes * 60)
    }

    /// So many days of 24 hours.
    pub const fn days(days: u64) -> Span {
        Span::seconds(days * 86_400)
    }

    /// Whole and broken seconds.
    pub fn as_secs(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// Reads `30s`, `5 min`, `2h 30m`, `7d`, `1w`.
    pub fn parse(text: &str) -> Result<Span, String> {
        let text = text.trim();
        if text == "0" {
            return Ok(Span::default());
        }
        humantime::parse_duration(text)
            .map(Span)
            .map_err(|_| format!("'{text}' is not a length of time; write it like 30s, 5m, 2h or 7d"))
    }

    /// The same as a chrono duration, saturating.
    pub fn delta(self) -> chrono::TimeDelta {
        chrono::TimeDelta::from_std(self.0).unwrap_or(chrono::TimeDelta::MAX)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
        // The two largest units, as people say it: 2h 3m, not 2h 3m 7s.
        let Some(first) = units.iter().position(|&(_, size)| seconds >= size) else {
            return match self.0.subsec_millis() {
                0 => f.pad("0s"),
                millis => f.pad(&format!("{millis}ms")),
            };
        };
        let (unit, size) = units[first];
        let mut text = format!("{}{unit}", seconds / size);
        if let Some(&(unit, smaller)) = units.get(first + 1) {
            let rest = seconds % size / smaller;
            if rest > 0 {
                text.push_str(&format!(" {rest}{unit}"));
            }
        }
        f.pad(&text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).map_err(de::Error::custom)
    }
}

/// A number of bytes as written in a config: `100MB` (10^6), `4KiB` (2^10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

impl Size {
    /// Reads `512`, `4KiB`, `100MB`, `1.5 GB`. Decimal prefixes are powers of 1000.
    pub fn parse(text: &str) -> Result<Size, String> {
        let wrong = || format!("'{text}' is not a size; write it like 512KB, 100MB or 5GB");
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim().to_ascii_lowercase();
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| {
                *name == unit || (name.len() == 2 && name.starts_with(&unit) && unit.len() == 1)
            })
            .ok_or_else(wrong)?;
        Ok(Size((number * *factor as f64) as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let text = match self.0 {
            0..1_000 => format!("{} B", self.0),
            1_000..1_000_000 => format!("{:.1} KB", bytes / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", bytes / 1e6),
            1_000_000_000..1_000_000_000_000 => format!("{:.1} GB", bytes / 1e9),
            _ => format!("{:.1} TB", bytes / 1e12),
        };
        f.pad(&text)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for (unit, factor) in UNITS.iter().rev().filter(|(unit, _)| unit.len() == 2) {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return serializer.collect_str(&format!("{}{}", self.0 / factor, unit.to_uppercase()));
            }
        }
        serializer.collect_str(&format!("{}B", self.0))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"100MB\" or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// How long ago, never negative: a clock that went back shows as `0s`.
pub fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> Span {
    Span((now - then).to_std().unwrap_or_default())
}

/// Local time as people read it: `2026-11-20 09:30:01`.
pub fn local(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// RFC 3339 with offset, for machine files.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).to_rfc3339_opts(chrono::SecondsFormat::Millis, false)
}

/// For serde: a time as [`rfc3339`].
///
/// # Errors
/// Those of the serializer.
pub fn as_rfc3339<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

/// For serde: [`as_rfc3339`] of a time that may be missing.
///
/// # Errors
/// Those of the serializer.
pub fn maybe_rfc3339<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

/// The form of [`stamp`].
const STAMP: &str = "%Y%m%d_%H%M%S";

/// The compact UTC stamp of archive names: `20261120_093001`.
pub fn stamp(at: DateTime<Utc>) -> String {
    at.format(STAMP).to_string()
}

/// Reads a [`stamp`].
pub fn parse_stamp(text: &str) -> Option<DateTime<Utc>> {
    chrono::NaiveDateTime::parse_from_str(text, STAMP).ok().map(|at| at.and_utc())
}

/// Reads a time as programs write it: RFC 3339, or without offset (then local time), with `T`
/// or a space between date and time.
///
/// In the hour that a clock change repeats, the earlier reading is taken.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.with_timezone(&Utc));
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"].iter().find_map(|format| {
        let naive = chrono::NaiveDateTime::parse_from_str(text, format).ok()?;
        naive.and_local_timezone(Local).earliest().map(|at| at.with_timezone(&Utc))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (7_380, "2h 3m"), (7_200, "2h"), (90_061, "1d 1h")]
        {
            assert_eq!(Span::seconds(seconds).to_string(), text);
        }
        assert_eq!(Span::parse("2h 30m").unwrap(), Span::minutes(150));
        assert!(Span::parse("soon").unwrap_err().contains("like 30s"));
        assert!(Span::parse("5").is_err(), "a bare number has no unit");
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("512", 512),
            ("1k", 1_000),
            ("100MB", 100_000_000),
            ("4KiB", 4096),
            ("1.5 GB", 1_500_000_000),
            ("5g", 5_000_000_000),
        ] {
            assert_eq!(Size::parse(text).unwrap().0, bytes, "{text}");
        }
        for wrong in ["", "MB", "5 apples", "-1MB", "1..2GB"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_come_in_several_spellings() {
        let utc = parse_time("2026-02-02T23:17:21Z").unwrap();
        assert_eq!(utc.timestamp(), 1_770_074_241);
        assert_eq!(parse_time("2026-02-03T00:17:21+01:00"), Some(utc));
        assert!(parse_time("2026-02-02T23:17:23.994230").is_some());
        assert!(parse_time("2026-02-02 23:17:23").is_some());
        assert_eq!(parse_time("yesterday"), None);
    }

    proptest! {
        #[test]
        fn spans_round_trip(seconds in 0u64..400_000_000) {
            let json = serde_json::to_string(&Span::seconds(seconds)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), Span::seconds(seconds));
        }

        #[test]
        fn sizes_round_trip(bytes in 0u64..(1 << 50)) {
            let json = serde_json::to_string(&Size(bytes)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Size>(&json).unwrap(), Size(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = Size::parse(&text);
            let _ = Span::parse(&text);
            let _ = parse_time(&text);
        }
    }
}
