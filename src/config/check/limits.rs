//! Thresholds as people write them: "5GB", "2h", "2x", or a Nagios range.

use crate::base::range::{Bad, Range, Unit};
use crate::base::units::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

pub(super) const SECONDS: u8 = 0;
pub(super) const BYTES: u8 = 1;
pub(super) const COUNT: u8 = 2;
pub(super) const PERCENT: u8 = 3;

/// A threshold above which it is bad, in seconds, bytes or a count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Most<const UNIT: u8>(pub Range);

impl Most<BYTES> {
    pub(super) fn bytes_1_gb() -> Self {
        Most(Range::above(1e9))
    }
    pub(super) fn bytes_5_gb() -> Self {
        Most(Range::above(5e9))
    }
}

impl Most<COUNT> {
    pub(super) fn one() -> Self {
        Most(Range::above(1.0))
    }
    pub(super) fn three() -> Self {
        Most(Range::above(3.0))
    }
    pub(super) fn five() -> Self {
        Most(Range::above(5.0))
    }
}

impl Most<SECONDS> {
    pub(super) fn quarter() -> Self {
        Most(Range::above(900.0))
    }
    pub(super) fn hour() -> Self {
        Most(Range::above(3600.0))
    }
    pub(super) fn four_hours() -> Self {
        Most(Range::above(4.0 * 3600.0))
    }
    pub(super) fn second() -> Self {
        Most(Range::above(1.0))
    }
    pub(super) fn two_seconds() -> Self {
        Most(Range::above(2.0))
    }
    pub(super) fn five_seconds() -> Self {
        Most(Range::above(5.0))
    }
    pub(super) fn day_and_a_bit() -> Self {
        Most(Range::above(26.0 * 3600.0))
    }
    pub(super) fn three_days() -> Self {
        Most(Range::above(3.0 * 86_400.0))
    }
    pub(super) fn week_and_a_day() -> Self {
        Most(Range::above(8.0 * 86_400.0))
    }
    pub(super) fn month() -> Self {
        Most(Range::above(30.0 * 86_400.0))
    }
}

/// `{ warn = "1GB", crit = "2GB" }`: what to hold one number against; either may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds<const UNIT: u8> {
    /// Above which to warn.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub warn: Option<Most<UNIT>>,
    /// Above which it is critical.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub crit: Option<Most<UNIT>>,
}

impl Bounds<PERCENT> {
    pub(super) fn nearly_all() -> Self {
        Bounds { warn: Some(Most(Range::above(80.0))), crit: Some(Most(Range::above(95.0))) }
    }
}

impl Bounds<BYTES> {
    pub(super) fn wal() -> Self {
        Bounds { warn: Some(Most(Range::above(256e6))), crit: Some(Most(Range::above(2e9))) }
    }
}

fn none<T>() -> Option<T> {
    None
}

impl<const UNIT: u8> Bounds<UNIT> {
    /// Both, as a metric takes them.
    pub fn ranges(bounds: Option<Self>) -> (Option<Range>, Option<Range>) {
        let bounds = bounds.unwrap_or(Bounds { warn: None, crit: None });
        (bounds.warn.map(|most| most.0), bounds.crit.map(|most| most.0))
    }
}

impl<'de, const UNIT: u8> Deserialize<'de> for Most<UNIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unit = match UNIT {
            SECONDS => Unit::Seconds,
            BYTES => Unit::Bytes,
            PERCENT => Unit::Percent,
            _ => Unit::Count,
        };
        threshold(deserializer, unit, Bad::Above).map(Most)
    }
}

impl<const UNIT: u8> Serialize for Most<UNIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A threshold of what is left, in percent, seconds: below it is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least<const UNIT: u8>(pub Range);

impl Least<PERCENT> {
    pub(super) fn ten() -> Self {
        Least(Range::below(10.0))
    }
    pub(super) fn five() -> Self {
        Least(Range::below(5.0))
    }
}

impl<'de, const UNIT: u8> Deserialize<'de> for Least<UNIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unit = if UNIT == SECONDS { Unit::Seconds } else { Unit::Percent };
        threshold(deserializer, unit, Bad::Below).map(Least)
    }
}

