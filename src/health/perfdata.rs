//! What a Nagios plugin prints, read: its text and its performance data.
//!
//! Rule: monitoring-plugins.org guidelines, "Plugin Output for Nagios" and "Performance data":
//! `TEXT | DATA`, lines of more text, `| DATA` and lines of more data.

use super::{Metric, value};
use crate::base::range::{Bad, Range, Unit};
use std::collections::BTreeSet;

/// More numbers than this are not taken over.
const MOST: usize = 100;

/// The first line that says something, and the numbers.
pub(super) fn read(output: &str) -> (String, Vec<Metric>) {
    let (text, data) = split(output);
    let mut metrics = Vec::new();
    let mut labels = BTreeSet::new();
    for mut metric in numbers(&data).take(MOST) {
        // Two that differ only in what a name may not have.
        let base = metric.label.clone();
        for number in 2.. {
            if labels.insert(metric.label.clone()) {
                break;
            }
            metric.label = format!("{base}_{number}");
        }
        metrics.push(metric);
    }
    (text, metrics)
}

fn split(output: &str) -> (String, String) {
    let mut lines = output.lines();
    let first = lines.next().unwrap_or_default();
    let (text, data) = first.split_once('|').unwrap_or((first, ""));
    let (mut text, mut data) = (text.trim().to_owned(), data.to_owned());
    let mut in_data = false;
    for line in lines {
        if in_data {
            data.push(' ');
            data.push_str(line);
            continue;
        }
        let (more, numbers) = line.split_once('|').map_or((line, None), |(more, data)| (more, Some(data)));
        if text.is_empty() {
            text = more.trim().to_owned();
        }
        if let Some(numbers) = numbers {
            data.push(' ');
            data.push_str(numbers);
            in_data = true;
        }
    }
    (text, data)
}

/// `'label'=value[UOM];[warn];[crit];[min];[max]`, separated by blanks; what is none is passed over.
fn numbers(data: &str) -> impl Iterator<Item = Metric> {
    let mut rest = data;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return None;
            }
            let (label, after) = match label(rest) {
                Some(found) => found,
                // No label: the next word may have one.
                None => {
                    rest = rest.split_once(char::is_whitespace).map_or("", |(_, after)| after);
                    continue;
                }
            };
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (fields, after) = after.split_at(end);
            rest = after;
            if let Some(metric) = number(&label, fields) {
                return Some(metric);
            }
        }
    })
}

/// A label, quoted or not, and what follows its `=`.
fn label(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('\'') else {
        let (label, after) = text.split_once('=')?;
        return (!label.is_empty() && !label.contains(char::is_whitespace))
            .then(|| (label.to_owned(), after));
    };
    let mut label = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            // A doubled quote is one.
            Some(more) => {
                label.push('\'');
                rest = more;
            }
            None => return Some((label, after.strip_prefix('=')?)),
        }
    }
}

fn number(label: &str, fields: &str) -> Option<Metric> {
    let mut fields = fields.split(';');
    let first = fields.next()?;
    let (value, unit, factor) = match first {
        "U" => (None, Unit::Count, 1.0),
        _ => {
            let end =
                first.find(|c: char| !(c.is_ascii_digit() || ".,+-".contains(c))).unwrap_or(first.len());
            let (number, uom) = first.split_at(end);
            let (unit, factor) = measure(uom);
            (Some(decimal(number)? * factor), unit, factor)
        }
    };
    let mut range = || fields.next().and_then(|text| scaled(text, factor));
    let (warn, crit) = (range(), range());
    let mut bound = || fields.next().and_then(decimal).map(|number| number * factor);
    let (min, max) = (bound(), bound());
    Some(Metric { label: value::as_label(label), value, unit, warn, crit, min, max })
}

/// The unit that we have, and how much of it one of theirs is. `KB` is 1000, as everywhere here.
fn measure(uom: &str) -> (Unit, f64) {
    match uom {
        "s" => (Unit::Seconds, 1.0),
        "ms" => (Unit::Seconds, 1e-3),
        "us" | "µs" => (Unit::Seconds, 1e-6),
        "ns" => (Unit::Seconds, 1e-9),
        "%" => (Unit::Percent, 1.0),
        _ => {
            let powers = [("b", 1.0), ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("tb", 1e12), ("pb", 1e15)];
            let binary = [("kib", 10), ("mib", 20), ("gib", 30), ("tib", 40), ("pib", 50)];
            let lower = uom.to_lowercase();
            let decimal = powers.into_iter().find(|(name, _)| *name == lower).map(|(_, size)| size);
            let binary = binary.into_iter().find(|(name, _)| *name == lower);
            let size = decimal.or(binary.map(|(_, shift)| (1u64 << shift) as f64));
            // Counters (`c`), degrees, volts: a number is a number.
            size.map_or((Unit::Count, 1.0), |size| (Unit::Bytes, size))
        }
    }
}

