//! The jobs that cron does for an agent.

use super::when;
use crate::config::Schedule;
use chrono::{DateTime, Utc};

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
}

impl Job {
    /// Every one.
    pub const ALL: [Job; 5] = [Job::Alert, Job::RotateLogs, Job::Backup, Job::Drill, Job::Dashboard];

    /// Its key in `[schedule]`, and its name in the journal.
    pub fn key(self) -> &'static str {
        match self {
            Job::Alert => "alert",
            Job::RotateLogs => "rotate_logs",
            Job::Backup => "backup",
            Job::Drill => "drill",
            Job::Dashboard => "dashboard",
        }
    }

    /// The arguments of `ops` that do it.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Job::Alert => &["alert"],
            Job::RotateLogs => &["rotate-logs"],
            Job::Backup => &["backup"],
            Job::Drill => &["restore", "latest", "--drill"],
            Job::Dashboard => &["dashboard", "web"],
        }
    }

    /// When it runs, as crontab(5) writes it; empty: not at all.
    pub fn when(self, schedule: &Schedule) -> &str {
        match self {
            Job::Alert => &schedule.alert,
            Job::RotateLogs => &schedule.rotate_logs,
            Job::Backup => &schedule.backup,
            Job::Drill => &schedule.drill,
            Job::Dashboard => &schedule.dashboard,
        }
    }

    /// When it is due next; none: never.
    pub fn next(self, schedule: &Schedule, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        when::next(self.when(schedule), now)
    }

    /// When it was due last; none: never.
    pub fn last(self, schedule: &Schedule, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        when::previous(self.when(schedule), now)
    }
}
