//! Holds one value against what it should be, wherever it came from.

use super::age::SKEW;
use super::velocity::Growth;
use super::{Answer, Metric, View, nagios};
use crate::base::range::{Range, Unit};
use crate::base::units::{self, Size, Span, age};
use crate::base::{State, text};
use crate::config::check::{Rules, Zone};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered as.
const GROWTHS: &str = "growths";

/// What is to be said of a value.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) state: State,
    pub(super) summary: String,
    pub(super) metric: Option<Metric>,
}

impl Judged {
    fn unknown(summary: String) -> Judged {
        Judged { state: State::Unknown, summary, metric: None }
    }

    /// The answer of a check that looks at this value only.
    pub(super) fn into_answer(self) -> Answer {
        let answer = Answer::new(self.state, self.summary);
        self.metric.into_iter().fold(answer, Answer::metric)
    }
}

/// The counters of a check, by what they are.
#[derive(Default)]
pub(super) struct Growths {
    known: BTreeMap<String, Growth>,
    asked: BTreeSet<String>,
}

impl Growths {
    pub(super) fn recall(view: &View, check: &str) -> Growths {
        let known = view.recall::<BTreeMap<String, Growth>>(check, GROWTHS);
        Growths { known: known.map(|(_, known)| known).unwrap_or_default(), asked: BTreeSet::new() }
    }

    /// Those that were asked for go into the next run.
    pub(super) fn remember(mut self, answer: Answer) -> Answer {
        if self.asked.is_empty() {
            return answer;
        }
        self.known.retain(|key, _| self.asked.contains(key));
        answer.remember(GROWTHS, &self.known)
    }
}

/// A value as it was read.
pub(super) struct Seen<'a> {
    /// What people call it.
    pub(super) name: &'a str,
    /// What a counter of it is remembered by: another value must have another.
    pub(super) key: String,
    /// The value; none: it is not there.
    pub(super) value: Option<Value>,
    /// What a time without offset means there, unless said otherwise.
    pub(super) zone: Zone,
}

/// Judges a value.
pub(super) fn judge(seen: Seen<'_>, rules: &Rules, growths: &mut Growths, now: DateTime<Utc>) -> Judged {
    let name = text::one_line(seen.name, 60);
    if rules.per.is_some() {
        growths.asked.insert(seen.key.clone());
    }
    if !rules.equals.is_empty() {
        return equals(&name, &seen.value.unwrap_or(Value::Null), rules);
    }
    let value = match seen.value {
        Some(value) if !value.is_null() => value,
        _ => {
            return Judged {
                state: rules.missing_value,
                summary: format!("there is no {name}"),
                metric: None,
            };
        }
    };
    if rules.age {
        let zone = rules.zone.unwrap_or(seen.zone);
        return match time(&value, zone) {
            Some(at) => aged(&name, at, rules, now),
            None => Judged::unknown(format!("{name} is no time: {}", spelled(&value))),
        };
    }
    let Some(number) = number(&value) else {
        let asked = rules.warn.is_some() || rules.crit.is_some() || rules.per.is_some();
        let summary = format!("{name} is {}", spelled(&value));
        return match asked {
            true => Judged::unknown(format!("{summary}, which is no number")),
            false => Judged { state: State::Ok, summary, metric: None },
        };
    };
    match rules.per {
        Some(per) => grown(&name, number, per, rules, growths.known.entry(seen.key).or_default(), now),
        None => held(number, format!("{name} is"), rules),
    }
}

fn equals(name: &str, value: &Value, rules: &Rules) -> Judged {
    let found = scalar(value);
    let same = |word: &String| {
        *word == found || word.parse::<f64>().ok().zip(found.parse::<f64>().ok()).is_some_and(|(a, b)| a == b)
    };
    let good = rules.equals.iter().any(same);
    let mut summary = format!("{name} is {}", spelled(value));
    if !good {
        summary.push_str(&format!(", not {}", rules.equals.join(" or ")));
    }
    let metric = number(value).map(|number| metric(number, Unit::Count, rules));
    Judged { state: if good { State::Ok } else { rules.otherwise }, summary, metric }
}

fn aged(name: &str, at: DateTime<Utc>, rules: &Rules, now: DateTime<Utc>) -> Judged {
    if at > now + SKEW {
        let ahead = Span((at - now).to_std().unwrap_or_default());
        return Judged::unknown(format!("{name} is {ahead} in the future: did a clock jump?"));
    }
    let old = age(now, at);
    let metric =
        Metric { label: label(rules, "age"), ..Metric::new("", old.as_secs().floor(), Unit::Seconds) }
            .limits(rules.warn, rules.crit);
    let state = metric.judge();
    Judged { state, summary: format!("{name} was {old} ago{}", limit(&metric, state)), metric: Some(metric) }
}

