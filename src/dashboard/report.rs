//! What became of the agent within a while: for people, once a week.

use super::history::Share;
use super::{Backups, Disk, Objective, Snapshot};
use crate::base::units::{self, Size, Span, age, local};
use crate::base::{Journal, Run, State, text};
use crate::config::{Kind, Loaded};
use crate::health::table::mark;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, params};
use serde::Serialize;

/// How far back there is something to tell of: as long as samples are kept.
pub const FARTHEST: Span = Span::days(35);

/// More of one kind are counted, not listed.
const LISTED: usize = 15;

/// The report of a while.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The agent's name.
    pub agent: String,
    /// The host.
    pub host: String,
    /// From when.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub from: DateTime<Utc>,
    /// To when.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub to: DateTime<Utc>,
    /// How it is now.
    pub state: State,
    /// The same in a line.
    pub headline: String,
    /// How often it was looked at.
    pub runs: u64,
    /// How often its processes were looked for, and how often they ran.
    pub uptime: Share,
    /// Each check: how often it was asked, and how often all was well. The worst first.
    pub checks: Vec<Check>,
    /// What was wrong: what still is first, then the newest.
    pub problems: Vec<Problem>,
    /// Restarts by `alert`, the newest first.
    pub restarts: Vec<Restart>,
    /// Backups that were made, and how many of them were found damaged since.
    pub made: Share,
    /// The backups that there are.
    pub backups: Backups,
    /// When one was restored on trial, last.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub drilled: Option<DateTime<Utc>>,
    /// Messages that somebody was told, and how many reached nobody.
    pub messages: Messages,
    /// The disk.
    pub disk: Option<Disk>,
    /// How it should be, as on the page.
    pub objectives: Vec<Objective>,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// How often it was asked, and how often all was well.
    #[serde(flatten)]
    pub share: Share,
}

/// One problem.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// Its alert type.
    pub kind: String,
    /// The check that found it.
    pub check: String,
    /// How bad it was last.
    pub severity: State,
    /// Since when.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub opened: DateTime<Utc>,
    /// Until when; none: it still is.
    #[serde(serialize_with = "units::maybe_rfc3339")]
    pub closed: Option<DateTime<Utc>>,
    /// What was seen last.
    pub summary: String,
}

/// One restart.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// When.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub at: DateTime<Utc>,
    /// Of what.
    pub service: String,
    /// Why.
    pub cause: String,
    /// Whether it ran afterwards.
    pub good: bool,
}

/// How many messages there were.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Messages {
    /// In all.
    pub all: u64,
    /// Of them CRITICAL.
    pub critical: u64,
    /// That no channel took.
    pub undelivered: u64,
}

/// Reads what the journal knows of the time since `from`.
///
/// # Errors
/// When the journal cannot be read.
pub fn report(
    loaded: &Loaded,
    run: &Run,
    journal: &Journal,
    snapshot: Snapshot,
    since: Span,
) -> Result<Report> {
    let from = run.now - since.delta();
    let read = |connection: &Connection| -> rusqlite::Result<Report> {
        let [since, now] = [from, run.now].map(|at| at.timestamp_millis());
        let number = |query: &str| -> rusqlite::Result<u64> {
            connection
                .query_row(query, [since], |row| row.get::<_, Option<i64>>(0))
                .map(|sum| sum.unwrap_or_default().unsigned_abs())
        };
        let checks = checks(connection, since, now)?;
        let is_process = |name: &str| {
            loaded.config.check.get(name).is_some_and(|check| matches!(check.kind, Kind::Process(_)))
        };
        let uptime =
            checks.iter().filter(|check| is_process(&check.name)).fold(Share::default(), |sum, check| {
                Share { all: sum.all + check.share.all, ok: sum.ok + check.share.ok }
            });
        let made = number("SELECT count(*) FROM backups WHERE at >= ?1")?;
        let damaged = number("SELECT count(*) FROM backups WHERE at >= ?1 AND state >= 2")?;
        Ok(Report {
            agent: snapshot.agent,
            host: snapshot.host,
            from,
            to: run.now,
            state: snapshot.state,
            headline: snapshot.headline,
            runs: number("SELECT count(*) FROM runs WHERE at >= ?1")?,
            uptime,
            checks,
            problems: problems(connection, since)?,
            restarts: restarts(connection, since)?,
            made: Share { all: made, ok: made.saturating_sub(damaged) },
            backups: snapshot.backups,
            drilled: connection
                .query_row("SELECT max(drilled_at) FROM backups", [], |row| row.get::<_, Option<i64>>(0))?
                .and_then(DateTime::from_timestamp_millis),
            messages: Messages {
                all: number("SELECT count(*) FROM messages WHERE at >= ?1")?,
                critical: number("SELECT count(*) FROM messages WHERE at >= ?1 AND severity = 2")?,
                undelivered: number(
                    "SELECT count(*) FROM messages m WHERE at >= ?1 AND NOT EXISTS
                     (SELECT 1 FROM deliveries d WHERE d.message = m.id AND d.outcome = 'delivered')",
                )?,
            },
            disk: snapshot.disk,
            objectives: snapshot.objectives,
        })
    };
    read(journal.connection()).context("cannot read the journal")
}

fn checks(connection: &Connection, since: i64, now: i64) -> rusqlite::Result<Vec<Check>> {
    let mut statement = connection.prepare(
        "SELECT check_name, count(*), sum(state = 0) FROM samples
         WHERE run IN (SELECT id FROM runs WHERE at >= ?1 AND at <= ?2)
         GROUP BY check_name ORDER BY avg(state = 0), check_name",
    )?;
    let row = |row: &Row<'_>| {
        let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
        Ok(Check { name: row.get(0)?, share: Share { all: number(1)?, ok: number(2)? } })
    };
    statement.query_map([since, now], row)?.collect()
}

