//! Was a backup restored on trial lately? A backup that was never restored is a hope.
//!
//! Before the first drill the age of the first backup counts: a new agent has its first weeks in
//! peace, an old one whose drills never came has not.

use super::Answer;
use super::age::age;
use crate::base::{State, units};
use crate::config::check::DrillAge;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::Connection;

/// What the journal knows of drills.
#[derive(Clone, Debug, Default)]
pub(super) struct Drills {
    /// When one last went well.
    good: Option<DateTime<Utc>>,
    /// When one last found a backup that cannot be restored.
    failed: Option<DateTime<Utc>>,
    /// When the oldest backup that is left was made.
    first_backup: Option<DateTime<Utc>>,
}

impl Drills {
    /// Asks the journal. Archives go in time, the line of a drill in `actions` stays.
    pub(super) fn load(journal: &Connection) -> Result<Drills> {
        let query = "SELECT
            max((SELECT coalesce(max(drilled_at), -1) FROM backups),
                (SELECT coalesce(max(at), -1) FROM actions WHERE what LIKE 'drilled %' AND state < 2)),
            (SELECT coalesce(max(at), -1) FROM actions WHERE what LIKE 'drilled %' AND state = 2),
            (SELECT coalesce(min(at), -1) FROM backups)";
        let time = |millis: i64| Some(millis).filter(|at| *at >= 0).and_then(DateTime::from_timestamp_millis);
        journal
            .query_row(query, [], |row| {
                Ok(Drills {
                    good: time(row.get(0)?),
                    failed: time(row.get(1)?),
                    first_backup: time(row.get(2)?),
                })
            })
            .context("cannot read the journal")
    }
}

pub(super) fn look(drills: Option<&Drills>, options: &DrillAge, now: DateTime<Utc>) -> Answer {
    let remedy = "`ops restore --drill` restores the newest backup on trial and says what is wrong";
    let Some(drills) = drills else {
        return Answer::unknown("the journal, which knows of drills, cannot be read".to_owned());
    };
    if drills.failed > drills.good
        && let Some(failed) = drills.failed
    {
        let summary = format!("the last drill, {} ago, failed", units::age(now, failed));
        return Answer::new(State::Critical, summary).remedy(remedy);
    }
    let Some(since) = drills.good.or(drills.first_backup) else {
        return Answer::new(State::Ok, "no drill yet, and no backup to try");
    };
    let Some((age, metric)) = age(now, since, options.warn.0, options.crit.0) else {
        return Answer::unknown("the last drill is from the future: did a clock jump?".to_owned());
    };
    let summary = match drills.good {
        Some(_) => format!("{age} ago a backup was restored on trial"),
        None => format!("no drill yet, the first backup is {age} old"),
    };
    Answer::new(metric.judge(), summary).metric(metric).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Home, Journal, Run};
    use chrono::TimeDelta;

    #[test]
    fn ages_failures_and_a_lenient_start() {
        let now: DateTime<Utc> = "2026-11-20T00:00:00Z".parse().unwrap();
        let options: DrillAge = toml::from_str("").unwrap();
        let ago = |days: i64| Some(now - TimeDelta::days(days));
        let state = |good, failed, first_backup| {
            look(Some(&Drills { good, failed, first_backup }), &options, now).state
        };
        for (good, failed, first, expected) in [
            (None, None, None, State::Ok),
            (None, None, ago(8), State::Ok),
            (None, None, ago(9), State::Warning),
            (None, None, ago(31), State::Critical),
            (ago(8), None, ago(400), State::Ok),
            (ago(9), None, ago(400), State::Warning),
            (ago(31), None, ago(400), State::Critical),
            (ago(2), ago(1), ago(400), State::Critical),
            (ago(1), ago(2), ago(400), State::Ok),
            (None, ago(1), ago(2), State::Critical),
            (ago(-1), None, ago(2), State::Unknown),
        ] {
            assert_eq!(state(good, failed, first), expected, "{good:?} {failed:?} {first:?}");
        }
        assert_eq!(look(None, &options, now).state, State::Unknown);
    }

    #[test]
    fn the_journal_of_a_new_home_knows_of_none() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&Home::new(dir.path().to_owned())).unwrap();
        let drills = Drills::load(journal.connection()).unwrap();
        assert!(drills.good.is_none() && drills.failed.is_none() && drills.first_backup.is_none());
        let run = Run::begin("restore");
        journal.note(&run, "drilled /somewhere/x.tar.gz", State::Ok).unwrap();
        journal.note(&run, "drilled latest", State::Critical).unwrap();
        journal.note(&run, "restored 3 files from drilled", State::Critical).unwrap();
        let drills = Drills::load(journal.connection()).unwrap();
        assert_eq!(drills.good.map(|at| at.timestamp_millis()), Some(run.now.timestamp_millis()));
        assert_eq!(drills.good, drills.failed);
        assert_eq!(drills.first_backup, None);
    }
}
