//! The backups: is there a recent, verified one, and did the last run make one?

use super::cause::{Cause, Found, quoted};
use super::checks;
use super::view::View;
use crate::backup::catalog::{self, Catalog};
use crate::base::{Journal, State, units};
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
    /// Whether there is an archive that can be restored.
    any: bool,
    /// What is wrong with archives that are newer than it.
    flaws: Vec<String>,
    /// When the last run failed, and what the log said.
    failed: Option<(DateTime<Utc>, Option<String>)>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.whole() else { return Ok(Found::default()) };
    let dir = &loaded.config.backup.dir;
    let journal = view.journal();
    let said = || {
        let lines = loaded.home.last_lines(&loaded.home.log("backup"), 200, 256 << 10).unwrap_or_default();
        lines.into_iter().rev().find(|line| line.contains("[ERROR]") || line.contains("[CRITICAL]"))
    };
    let catalog = catalog::status(loaded, journal.as_ref()).ok();
    let facts = Facts {
        any: catalog.as_ref().is_none_or(|catalog| !catalog.archives.is_empty()),
        flaws: catalog.as_ref().map(Catalog::newer_flaws).unwrap_or_default(),
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
                .advise("is its disk mounted? backups that were copied to a bucket are still there: `ops backup list --remote`"),
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
    if let Some(first) = facts.flaws.first() {
        causes.push(
            Cause::new("backup_damaged", State::Warning, 67, first.clone())
                .run("ops backup list")
                .run("ops backup")
                .advise("restores take the last good one; what is damaged or missing goes on so until it is mended"),
        );
    }
    // What is wrong with newer ones was told.
    let old = |(state, _): &&(State, String)| *state != State::Ok && (facts.flaws.is_empty() || !facts.any);
    if let Some((state, summary)) = facts.age.as_ref().filter(old) {
        let none = !facts.any || !facts.there;
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
        let facts = |there, known: i64, age: Option<(State, &str)>, failed: bool, flaw: Option<&str>| {
            let facts = Facts {
                folder: "/b".to_owned(),
                there,
                known,
                any: known > 0,
                flaws: flaw.map(str::to_owned).into_iter().collect(),
                age: age.map(|(state, summary)| (state, summary.to_owned())),
                failed: failed.then(|| (DateTime::UNIX_EPOCH, Some("[ERROR] no room".to_owned()))),
            };
            judge(&facts).iter().map(|cause| cause.id).collect::<Vec<_>>()
        };
        let old = Some((State::Critical, "5d old"));
        assert!(facts(true, 3, Some((State::Ok, "1h old")), false, None).is_empty());
        assert_eq!(facts(false, 3, old, false, None), ["backups_gone"]);
        assert_eq!(
            facts(false, 0, Some((State::Warning, "there is no backup yet")), false, None),
            ["no_backup"]
        );
        assert_eq!(facts(true, 3, old, true, None), ["backup_failed", "backup_old"]);
        let flawed = Some((State::Warning, "1h old; the newer backup x is damaged"));
        assert_eq!(facts(true, 3, flawed, false, Some("the newer backup x is damaged")), ["backup_damaged"]);
    }
}
