//! Is the clock right? By what was written before now and says that it was later; and does cron count its
//! hours as we do?

use super::cause::{Cause, Found};
use super::view::View;
use crate::base::status_file::StatusFile;
use crate::base::{Journal, State, process, units};
use anyhow::Result;
use chrono::{DateTime, Local, Offset, TimeDelta, Utc};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What lies so little ahead is a clock that was set.
const SLACK: TimeDelta = TimeDelta::minutes(2);

struct Facts {
    now: DateTime<Utc>,
    /// When these programs were built, as their file says.
    built: Option<DateTime<Utc>>,
    /// What is from a time that has not come, and of when.
    seen: Vec<(String, DateTime<Utc>)>,
    /// Whether the system says that it is synchronised; none: it does not say.
    synchronised: Option<bool>,
    /// The offset of our time zone and of that of the system, if they differ.
    zones: Option<(String, String)>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let written =
        |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok().map(DateTime::<Utc>::from);
    let mut seen = Vec::new();
    if let Some(loaded) = view.at_home() {
        let home = &loaded.home;
        for (name, service) in &loaded.config.service {
            let file = service.status_file.as_deref().and_then(|path| StatusFile::read(path).ok());
            let at = file.and_then(|file| file.sign_of_life());
            seen.extend(at.map(|at| (format!("the status file of {name}"), at)));
        }
        seen.extend(view.journal().as_ref().and_then(newest).map(|at| ("our journal".to_owned(), at)));
        for folder in [home.root().to_owned(), home.logs(), loaded.config.backup.dir.clone()] {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let paths = entries.map(|entry| entry.path());
            seen.extend(paths.filter_map(|path| Some((home.show(&path), written(&path)?))));
        }
    }
    let facts = Facts {
        now: view.run.now,
        built: std::env::current_exe().ok().and_then(|me| written(&me)),
        seen,
        synchronised: synchronised(),
        zones: zones(),
    };
    Ok(judge(&facts))
}

/// The last moment of which the journal knows.
fn newest(journal: &Journal) -> Option<DateTime<Utc>> {
    let query = "SELECT max(at) FROM (SELECT max(at) AS at FROM runs UNION SELECT max(at) FROM jobs UNION SELECT max(at) FROM actions)";
    let at: Option<i64> = journal.connection().query_row(query, [], |row| row.get(0)).ok()?;
    DateTime::from_timestamp_millis(at?)
}

fn said(command: Command) -> Option<String> {
    let output = process::run(command, None, Duration::from_secs(2)).ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What systemd says, where it is.
fn synchronised() -> Option<bool> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "-p", "NTPSynchronized", "--value"]);
    match said(command)?.as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// cron knows nothing of the `TZ` of a shell.
fn zones() -> Option<(String, String)> {
    std::env::var_os("TZ")?;
    let mut command = Command::new("date");
    command.arg("+%z").env_remove("TZ");
    let system = said(command)?;
    let ours = Local::now().offset().fix().to_string().replace(':', "");
    (ours != system).then_some((ours, system))
}

fn judge(facts: &Facts) -> Found {
    let mut found = Found::default();
    let ahead = |at: DateTime<Utc>| at - facts.now > SLACK;
    let shown = |what: &str, at: DateTime<Utc>| {
        format!(
            "{what} is of {}, {} from now",
            units::local(at),
            units::Span((at - facts.now).to_std().unwrap_or_default())
        )
    };
    let wrong = |id, state, text: &str| {
        Cause::new(id, state, 8, text)
            .run("date")
            .run("timedatectl")
            .advise("set it right (timedatectl set-ntp true, or chrony): ages, certificates, schedules and retention all go by it")
    };
    let mut later: Vec<_> = facts.seen.iter().filter(|(_, at)| ahead(*at)).collect();
    later.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
    let evidence: Vec<String> = later.iter().take(3).map(|(what, at)| shown(what, *at)).collect();
    if let Some(built) = facts.built.filter(|built| ahead(*built)) {
        let text =
            format!("the clock is wrong: it says {}, and these programs are newer", units::local(facts.now));
        let cause = wrong("clock_behind", State::Critical, &text);
        found.causes.push(cause.seen(shown("the file of ops", built)).seen_all(evidence));
    } else if !evidence.is_empty() {
        let text = "the clock is wrong, or was set back: there is something from the future";
        found.causes.push(wrong("clock_jumped", State::Warning, text).seen_all(evidence));
    }
    if facts.synchronised == Some(false) {
        found.causes.push(
            Cause::new(
                "clock_not_synchronised",
                State::Warning,
                220,
                "the clock is not synchronised with any other",
            )
            .seen("timedatectl says NTPSynchronized=no")
            .run("sudo timedatectl set-ntp true"),
        );
    }
    if let Some((ours, system)) = &facts.zones {
        found.notes.push(format!(
            "this shell counts time as {ours}, the system as {system}: the hours in [schedule] are cron's, which are the system's"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_from_the_future_tells_of_the_clock() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let facts = |built: i64, seen: i64, synchronised, zones| Facts {
            now,
            built: Some(now + TimeDelta::minutes(built)),
            seen: vec![("a".to_owned(), now + TimeDelta::minutes(seen))],
            synchronised,
            zones,
        };
        let ids = |facts: &Facts| judge(facts).causes.iter().map(|cause| cause.id).collect::<Vec<_>>();
        assert!(ids(&facts(-5, 1, Some(true), None)).is_empty());
        assert_eq!(ids(&facts(-5, 10, None, None)), ["clock_jumped"]);
        assert_eq!(ids(&facts(60, 10, None, None)), ["clock_behind"]);
        assert_eq!(ids(&facts(-5, -5, Some(false), None)), ["clock_not_synchronised"]);
        let zones = Some(("+0100".to_owned(), "+0000".to_owned()));
        let found = judge(&facts(-5, -5, None, zones));
        assert!(found.causes.is_empty() && found.notes[0].contains("cron's"));
    }
}
