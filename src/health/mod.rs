//! Looks at the agent: checks, findings, the report; and spells it for Nagios and for people.

mod age;
mod answer;
mod backup_age;
mod certificate;
mod command;
mod copy_age;
mod crew;
mod disk;
mod drill_age;
mod explain;
mod exposition;
mod fetch;
mod file_age;
mod finding;
mod heartbeat;
mod http;
mod json;
mod jsonl;
mod kept;
mod log_errors;
mod log_size;
mod memory;
mod metric;
pub mod nagios;
mod named;
mod perfdata;
mod permissions;
mod pin;
mod process;
pub mod prometheus;
mod record;
mod resources;
mod restarts;
mod schedule;
mod sql;
mod sqlite;
mod streak;
mod systemd_units;
pub mod table;
mod tcp;
mod upgrade;
mod value;
mod velocity;

pub use explain::{Earlier, earlier};
pub use finding::{Finding, Metric, Report};
pub use record::record;
pub use upgrade::UPGRADE;

use crate::backup::Records;
use crate::base::{Journal, Run};
use crate::config::{Check, Kind, Loaded};
use crate::service::{Services, Status};
use answer::Answer;
use chrono::{DateTime, Utc};
use memory::{Memories, Memory};
use rusqlite::Connection;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Runs every enabled check side by side, each under its own deadline. One that cannot be done
/// is `Unknown` and hides no other.
///
/// The journal, where there is one, remembers what checks ask of it: scans of databases, places in
/// logs, the last looks. Without one nothing is damped by `for`, and everything is looked at.
pub fn check(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Report {
    check_some(loaded, run, journal, &[], Due::Only)
}

/// Which of the checks with `every` are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Those that are due; the others keep their last answer.
    Only,
    /// All: somebody asks now.
    OrNot,
    /// All, and what each finds counts at once, whatever `for` says: somebody waits for it to be well.
    AtOnce,
}

/// [`check`], only the checks of these names; all, if there are none, and what there is to say of an upgrade.
pub fn check_some(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    only: &[String],
    due: Due,
) -> Report {
    let asked = |name: &String| only.is_empty() || only.contains(name);
    let enabled: Vec<(&String, &Check)> =
        loaded.config.check.iter().filter(|(name, check)| check.common.enabled && asked(name)).collect();
    let looks = journal.filter(|_| due != Due::AtOnce).map(|journal| streak::load(journal, &enabled));
    let view = Arc::new(View::new(loaded, run, journal, &enabled));
    let answers = answers(&view, &enabled, due);
    if let Some(journal) = journal {
        // Not remembering costs a scan more next time, nothing else.
        let _ = remember(journal, &view, &enabled, &answers);
    }
    let findings = enabled.iter().zip(answers).map(|((name, check), answer)| {
        let common = &check.common;
        let before = looks.as_ref().map(|looks| looks.get(*name).map_or(&[][..], Vec::as_slice));
        let state = before.map_or(answer.state, |before| {
            streak::judge(common.streak, answer.state, before, common.critical)
        });
        answer.into_finding(name, check, state, run.now)
    });
    let mut findings: Vec<Finding> = findings.collect();
    if let Some(upgrade) = upgrade::look(&loaded.home, run.now).filter(|_| only.is_empty()) {
        let place = findings.partition_point(|finding| finding.check.as_str() < UPGRADE);
        findings.insert(place, upgrade);
    }
    Report::new(&loaded.config.agent.name, run, findings)
}

/// Asks all of them that are due; those that are not keep their last answer.
fn answers(view: &Arc<View>, checks: &[(&String, &Check)], due: Due) -> Vec<Answer> {
    let jobs = checks.iter().map(|&(name, check)| {
        let (limit, view, name, check) = (patience(check), Arc::clone(view), name.clone(), check.clone());
        crew::Job { ask: Box::new(move || view.answer_due(&name, &check, due)), limit }
    });
    let answers = crew::answers(jobs.collect()).into_iter().zip(checks);
    let late = |check: &Check| Answer::unknown(format!("not done within {}", check.common.timeout));
    answers.map(|(answer, (_, check))| answer.unwrap_or_else(|| late(check))).collect()
}

