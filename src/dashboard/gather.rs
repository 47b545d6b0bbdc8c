//! Looks at everything once. What cannot be had is left out, never an error: the page is
//! needed most when something is broken.

use super::history;
use super::objectives::objectives;
use super::{Archive, Backups, Disk, Event, File, Heartbeat, Incident, Logs, Process, Service, Snapshot};
use crate::backup::{self, Standing};
use crate::base::status_file::StatusFile;
use crate::base::units::age;
use crate::base::{Home, Journal, Run, State, text, upgrade};
use crate::config::{Kind, Loaded};
use crate::health::{self, Report, nagios};
use crate::logs;
use crate::service::{Liveness, Services};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::Path;

/// How many lines of the alerts are shown.
const ALERTS: usize = 8;

pub(super) fn gather(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Snapshot {
    let (home, config) = (&loaded.home, &loaded.config);
    let report = health::check(loaded, run, journal);
    let process_checks: Vec<&str> = config
        .check
        .iter()
        .filter(|(_, check)| matches!(check.kind, Kind::Process(_)))
        .map(|(name, _)| name.as_str())
        .collect();
    let history =
        journal.and_then(|journal| history::read(journal, run.now, &process_checks).ok()).unwrap_or_default();
    let backups = backups(loaded, journal, run.now);
    let disk = disk(home.root());
    Snapshot {
        agent: config.agent.name.clone(),
        home: text::sanitize(&home.root().to_string_lossy()),
        host: text::sanitize(&run.host),
        run: run.id.clone(),
        time: run.now,
        version: env!("CARGO_PKG_VERSION"),
        refresh: config.dashboard.refresh.0.as_secs(),
        state: report.state,
        headline: nagios::headline(&report),
        services: services(loaded, run),
        databases: databases(loaded),
        logs: logs(loaded, &report),
        objectives: objectives(&history, &backups, disk.as_ref()),
        disk,
        backups,
        incidents: journal.map(incidents).unwrap_or_default(),
        alerts: alerts(home),
        history,
        health: report,
    }
}

fn services(loaded: &Loaded, run: &Run) -> Vec<Service> {
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let upgrade = upgrade::under_way(&loaded.home).ok().flatten().map(|note| note.told());
    loaded
        .config
        .service
        .iter()
        .map(|(name, config)| {
            let heartbeat = config.status_file.as_deref().and_then(|path| heartbeat(path, run.now));
            let definition = services.installed(name).ok().flatten();
            let supervised = || services.supervised(name).then_some("ops run");
            let installed = definition.map(|definition| definition.manager.name());
            let mut manager = installed.or_else(supervised);
            let status = match services.status(name) {
                Ok(status) => status,
                Err(error) => {
                    let detail = text::one_line(&format!("{error:#}"), 200);
                    return Service {
                        name: name.clone(),
                        state: State::Unknown,
                        condition: "unknown",
                        detail,
                        manager,
                        process: None,
                        heartbeat,
                    };
                }
            };
            let (state, condition, detail) = match &status.liveness {
                Liveness::Running(_) => match &status.pid_file_names {
                    Some((pid, command)) => (
                        State::Critical,
                        "running",
                        format!("its pid file names {pid}, which is '{command}'"),
                    ),
                    None => match services.pending_stop(name) {
                        Some(pending) => (State::Warning, "stopping", pending.describe()),
                        None => (State::Ok, "running", String::new()),
                    },
                },
                Liveness::Dead(why) => match status.stopped_by_operator {
                    Some(stopped) => (State::Critical, "stopped", stopped.told(run.now)),
                    None => (State::Critical, "dead", why.clone()),
                },
                Liveness::Stranger { pid, command, .. } => {
                    (State::Critical, "stranger", format!("its pid file names {pid}, which is '{command}'"))
                }
            };
            let detail = match (status.process(), installed) {
                (Some(process), Some(to)) if !services.runs_by_manager(name, process).unwrap_or(true) => {
                    manager = None;
                    let hand_over = format!("not by {to} yet: `ops restart {name}` hands it over");
                    if detail.is_empty() { hand_over } else { format!("{detail}; {hand_over}") }
                }
                _ => detail,
            };
            let detail = match (&upgrade, detail.is_empty()) {
                (None, _) => detail,
                (Some(upgrade), true) => upgrade.clone(),
                (Some(upgrade), false) => format!("{upgrade}; {detail}"),
            };
            let process = status.process().map(|process| {
                let uptime = age(run.now, process.started).as_secs();
                let cpu = process.cpu.as_secs_f64();
                Process {
                    pid: process.identity.pid,
                    started: process.started,
                    uptime: uptime as u64,
                    rss: process.rss,
                    cpu,
                    cpu_percent: if uptime > 0.0 { (cpu / uptime * 1000.0).round() / 10.0 } else { 0.0 },
                    threads: process.threads,
                }
            });
            Service {
                name: name.clone(),
                state,
                condition,
                detail: text::one_line(&detail, 200),
                manager,
                process,
                heartbeat,
            }
        })
        .collect()
}

fn heartbeat(path: &Path, now: DateTime<Utc>) -> Option<Heartbeat> {
    let file = StatusFile::read(path).ok()?;
    let at = file.sign_of_life();
    let age = at.map(|at| (now - at).num_seconds());
    Some(Heartbeat { status: text::one_line(&file.status, 40), at, age, interval: file.interval })
}

/// The files that the checks of kind `sqlite` look at; they are not opened.
fn databases(loaded: &Loaded) -> Vec<File> {
    let mut found = BTreeMap::new();
    for check in loaded.config.check.values().filter(|check| check.common.enabled) {
        let Kind::Sqlite(options) = &check.kind else { continue };
        for pattern in &options.paths {
            let pattern = loaded.home.path(pattern);
            let paths = glob::glob(&pattern.to_string_lossy()).into_iter().flatten().flatten();
            for path in paths {
                if let Ok(meta) = path.metadata()
                    && meta.is_file()
                {
                    found.insert(path, meta.len());
                }
            }
        }
    }
    found
        .into_iter()
        .map(|(path, bytes)| File { name: text::sanitize(&loaded.home.show(&path)), bytes })
        .collect()
}

fn logs(loaded: &Loaded, report: &Report) -> Logs {
    let found = logs::find(&loaded.home, &loaded.config.logs);
    let errors: Vec<f64> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == "log_errors")
        .filter_map(|finding| finding.metrics.first()?.value)
        .collect();
    Logs {
        files: found.logs.len(),
        bytes: found.logs.iter().map(|log| log.bytes).sum(),
        errors: (!errors.is_empty()).then(|| errors.iter().sum::<f64>() as u64),
    }
}