fn grown(
    name: &str,
    number: f64,
    per: Span,
    rules: &Rules,
    growth: &mut Growth,
    now: DateTime<Utc>,
) -> Judged {
    growth.observe(now, number, per.delta());
    let grown = growth.within(per.delta());
    if !grown.known {
        let summary = format!("{name} is {}; its growth is not known yet", nagios::number(number));
        return Judged { state: State::Ok, summary, metric: None };
    }
    if grown.whole {
        return held(grown.by, format!("{name} grew within {per} by"), rules);
    }
    // Until all of the time was seen, it can only be too much already: it may still become enough.
    let too_much = |range: Option<Range>| range.filter(|range| grown.by > range.limit());
    let early = Rules { warn: too_much(rules.warn), crit: too_much(rules.crit), ..rules.clone() };
    let state = held(grown.by, String::new(), &early).state;
    let mut judged =
        held(grown.by, format!("{name} grew since the first look, less than {per} ago, by"), rules);
    judged.state = state;
    judged
}

/// A number against its thresholds.
fn held(number: f64, begin: String, rules: &Rules) -> Judged {
    let unit = rules.unit.map_or(Unit::Count, |unit| unit.0);
    let mut metric = metric(number, unit, rules);
    let state = metric.judge();
    let summary = format!("{begin} {}{}", measured(number, unit), limit(&metric, state));
    // It was judged; but no format of ours has a word for it.
    metric.value = metric.value.filter(|value| value.is_finite());
    Judged { state: if number.is_nan() { State::Unknown } else { state }, summary, metric: Some(metric) }
}

fn metric(number: f64, unit: Unit, rules: &Rules) -> Metric {
    let metric = Metric { label: label(rules, "value"), min: None, ..Metric::new("", number, unit) };
    metric.limits(rules.warn, rules.crit)
}

fn label(rules: &Rules, otherwise: &str) -> String {
    rules.label.as_deref().map_or_else(|| otherwise.to_owned(), as_label)
}

/// A text as the name of a number: lower case, digits and `_`.
pub(super) fn as_label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars().take(60) {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => label.push(c),
            _ if label.ends_with('_') || label.is_empty() => {}
            _ => label.push('_'),
        }
    }
    let label = label.trim_end_matches('_');
    if label.is_empty() { "value".to_owned() } else { label.to_owned() }
}

/// ` (limit 10)`, of the threshold that was passed.
fn limit(metric: &Metric, state: State) -> String {
    let range = match state {
        State::Warning => metric.warn,
        State::Critical => metric.crit,
        _ => None,
    };
    range.map_or(String::new(), |range| {
        let plain = Range::above(range.limit()) == range && range.limit() >= 0.0;
        let shown = if plain { measured(range.limit(), metric.unit) } else { range.to_string() };
        format!(" (limit {shown})")
    })
}

fn measured(number: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if number >= 1.0 && number.is_finite() => {
            Span(std::time::Duration::try_from_secs_f64(number).unwrap_or_default()).to_string()
        }
        Unit::Bytes if number >= 0.0 && number.is_finite() => Size(number as u64).to_string(),
        Unit::Percent => format!("{}%", nagios::number(number)),
        _ => nagios::number(number),
    }
}

/// A value as people may read it.
fn spelled(value: &Value) -> String {
    format!("'{}'", text::one_line(&scalar(value).chars().take(200).collect::<String>(), 60))
}

