//! The last answer of a check that is asked seldom (`every`), and what it rests on: it stands only as long as
//! that is still so.

use super::{Answer, View};
use crate::base::process::Identity;
use crate::config::{Check, Kind};
use crate::schedule;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What an answer is remembered as.
pub(super) const ANSWER: &str = "answer";

/// What an answer rests on.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Basis {
    /// The processes of the services that it is about; none: that one does not run.
    processes: BTreeMap<String, Option<Identity>>,
    /// Since when somebody is meant to run the jobs, where it is about them.
    installed: Option<DateTime<Utc>>,
}

impl Basis {
    /// As it is now, of a check whose answers are kept.
    pub(super) fn now(view: &View, name: &str, check: &Check) -> Option<Basis> {
        check.common.every?;
        let process = |service: String| {
            let status = view.status(&service).ok();
            let identity = status.and_then(|status| status.process().map(|found| found.identity.clone()));
            (service, identity)
        };
        let mut about = BTreeSet::new();
        add_services(view, name, &mut about);
        let installed = matches!(check.kind, Kind::Schedule(_)).then(|| schedule::since(&view.loaded.home));
        Some(Basis { processes: about.into_iter().map(process).collect(), installed: installed.flatten() })
    }
}

/// The services that a check asks about, and those that checks before it (`after`) do.
fn add_services(view: &View, name: &str, into: &mut BTreeSet<String>) {
    let Some(check) = view.loaded.config.check.get(name) else { return };
    into.extend(check.kind.service().map(str::to_owned));
    // The config has no circles.
    check.common.after.iter().for_each(|parent| add_services(view, parent, into));
}

/// What is remembered.
#[derive(Deserialize)]
pub(super) struct Kept {
    basis: Basis,
    answer: Answer,
}

/// The same, to be written.
#[derive(Serialize)]
pub(super) struct Keep<'a> {
    pub(super) basis: &'a Basis,
    pub(super) answer: &'a Answer,
}

/// The last answer of a check that is not due.
pub(super) fn not_due(view: &View, name: &str, check: &Check, basis: &Basis) -> Option<Answer> {
    let every = check.common.every?;
    let (at, kept) = view.memories.recall::<Kept>(name, ANSWER, view.run.now)?;
    // Runs are never exactly as far apart as they should be.
    let slack = (every.0 / 20).min(Duration::from_secs(30));
    ((view.run.now - at).to_std().ok()? + slack < every.0 && kept.basis == *basis)
        .then_some(Answer { looked_at: Some(at), ..kept.answer })
}
