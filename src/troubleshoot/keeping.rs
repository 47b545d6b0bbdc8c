//! The backups: is there a recent, verified one, and did the last run make one?

use super::cause::{Cause, Found, quoted};
use super::checks;
use super::view::View;
use crate::base::{Journal, State, lines, units};
use anyhow::Result;
use chrono::{DateTime, Utc};

struct Facts {
    folder: String,
    /// Whether the folder is there.
    there: bool,
    /// Whether the journal knows of archives.
    known: i64,
    /// What the check of their age says.
    age: Option<(State, String)>,
    /// When the last run failed, and what the log said.
    failed: Option<(DateTime<Utc>, Option<String>)>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.whole() else { return Ok(Found::default()) };
    let dir = &loaded.config.backup.dir;
    let journal = view.journal();
    let said = || {
        let lines = lines::last_lines(&loaded.home.log("backup"), 200, 256 << 10).unwrap_or_default();
        lines.into_iter().rev().find(|line| line.contains("[ERROR]") || line.contains("[CRITICAL]"))
    };
    let facts = Facts {
        folder: dir.display().to_string(),
        there: dir.is_dir(),
        known: journal.as_ref().map_or(0, |journal| {
            journal.connection().query_row("SELECT count(*) FROM backups", [], |row| row.get(0)).unwrap_or(0)
        }),
        age: checks::backup_age(view).map(|finding| (finding.seen, finding.summary)),
        failed: journal.as_ref().and_then(failed).map(|at| (at, said())),
    };
    Ok(judge(&facts).into())
}

/// When the last backup failed, if it did.
fn failed(journal: &Journal) -> Option<DateTime<Utc>> {
    let query = "SELECT at, state FROM jobs WHERE name = 'backup'";
    let row =
        journal.connection().query_row(query, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let (at, state) = row.ok()?;
    (State::from_code(state).badness(true) >= State::Unknown.badness(true))
        .then(|| DateTime::from_timestamp_millis(at))
        .flatten()
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let folder = &facts.folder;
    let mut causes = Vec::new();
    if !facts.there && facts.known > 0 {
        return vec![
            Cause::new("backups_gone", State::Warning, 66, format!("the folder of the backups, {folder}, is gone: there were {}", facts.known))
                .run("mount | tail")
                .advise("is its disk mounted? backups that were copied to a bucket are still there: ops backup list --remote"),
        ];
    }
    if let Some((at, said)) = &facts.failed {
        causes.push(
            Cause::new(
                "backup_failed",
                State::Warning,
                67,
                format!("the last backup, of {}, failed", units::local(*at)),
            )
            .seen_all(said.iter().map(|line| format!("logs/backup.log: {line}")))
            .run("ops backup")
            .run(format!("df -h {0} && ls -la {0}", quoted(folder)))
            .advise("it says what is in the way: room, permissions, a file that cannot be read"),
        );
    }
    if let Some((state, summary)) = facts.age.as_ref().filter(|(state, _)| *state != State::Ok) {
        let none = summary.contains("no backup") || !facts.there;
        let (id, text) = match none {
            true => (
                "no_backup",
                "there is no backup: what the agent knows would be lost with this disk".to_owned(),
            ),
            false => ("backup_old", format!("the newest backup is old: {summary}")),
        };
        let state = if *state == State::Unknown { State::Unknown } else { State::Warning };
        causes
            .push(Cause::new(id, state, 68, text).seen(format!("in {folder}: {summary}")).run("ops backup"));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_wrong_with_backups() {
        let facts = |there, known: i64, age: Option<(State, &str)>, failed: bool| {
            let facts = Facts {
                folder: "/b".to_owned(),
                there,
                known,
                age: age.map(|(state, summary)| (state, summary.to_owned())),
                failed: failed.then(|| (DateTime::UNIX_EPOCH, Some("[ERROR] no room".to_owned()))),
            };
            judge(&facts).iter().map(|cause| cause.id).collect::<Vec<_>>()
        };
        let old = Some((State::Critical, "5d old"));
        assert!(facts(true, 3, Some((State::Ok, "1h old")), false).is_empty());
        assert_eq!(facts(false, 3, old, false), ["backups_gone"]);
        assert_eq!(facts(false, 0, Some((State::Warning, "there is no backup yet")), false), ["no_backup"]);
        assert_eq!(facts(true, 3, old, true), ["backup_failed", "backup_old"]);
    }
}
