//! The report as metrics of Prometheus.

use super::Report;
use crate::base::State;
use crate::base::exposition::{Family, labels};
use crate::base::range::Unit;

/// What the checks found and measured.
pub fn families(report: &Report) -> Vec<Family> {
    let with = |more: &[(&str, &str)]| labels(&[&[("agent", report.agent.as_str())], more].concat());
    let measured = |unit: Unit, factor: f64| -> Vec<(String, f64)> {
        let metrics = report
            .findings
            .iter()
            .flat_map(|finding| finding.metrics.iter().map(move |metric| (finding, metric)));
        metrics
            .filter(|(_, metric)| metric.unit == unit)
            .filter_map(|(finding, metric)| {
                Some((with(&[("check", &finding.check), ("metric", &metric.label)]), metric.value? * factor))
            })
            .collect()
    };
    let states = report.findings.iter().map(|finding| {
        (with(&[("check", &finding.check), ("kind", &finding.kind)]), f64::from(finding.state.code()))
    });
    vec![
        Family::gauge(
            "agent_ops_state",
            "The worst state of all checks: 0 ok, 1 warning, 2 critical, 3 unknown.",
            vec![(with(&[]), f64::from(report.state.code()))],
        ),
        Family::gauge(
            "agent_ops_check_state",
            "The state of a check: 0 ok, 1 warning, 2 critical, 3 unknown.",
            states.collect(),
        ),
        Family::gauge(
            "agent_ops_check_seconds",
            "What a check measured, in seconds.",
            measured(Unit::Seconds, 1.0),
        ),
        Family::gauge(
            "agent_ops_check_bytes",
            "What a check measured, in bytes.",
            measured(Unit::Bytes, 1.0),
        ),
        Family::gauge(
            "agent_ops_check_ratio",
            "What a check measured, as a ratio of 1.",
            measured(Unit::Percent, 0.01),
        ),
        Family::gauge("agent_ops_check_value", "What a check counted.", measured(Unit::Count, 1.0)),
    ]
}

/// The report as a file for the textfile collector of node_exporter.
pub fn render(report: &Report) -> String {
    let time = Family::gauge(
        "agent_ops_health_timestamp_seconds",
        "When the checks ran, in seconds since 1970.",
        vec![(labels(&[("agent", &report.agent)]), report.time.timestamp_millis() as f64 / 1000.0)],
    );
    let mut families = families(report);
    families.insert(0, time);
    crate::base::exposition::render(&families)
}

/// The state as a number is part of the format; it must not change.
const _: () = assert!(State::Unknown as u8 == 3);