/// A number with a point, or with the comma of a locale.
fn decimal(text: &str) -> Option<f64> {
    text.replace(',', ".").parse().ok().filter(|number: &f64| number.is_finite())
}

/// A range whose numbers are in another unit.
fn scaled(text: &str, factor: f64) -> Option<Range> {
    let (inside, body) = text.strip_prefix('@').map_or(("", text), |body| ("@", body));
    let end = |end: &str| match end {
        "" | "~" => Some(end.to_owned()),
        number => decimal(number).map(|number| (number * factor).to_string()),
    };
    let range = match body.split_once(':') {
        Some((start, stop)) => format!("{}:{}", end(start)?, end(stop)?),
        None => end(body)?,
    };
    Range::parse(&format!("{inside}{range}"), Unit::Count, Bad::Above).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::nagios;
    use proptest::prelude::*;

    /// As Nagios would be told again, without the check's name.
    fn told(output: &str) -> (String, Vec<String>) {
        let (text, metrics) = read(output);
        let spelled = |metric: &Metric| {
            let range = |range: Option<Range>| range.map_or(String::new(), |range| range.to_string());
            let bound = |bound: Option<f64>| bound.map_or(String::new(), nagios::number);
            let value = metric.value.map_or("U".to_owned(), nagios::number) + metric.unit.uom();
            let (warn, crit, min, max) =
                (range(metric.warn), range(metric.crit), bound(metric.min), bound(metric.max));
            format!("{}={value};{warn};{crit};{min};{max}", metric.label)
        };
        (text, metrics.iter().map(spelled).collect())
    }

    #[test]
    fn what_plugins_print() {
        let (text, metrics) = told(
            "DISK OK - free space: / 3326 MB (56%) | /=2643MB;5948;5958;0;5968\n\
             / 15272 MB (77%);\n/boot 68 MB (69%);\n/var/log 819 MB | /boot=68MB;88;93;0;98\n\
             '/var/log'=818MB;970:;~:975;0;980 time=250us;;@1000:2000\n",
        );
        assert_eq!(text, "DISK OK - free space: / 3326 MB (56%)");
        assert_eq!(
            metrics,
            [
                "value=2643000000B;5948000000;5958000000;0;5968000000",
                "boot=68000000B;88000000;93000000;0;98000000",
                "var_log=818000000B;970000000:;~:975000000;0;980000000",
                "time=0.00025s;;@0.001:0.002;;",
            ]
        );
    }

    #[test]
    fn odd_data_is_read_as_far_as_it_can_be() {
        for (data, expected) in [
            ("'it''s a label'=1", vec!["it_s_a_label=1;;;;"]),
            ("a=U;1;2 b=1,5c;x;~:~ junk c=3", vec!["a=U;1;2;;", "b=1.5;;;;", "c=3;;;;"]),
            ("A=1 a=2 a=3", vec!["a=1;;;;", "a_2=2;;;;", "a_3=3;;;;"]),
            ("a=-3%;;;0;100", vec!["a=-3%;;;0;100"]),
            ("'a=1", vec![]),
            ("=1 a= b=x c=1e5 d=inf", vec!["c=1;;;;"]),
            ("size=4KiB load=0.5;;;", vec!["size=4096B;;;;", "load=0.5;;;;"]),
        ] {
            assert_eq!(told(&format!("OK|{data}")).1, expected, "{data}");
        }
        assert_eq!(told("").0, "");
        assert_eq!(told("\n  second | a=1").0, "second");
        let many: String = (0..500).map(|n| format!("m{n}=1 ")).collect();
        assert_eq!(read(&format!("OK | {many}")).1.len(), MOST);
    }

    proptest! {
        #[test]
        fn nothing_panics(output in "[a-z0-9'=;:@~|,.%U\n -]{0,120}") {
            let (_, metrics) = read(&output);
            prop_assert!(metrics.iter().all(|metric| metric.value.is_none_or(f64::is_finite)));
        }
    }
}