/// How long an answer is waited for. Some checks keep to their time by themselves: they have a moment
/// more, to end what they started and to say what they know.
fn patience(check: &Check) -> Duration {
    let by_itself = matches!(
        check.kind,
        Kind::Http(_) | Kind::Sql(_) | Kind::Metric(_) | Kind::Command(_) | Kind::SystemdUnits(_)
    );
    check.common.timeout.0 + if by_itself { Duration::from_millis(500) } else { Duration::ZERO }
}

/// Writes down what checks want to know next time.
fn remember(
    journal: &Journal,
    view: &View,
    checks: &[(&String, &Check)],
    answers: &[Answer],
) -> anyhow::Result<()> {
    let now = view.run.now;
    let fresh = || checks.iter().zip(answers).filter(|(_, answer)| answer.looked_at.is_none());
    let own = fresh().filter_map(|((name, _), answer)| Some((*name, answer.memory.clone()?)));
    // What has not changed is written again once a day, so that it is not forgotten.
    let own = own.filter(|(name, memory)| !view.memories.holds(name, memory, now));
    let bases = locked(&view.bases);
    let whole = fresh().filter_map(|((name, _), answer)| {
        let basis = bases.get(*name)?;
        Some((*name, Memory::of(kept::ANSWER, &kept::Keep { basis, answer })?))
    });
    let new: Vec<(&String, Memory)> = own.chain(whole).collect();
    let scans: Vec<&sqlite::Scans> =
        answers.iter().map(|answer| &answer.scans).filter(|scans| !scans.is_empty()).collect();
    if new.is_empty() && scans.is_empty() {
        return Ok(());
    }
    journal.quick_transaction(|connection| {
        for (name, memory) in &new {
            memory::save(connection, name, memory, now)?;
        }
        scans.iter().try_for_each(|scans| scans.save(connection, now))
    })
}

/// Asks the journal. One that cannot be written may well be read.
fn ask<T>(
    loaded: &Loaded,
    journal: Option<&Journal>,
    load: impl FnOnce(&Connection) -> anyhow::Result<T>,
) -> Option<T> {
    match journal {
        Some(journal) => load(journal.connection()).ok(),
        None => load(Journal::open_to_read(&loaded.home)?.connection()).ok(),
    }
}

/// How a service was, when it was asked, or why that could not be told.
type Asked = Arc<OnceLock<Result<Status, String>>>;

/// What a check looks at.
struct View {
    loaded: Loaded,
    run: Run,
    scans: sqlite::Scans,
    drills: Option<drill_age::Drills>,
    copies: Option<copy_age::Copies>,
    /// What the journal knows of archives.
    archives: Option<Records>,
    ran: Option<schedule::Ran>,
    memories: Memories,
    /// How each service is: it is asked once.
    statuses: Mutex<BTreeMap<String, Asked>>,
    /// What the answers that are kept rest on, by their checks.
    bases: Mutex<BTreeMap<String, kept::Basis>>,
}

