//! Thresholds: the range syntax of Nagios plugins, and the shorter way people write them.

use super::units::{Size, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// What a number counts; decides how a threshold may be written and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; `2h` and `90s` are understood.
    Seconds,
    /// Bytes; `5GB` is understood.
    Bytes,
    /// Percent; `90%` is understood.
    Percent,
    /// A plain count.
    Count,
}

impl Unit {
    /// The unit of measurement in performance data.
    pub fn uom(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Bytes => "B",
            Unit::Percent => "%",
            Unit::Count => "",
        }
    }

    /// The unit of a unit of measurement.
    pub fn of(uom: &str) -> Option<Unit> {
        [Unit::Seconds, Unit::Bytes, Unit::Percent, Unit::Count].into_iter().find(|unit| unit.uom() == uom)
    }

    fn parse(self, text: &str) -> Result<f64, String> {
        let text = text.trim();
        if let Ok(number) = text.parse::<f64>()
            && number.is_finite()
        {
            return Ok(number);
        }
        match self {
            Unit::Seconds => Span::parse(text).map(Span::as_secs),
            Unit::Bytes => Size::parse(text).map(|size| size.0 as f64),
            Unit::Percent => text
                .strip_suffix('%')
                .and_then(|number| number.trim().parse().ok())
                .ok_or_else(|| format!("'{text}' is not a percentage; write it like 90%")),
            Unit::Count => Err(format!("'{text}' is not a number")),
        }
    }
}

/// Which side of a bare number is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// More than the number is bad (an age, a count of errors).
    Above,
    /// Less than the number is bad (free space).
    Below,
}

/// The values that raise an alert, in the syntax `[@]start:end` of the plugin guidelines.
///
/// A value outside `start..=end` alerts; with `@`, one inside does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    start: f64,
    end: f64,
    inside: bool,
}

impl Range {
    /// Alerts above `limit`.
    pub const fn above(limit: f64) -> Range {
        Range { start: 0.0, end: limit, inside: false }
    }

    /// Alerts below `limit`.
    pub const fn below(limit: f64) -> Range {
        Range { start: limit, end: f64::INFINITY, inside: false }
    }

    /// Reads a range (`10`, `10:`, `~:10`, `10:20`, `@10:20`) whose numbers may carry units
    /// (`5GB`, `2h`). A number alone means "at most" or, where less is bad, "at least".
    pub fn parse(text: &str, unit: Unit, bad: Bad) -> Result<Range, String> {
        let trimmed = text.trim();
        let (inside, body) = match trimmed.strip_prefix('@') {
            Some(body) => (true, body),
            None => (false, trimmed),
        };
        let (start, end) = match body.split_once(':') {
            None => {
                let limit = unit.parse(body)?;
                return Ok(match (inside, bad) {
                    (false, Bad::Below) => Range::below(limit),
                    _ => Range { start: 0.0, end: limit, inside },
                });
            }
            Some((start, end)) => {
                let start = match start.trim() {
                    "~" => f64::NEG_INFINITY,
                    "" => 0.0,
                    number => unit.parse(number)?,
                };
                let end = match end.trim() {
                    "" => f64::INFINITY,
                    number => unit.parse(number)?,
                };
                (start, end)
            }
        };
        if start > end {
            return Err(format!("'{text}' is not a range: its start is above its end"));
        }
        Ok(Range { start, end, inside })
    }

    /// Whether a value alerts.
    pub fn alerts(&self, value: f64) -> bool {
        let within = self.start <= value && value <= self.end;
        within == self.inside
    }

    /// The limit that people would name: the end that is not open.
    pub fn limit(&self) -> f64 {
        if self.end.is_finite() { self.end } else { self.start }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inside {
            f.write_str("@")?;
        }
        if self.start == f64::NEG_INFINITY {
            f.write_str("~:")?;
        } else if self.start != 0.0 || self.end == f64::INFINITY {
            write!(f, "{}:", self.start)?;
        }
        if self.end != f64::INFINITY {
            write!(f, "{}", self.end)?;
        }
        Ok(())
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Range::parse(&text, Unit::Count, Bad::Above).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_plugin_guidelines() {
        let alerts =
            |range: &str, value: f64| Range::parse(range, Unit::Count, Bad::Above).unwrap().alerts(value);
        for (range, bad, good) in [
            ("10", vec![-1.0, 11.0], vec![0.0, 10.0]),
            ("10:", vec![9.0], vec![10.0, 1e9]),
            ("~:10", vec![11.0], vec![-50.0, 10.0]),
            ("10:20", vec![9.0, 21.0], vec![10.0, 20.0]),
            ("@10:20", vec![10.0, 20.0], vec![9.0, 21.0]),
        ] {
            assert!(bad.iter().all(|&v| alerts(range, v)), "{range}");
            assert!(good.iter().all(|&v| !alerts(range, v)), "{range}");
        }
    }

    #[test]
    fn people_write_units() {
        let disk = Range::parse("5GB", Unit::Bytes, Bad::Below).unwrap();
        assert!(disk.alerts(4.9e9) && !disk.alerts(5e9));
        assert_eq!(disk.to_string(), "5000000000:");
        let age = Range::parse("26h", Unit::Seconds, Bad::Above).unwrap();
        assert_eq!(age.limit(), 93_600.0);
        for wrong in ["20:10", "many", "10:x", "inf", "NaN"] {
            assert!(Range::parse(wrong, Unit::Count, Bad::Above).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_its_own_spelling(a in -1e6f64..1e6, b in -1e6f64..1e6, inside: bool, open in 0..4u8, value in -2e6f64..2e6) {
            let start = if open & 1 == 1 { f64::NEG_INFINITY } else { a.min(b).round() };
            let end = if open & 2 == 2 { f64::INFINITY } else { a.max(b).round() };
            let range = Range { start, end, inside };
            let read = Range::parse(&range.to_string(), Unit::Count, Bad::Above).unwrap();
            prop_assert_eq!(read, range);
            prop_assert_ne!(range.alerts(value), Range { inside: !inside, ..range }.alerts(value));
        }
    }
}
