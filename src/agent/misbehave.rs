//! The ways in which agents go wrong, on request: for tests, drills and demonstrations.

use super::memory::Memory;
use anyhow::Result;
use chrono::Utc;
use clap::Args;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How to misbehave.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Misbehaviour, for tests and drills")]
pub struct Misbehaviour {
    /// Die by SIGABRT after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub crash_after: Option<f64>,
    /// Stay alive without a heartbeat after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub hang_after: Option<f64>,
    /// Do not stop on SIGTERM or SIGINT
    #[arg(long)]
    pub ignore_term: bool,
    /// Log an error at each heartbeat
    #[arg(long)]
    pub log_errors: bool,
    /// Leave a zombie child behind
    #[arg(long)]
    pub leave_zombie: bool,
    /// Start a child that outlives a stop
    #[arg(long)]
    pub leave_child: bool,
    /// Commit so many rows a second to the memory
    #[arg(long, value_name = "ROWS", default_value_t = 0.0)]
    pub rows_per_second: f64,
}

impl Misbehaviour {
    /// What is done once, at the start.
    pub(super) fn begin(&self) -> Result<()> {
        let child = |program: &str, argument: &str| {
            Command::new(program)
                .arg(argument)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        if self.leave_zombie {
            // Never waited for: it stays in the process table until we end.
            std::mem::forget(child("true", "")?);
        }
        if self.leave_child {
            std::mem::forget(child("sleep", "3600")?);
        }
        Ok(())
    }

    /// When the loop must wake for it, besides its own events.
    pub(super) fn wake(&self, started: Instant) -> Option<Instant> {
        let crash = self.crash_after.map(|after| started + seconds(after));
        let hang = self.hang_after.map(|after| started + seconds(after)).filter(|at| *at > Instant::now());
        let row = (self.rows_per_second > 0.0).then(|| Instant::now() + seconds(1.0 / self.rows_per_second));
        [crash, hang, row].into_iter().flatten().min()
    }

    pub(super) fn hangs(&self, started: Instant) -> bool {
        self.hang_after.is_some_and(|after| started.elapsed() >= seconds(after))
    }

    pub(super) fn crash_if_due(&self, started: Instant) {
        if self.crash_after.is_some_and(|after| started.elapsed() >= seconds(after)) {
            std::process::abort();
        }
    }

    /// Commits the rows that are due, one transaction each; `written` counts them.
    pub(super) fn write(&self, memory: &Memory, started: Instant, written: &mut u64) -> Result<()> {
        let due = (started.elapsed().as_secs_f64() * self.rows_per_second) as u64;
        // After a pause no more than a handful at a time: signals must be seen in between.
        for _ in 0..due.saturating_sub(*written).min(50) {
            memory.remember(Utc::now(), "note", "one of many")?;
            *written += 1;
        }
        Ok(())
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX / 4)
}
