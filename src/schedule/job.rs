//! The jobs that cron does for an agent.

use super::when;
use crate::base::units::Span;
use crate::config::Schedule;
use crate::config::when::{When, parse};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

/// One of the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Health check and alerts.
    Alert,
    /// Log rotation.
    RotateLogs,
    /// Backup.
    Backup,
    /// A restore on trial.
    Drill,
    /// The status page.
    Dashboard,
    /// The report by mail.
    Report,
}

impl Job {
    /// Every one.
    pub const ALL: [Job; 6] =
        [Job::Alert, Job::RotateLogs, Job::Backup, Job::Drill, Job::Dashboard, Job::Report];

    /// Its key in `[schedule]`, and its name in the journal.
    pub fn key(self) -> &'static str {
        match self {
            Job::Alert => "alert",
            Job::RotateLogs => "rotate_logs",
            Job::Backup => "backup",
            Job::Drill => "drill",
            Job::Dashboard => "dashboard",
            Job::Report => "report",
        }
    }

    /// How long a run of it may take.
    pub fn limit(self, schedule: &Schedule) -> Duration {
        let limit = &schedule.limit;
        match self {
            Job::Alert => limit.alert,
            Job::RotateLogs => limit.rotate_logs,
            Job::Backup => limit.backup,
            Job::Drill => limit.drill,
            Job::Dashboard => limit.dashboard,
            Job::Report => limit.report,
        }
        .0
    }

    /// The words after `ops` that do it.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Job::Alert => &["alert"],
            Job::RotateLogs => &["rotate-logs"],
            Job::Backup => &["backup"],
            Job::Drill => &["restore", "latest", "--drill"],
            Job::Dashboard => &["dashboard", "web"],
            Job::Report => &["report", "--email"],
        }
    }

    /// Its own part of the `jitter`: many hosts with the same schedule do not all write to the same
    /// storage at once, and one host does it at the same moment each time. The page is nobody else's.
    pub fn delay(self, schedule: &Schedule, host: &str, home: &Path) -> u64 {
        let most = schedule.jitter.0.as_secs();
        if self == Job::Dashboard || most == 0 {
            return 0;
        }
        let digest = Sha256::digest(format!("{host}\n{}\n{}", home.display(), self.key()));
        let number = digest.iter().take(8).fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        number % (most + 1)
    }

    /// Whether it runs when the machine, or the container, starts.
    pub fn at_boot(self, schedule: &Schedule) -> bool {
        parse(self.when(schedule)) == Ok(Some(When::Boot))
    }

    /// When it runs, as crontab(5) writes it; empty: not at all.
    pub fn when(self, schedule: &Schedule) -> &str {
        match self {
            Job::Alert => &schedule.alert,
            Job::RotateLogs => &schedule.rotate_logs,
            Job::Backup => &schedule.backup,
            Job::Drill => &schedule.drill,
            Job::Dashboard => &schedule.dashboard,
            Job::Report => &schedule.report,
        }
    }

    /// When it runs next, its part of the `jitter` later than it is due; none: never.
    pub fn next(
        self,
        schedule: &Schedule,
        host: &str,
        home: &Path,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let delay = Span::seconds(self.delay(schedule, host, home)).delta();
        // What is due already may be waiting still.
        Some(when::next(self.when(schedule), now - delay)? + delay)
    }

    /// When it was due last; none: never.
    pub fn last(self, schedule: &Schedule, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        when::previous(self.when(schedule), now)
    }
}
