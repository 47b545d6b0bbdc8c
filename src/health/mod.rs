//! Looks at the agent: checks, findings, the report; and spells it for Nagios and for people.

mod answer;
mod backup_age;
mod certificate;
mod command;
mod disk;
mod drill_age;
mod exposition;
mod fetch;
mod finding;
mod heartbeat;
mod http;
mod json;
mod log_errors;
mod log_size;
mod memory;
mod metric;
pub mod nagios;
mod perfdata;
mod process;
mod record;
mod sql;
mod sqlite;
mod streak;
mod systemd_units;
pub mod table;
mod tcp;
mod value;
mod velocity;

pub use finding::{Finding, Metric, Report};
pub use record::record;

use crate::base::{Journal, Run, database};
use crate::config::{Check, Kind, Loaded};
use crate::service::Services;
use answer::Answer;
use chrono::{DateTime, Utc};
use memory::{Memories, Memory};
use serde::de::DeserializeOwned;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What an answer is remembered as, for `every`.
const ANSWER: &str = "answer";

/// Runs every enabled check side by side, each under its own deadline. One that cannot be done
/// is `Unknown` and hides no other.
///
/// The journal, where there is one, remembers what checks ask of it: scans of databases, places in
/// logs, the last looks. Without one nothing is damped by `for`, and everything is looked at.
pub fn check(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Report {
    check_some(loaded, run, journal, &[])
}

/// [`check`], only the checks of these names, whether `every` has passed or not; all, if there are none.
pub fn check_some(loaded: &Loaded, run: &Run, journal: Option<&Journal>, only: &[String]) -> Report {
    let asked = |name: &String| only.is_empty() || only.contains(name);
    let enabled: Vec<(&String, &Check)> =
        loaded.config.check.iter().filter(|(name, check)| check.common.enabled && asked(name)).collect();
    let looks = journal.map(|journal| streak::load(journal, &enabled));
    let view = Arc::new(View::new(loaded, run, journal, &enabled));
    let answers = answers(&view, &enabled, only.is_empty());
    if let Some(journal) = journal {
        // Not remembering costs a scan more next time, nothing else.
        let _ = remember(journal, run.now, &enabled, &answers);
    }
    let findings = enabled.iter().zip(answers).map(|((name, check), answer)| {
        let common = &check.common;
        let before = looks.as_ref().map(|looks| looks.get(*name).map_or(&[][..], Vec::as_slice));
        let state = before.map_or(answer.state, |before| {
            streak::judge(common.streak, answer.state, before, common.critical)
        });
        answer.into_finding(name, check, state)
    });
    Report::new(&loaded.config.agent.name, run, findings.collect())
}

/// Asks all of them, each on a thread of its own; what has no answer in its time is not waited for.
fn answers(view: &Arc<View>, checks: &[(&String, &Check)], all: bool) -> Vec<Answer> {
    let (send, receive) = mpsc::channel();
    let begun = Instant::now();
    let mut answers: Vec<Option<Answer>> = checks.iter().map(|_| None).collect();
    for (index, (name, check)) in checks.iter().enumerate() {
        if let Some(answer) = view.not_due(name, check).filter(|_| all) {
            answers[index] = Some(answer);
            continue;
        }
        let (name, check, view, send) = ((*name).clone(), (*check).clone(), Arc::clone(view), send.clone());
        // Not joined: a thread that hangs on a dead file system must not take us along.
        let spawned = std::thread::Builder::new().spawn(move || {
            let answer = std::panic::catch_unwind(AssertUnwindSafe(|| view.answer(&name, &check)))
                .unwrap_or_else(|_| Answer::unknown("the check itself broke down"));
            let _ = send.send((index, answer));
        });
        if let Err(error) = spawned {
            answers[index] = Some(Answer::unknown(format!("it could not be begun: {error}")));
        }
    }
    drop(send);
    let patience = |index: usize| patience(checks[index].1);
    loop {
        let waiting = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
        let Some(next) = waiting.map(|(index, _)| patience(index)).min() else { break };
        match receive.recv_timeout(next.saturating_sub(begun.elapsed())) {
            Ok((index, answer)) if answers[index].is_none() => answers[index] = Some(answer),
            Ok(_) => {}
            Err(_) => {
                let passed = begun.elapsed().max(next);
                let late = answers.iter_mut().enumerate();
                late.filter(|(index, answer)| answer.is_none() && patience(*index) <= passed).for_each(
                    |(index, answer)| {
                        let timeout = checks[index].1.common.timeout;
                        *answer = Some(Answer::unknown(format!("not done within {timeout}")));
                    },
                );
            }
        }
    }
    answers.into_iter().flatten().collect()
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
    now: DateTime<Utc>,
    checks: &[(&String, &Check)],
    answers: &[Answer],
) -> anyhow::Result<()> {
    let fresh = || checks.iter().zip(answers).filter(|(_, answer)| answer.looked_at.is_none());
    let own = fresh().filter_map(|((name, _), answer)| Some((*name, answer.memory.clone()?)));
    let whole = fresh().filter(|((_, check), _)| check.common.every.is_some());
    let whole = whole.filter_map(|((name, _), answer)| Some((*name, Memory::of(ANSWER, answer)?)));
    let memories: Vec<(&String, Memory)> = own.chain(whole).collect();
    let scans: Vec<&sqlite::Scans> =
        answers.iter().map(|answer| &answer.scans).filter(|scans| !scans.is_empty()).collect();
    if memories.is_empty() && scans.is_empty() {
        return Ok(());
    }
    journal.quick_transaction(|connection| {
        for (name, memory) in &memories {
            memory::save(connection, name, memory, now)?;
        }
        scans.iter().try_for_each(|scans| scans.save(connection, now))
    })
}

/// What a check looks at.
struct View {
    loaded: Loaded,
    run: Run,
    scans: sqlite::Scans,
    drills: Option<drill_age::Drills>,
    memories: Memories,
}

impl View {
    fn new(loaded: &Loaded, run: &Run, journal: Option<&Journal>, checks: &[(&String, &Check)]) -> View {
        let any = |wanted: fn(&Kind) -> bool| checks.iter().any(|(_, check)| wanted(&check.kind));
        let scans = journal.filter(|_| any(|kind| matches!(kind, Kind::Sqlite(_))));
        let drills = any(|kind| matches!(kind, Kind::DrillAge(_))).then(|| match journal {
            Some(journal) => drill_age::Drills::load(journal.connection()),
            // One that cannot be written may well be read.
            None => database::open_read_only(&loaded.home.journal())
                .and_then(|connection| drill_age::Drills::load(&connection)),
        });
        View {
            loaded: loaded.clone(),
            run: run.clone(),
            scans: scans.map(sqlite::Scans::load).unwrap_or_default(),
            drills: drills.and_then(Result::ok),
            memories: journal.map(Memories::load).unwrap_or_default(),
        }
    }

    fn services(&self) -> Services<'_> {
        Services { home: &self.loaded.home, config: &self.loaded.config, run: &self.run }
    }

    /// What a check remembers under a name, and since when.
    fn recall<T: DeserializeOwned>(&self, check: &str, what: &str) -> Option<(DateTime<Utc>, T)> {
        self.memories.recall(check, what, self.run.now)
    }

    /// The last answer of a check that is not due.
    fn not_due(&self, name: &str, check: &Check) -> Option<Answer> {
        let every = check.common.every?;
        let (at, answer) = self.memories.recall::<Answer>(name, ANSWER, self.run.now)?;
        // Runs are never exactly as far apart as they should be.
        let slack = (every.0 / 20).min(Duration::from_secs(30));
        ((self.run.now - at).to_std().ok()? + slack < every.0)
            .then_some(Answer { looked_at: Some(at), ..answer })
    }

    fn answer(&self, name: &str, check: &Check) -> Answer {
        let timeout = check.common.timeout;
        let answer = match &check.kind {
            Kind::Process(options) => process::look(self, options),
            Kind::Heartbeat(options) => heartbeat::look(self, options),
            Kind::Sqlite(options) => sqlite::look(self, options),
            Kind::Disk(options) => disk::look(options),
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
            Kind::DrillAge(options) => Ok(drill_age::look(self.drills.as_ref(), options, self.run.now)),
        };
        answer.unwrap_or_else(|error| Answer::unknown(format!("{error:#}")))
    }
}
