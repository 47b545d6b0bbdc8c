//! The report in the words of the Nagios plugin API.
//!
//! Rule: monitoring-plugins.org guidelines, "Plugin Output for Nagios" and "Performance data":
//! one line `NAME STATE - text | perfdata`, then lines of detail; no `|` in any text; labels in
//! single quotes, numbers with a point and without exponent.

use super::{Finding, Metric, Report};
use crate::base::State;

/// The first line with performance data.
pub fn first_line(report: &Report) -> String {
    let mut text = headline(report);
    let metrics: Vec<String> = report
        .findings
        .iter()
        .flat_map(|finding| finding.metrics.iter().map(|metric| perfdata(finding, metric)))
        .collect();
    if !metrics.is_empty() {
        text.push_str(" | ");
        text.push_str(&metrics.join(" "));
    }
    text
}

/// [`first_line`], then one line a finding.
pub fn render(report: &Report) -> String {
    report.findings.iter().fold(first_line(report), |text, finding| format!("{text}\n{}", line(finding)))
}

/// [`render`], with what to do and what was measured.
pub fn render_more(report: &Report) -> String {
    let mut text = first_line(report);
    for finding in &report.findings {
        text.push_str(&format!("\n{}", line(finding)));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("\n  -> {}", clean(remedy)));
        }
        for metric in &finding.metrics {
            text.push_str(&format!("\n  {}", perfdata(finding, metric)));
        }
    }
    text
}

fn line(finding: &Finding) -> String {
    format!("[{}] {}: {}", finding.state, finding.check, clean(&finding.summary))
}

/// `AGENT CRITICAL - heartbeat: 2h 3m old (limit 2h) (1 critical, 0 warning, 8 ok)`.
pub fn headline(report: &Report) -> String {
    let what = match report.worst() {
        None => "there are no checks".to_owned(),
        Some(finding) if finding.state == State::Ok => "all is well".to_owned(),
        Some(finding) => format!("{}: {}", finding.check, clean(&finding.summary)),
    };
    let unknown = match report.count(State::Unknown) {
        0 => String::new(),
        number => format!("{number} unknown, "),
    };
    format!(
        "{} {} - {what} ({} critical, {} warning, {unknown}{} ok)",
        report.agent.to_uppercase(),
        report.state,
        report.count(State::Critical),
        report.count(State::Warning),
        report.count(State::Ok),
    )
}

/// `'heartbeat_age'=7380s;7200;14400;0`
fn perfdata(finding: &Finding, metric: &Metric) -> String {
    // 'log_size', not 'log_size_size'.
    let label = match finding.check.ends_with(&metric.label) {
        true => finding.check.clone(),
        false => format!("{}_{}", finding.check, metric.label),
    };
    let range =
        |range: Option<crate::base::range::Range>| range.map_or(String::new(), |range| range.to_string());
    let bound = |bound: Option<f64>| bound.map_or(String::new(), number);
    let value = metric.value.map_or("U".to_owned(), |value| number(value) + metric.unit.uom());
    let full = format!(
        "'{label}'={value};{};{};{};{}",
        range(metric.warn),
        range(metric.crit),
        bound(metric.min),
        bound(metric.max)
    );
    full.trim_end_matches(';').to_owned()
}

/// A number as the guidelines want it: `[-0-9.]`, no exponent.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn clean(text: &str) -> String {
    text.replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Run;
    use crate::base::range::{Range, Unit};

    fn finding(check: &str, state: State, summary: &str, critical: bool) -> Finding {
        Finding {
            check: check.to_owned(),
            kind: "test".to_owned(),
            service: None,
            state,
            seen: state,
            looked_at: None,
            summary: summary.to_owned(),
            metrics: Vec::new(),
            remedy: None,
            critical,
            alert: check.to_owned(),
        }
    }

    #[test]
    fn the_line_of_the_design() {
        let mut heartbeat = finding("heartbeat", State::Critical, "2h 3m old (limit 2h)", false);
        heartbeat.metrics.push(
            Metric::new("age", 7380.0, Unit::Seconds)
                .limits(Some(Range::above(7200.0)), Some(Range::above(14400.0))),
        );
        let mut findings: Vec<_> =
            (0..8).map(|n| finding(&format!("c{n}"), State::Ok, "fine | really", false)).collect();
        findings.push(heartbeat);
        let text = render(&Report::new("dharmic", &Run::begin("test"), findings));
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "DHARMIC CRITICAL - heartbeat: 2h 3m old (limit 2h) (1 critical, 0 warning, 8 ok) \
             | 'heartbeat_age'=7380s;7200;14400;0"
        );
        assert_eq!(text.matches('|').count(), 1);
        assert_eq!(text.lines().count(), 10);
    }

    #[test]
    fn unknown_on_a_check_that_matters_ranks_above_a_warning() {
        let report = |critical| {
            let findings =
                vec![finding("a", State::Warning, "w", false), finding("b", State::Unknown, "u", critical)];
            Report::new("x", &Run::begin("test"), findings).state
        };
        assert_eq!(report(false), State::Warning);
        assert_eq!(report(true), State::Unknown);
    }

    #[test]
    fn numbers_have_no_exponent() {
        assert_eq!(number(1e15), "1000000000000000");
        assert_eq!(number(0.000125), "0.000125");
        assert_eq!(number(2.5), "2.5");
        assert_eq!(number(-3.0), "-3");
    }
}