/// A value as one writes it in a config.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A time as programs write it: RFC 3339, without offset, as Go prints it, or since 1970 in seconds,
/// milliseconds, microseconds or nanoseconds: these differ so much in size that they cannot be confused.
fn time(value: &Value, zone: Zone) -> Option<DateTime<Utc>> {
    if let Some(number) = number(value).filter(|_| !value.is_boolean()) {
        let scale = match number.abs() {
            ..1e11 => 1e9,
            ..1e14 => 1e6,
            ..1e17 => 1e3,
            ..9.2e18 => 1.0,
            _ => return None,
        };
        return Some(DateTime::from_timestamp_nanos((number * scale) as i64));
    }
    let text = value.as_str()?.trim();
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    if let (Some(naive), Zone::Utc) = (naive, zone) {
        return Some(naive.and_utc());
    }
    // `2026-11-20 09:46:01.123 +0000 UTC m=+0.1`
    let go = || {
        let words: Vec<&str> = text.split_whitespace().take(3).collect();
        DateTime::parse_from_str(&words.join(" "), "%Y-%m-%d %H:%M:%S%.f %z").ok()
    };
    units::parse_time(text).or_else(|| go().map(|at| at.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use serde_json::json;

    fn rules(keys: &str) -> Rules {
        toml::from_str::<crate::config::check::Json>(&format!("file = \"f\"\n{keys}")).unwrap().rules()
    }

    fn now() -> DateTime<Utc> {
        units::parse_time("2026-11-20T12:00:00Z").unwrap()
    }

    fn seen(value: Option<Value>) -> Seen<'static> {
        Seen { name: "it", key: "it".to_owned(), value, zone: Zone::Utc }
    }

    fn told(keys: &str, value: Option<Value>) -> (State, String) {
        let judged = judge(seen(value), &rules(keys), &mut Growths::default(), now());
        (judged.state, judged.summary)
    }

    #[test]
    fn the_table_of_truth() {
        let both = "warn = 10\ncrit = 20";
        for (keys, value, state, summary) in [
            (both, json!(10), State::Ok, "it is 10"),
            (both, json!("11"), State::Warning, "it is 11 (limit 10)"),
            (both, json!(20.5), State::Critical, "it is 20.5 (limit 20)"),
            (both, json!("many"), State::Unknown, "it is 'many', which is no number"),
            (both, json!([1]), State::Unknown, "it is '[1]', which is no number"),
            (both, json!(null), State::Unknown, "there is no it"),
            ("warn = \"5:\"", json!(4), State::Warning, "it is 4 (limit 5:)"),
            (
                "warn = \"1GB\"\nunit = \"B\"",
                json!(2_000_000_000u64),
                State::Warning,
                "it is 2.0 GB (limit 1.0 GB)",
            ),
            ("equals = \"running\"", json!("running"), State::Ok, "it is 'running'"),
            ("equals = [\"a\", \"b\"]", json!("c"), State::Critical, "it is 'c', not a or b"),
            ("equals = true", json!(false), State::Critical, "it is 'false', not true"),
            ("equals = 5\notherwise = \"warning\"", json!(6), State::Warning, "it is '6', not 5"),
            ("equals = 5", json!(5.0), State::Ok, "it is '5.0'"),
            ("equals = \"null\"", json!(null), State::Ok, "it is 'null'"),
            ("age = true\nwarn = \"1h\"", json!("2026-11-20T11:30:00"), State::Ok, "it was 30m ago"),
            ("age = true\nwarn = \"1h\"", json!(1_795_168_800), State::Warning, "it was 2h ago (limit 1h)"),
            (
                "age = true",
                json!("2026-11-20T13:00:00Z"),
                State::Unknown,
                "it is 1h in the future: did a clock jump?",
            ),
            ("age = true", json!("soon"), State::Unknown, "it is no time: 'soon'"),
            ("", json!("a\u{1b}[2Jb"), State::Ok, "it is 'a\\u{1b}[2Jb'"),
            ("missing_value = \"ok\"", json!(null), State::Ok, "there is no it"),
        ] {
            assert_eq!(told(keys, Some(value.clone())), (state, summary.to_owned()), "{keys} {value}");
        }
        assert_eq!(told("equals = \"null\"", None).0, State::Ok);
    }

    #[test]
    fn times_come_in_all_spellings() {
        let at = units::parse_time("2026-11-20T09:46:01Z").unwrap();
        for value in [
            json!("2026-11-20T09:46:01+00:00"),
            json!("2026-11-20 10:46:01+01:00"),
            json!("2026-11-20 09:46:01"),
            json!("2026-11-20 09:46:01 +0000 UTC m=+0.013"),
            json!(at.timestamp()),
            json!(at.timestamp().to_string()),
            json!(at.timestamp_millis()),
            json!(at.timestamp_micros()),
            json!(at.timestamp() as f64 * 1e9),
        ] {
            assert_eq!(time(&value, Zone::Utc), Some(at), "{value}");
        }
        assert_eq!(time(&json!(true), Zone::Utc), None);
        assert_eq!(time(&json!(1e300), Zone::Utc), None);
    }

    #[test]
    fn a_counter_is_held_against_its_growth() {
        let rules = rules("per = \"1h\"\nwarn = 100\ncrit = \"10:500\"");
        let mut growths = Growths::default();
        let mut at = |minutes: i64, value: u32| {
            let judged =
                judge(seen(Some(json!(value))), &rules, &mut growths, now() + TimeDelta::minutes(minutes));
            (judged.state, judged.summary)
        };
        assert_eq!(at(0, 5000), (State::Ok, "it is 5000; its growth is not known yet".to_owned()));
        // Not yet the ten of an hour, but that is no fault yet.
        assert_eq!(at(5, 5005).0, State::Ok);
        assert_eq!(at(10, 5150).0, State::Warning);
        assert_eq!(at(60, 5150), (State::Warning, "it grew within 1h by 150 (limit 100)".to_owned()));
        assert_eq!(at(200, 5150), (State::Critical, "it grew within 1h by 0 (limit 10:500)".to_owned()));
    }

    #[test]
    fn names_of_numbers() {
        for (text, label) in
            [("/var/log usage", "var_log_usage"), ("/", "value"), ("Load1", "load1"), ("ü=1", "1")]
        {
            assert_eq!(as_label(text), label);
        }
    }

    proptest! {
        #[test]
        fn any_text_and_number_is_judged(text in ".{0,40}", number: f64) {
            for keys in ["age = true\nwarn = 1", "warn = 1", "equals = \"a\"", "per = \"1h\"\nwarn = 1"] {
                for value in [json!(text), json!(number)] {
                    let (_, summary) = told(keys, Some(value));
                    prop_assert!(!summary.chars().any(char::is_control));
                }
            }
        }
    }
}
