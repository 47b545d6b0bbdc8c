//! The snapshot in the text format of Prometheus.
//!
//! Rule: prometheus.io, "Exposition formats" and "Metric and label naming": base units, HELP
//! and TYPE once a family, no timestamps (the textfile collector refuses a file with any).

use super::Snapshot;
use crate::base::State;
use crate::base::range::Unit;
use std::fmt::Write;

/// One family of metrics.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<(String, f64)>,
}

/// All families that have a sample.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let agent = format!("agent=\"{}\"", escape(&snapshot.agent));
    let with = |labels: &[(&str, &str)]| {
        labels.iter().fold(agent.clone(), |mut text, (name, value)| {
            let _ = write!(text, ",{name}=\"{}\"", escape(value));
            text
        })
    };
    let gauge = |name, help, samples| Family { name, help, kind: "gauge", samples };
    let one = |name, help, value: Option<f64>| {
        gauge(name, help, value.map(|value| (agent.clone(), value)).into_iter().collect())
    };
    let services = |value: &dyn Fn(&super::Service) -> Option<f64>| -> Vec<(String, f64)> {
        snapshot
            .services
            .iter()
            .filter_map(|service| Some((with(&[("service", &service.name)]), value(service)?)))
            .collect()
    };
    let checks = |unit: Unit, factor: f64| -> Vec<(String, f64)> {
        snapshot
            .health
            .findings
            .iter()
            .flat_map(|finding| finding.metrics.iter().map(move |metric| (finding, metric)))
            .filter(|(_, metric)| metric.unit == unit)
            .filter_map(|(finding, metric)| {
                Some((with(&[("check", &finding.check), ("metric", &metric.label)]), metric.value? * factor))
            })
            .collect()
    };
    let process =
        |value: &dyn Fn(&super::Process) -> f64| services(&|service| service.process.as_ref().map(value));
    let states = snapshot
        .health
        .findings
        .iter()
        .map(|finding| {
            (with(&[("check", &finding.check), ("kind", &finding.kind)]), f64::from(finding.state.code()))
        })
        .collect();
    let info = with(&[("version", snapshot.version), ("host", &snapshot.host)]);
    let newest = snapshot.backups.newest.as_ref();
    let disk = snapshot.disk.as_ref();
    let bytes: u64 = snapshot.databases.iter().map(|file| file.bytes).sum();

    let families = [
        gauge("agent_ops_info", "The program that made this, and where.", vec![(info, 1.0)]),
        one(
            "agent_ops_snapshot_timestamp_seconds",
            "When this was made, in seconds since 1970.",
            Some(snapshot.time.timestamp_millis() as f64 / 1000.0),
        ),
        one(
            "agent_ops_state",
            "The worst state of all checks: 0 ok, 1 warning, 2 critical, 3 unknown.",
            Some(f64::from(snapshot.state.code())),
        ),
        gauge(
            "agent_ops_check_state",
            "The state of a check: 0 ok, 1 warning, 2 critical, 3 unknown.",
            states,
        ),
        gauge("agent_ops_check_seconds", "What a check measured, in seconds.", checks(Unit::Seconds, 1.0)),
        gauge("agent_ops_check_bytes", "What a check measured, in bytes.", checks(Unit::Bytes, 1.0)),
        gauge(
            "agent_ops_check_ratio",
            "What a check measured, as a ratio of 1.",
            checks(Unit::Percent, 0.01),
        ),
        gauge("agent_ops_check_value", "What a check counted.", checks(Unit::Count, 1.0)),
        gauge(
            "agent_ops_service_up",
            "Whether a service runs.",
            services(&|service| Some(f64::from(u8::from(service.process.is_some())))),
        ),
        gauge(
            "agent_ops_service_start_time_seconds",
            "When a service was started, in seconds since 1970.",
            process(&|process| process.started.timestamp() as f64),
        ),
        gauge(
            "agent_ops_service_resident_memory_bytes",
            "Resident memory of a service.",
            process(&|process| process.rss as f64),
        ),
        Family {
            kind: "counter",
            ..gauge(
                "agent_ops_service_cpu_seconds_total",
                "Processor time that a service used.",
                process(&|process| process.cpu),
            )
        },
        gauge(
            "agent_ops_service_threads",
            "Threads of a service.",
            process(&|process| f64::from(process.threads)),
        ),
        gauge(
            "agent_ops_service_heartbeat_timestamp_seconds",
            "The last sign of life of a service, in seconds since 1970.",
            services(&|service| Some(service.heartbeat.as_ref()?.at?.timestamp_millis() as f64 / 1000.0)),
        ),
        one("agent_ops_databases", "How many databases there are.", Some(snapshot.databases.len() as f64)),
        one("agent_ops_databases_bytes", "What the databases take.", Some(bytes as f64)),
        one("agent_ops_logs", "How many log files there are.", Some(snapshot.logs.files as f64)),
        one("agent_ops_logs_bytes", "What the logs take.", Some(snapshot.logs.bytes as f64)),
        one(
            "agent_ops_log_errors",
            "Recent error lines in the logs.",
            snapshot.logs.errors.map(|number| number as f64),
        ),
        one("agent_ops_disk_free_bytes", "Free space on the home's disk.", disk.map(|disk| disk.free as f64)),
        one("agent_ops_disk_size_bytes", "Size of the home's disk.", disk.map(|disk| disk.total as f64)),
        one("agent_ops_backups", "How many archives there are.", Some(snapshot.backups.count as f64)),
        one("agent_ops_backups_bytes", "What the archives take.", Some(snapshot.backups.bytes as f64)),
        one(
            "agent_ops_backup_timestamp_seconds",
            "When the newest archive was made, in seconds since 1970.",
            newest.map(|newest| newest.at.timestamp() as f64),
        ),
        one(
            "agent_ops_backup_verified",
            "Whether the newest archive was read back and found good.",
            newest.map(|newest| f64::from(u8::from(newest.verified))),
        ),
        one("agent_ops_incidents", "How many incidents are open.", Some(snapshot.incidents.len() as f64)),
        one(
            "agent_ops_alerts_last_day",
            "Alerts in the last 24 hours.",
            snapshot.history.alerts.map(|number| number as f64),
        ),
        one(
            "agent_ops_restarts_last_week",
            "Restarts in the last 7 days.",
            snapshot.history.restarts.map(|number| number as f64),
        ),
        gauge(
            "agent_ops_objective_met",
            "Whether an objective is met.",
            snapshot
                .objectives
                .iter()
                .filter_map(|objective| {
                    Some((with(&[("objective", objective.name)]), f64::from(u8::from(objective.met?))))
                })
                .collect(),
        ),
    ];
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

/// The state as a number is part of the format; it must not change.
const _: () = assert!(State::Unknown as u8 == 3);
