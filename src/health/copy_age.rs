//! Is there a recent backup in the bucket? By the journal, which knows what was there when it was last
//! looked at: a check must not wait for the network.
//!
//! Before the first copy the age of the first backup counts.

use super::Answer;
use super::age::age;
use crate::base::State;
use crate::config::check::CopyAge;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::Connection;

/// What the journal knows of copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    /// When the newest one was made.
    newest: Option<DateTime<Utc>>,
    /// When the oldest backup that is left was made.
    first_backup: Option<DateTime<Utc>>,
}

impl Copies {
    /// Asks the journal for those at `remote`.
    pub(super) fn load(journal: &Connection, remote: &str) -> Result<Copies> {
        let query = "SELECT (SELECT max(at) FROM copies WHERE remote = ?1), (SELECT min(at) FROM backups)";
        let time = |millis: Option<i64>| millis.and_then(DateTime::from_timestamp_millis);
        journal
            .query_row(query, [remote], |row| {
                Ok(Copies { newest: time(row.get(0)?), first_backup: time(row.get(1)?) })
            })
            .context("cannot read the journal")
    }
}

pub(super) fn look(copies: Option<&Copies>, options: &CopyAge, now: DateTime<Utc>) -> Answer {
    let remedy =
        "the backups here are not touched by it; `ops backup copy` tries now and says what is in the way";
    let Some(copies) = copies else {
        return Answer::unknown("the journal, which knows of copies, cannot be read".to_owned());
    };
    let Some(since) = copies.newest.or(copies.first_backup) else {
        return Answer::new(State::Ok, "no copy in the bucket yet, and no backup to copy");
    };
    let Some((age, metric)) = age(now, since, options.warn.0, options.crit.0) else {
        return Answer::unknown("the newest copy is from the future: did a clock jump?".to_owned());
    };
    let summary = match copies.newest {
        Some(_) => format!("the newest backup in the bucket is {age} old"),
        None => format!("no copy in the bucket yet, the first backup is {age} old"),
    };
    Answer::new(metric.judge(), summary).metric(metric).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Home, Journal};
    use chrono::TimeDelta;

    #[test]
    fn ages_and_a_lenient_start() {
        let now: DateTime<Utc> = "2026-11-20T00:00:00Z".parse().unwrap();
        let options: CopyAge = toml::from_str("").unwrap();
        let ago = |hours: i64| Some(now - TimeDelta::hours(hours));
        for (newest, first_backup, expected) in [
            (None, None, State::Ok),
            (None, ago(25), State::Ok),
            (None, ago(27), State::Warning),
            (None, ago(73), State::Critical),
            (ago(25), ago(9000), State::Ok),
            (ago(27), ago(9000), State::Warning),
            (ago(73), ago(9000), State::Critical),
            (ago(-1), None, State::Unknown),
        ] {
            let answer = look(Some(&Copies { newest, first_backup }), &options, now);
            assert_eq!(answer.state, expected, "{newest:?} {first_backup:?}");
        }
        assert_eq!(look(None, &options, now).state, State::Unknown);
    }

    #[test]
    fn only_what_is_in_this_bucket_counts() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&Home::new(dir.path().to_owned())).unwrap();
        let load = || Copies::load(journal.connection(), "s3://b/bot/").unwrap();
        assert!(load().newest.is_none() && load().first_backup.is_none());
        let rows =
            "INSERT INTO copies VALUES('a', 's3://b/bot/', 1000, 1, 9), ('b', 's3://old/bot/', 2000, 1, 9)";
        journal.connection().execute(rows, []).unwrap();
        assert_eq!(load().newest.map(|at| at.timestamp_millis()), Some(1000));
    }
}
