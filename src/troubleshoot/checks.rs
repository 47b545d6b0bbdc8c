//! What the checks of the config find, and the errors in the logs: everything that no other probe asks.

use super::cause::{Cause, Found};
use super::digest;
use super::view::View;
use crate::base::{State, database, units};
use crate::config::{Check, Kind, Loaded, check};
use crate::health::{self, Due, Finding};
use crate::logs::{self, Level, Query};
use anyhow::{Context, Result};
use chrono::TimeDelta;
use serde::de::DeserializeOwned;

/// Our own logs: what stands there is told of elsewhere.
const OURS: [&str; 6] = ["alerts", "backup", "cron", "health_check", "restart", "rotation"];

/// So many errors are shown.
const ERRORS: usize = 4;

/// The name of a check that is asked although the config has none like it: none of its own can have it.
const EXTRA: &str = "troubleshoot:";

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.whole() else { return Ok(Found::default()) };
    let mut notes = Vec::new();
    let mut names = Vec::new();
    for (name, check) in loaded.config.check.iter().filter(|(_, check)| check.common.enabled) {
        match asked(view, &check.kind) {
            Asked::Here => names.push(name.clone()),
            Asked::Elsewhere => {}
            Asked::Not(why) => {
                notes.push(format!("the check {name} was not asked: {why}; `ops health` asks it"))
            }
        }
    }
    let findings = ask(view, loaded, &names);
    let mut causes = judge(&findings, |finding| is_consequence(view, loaded, finding, &findings));
    let told = findings.iter().any(|finding| finding.kind == "log_errors" && finding.seen != State::Ok);
    if !told {
        causes.extend(errors(&recent(view, loaded)));
    }
    Ok(Found { causes, notes })
}

