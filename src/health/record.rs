//! The history of findings, for trends and for the dashboard.

use super::Report;
use crate::base::{Journal, Run};
use anyhow::Result;
use rusqlite::params;

/// Writes a report into the journal: its state, and of each finding state and first number.
pub fn record(journal: &Journal, run: &Run, report: &Report) -> Result<()> {
    journal.transaction(|connection| {
        connection.execute(
            "INSERT INTO runs(run, program, at, state) VALUES(?1, ?2, ?3, ?4)",
            params![run.id, run.program, run.now.timestamp_millis(), report.state.code()],
        )?;
        let id = connection.last_insert_rowid();
        let mut insert = connection
            .prepare("INSERT INTO samples(run, check_name, state, value) VALUES(?1, ?2, ?3, ?4)")?;
        for finding in &report.findings {
            let value = finding.metrics.first().and_then(|metric| metric.value);
            insert.execute(params![id, finding.check, finding.state.code(), value])?;
        }
        Ok(())
    })
}
