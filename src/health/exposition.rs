//! The series of one metric in a text of metrics.
//!
//! Rule: prometheus.io, "Exposition formats", text format 0.0.4; of OpenMetrics what differs in lines of
//! samples, that is exemplars.

use crate::config::check::Aggregate;
use std::collections::BTreeMap;

/// What was found of a metric.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The values of the series that fit.
    pub(super) values: Vec<f64>,
    /// Lines that are no sample.
    pub(super) broken: usize,
}

/// The values of all series of a metric that have these labels.
pub(super) fn find(text: &str, metric: &str, labels: &BTreeMap<String, String>) -> Found {
    let mut found = Found::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match sample(line) {
            None => found.broken += 1,
            Some((name, has, value)) => {
                let fits = |(label, wanted): (&String, &String)| {
                    // A label that is not there is the same as an empty one.
                    has.iter().find(|(name, _)| name == label).map_or("", |(_, value)| value) == wanted
                };
                if name == metric && labels.iter().all(fits) {
                    found.values.push(value);
                }
            }
        }
    }
    found
}

/// What several values come to; none if there is nothing to choose from.
pub(super) fn aggregate(values: &[f64], how: Aggregate) -> Option<f64> {
    let sum = || values.iter().sum::<f64>();
    // NaN is not passed over: who asks for the largest should know that one is none.
    let pick = |better: fn(f64, f64) -> bool| {
        values
            .iter()
            .copied()
            .reduce(|best, value| if best.is_nan() || better(best, value) { best } else { value })
    };
    match how {
        Aggregate::Count => Some(values.len() as f64),
        _ if values.is_empty() => None,
        Aggregate::Sum => Some(sum()),
        Aggregate::Avg => Some(sum() / values.len() as f64),
        Aggregate::Max => pick(|best, value| best >= value),
        Aggregate::Min => pick(|best, value| best <= value),
    }
}

type Labels = Vec<(String, String)>;

/// `name{label="value",…} 12.5 [time]`
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => pairs(inside)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = number(words.next()?)?;
    // A time, perhaps, and what follows a `#`.
    let time_or_exemplar = words.next().is_none_or(|word| word == "#" || word.parse::<f64>().is_ok());
    time_or_exemplar.then_some((name, labels, value))
}

/// The labels up to the closing brace, and what follows it.
fn pairs(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let mut quoted = after.trim_start().strip_prefix('"')?.char_indices();
        let mut value = String::new();
        let end = loop {
            match quoted.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match quoted.next()?.1 {
                    'n' => '\n',
                    // Of `\\` and `\"` the second.
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.trim().to_owned(), value));
        rest = after.trim_start()[1 + end..].trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = r#"
# HELP queue_size Jobs that wait.
# TYPE queue_size gauge
queue_size{queue="inbox",host="a"} 3
queue_size{queue="dlq", host="a",} 1.5e1 1795167704000
queue_size { queue = "odd \"name\" \\ with,}=\n" } 7
queue_size_total 99
up 1 # {trace="x"} 0.5
temperature +Inf
nothing NaN
this is no sample
queue_size{queue="torn
9lives 1
"#;

    fn values(metric: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        find(TEXT, metric, &labels).values
    }

    #[test]
    fn series_are_chosen_by_name_and_labels() {
        assert_eq!(values("queue_size", &[]), [3.0, 15.0, 7.0]);
        assert_eq!(values("queue_size", &[("queue", "dlq")]), [15.0]);
        assert_eq!(values("queue_size", &[("queue", "odd \"name\" \\ with,}=\n")]), [7.0]);
        assert_eq!(values("queue_size", &[("host", "")]), [7.0]);
        assert_eq!(values("up", &[]), [1.0]);
        assert_eq!(values("temperature", &[]), [f64::INFINITY]);
        assert!(values("nothing", &[])[0].is_nan());
        assert!(values("absent", &[]).is_empty());
        assert_eq!(find(TEXT, "up", &BTreeMap::new()).broken, 3);
    }

    #[test]
    fn several_become_one() {
        let all = [3.0, 15.0, 7.0];
        for (how, expected) in [
            (Aggregate::Sum, 25.0),
            (Aggregate::Max, 15.0),
            (Aggregate::Min, 3.0),
            (Aggregate::Avg, 25.0 / 3.0),
            (Aggregate::Count, 3.0),
        ] {
            assert_eq!(aggregate(&all, how), Some(expected), "{how:?}");
            assert!(how == Aggregate::Count || aggregate(&[], how).is_none());
            assert!(
                how == Aggregate::Count || aggregate(&[1.0, f64::NAN, 2.0], how).unwrap().is_nan(),
                "{how:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9_:{}=\",\\\\ #\n.+-]{0,80}") {
            let _ = find(&text, "a", &BTreeMap::new());
        }

        #[test]
        fn every_value_of_a_label_is_read_back(value in any::<String>(), number in -1e9f64..1e9) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            prop_assume!(!value.contains('\r'));
            let line = format!("m{{l=\"{escaped}\"}} {number}");
            let (name, labels, read) = sample(&line).unwrap();
            prop_assert_eq!((name, labels, read), ("m", vec![("l".to_owned(), value)], number));
        }
    }
}