/// What was put there is whole, whoever broke down meanwhile.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    fn new(loaded: &Loaded, run: &Run, journal: Option<&Journal>, checks: &[(&String, &Check)]) -> View {
        let any = |wanted: fn(&Kind) -> bool| checks.iter().any(|(_, check)| wanted(&check.kind));
        let scans = journal.filter(|_| any(|kind| matches!(kind, Kind::Sqlite(_))));
        let drills = any(|kind| matches!(kind, Kind::DrillAge(_)));
        let bucket =
            loaded.config.backup.s3.as_ref().filter(|_| any(|kind| matches!(kind, Kind::CopyAge(_))));
        let copies = |connection: &Connection, remote: &str| copy_age::Copies::load(connection, remote);
        View {
            loaded: loaded.clone(),
            run: run.clone(),
            scans: scans.map(sqlite::Scans::load).unwrap_or_default(),
            ran: any(|kind| matches!(kind, Kind::Schedule(_)))
                .then(|| ask(loaded, journal, schedule::load))
                .flatten(),
            drills: drills.then(|| ask(loaded, journal, drill_age::Drills::load)).flatten(),
            archives: any(|kind| matches!(kind, Kind::BackupAge(_)))
                .then(|| ask(loaded, journal, Records::load))
                .flatten(),
            copies: bucket.and_then(|s3| ask(loaded, journal, |connection| copies(connection, &s3.shown()))),
            memories: journal.map(Memories::load).unwrap_or_default(),
            statuses: Mutex::default(),
            bases: Mutex::default(),
        }
    }

    fn services(&self) -> Services<'_> {
        Services { home: &self.loaded.home, config: &self.loaded.config, run: &self.run }
    }

    /// How a service is, as whichever check came first found it. A manager that hangs holds up only those
    /// that ask for it, each within its own time.
    fn status(&self, service: &str) -> anyhow::Result<Status> {
        let once = Arc::clone(locked(&self.statuses).entry(service.to_owned()).or_default());
        let ask = || self.services().status(service).map_err(|error| format!("{error:#}"));
        once.get_or_init(ask).clone().map_err(anyhow::Error::msg)
    }

    /// What a check remembers under a name, and since when.
    fn recall<T: DeserializeOwned>(&self, check: &str, what: &str) -> Option<(DateTime<Utc>, T)> {
        self.memories.recall(check, what, self.run.now)
    }

    /// The last answer of a check that is not due, else a new one.
    fn answer_due(&self, name: &str, check: &Check, due: Due) -> Answer {
        // As it is before it is asked: what changes meanwhile makes an answer stand shorter, not longer.
        let begun = Instant::now();
        let Some(basis) = kept::Basis::now(self, name, check) else { return self.answer(name, check) };
        let kept = kept::not_due(self, name, check, &basis).filter(|_| due == Due::Only);
        // Too late, it rests on nothing that was known in time: it is asked again in the next run.
        if begun.elapsed() < patience(check) {
            locked(&self.bases).insert(name.to_owned(), basis);
        }
        kept.unwrap_or_else(|| self.answer(name, check))
    }

    fn answer(&self, name: &str, check: &Check) -> Answer {
        let timeout = check.common.timeout;
        let answer = match &check.kind {
            Kind::Process(options) => process::look(self, options),
            Kind::Heartbeat(options) => heartbeat::look(self, name, options),
            Kind::Resources(options) => resources::look(self, name, options),
            Kind::Restarts(options) => restarts::look(self, name, options),
            Kind::Sqlite(options) => sqlite::look(self, name, options),
            Kind::Jsonl(options) => jsonl::look(self, name, options),
            Kind::FileAge(options) => file_age::look(self, options),
            Kind::Permissions(options) => permissions::look(self, options),
            Kind::Pin(options) => pin::look(self, name, options),
            Kind::Disk(options) => disk::look(self, name, options),
            Kind::LogSize(options) => log_size::look(self, options),
            Kind::LogErrors(options) => log_errors::look(self, name, options),
            Kind::Tcp(options) => tcp::look(options),
            Kind::Http(options) => http::look(self, name, options, timeout),
            Kind::Json(options) => json::look(self, name, options),
            Kind::Sql(options) => sql::look(self, name, options, timeout),
            Kind::Metric(options) => metric::look(self, name, options, timeout),
            Kind::Command(options) => command::look(self, options, timeout),
            Kind::SystemdUnits(options) => systemd_units::look(options, timeout),
            Kind::BackupAge(options) => backup_age::look(self, options),
            Kind::Schedule(options) => schedule::look(self, options),
            Kind::CopyAge(options) => Ok(copy_age::look(self.copies.as_ref(), options, self.run.now)),
            Kind::DrillAge(options) => Ok(drill_age::look(self.drills.as_ref(), options, self.run.now)),
        };
        answer.unwrap_or_else(|error| Answer::unknown(format!("{error:#}")))
    }
}
