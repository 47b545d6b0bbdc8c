//! What earlier runs knew, and where it is read from when the journal cannot be.

use super::incident::Incident;
use super::silences::{self, Silence};
use super::{deliveries, store};
use super::{recovery, throttle};
use crate::base::journal::is_damaged;
use crate::base::{Journal, Run};
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// What earlier runs knew.
#[derive(Default)]
pub(super) struct Past {
    /// The last incident of each check.
    pub(super) incidents: BTreeMap<String, Incident>,
    /// When recovery tried to start each service.
    pub(super) attempts: BTreeMap<String, Vec<DateTime<Utc>>>,
    /// When messages went out within the last hour.
    pub(super) sent: Vec<DateTime<Utc>>,
    /// The silence that holds.
    pub(super) silence: Option<Silence>,
}

impl Past {
    fn read(connection: &Connection, now: DateTime<Utc>) -> Result<Past> {
        Ok(Past {
            incidents: store::incidents(connection, now)?,
            attempts: recovery::attempts(connection, now)?,
            sent: deliveries::sent(connection, now)?,
            silence: silences::silence(connection)?
                .filter(|silence| throttle::silent(now, silence.said, silence.until)),
        })
    }

    /// What a journal that cannot be written still says, if anything.
    fn rescue(loaded: &Loaded, run: &Run) -> Past {
        let mut past = Journal::open_to_read(&loaded.home)
            .and_then(|journal| Past::read(journal.connection(), run.now).ok())
            .unwrap_or_default();
        // Their rows are not in the journal of this run.
        past.incidents.values_mut().for_each(|incident| incident.id = None);
        past
    }
}

/// The journal, and whether it lasts: where the real one cannot be used it is one in memory, for
/// people are told all the same.
pub(super) struct Source {
    pub(super) journal: Journal,
    pub(super) lasting: bool,
}

impl Source {
    pub(super) fn open(loaded: &Loaded, dry: bool, notes: &mut Vec<String>) -> Result<Source> {
        if dry && !loaded.home.has(&loaded.home.journal()) {
            return Ok(Source { journal: Journal::in_memory()?, lasting: false });
        }
        Source::of(Journal::open(&loaded.home), loaded, notes)
    }

    fn of(opened: Result<Journal>, loaded: &Loaded, notes: &mut Vec<String>) -> Result<Source> {
        match opened {
            Ok(journal) => {
                if let Some(aside) = journal.set_aside() {
                    notes.push(format!(
                        "the journal {}: it is now {}, and a new one was begun; what was open is told anew",
                        aside.why,
                        loaded.home.show(&aside.path)
                    ));
                }
                Ok(Source { journal, lasting: true })
            }
            Err(error) => {
                notes.push(format!("{error:#}; people are told all the same"));
                Ok(Source { journal: Journal::in_memory()?, lasting: false })
            }
        }
    }

    /// What earlier runs knew. Damage that only shows now is no reason to keep silent either.
    pub(super) fn past(
        &mut self,
        loaded: &Loaded,
        run: &Run,
        dry: bool,
        notes: &mut Vec<String>,
    ) -> Result<Past> {
        if !self.lasting {
            return Ok(Past::rescue(loaded, run));
        }
        match Past::read(self.journal.connection(), run.now) {
            Ok(past) => Ok(past),
            Err(error) => {
                let anew =
                    if is_damaged(&error) && !dry { Journal::begin_anew(&loaded.home) } else { Err(error) };
                *self = Source::of(anew, loaded, notes)?;
                Ok(Past::default())
            }
        }
    }
}
