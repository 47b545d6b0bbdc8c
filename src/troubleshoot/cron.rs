//! What starts our jobs, and the agent after a boot: cron, or a manager.

use super::cause::{Cause, Found};
use super::view::View;
use super::words;
use crate::base::beneath::read_small_text;
use crate::base::{Journal, State, units};
use crate::config::{Loaded, Schedule};
use crate::schedule::{self, Job};
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// No job counts as late before this is over.
const PATIENCE: TimeDelta = TimeDelta::minutes(15);

/// So many times in a row, and a job is run by something that goes by the schedule.
const PERIODS: usize = 3;

/// What became of our lines.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lines {
    /// They were never put there.
    None,
    /// Of another user, whose crontab is none of ours.
    Another,
    There,
    Changed,
    Gone,
}

struct Facts {
    /// Whether there is a program `crontab`.
    program: bool,
    lines: Lines,
    /// The manager whose timers run them instead, and the files that are not as they were written.
    timers: Option<(&'static str, Vec<String>)>,
    /// Why the crontab cannot be read.
    unreadable: Option<String>,
    /// Whether a cron daemon runs; none: that cannot be told here.
    daemon: Option<bool>,
    /// Jobs that were due so long ago and did not run.
    late: Vec<(&'static str, units::Span)>,
    /// The alert job runs when it should, whoever starts it.
    runs: bool,
    /// What starts the agent at boot: a unit, a line in the crontab.
    boot: Option<String>,
    /// Whether alert starts what is not there.
    recovers: bool,
    words: Vec<String>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.whole() else { return Ok(Found::default()) };
    let installed = schedule::installed(&loaded.home)?;
    let timers = schedule::installed_timers(&loaded.home)?;
    let program = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join("crontab").is_file());
    let crontab = if program { Some(schedule::read()) } else { None };
    let text = crontab.as_ref().and_then(|crontab| crontab.as_ref().ok());
    let lines = match &installed {
        None => Lines::None,
        Some(installed) if !installed.ours => Lines::Another,
        Some(installed) => text.map_or(Lines::There, |text| lines(text, &installed.block)),
    };
    let ran = view.journal().map(|journal| ran(&journal)).unwrap_or_default();
    let schedule = &loaded.config.schedule;
    let since = installed.map(|installed| installed.since);
    let since = timers.as_ref().map(|(_, since)| *since).or(since).map(DateTime::<Utc>::from);
    let services = view.services(loaded);
    let supervised = loaded.config.service.keys().any(|name| services.supervised(name));
    let facts = Facts {
        program,
        lines,
        timers: timers.map(|(timers, _)| {
            let wrong = timers.wrong().iter().map(|path| path.display().to_string()).collect();
            (timers.manager.name(), wrong)
        }),
        unreadable: crontab
            .as_ref()
            .and_then(|crontab| crontab.as_ref().err())
            .map(|error| format!("{error:#}")),
        daemon: schedule::cron_runs(),
        late: since.map(|since| late(schedule, &ran, since, view.run.now)).unwrap_or_default(),
        runs: runs(
            schedule,
            &view.journal().map(|journal| alerts(&journal, view.run.now)).unwrap_or_default(),
            view.run.now,
        ),
        boot: at_boot(loaded, text.map_or(&[][..], Vec::as_slice))
            .or_else(|| supervised.then(|| "`ops run`, and that by a container, perhaps".to_owned())),
        recovers: loaded.config.alerts.recover
            && loaded.config.service.values().any(|service| service.recover),
        words: words::last(&loaded.home, &loaded.home.log("cron"), 3),
    };
    Ok(judge(&facts))
}

fn lines(crontab: &[u8], block: &[u8]) -> Lines {
    let first = block.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match () {
        () if block.is_empty() => Lines::None,
        () if crontab.windows(block.len()).any(|part| part == block) => Lines::There,
        () if crontab.split(|byte| *byte == b'\n').any(|line| line == first) => Lines::Changed,
        () => Lines::Gone,
    }
}

/// When each job ran last.
fn ran(journal: &Journal) -> BTreeMap<String, DateTime<Utc>> {
    let read = || -> rusqlite::Result<BTreeMap<String, i64>> {
        let mut statement = journal.connection().prepare("SELECT name, at FROM jobs")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let times = read().unwrap_or_default().into_iter();
    times.filter_map(|(name, at)| Some((name, DateTime::from_timestamp_millis(at)?))).collect()
}

fn late(
    schedule: &Schedule,
    ran: &BTreeMap<String, DateTime<Utc>>,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<(&'static str, units::Span)> {
    let of = |job: Job| {
        // The first time that was missed.
        let done = ran.get(job.key()).map_or(since, |at| since.max(*at));
        let due = schedule::next(job.when(schedule), done)?;
        (due < now - PATIENCE - schedule.jitter.delta()).then(|| (job.key(), units::age(now, due)))
    };
    Job::ALL.into_iter().filter_map(of).collect()
}

/// When `alert` ran, of late.
fn alerts(journal: &Journal, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let since = (now - TimeDelta::days(8)).timestamp_millis();
    let read = || -> rusqlite::Result<Vec<i64>> {
        let query = "SELECT at FROM runs WHERE program IN ('alert', 'ops alert') AND at > ?1";
        let mut statement = journal.connection().prepare(query)?;
        statement.query_map([since], |row| row.get(0))?.collect()
    };
    read().unwrap_or_default().into_iter().filter_map(DateTime::from_timestamp_millis).collect()
}

/// Whether somebody runs the alert job as it should be run: at each of its last times. Once, or now and
/// then, is a person.
fn runs(schedule: &Schedule, alerts: &[DateTime<Utc>], now: DateTime<Utc>) -> bool {
    let mut end = Job::Alert.last(schedule, now);
    (0..PERIODS).all(|_| {
        let begin = end.and_then(|end| Job::Alert.last(schedule, end - TimeDelta::seconds(1)));
        let ran =
            begin.zip(end).is_some_and(|(begin, end)| alerts.iter().any(|at| (begin..end).contains(at)));
        end = begin;
        ran
    })
}

/// Who starts the agent at boot, by the words of what would do it.
fn at_boot(loaded: &Loaded, crontab: &[u8]) -> Option<String> {
    let home = loaded.home.root().to_string_lossy().into_owned();
    let crontab = String::from_utf8_lossy(crontab).into_owned();
    if crontab.lines().any(|line| line.trim_start().starts_with("@reboot") && line.contains(&home)) {
        return Some("an @reboot line in the crontab".to_owned());
    }
    let user = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folders = [
        user.join(".config/systemd/user"),
        PathBuf::from("/etc/systemd/system"),
        user.join("Library/LaunchAgents"),
        PathBuf::from("/Library/LaunchDaemons"),
    ];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let speaks_of_it = |path: &PathBuf| read_small_text(path).is_ok_and(|text| text.contains(&home));
    files.map(|file| file.path()).find(speaks_of_it).map(|path| path.display().to_string())
}

fn judge(facts: &Facts) -> Found {
    let mut found = Found::default();
    let alert = facts.recovers && (facts.runs || matches!(facts.lines, Lines::There | Lines::Another));
    if let Some((manager, wrong)) = &facts.timers {
        judge_timers(manager, wrong, facts, &mut found);
        judge_boot(facts, facts.recovers, &mut found);
        return found;
    }
    if let Some(why) = &facts.unreadable
        && facts.lines != Lines::Another
    {
        found.causes.push(Cause::untold("the crontab", why));
    }
    if !facts.program && facts.boot.is_none() && !facts.runs {
        found.causes.push(
            warning("cron_missing", 70, "there is no cron on this machine: no program crontab on PATH")
                .run("sudo apt-get install cron")
                .advise("or let another scheduler run the lines of `ops cron-install --print`"),
        );
    }
    match facts.lines {
        Lines::None if !facts.runs => {
            let cause =
                warning("no_schedule", 75, "nothing looks after the agent: no job of ours is in the crontab")
                    .seen("without them nobody is alerted, nothing is restarted, backed up or rotated");
            found.causes.push(cause.run("ops cron-install"));
        }
        Lines::None | Lines::Another | Lines::There => {}
        Lines::Changed => found.causes.push(
            warning("schedule_changed", 72, "our lines in the crontab were changed by hand")
                .run("crontab -l")
                .run("ops cron-install")
                .advise("the second command writes them anew; times belong into [schedule]"),
        ),
        Lines::Gone => found.causes.push(
            warning("schedule_gone", 71, "our lines are gone from the crontab: no checks, no backups")
                .run("ops cron-install")
                .advise("who took them out? `crontab FILE` of another program replaces everything"),
        ),
    }
    let ours = matches!(facts.lines, Lines::There | Lines::Another | Lines::Changed);
    let late = || facts.late.iter().map(|(job, ago)| format!("{job} was due {ago} ago and did not run"));
    if ours && facts.daemon == Some(false) && (!facts.runs || !facts.late.is_empty()) {
        found.causes.push(
            warning("cron_not_running", 70, "cron does not run: the jobs in the crontab are not done")
                .seen("there is no process cron or crond")
                .seen_all(late())
                .run("sudo systemctl enable --now cron || sudo service cron start")
                .advise("in a container: `ops run --schedule` does the jobs without cron; with systemd: `ops cron-install --manager systemd`"),
        );
    } else if ours && !facts.late.is_empty() {
        found.causes.push(
            warning("jobs_late", 73, "jobs of ours in the crontab did not run when they should")
                .seen_all(late())
                .last_words(&facts.words)
                .run("grep -i cron /var/log/syslog | tail -20")
                .run("ops cron-install")
                .advise("is the path of our programs in the lines still right? was the machine asleep? on macOS cron needs Full Disk Access"),
        );
    }
    judge_boot(facts, alert, &mut found);
    found
}

/// Whether something starts the agent at boot; `alert` does within minutes.
fn judge_boot(facts: &Facts, alert: bool, found: &mut Found) {
    match &facts.boot {
        Some(what) => found.notes.push(format!("at boot it is started by {what}")),
        None if alert => {}
        None => found.causes.push(
            warning("not_started_at_boot", 78, "nothing starts the agent when the machine is booted: no manager, no @reboot line, no alert in cron")
                .run("ops install")
                .advise("in a container: `ops run`; alert by cron (`ops cron-install`) starts what is not there within minutes"),
        ),
    }
}

fn judge_timers(manager: &str, wrong: &[String], facts: &Facts, found: &mut Found) {
    if !wrong.is_empty() {
        found.causes.push(
            warning(
                "timers_changed",
                71,
                &format!("the timers of {manager} that run our jobs are not as they were written"),
            )
            .seen_all(wrong.iter().map(|path| format!("{path} is gone or changed")))
            .run(format!("ops cron-install --manager {manager}"))
            .advise("a file that was changed by hand has to be moved aside first"),
        );
    }
    if !facts.late.is_empty() {
        let look = if manager == "systemd" { "systemctl --user list-timers" } else { "launchctl list" };
        let jobs = facts.late.iter().map(|(job, ago)| format!("{job} was due {ago} ago and did not run"));
        found.causes.push(
            warning("jobs_late", 73, &format!("jobs that {manager} should start did not run"))
                .seen_all(jobs)
                .last_words(&facts.words)
                .run(look)
                .advise("timers of a user run only while the user is logged in: loginctl enable-linger"),
        );
    }
}

fn warning(id: &'static str, rank: u16, text: &str) -> Cause {
    Cause::new(id, State::Warning, rank, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lines: Lines) -> Facts {
        Facts {
            program: true,
            lines,
            timers: None,
            unreadable: None,
            daemon: Some(true),
            late: Vec::new(),
            runs: false,
            boot: None,
            recovers: true,
            words: Vec::new(),
        }
    }

    #[test]
    fn what_may_become_of_our_jobs() {
        let late = || vec![("backup", units::Span::minutes(50))];
        let unit = || Some("/etc/systemd/system/bot.service".to_owned());
        for (facts, expected) in [
            (facts(Lines::There), &[][..]),
            (facts(Lines::None), &["no_schedule", "not_started_at_boot"]),
            (Facts { runs: true, ..facts(Lines::None) }, &[]),
            (
                Facts { program: false, ..facts(Lines::None) },
                &["cron_missing", "no_schedule", "not_started_at_boot"],
            ),
            (Facts { program: false, runs: true, ..facts(Lines::None) }, &[]),
            (Facts { boot: unit(), ..facts(Lines::None) }, &["no_schedule"]),
            (facts(Lines::Gone), &["schedule_gone", "not_started_at_boot"]),
            (Facts { runs: true, ..facts(Lines::Changed) }, &["schedule_changed"]),
            (Facts { late: late(), ..facts(Lines::There) }, &["jobs_late"]),
            (Facts { late: late(), daemon: None, ..facts(Lines::There) }, &["jobs_late"]),
            (Facts { late: late(), daemon: Some(false), ..facts(Lines::There) }, &["cron_not_running"]),
            (Facts { daemon: Some(false), ..facts(Lines::There) }, &["cron_not_running"]),
            (Facts { daemon: Some(false), runs: true, ..facts(Lines::There) }, &[]),
            (Facts { daemon: Some(false), ..facts(Lines::None) }, &["no_schedule", "not_started_at_boot"]),
            (Facts { unreadable: Some("x".to_owned()), ..facts(Lines::There) }, &["could_not_tell"]),
            (Facts { recovers: false, ..facts(Lines::There) }, &["not_started_at_boot"]),
            (Facts { program: false, timers: Some(("systemd", Vec::new())), ..facts(Lines::None) }, &[]),
            (
                Facts {
                    late: late(),
                    timers: Some(("launchd", vec!["/x".to_owned()])),
                    ..facts(Lines::None)
                },
                &["timers_changed", "jobs_late"],
            ),
        ] {
            let ids: Vec<_> = judge(&facts).causes.iter().map(|cause| cause.id).collect();
            assert_eq!(ids, expected);
        }
    }

    #[test]
    fn a_job_is_late_when_it_did_not_run_since_it_was_due() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let schedule = Schedule { alert: "*/5 * * * *".to_owned(), ..Schedule::default() };
        let at = |minutes: i64| now - TimeDelta::minutes(minutes);
        let late = |ran: &[(&str, i64)], since: i64| {
            let ran = ran.iter().map(|(name, minutes)| ((*name).to_owned(), at(*minutes))).collect();
            let late = late(&schedule, &ran, at(since), now);
            late.into_iter().map(|(key, ago)| (key, ago.as_secs().round() as u64 / 60)).collect::<Vec<_>>()
        };
        assert_eq!(late(&[("alert", 3), ("dashboard", 1)], 60), []);
        // Since when it was due, not when it was due last.
        assert_eq!(late(&[("alert", 43), ("dashboard", 1)], 60), [("alert", 40)]);
        assert_eq!(late(&[("alert", 300), ("dashboard", 1)], 55), [("alert", 50)]);
        assert_eq!(late(&[], 10), [], "installed just now");
        let runs = |minutes: &[i64]| {
            runs(&schedule, &minutes.iter().map(|&minutes| at(minutes)).collect::<Vec<_>>(), now)
        };
        assert!(runs(&[4, 9, 14, 19]) && runs(&[1, 5, 10, 15, 20]));
        assert!(!runs(&[]) && !runs(&[1]) && !runs(&[2, 3, 4]) && !runs(&[1, 7]), "by hand");
    }

    #[test]
    fn our_lines_are_known_by_their_first() {
        let block = b"# >>> agent-ops a /h >>>\n* * * * * x\n# <<< agent-ops a /h <<<\n";
        assert_eq!(lines(b"", block), Lines::Gone);
        assert_eq!(lines(&[b"MAILTO=x\n".as_slice(), block].concat(), block), Lines::There);
        assert_eq!(lines(b"# >>> agent-ops a /h >>>\n5 * * * * x\n", block), Lines::Changed);
    }
}
