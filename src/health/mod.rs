//! Looks at the agent: checks, findings, the report; and spells it for Nagios and for people.

mod backup_age;
mod copy_age;
mod disk;
mod drill_age;
mod finding;
mod heartbeat;
mod log_errors;
mod log_size;
pub mod nagios;
mod process;
mod record;
mod sqlite;
pub mod table;
mod tcp;

pub use finding::{Finding, Metric, Report};
pub use record::record;

use crate::base::{Journal, Run, State, database, text};
use crate::config::{Check, Kind, Loaded};
use crate::service::Services;
use rusqlite::Connection;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// Runs every enabled check side by side, each under its own deadline. One that cannot be done
/// is `Unknown` and hides no other.
///
/// The journal, where there is one, remembers the scans of databases: one that did not change
/// is not scanned again within a day.
pub fn check(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Report {
    check_some(loaded, run, journal, &[])
}

/// [`check`], only the checks of these names; all, if there are none.
pub fn check_some(loaded: &Loaded, run: &Run, journal: Option<&Journal>, only: &[String]) -> Report {
    let asked = |name: &String| only.is_empty() || only.contains(name);
    let enabled: Vec<(&String, &Check)> =
        loaded.config.check.iter().filter(|(name, check)| check.common.enabled && asked(name)).collect();
    let scans = enabled.iter().any(|(_, check)| matches!(check.kind, Kind::Sqlite(_)));
    let known = journal.filter(|_| scans).map(sqlite::Scans::load).unwrap_or_default();
    let asks = |kind: fn(&Kind) -> bool| enabled.iter().any(|(_, check)| kind(&check.kind));
    let drills = asks(|kind| matches!(kind, Kind::DrillAge(_)))
        .then(|| ask(loaded, journal, drill_age::Drills::load))
        .flatten();
    let bucket = loaded.config.backup.s3.as_ref().filter(|_| asks(|kind| matches!(kind, Kind::CopyAge(_))));
    let copies = bucket
        .and_then(|s3| ask(loaded, journal, |connection| copy_age::Copies::load(connection, &s3.shown())));
    let view = Arc::new(View { loaded: loaded.clone(), run: run.clone(), scans: known, drills, copies });

    let (send, receive) = mpsc::channel();
    for (index, (_, check)) in enabled.iter().enumerate() {
        let (check, view, send) = ((*check).clone(), Arc::clone(&view), send.clone());
        // Not joined: a thread that hangs on a dead file system must not take us along.
        std::thread::spawn(move || {
            let answer = std::panic::catch_unwind(AssertUnwindSafe(|| view.answer(&check)))
                .unwrap_or_else(|_| Answer::unknown("the check itself broke down".to_owned()));
            let _ = send.send((index, answer));
        });
    }
    drop(send);

    let begun = Instant::now();
    let mut answers: Vec<Option<Answer>> = enabled.iter().map(|_| None).collect();
    loop {
        let waiting = enabled.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let Some(longest) = waiting.map(|((_, check), _)| check.common.timeout.0).max() else { break };
        match receive.recv_timeout(longest.saturating_sub(begun.elapsed())) {
            Ok((index, answer)) => answers[index] = Some(answer),
            Err(_) => break,
        }
    }

    let mut scanned = sqlite::Scans::default();
    let findings = enabled
        .iter()
        .zip(answers)
        .map(|((name, check), answer)| {
            let late = || Answer::unknown(format!("not done within {}", check.common.timeout));
            let mut answer = answer.unwrap_or_else(late);
            scanned.extend(std::mem::take(&mut answer.scans));
            answer.into_finding(name, check)
        })
        .collect();
    if let Some(journal) = journal {
        // Not remembering costs a scan more next time, nothing else.
        let _ = scanned.save(journal, run.now);
    }
    Report::new(&loaded.config.agent.name, run, findings)
}

/// Asks the journal. One that cannot be written may well be read.
fn ask<T>(
    loaded: &Loaded,
    journal: Option<&Journal>,
    load: impl FnOnce(&Connection) -> anyhow::Result<T>,
) -> Option<T> {
    match journal {
        Some(journal) => load(journal.connection()).ok(),
        None => {
            database::open_read_only(&loaded.home.journal()).and_then(|connection| load(&connection)).ok()
        }
    }
}

/// What a check looks at.
struct View {
    loaded: Loaded,
    run: Run,
    scans: sqlite::Scans,
    drills: Option<drill_age::Drills>,
    copies: Option<copy_age::Copies>,
}

impl View {
    fn services(&self) -> Services<'_> {
        Services { home: &self.loaded.home, config: &self.loaded.config, run: &self.run }
    }

    fn answer(&self, check: &Check) -> Answer {
        let answer = match &check.kind {
            Kind::Process(options) => process::look(self, options),
            Kind::Heartbeat(options) => heartbeat::look(self, options),
            Kind::Sqlite(options) => sqlite::look(self, options),
            Kind::Disk(options) => disk::look(options),
            Kind::LogSize(options) => log_size::look(self, options),
            Kind::LogErrors(options) => log_errors::look(self, options),
            Kind::Tcp(options) => tcp::look(options),
            Kind::BackupAge(options) => backup_age::look(self, options),
            Kind::DrillAge(options) => Ok(drill_age::look(self.drills.as_ref(), options, self.run.now)),
            Kind::CopyAge(options) => Ok(copy_age::look(self.copies.as_ref(), options, self.run.now)),
        };
        answer.unwrap_or_else(|error| Answer::unknown(format!("{error:#}")))
    }
}

/// What a check found, before it has a name.
#[derive(Debug)]
struct Answer {
    state: State,
    summary: String,
    metrics: Vec<Metric>,
    remedy: Option<String>,
    scans: sqlite::Scans,
}

impl Answer {
    fn new(state: State, summary: impl Into<String>) -> Answer {
        let summary = summary.into();
        Answer { state, summary, metrics: Vec::new(), remedy: None, scans: sqlite::Scans::default() }
    }

    fn unknown(summary: String) -> Answer {
        Answer::new(State::Unknown, summary)
    }

    fn metric(mut self, metric: Metric) -> Answer {
        self.metrics.push(metric);
        self
    }

    /// What to do, where something is to be done.
    fn remedy(mut self, remedy: &str) -> Answer {
        if self.state != State::Ok {
            self.remedy = Some(remedy.to_owned());
        }
        self
    }

    fn into_finding(self, name: &str, check: &Check) -> Finding {
        let service = match &check.kind {
            Kind::Process(options) => Some(options.service.clone()),
            Kind::Heartbeat(options) => Some(options.service.clone()),
            _ => None,
        };
        Finding {
            check: name.to_owned(),
            kind: check.kind.name().to_owned(),
            service,
            state: self.state,
            summary: text::one_line(&self.summary, 300),
            metrics: self.metrics,
            remedy: self.remedy,
            critical: check.common.critical,
            alert: alert_type(name, check, self.state),
        }
    }
}

/// The alert type of a check in a state: as configured, else by its kind, else its own name.
fn alert_type(name: &str, check: &Check, state: State) -> String {
    let warns = state == State::Warning;
    let configured = if warns { &check.common.alert_warning } else { &check.common.alert_critical };
    if let Some(configured) = configured {
        return configured.clone();
    }
    match (&check.kind, warns) {
        (Kind::Process(_), _) => "daemon_critical",
        (Kind::Heartbeat(_), _) => "daemon_degraded",
        (Kind::Sqlite(_), _) => "memory_corrupt",
        (Kind::Disk(_), true) => "disk_low",
        (Kind::Disk(_), false) => "disk_critical",
        _ => name,
    }
    .to_owned()
}
