//! Metrics in the text format of Prometheus.
//!
//! Rule: prometheus.io, "Exposition formats" and "Metric and label naming": base units, HELP
//! and TYPE once a family, no timestamps (the textfile collector refuses a file with any).

use std::fmt::Write;

/// One family of metrics.
#[derive(Clone, Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<(String, f64)>,
}

impl Family {
    /// What goes up and down, with its samples: labels as [`labels`] spells them, and the value.
    pub fn gauge(name: &'static str, help: &'static str, samples: Vec<(String, f64)>) -> Family {
        Family { name, help, kind: "gauge", samples }
    }

    /// What only grows.
    pub fn counter(name: &'static str, help: &'static str, samples: Vec<(String, f64)>) -> Family {
        Family { name, help, kind: "counter", samples }
    }
}

/// `agent="x",check="y"`
pub fn labels(labels: &[(&str, &str)]) -> String {
    labels.iter().fold(String::new(), |mut text, (name, value)| {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"{}\"", escape(value));
        text
    })
}

/// All families that have a sample.
pub fn render(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let _ =
            writeln!(text, "# HELP {} {}\n# TYPE {} {}", family.name, family.help, family.name, family.kind);
        for (labels, value) in &family.samples {
            let _ = writeln!(text, "{}{{{labels}}} {value}", family.name);
        }
    }
    text
}

/// The value of a label: backslash, quote and newline are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_families_left_out() {
        let families = [
            Family::gauge("a", "An a.", vec![(labels(&[("x", "\"\\\n"), ("y", "z")]), 0.5)]),
            Family::counter("b_total", "Bs.", Vec::new()),
        ];
        let expected = "# HELP a An a.\n# TYPE a gauge\na{x=\"\\\"\\\\\\n\",y=\"z\"} 0.5\n";
        assert_eq!(render(&families), expected);
    }
}