fn disk(path: &Path) -> Option<Disk> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let (free, total) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let used = 100.0 * (1.0 - free as f64 / total.max(1) as f64);
    Some(Disk { free, total, used_percent: (used * 10.0).round() / 10.0 })
}

/// The backups, as a restore sees them. The journal knows what is in those that did not change, so that they
/// are not opened every minute.
fn backups(loaded: &Loaded, journal: Option<&Journal>, now: DateTime<Utc>) -> Backups {
    let folder = text::sanitize(&loaded.config.backup.dir.to_string_lossy());
    let Ok(catalog) = backup::catalog::status(loaded, journal) else {
        return Backups { folder, count: 0, bytes: 0, newest: None, flaws: Vec::new() };
    };
    let newest = catalog.latest().or(catalog.archives.first());
    Backups {
        folder,
        count: catalog.archives.len(),
        bytes: catalog.archives.iter().map(|archive| archive.bytes).sum(),
        newest: newest.map(|archive| Archive {
            name: text::sanitize(&archive.name),
            at: archive.time,
            age: age(now, archive.time).0.as_secs(),
            bytes: archive.bytes,
            verified: archive.standing.is_some_and(|standing| standing < Standing::Damaged),
        }),
        flaws: catalog.newer_flaws().iter().map(|flaw| text::one_line(flaw, 300)).collect(),
    }
}

fn incidents(journal: &Journal) -> Vec<Incident> {
    let read = || -> rusqlite::Result<Vec<Incident>> {
        let mut open = journal.connection().prepare(
            "SELECT type, severity, opened_at, summary FROM incidents
             WHERE closed_at IS NULL ORDER BY severity = 2 DESC, opened_at LIMIT 20",
        )?;
        open.query_map([], |row| {
            Ok(Incident {
                kind: text::one_line(&row.get::<_, String>(0)?, 80),
                severity: State::from_code(row.get(1)?),
                since: DateTime::from_timestamp_millis(row.get(2)?).unwrap_or_default(),
                summary: text::one_line(&row.get::<_, String>(3)?, 300),
            })
        })?
        .collect()
    };
    read().unwrap_or_default()
}

fn alerts(home: &Home) -> Vec<Event> {
    let lines = home.last_lines(&home.log("alerts"), ALERTS, 256 << 10).unwrap_or_default();
    lines.iter().rev().map(|line| event(line)).collect()
}

/// `[2026-11-20 09:30:01] [CRITICAL] Title - message`; any other line is only text.
fn event(line: &str) -> Event {
    let parts = || {
        let (time, rest) = line.strip_prefix('[')?.split_once("] [")?;
        let (level, rest) = rest.split_once("] ")?;
        let word = level.len() <= 10 && level.bytes().all(|byte| byte.is_ascii_uppercase());
        (time.len() <= 30 && word).then(|| (time.to_owned(), level.to_owned(), rest))
    };
    let (time, level, rest) = parts().unwrap_or((String::new(), String::new(), line));
    Event { time: text::one_line(&time, 30), level, text: text::one_line(rest, 300) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_alerts_are_read_and_any_other_is_kept_as_text() {
        let good = event("[2026-11-20 09:30:01] [CRITICAL] Daemon - gone (run abc1234)");
        assert_eq!((good.time.as_str(), good.level.as_str()), ("2026-11-20 09:30:01", "CRITICAL"));
        assert_eq!(good.text, "Daemon - gone (run abc1234)");
        for bad in ["", "[", "[a] [b", "Traceback", "[x] [<script>] y", "\x1b[2J"] {
            let event = event(bad);
            assert_eq!((event.time.as_str(), event.level.as_str()), ("", ""), "{bad}");
            assert!(!event.text.contains('\x1b'));
        }
    }
}
