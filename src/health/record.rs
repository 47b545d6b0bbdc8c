//! The history of findings: rows in the journal for trends and the dashboard, and a line in
//! `logs/health_check.log` for people.

use super::{Report, nagios};
use crate::base::{Home, Journal, Run, State, events};
use anyhow::Result;
use rusqlite::params;

/// Notes a report: its state, and of each finding state and first number. What can be noted is,
/// whatever else fails.
pub fn record(home: &Home, journal: Option<&Journal>, run: &Run, report: &Report) -> Result<()> {
    let rows = journal.map_or(Ok(()), |journal| write_rows(journal, run, report));
    let headline = nagios::headline(report);
    events::append(home, "health_check", run, report.state.word(), "Health", &headline).and(rows)
}

fn write_rows(journal: &Journal, run: &Run, report: &Report) -> Result<()> {
    journal.quick_transaction(|connection| {
        connection.execute(
            "INSERT INTO runs(run, program, at, state) VALUES(?1, ?2, ?3, ?4)",
            params![run.id, run.program, run.now.timestamp_millis(), report.state.code()],
        )?;
        let id = connection.last_insert_rowid();
        let mut insert = connection
            .prepare("INSERT INTO samples(run, check_name, state, value, seen, summary) VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?;
        for finding in &report.findings {
            let value = finding.metrics.first().and_then(|metric| metric.value);
            let seen = finding.looked_at.is_none().then(|| finding.seen.code());
            // All is well most of the time, in words of which the number is all that matters.
            let summary = (finding.seen != State::Ok).then_some(&finding.summary);
            insert.execute(params![id, finding.check, finding.state.code(), value, seen, summary])?;
        }
        Ok(())
    })
}