/// What becomes of a check here.
enum Asked {
    /// It only looks.
    Here,
    /// Another probe asks, or there is nothing to ask.
    Elsewhere,
    /// It may change something: what.
    Not(&'static str),
}

fn asked(view: &View, kind: &Kind) -> Asked {
    match kind {
        Kind::Process(_) | Kind::Heartbeat(_) | Kind::Sqlite(_) | Kind::Disk(_) => Asked::Elsewhere,
        Kind::BackupAge(_) | Kind::Schedule(_) => Asked::Elsewhere,
        // They are asked of the journal.
        Kind::CopyAge(_) | Kind::DrillAge(_) if view.journal().is_none() => Asked::Elsewhere,
        Kind::Command(_) => Asked::Not("what a plugin does is not known"),
        Kind::Http(http)
            if !matches!(http.method.as_deref(), None | Some("GET" | "HEAD")) || http.body.is_some() =>
        {
            Asked::Not("its request may change something")
        }
        Kind::Sql(sql) => {
            let wal = std::fs::metadata(&database::sidecars(&sql.database)[0]).map_or(0, |wal| wal.len());
            let runs = view.each().any(|(_, name, _, _)| view.runs(name));
            match wal > 0 && !runs {
                // Whoever opens it first plays its WAL back.
                true => Asked::Not("nobody has its database open, and a -wal file is left"),
                false => Asked::Here,
            }
        }
        _ => Asked::Here,
    }
}

fn ask(view: &View, loaded: &Loaded, names: &[String]) -> Vec<Finding> {
    if names.is_empty() {
        return Vec::new();
    }
    // Of the journal only a copy: what a check wants to remember is not kept.
    health::check_some(loaded, &view.run, view.journal().as_ref(), names, Due::OrNot).findings
}

/// The heartbeat of every service that has a status file, by the limits of the config or the usual ones.
pub(super) fn heartbeats(view: &View) -> Vec<Finding> {
    let Some(loaded) = view.whole() else { return Vec::new() };
    let asked = |service: &str| {
        let asks =
            |check: &&Check| matches!(&check.kind, Kind::Heartbeat(options) if options.service == service);
        loaded.config.check.values().any(|check| asks(&check))
    };
    let configured = loaded.config.check.iter().filter(|(_, check)| matches!(check.kind, Kind::Heartbeat(_)));
    let mut names: Vec<String> =
        configured.filter(|(_, check)| check.common.enabled).map(|(name, _)| name.clone()).collect();
    let mut more = loaded.clone();
    for (name, service) in &loaded.config.service {
        if service.status_file.is_some() && !asked(name) {
            let options = toml::Table::from_iter([("service".to_owned(), toml::Value::String(name.clone()))]);
            if let Ok(heartbeat) = usual::<check::Heartbeat>(options) {
                names.push(add(&mut more, name, Kind::Heartbeat(heartbeat)));
            }
        }
    }
    ask(view, &more, &names)
}

/// The age of the newest backup, by the limits of the config or the usual ones.
pub(super) fn backup_age(view: &View) -> Option<Finding> {
    let loaded = view.whole()?;
    let mut more = loaded.clone();
    let configured = loaded.config.check.iter().find(|(_, check)| matches!(check.kind, Kind::BackupAge(_)));
    let name = match configured {
        Some((name, _)) => name.clone(),
        None => add(&mut more, "backup", Kind::BackupAge(usual(toml::Table::new()).ok()?)),
    };
    ask(view, &more, &[name]).pop()
}

fn add(loaded: &mut Loaded, name: &str, kind: Kind) -> String {
    let name = format!("{EXTRA}{name}");
    loaded.config.check.insert(name.clone(), Check { kind, common: check::Common::default() });
    name
}

fn usual<T: DeserializeOwned>(options: toml::Table) -> Result<T> {
    options.try_into().context("a check has no defaults")
}

/// Whether a finding only follows from a service that is not there, or from another finding.
fn is_consequence(view: &View, loaded: &Loaded, finding: &Finding, all: &[Finding]) -> bool {
    let down = |service: &str| !view.runs(service);
    if finding.service.as_deref().is_some_and(down) {
        return true;
    }
    let after =
        loaded.config.check.get(&finding.check).map_or(&[][..], |check| check.common.after.as_slice());
    after.iter().any(|parent| {
        let parent_check = loaded.config.check.get(parent);
        parent_check.and_then(|check| check.kind.service()).is_some_and(down)
            || all.iter().any(|finding| finding.check == *parent && finding.seen == State::Critical)
    })
}

fn judge(findings: &[Finding], follows: impl Fn(&Finding) -> bool) -> Vec<Cause> {
    let bad = findings.iter().filter(|finding| finding.seen != State::Ok && !follows(finding));
    bad.map(|finding| {
        let kind = finding.kind.as_str();
        // Of our own work and of what piles up the agent does not die.
        let aside = ["drill_age", "copy_age", "log_size", "log_errors", "permissions", "pin"].contains(&kind);
        let state = if aside && finding.seen == State::Critical { State::Warning } else { finding.seen };
        let text = format!("the check {} says: {}", finding.check, finding.summary);
        let cause = match digest::kind_quotes_nobody(kind) {
            true => Cause::new("check", state, 150, text),
            false => Cause::new("check", state, 150, text)
                .in_short(format!("the check {} is {}", finding.check, finding.seen)),
        };
        let cause = match &finding.service {
            Some(service) => cause.of(service),
            None => cause,
        };
        let cause = match (kind, &finding.service) {
            ("log_size", _) => cause.run("ops rotate-logs"),
            ("log_errors", _) => cause.run("ops logs all --since 1h --level error"),
            ("drill_age", _) => cause.run("ops restore latest --drill"),
            ("copy_age", _) => cause.run("ops backup copy"),
            ("resources", Some(service)) => cause.run(format!("ops restart {service}")),
            _ => cause.run(format!("ops health --explain {}", finding.check)),
        };
        match &finding.remedy {
            Some(remedy) => cause.advise(remedy),
            None => cause,
        }
    })
    .collect()
}

/// The last lines of the last hour that speak of an error.
fn recent(view: &View, loaded: &Loaded) -> Vec<String> {
    let mut names = logs::by_name(&loaded.home, &loaded.config.logs);
    names.retain(|name, _| !OURS.contains(&name.as_str()));
    let query = Query {
        lines: ERRORS,
        since: Some(view.run.now - TimeDelta::hours(1)),
        level: Some(Level::Error),
        grep: None,
    };
    let lines = logs::tail(&names, &query, view.run.now, |_| None).lines;
    lines
        .into_iter()
        .map(|line| format!("{}, {}: {}", line.log, line.at.map_or("?".to_owned(), units::local), line.text))
        .collect()
}

fn errors(lines: &[String]) -> Option<Cause> {
    (!lines.is_empty()).then(|| {
        Cause::new("recent_errors", State::Warning, 160, "the logs speak of errors within the last hour")
            .quotes(lines)
            .run("ops logs all --since 1h --level error")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: &str, seen: State) -> Finding {
        Finding {
            check: "c".to_owned(),
            kind: kind.to_owned(),
            service: None,
            state: State::Ok,
            seen,
            looked_at: None,
            summary: "x".to_owned(),
            metrics: Vec::new(),
            remedy: Some("do it".to_owned()),
            critical: false,
            alert: "c".to_owned(),
        }
    }

    #[test]
    fn what_a_check_finds_now_is_a_cause() {
        for (kind, seen, expected) in [
            ("tcp", State::Ok, None),
            ("tcp", State::Critical, Some((State::Critical, "ops health --explain c"))),
            ("log_size", State::Critical, Some((State::Warning, "ops rotate-logs"))),
            ("json", State::Unknown, Some((State::Unknown, "ops health --explain c"))),
        ] {
            let causes = judge(&[finding(kind, seen)], |_| false);
            let found = causes.first().map(|cause| (cause.state, cause.remedy[0].as_str()));
            assert_eq!(found, expected, "{kind}");
            assert!(judge(&[finding(kind, seen)], |_| true).is_empty());
        }
        assert!(errors(&[]).is_none());
        assert_eq!(errors(&["x".to_owned()]).unwrap().evidence, ["x"]);
    }
}
