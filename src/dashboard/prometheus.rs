//! The snapshot as metrics of Prometheus.

use super::Snapshot;
use crate::base::exposition::{self, Family};
use crate::health::prometheus;

/// All families that have a sample.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let with = |labels: &[(&str, &str)]| {
        exposition::labels(&[&[("agent", snapshot.agent.as_str())], labels].concat())
    };
    let one = |name, help, value: Option<f64>| {
        Family::gauge(name, help, value.map(|value| (with(&[]), value)).into_iter().collect())
    };
    let services = |value: &dyn Fn(&super::Service) -> Option<f64>| -> Vec<(String, f64)> {
        snapshot
            .services
            .iter()
            .filter_map(|service| Some((with(&[("service", &service.name)]), value(service)?)))
            .collect()
    };
    let process =
        |value: &dyn Fn(&super::Process) -> f64| services(&|service| service.process.as_ref().map(value));
    let info = with(&[("version", snapshot.version), ("host", &snapshot.host)]);
    let newest = snapshot.backups.newest.as_ref();
    let disk = snapshot.disk.as_ref();
    let bytes: u64 = snapshot.databases.iter().map(|file| file.bytes).sum();

    let families = [
        Family::gauge("agent_ops_info", "The program that made this, and where.", vec![(info, 1.0)]),
        one(
            "agent_ops_snapshot_timestamp_seconds",
            "When this was made, in seconds since 1970.",
            Some(snapshot.time.timestamp_millis() as f64 / 1000.0),
        ),
        Family::gauge(
            "agent_ops_service_up",
            "Whether a service runs.",
            services(&|service| Some(f64::from(u8::from(service.process.is_some())))),
        ),
        Family::gauge(
            "agent_ops_service_start_time_seconds",
            "When a service was started, in seconds since 1970.",
            process(&|process| process.started.timestamp() as f64),
        ),
        Family::gauge(
            "agent_ops_service_resident_memory_bytes",
            "Resident memory of a service.",
            process(&|process| process.rss as f64),
        ),
        Family::counter(
            "agent_ops_service_cpu_seconds_total",
            "Processor time that a service used.",
            process(&|process| process.cpu),
        ),
        Family::gauge(
            "agent_ops_service_threads",
            "Threads of a service.",
            process(&|process| f64::from(process.threads)),
        ),
        Family::gauge(
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
        Family::gauge(
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
    let (info, rest) = families.split_at(2);
    exposition::render(&[info, &prometheus::families(&snapshot.health), rest].concat())
}
