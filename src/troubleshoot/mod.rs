//! Finds what an expert would look for when an agent does not run as it should, says why, and what to do.
//!
//! It only reads: no file of the home is written, locked or even opened for writing, no process is
//! signalled. Each probe gathers its facts and judges them by a pure function; all are asked side by side.

mod bundle;
mod cause;
mod channels;
mod checks;
mod clock;
mod config;
mod copy;
mod crew;
mod cron;
mod databases;
mod digest;
mod disk;
mod heartbeat;
mod home;
mod keeping;
mod known;
mod parts;
mod permissions;
mod ports;
mod program;
mod redact;
mod runtime;
mod services;
mod usage;
mod view;
mod words;

pub use bundle::{Bundle, write as write_bundle};
pub use cause::{Cause, Diagnosis, quoted};
pub use view::Subject;

use crate::base::State;
use anyhow::Result;
use cause::{Found, sorted};
use crew::Job;
use redact::Redactor;
use std::sync::Arc;
use std::time::Duration;
use view::{PATIENCE, View};

type Probe = fn(&View) -> Result<Found>;

/// What is looked at, and within how many seconds.
const PROBES: [(&str, u64, Probe); 16] = [
    ("the config", 5, config::probe),
    ("the home", 5, home::probe),
    ("permissions", 10, permissions::probe),
    ("the disk", 5, disk::probe),
    ("programs", 5, program::probe),
    ("versions", 8, runtime::probe),
    ("processes", 10, services::probe),
    ("ports", 10, ports::probe),
    ("heartbeats", 10, heartbeat::probe),
    ("processor and memory", 10, usage::probe),
    ("databases", 20, databases::probe),
    ("cron", 25, cron::probe),
    ("channels", 12, channels::probe),
    ("backups", 10, keeping::probe),
    ("the clock", 8, clock::probe),
    ("the checks and logs", 20, checks::probe),
];

/// Looks at everything once.
pub fn examine(subject: &Subject) -> Diagnosis {
    let asked = subject.clone();
    let Some((view, _copies)) = crew::within(PATIENCE, move || View::new(&asked)) else {
        return conclude(subject, vec![hangs(subject)], Vec::new(), None);
    };
    let view = Arc::new(view);
    let jobs = PROBES.map(|(about, seconds, probe)| {
        let view = Arc::clone(&view);
        Job { about, limit: Duration::from_secs(seconds), look: Box::new(move || probe(&view)) }
    });
    let (mut causes, mut notes) = (Vec::new(), view.notes());
    for found in crew::ask(jobs.into()) {
        causes.extend(found.causes);
        notes.extend(found.notes);
    }
    let owner = crew::within(PATIENCE, move || view.other_owner()).flatten();
    conclude(subject, causes, notes, owner)
}

/// The disk of a home that does not answer: nothing more can be asked of it.
fn hangs(subject: &Subject) -> Cause {
    let home =
        subject.agent.as_ref().map(|loaded| loaded.home.root().display().to_string()).unwrap_or_default();
    Cause::new("home_hangs", State::Critical, 2, format!("the home {home} does not answer: its disk hangs"))
        .run("mount")
        .run("dmesg | tail -50")
        .advise("a network file system whose server is away, or a disk that dies")
}

fn conclude(
    subject: &Subject,
    mut causes: Vec<Cause>,
    mut notes: Vec<String>,
    owner: Option<u32>,
) -> Diagnosis {
    // A log line or an error may quote a secret.
    let redactor = Redactor::of(subject, false);
    causes.iter_mut().for_each(|cause| cause.redact(|text| redactor.text(text), |text| redactor.known(text)));
    notes.iter_mut().for_each(|note| *note = redactor.text(note));
    let causes = sorted(causes);
    Diagnosis {
        run: subject.run.id.clone(),
        state: causes.iter().fold(State::Ok, |worst, cause| worst.worse(cause.state)),
        agent: subject.agent.as_ref().map(|loaded| loaded.config.agent.name.clone()),
        home: subject.agent.as_ref().map(|loaded| loaded.home.root().display().to_string()),
        causes,
        notes,
        looked_at: PROBES.map(|(about, _, _)| about).into(),
        owner,
    }
}