fn at(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<DateTime<Utc>>> {
    Ok(row.get::<_, Option<i64>>(index)?.and_then(DateTime::from_timestamp_millis))
}

fn problems(connection: &Connection, since: i64) -> rusqlite::Result<Vec<Problem>> {
    let mut statement = connection.prepare(
        "SELECT type, check_name, severity, opened_at, closed_at, summary FROM incidents
         WHERE closed_at IS NULL OR closed_at >= ?1 ORDER BY closed_at IS NOT NULL, opened_at DESC",
    )?;
    let row = |row: &Row<'_>| {
        Ok(Problem {
            kind: text::one_line(&row.get::<_, String>(0)?, 80),
            check: text::one_line(&row.get::<_, String>(1)?, 80),
            severity: State::from_code(row.get(2)?),
            opened: at(row, 3)?.unwrap_or_default(),
            closed: at(row, 4)?,
            summary: text::one_line(&row.get::<_, String>(5)?, 200),
        })
    };
    statement.query_map([since], row)?.collect()
}

fn restarts(connection: &Connection, since: i64) -> rusqlite::Result<Vec<Restart>> {
    let mut statement = connection
        .prepare("SELECT at, service, cause, good FROM restarts WHERE at >= ?1 ORDER BY at DESC, id DESC")?;
    let row = |row: &Row<'_>| {
        Ok(Restart {
            at: at(row, 0)?.unwrap_or_default(),
            service: text::one_line(&row.get::<_, String>(1)?, 80),
            cause: text::one_line(&row.get::<_, String>(2)?, 200),
            good: row.get(3)?,
        })
    };
    statement.query_map(params![since], row)?.collect()
}

impl Report {
    /// Its title, as the subject of a mail.
    pub fn title(&self) -> String {
        let problems = match self.problems.len() {
            0 => "no problems".to_owned(),
            number => text::count(number, "problem"),
        };
        format!("[{}] report: {} now, {problems} since {}", self.agent, self.state, local(self.from))
    }

    /// The whole, in lines for people.
    pub fn text(&self) -> String {
        let mut page = Page(format!(
            "{} on {}, {} to {}\n{} {}\n",
            self.agent,
            self.host,
            local(self.from),
            local(self.to),
            mark(self.state),
            self.headline
        ));
        page.title("Objectives");
        for objective in &self.objectives {
            let sign = objective.met.map_or(' ', |met| mark(if met { State::Ok } else { State::Warning }));
            page.line(&format!("{sign} {:<16} {:<22} {}", objective.name, objective.text, objective.target));
        }
        page.list("Problems", &self.problems, |problem| {
            let until = match problem.closed {
                Some(closed) => format!("for {}", age(closed, problem.opened)),
                None => "until now".to_owned(),
            };
            let Problem { kind, check, severity, opened, summary, .. } = problem;
            format!("{} {} {kind} ({check}), {until}: {summary}", mark(*severity), local(*opened))
        });
        page.list("Restarts", &self.restarts, |restart| {
            let Restart { at, service, cause, good } = restart;
            let end = if *good { "it ran again" } else { "it did not start" };
            format!("{} {} {service}: {cause}; {end}", mark(State::Warning), local(*at))
        });
        page.title("Checks");
        let percent =
            |share: Share| share.percent().map_or("never asked".to_owned(), |of| format!("{of:.2} %"));
        page.line(&format!(
            "  looked at {}, services up {}",
            text::count(self.runs as usize, "time"),
            percent(self.uptime)
        ));
        for check in self.checks.iter().filter(|check| check.share.ok < check.share.all).take(LISTED) {
            let Share { all, ok } = check.share;
            page.line(&format!(
                "  {:<20} {} ok, {} of {all} not",
                check.name,
                percent(check.share),
                all - ok
            ));
        }
        page.title("Backups");
        let damaged = match self.made.all - self.made.ok {
            0 => String::new(),
            number => format!(", {number} of them damaged by now"),
        };
        page.line(&format!("  {} made{damaged}", self.made.all));
        page.line(&match &self.backups.newest {
            Some(newest) => format!(
                "  {} there, {}; the newest {} old{}",
                self.backups.count,
                Size(self.backups.bytes),
                Span::seconds(newest.age),
                if newest.verified { ", verified" } else { ", NOT verified" }
            ),
            None => "  there is none".to_owned(),
        });
        page.line(&match self.drilled {
            Some(at) => format!("  restored on trial {} ago", age(self.to, at)),
            None => "  never restored on trial: ops restore latest --drill".to_owned(),
        });
        page.title("Messages and room");
        let Messages { all, critical, undelivered } = self.messages;
        let lost = if undelivered > 0 { format!("; {undelivered} reached nobody") } else { String::new() };
        page.line(&format!("  {}, {critical} of them CRITICAL{lost}", text::count(all as usize, "message")));
        if let Some(disk) = &self.disk {
            page.line(&format!(
                "  {} free of {} ({} % used)",
                Size(disk.free),
                Size(disk.total),
                disk.used_percent
            ));
        }
        page.0
    }
}

struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn title(&mut self, title: &str) {
        self.0.push_str(&format!("\n{title}\n"));
    }

    fn list<T>(&mut self, title: &str, items: &[T], line: impl Fn(&T) -> String) {
        self.title(&format!("{title} ({})", items.len()));
        for item in items.iter().take(LISTED) {
            self.line(&line(item));
        }
        if items.len() > LISTED {
            self.line(&format!("  and {} more: `ops alert list`, logs/restart.log", items.len() - LISTED));
        }
    }
}