impl<const UNIT: u8> Serialize for Least<UNIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A threshold of a number that the user alone knows: in seconds (`2h`), bytes (`5GB`), percent, or plain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound(pub(super) Range);

impl Bound {
    fn parse(text: &str) -> Result<Range, String> {
        // `5m` is minutes, `5M` and `5MB` are bytes.
        let capital = text.contains(|c: char| c.is_ascii_uppercase());
        let read = |unit| Range::parse(text, unit, Bad::Above);
        let units = [Unit::Count, Unit::Percent, if capital { Unit::Bytes } else { Unit::Seconds }];
        units.into_iter().find_map(|unit| read(unit).ok()).map_or_else(
            || Err(format!("'{text}' is no threshold; write it like 10, 90%, 5m, 5GB or 10:20")),
            Ok,
        )
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bound, D::Error> {
        visit(deserializer, Bound::parse, Range::above).map(Bound)
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A threshold of free bytes: below it is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Free(pub Range);

impl Free {
    pub(super) fn five_gb() -> Free {
        Free(Range::below(5e9))
    }
    pub(super) fn two_gb() -> Free {
        Free(Range::below(2e9))
    }
}

impl<'de> Deserialize<'de> for Free {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Free, D::Error> {
        threshold(deserializer, Unit::Bytes, Bad::Below).map(Free)
    }
}

impl Serialize for Free {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A limit of a heartbeat's age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many intervals of the agent: `2x`.
    Times(f64),
    /// An age: `2h`.
    Age(Span),
}

impl Limit {
    pub(super) fn twice() -> Limit {
        Limit::Times(2.0)
    }
    pub(super) fn four_times() -> Limit {
        Limit::Times(4.0)
    }

    /// The limit in seconds, for an agent whose interval is known; of one whose interval is
    /// not, an hour is taken.
    pub fn seconds(self, interval: Option<f64>) -> f64 {
        match self {
            Limit::Times(times) => times * interval.unwrap_or(3600.0),
            Limit::Age(age) => age.as_secs(),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(times) = text.strip_suffix('x').and_then(|number| number.trim().parse::<f64>().ok())
            && times.is_finite()
            && times > 0.0
        {
            return Ok(Limit::Times(times));
        }
        Span::parse(&text).map(Limit::Age).map_err(|_| {
            de::Error::custom(format!("'{text}' is neither a multiple like 2x nor an age like 2h"))
        })
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Times(times) => serializer.collect_str(&format!("{times}x")),
            Limit::Age(age) => age.serialize(serializer),
        }
    }
}

fn threshold<'de, D: Deserializer<'de>>(deserializer: D, unit: Unit, bad: Bad) -> Result<Range, D::Error> {
    let bare = if bad == Bad::Below { Range::below } else { Range::above };
    visit(deserializer, |text| Range::parse(text, unit, bad), bare)
}

/// Reads a threshold that is a text or a bare number.
fn visit<'de, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<Range, String>,
    bare: fn(f64) -> Range,
) -> Result<Range, D::Error> {
    struct Visitor<P>(P, fn(f64) -> Range);
    impl<P: Fn(&str) -> Result<Range, String>> de::Visitor<'_> for Visitor<P> {
        type Value = Range;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number or a threshold like \"5GB\", \"26h\" or \"10:20\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Range, E> {
            self.0(text).map_err(E::custom)
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Range, E> {
            self.visit_f64(number as f64)
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Range, E> {
            Ok(self.1(number))
        }
    }
    deserializer.deserialize_any(Visitor(parse, bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_understands_every_unit() {
        for (text, limit) in [
            ("10", 10.0),
            ("90%", 90.0),
            ("5m", 300.0),
            ("5MB", 5e6),
            ("5M", 5e6),
            ("2h", 7200.0),
            ("0.5", 0.5),
        ] {
            assert_eq!(Bound::parse(text).unwrap().limit(), limit, "{text}");
        }
        assert!(Bound::parse("~:-1").unwrap().alerts(0.0));
        for wrong in ["", "many", "5 apples", "20:10", "NaN"] {
            assert!(Bound::parse(wrong).is_err(), "{wrong}");
        }
    }
}
