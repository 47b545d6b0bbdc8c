//! From a report to what the alerts look at: which findings follow from another, which service
//! has no check of its own process, which service is to be restarted. Pure.

use super::incident::Incident;
use super::message::RESTART_LOOP;
use super::recovery::{self, Attempt};
use super::unfinished::{settled, withhold};
use crate::base::State;
use crate::config::Config;
use crate::health::{Finding, Report, UPGRADE};
use crate::service::{Liveness, Status};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// One check of one run, as the alerts see it.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The check's name: the key of its incident.
    pub check: String,
    /// The alert type of the present state.
    pub alert: String,
    /// How it is. Unknown counts as a warning, when seen twice in a row.
    pub state: State,
    /// One line.
    pub summary: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Why nobody is to be told of it, if so.
    pub excuse: Option<Excuse>,
    /// Recovery has given up: worth a louder word than the state alone.
    pub gave_up: bool,
    /// Good, but since our restart the service gave no sign of life yet.
    pub unproven: bool,
}

/// Why a bad look is no news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// Its operator stopped the service.
    Stopped,
    /// It follows from what this other check found.
    Follows(String),
}

/// What is known of one service in this run.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// How it is.
    pub status: Status,
    /// When recovery tried to start it, in the last hours.
    pub attempts: Vec<DateTime<Utc>>,
    /// What is to be over before it is started: something of ours is at it, or an upgrade was cut short.
    pub waits_for: Option<&'static str>,
    /// `ops run` stands behind it, and starts it again by itself.
    pub supervised: bool,
    /// It gave a sign of life since it was started, as far as it gives any.
    pub proven: bool,
    /// It is to be restarted although it is there: why.
    pub hung: Option<String>,
}

/// A service that is to be restarted in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    /// The service.
    pub service: String,
    /// The check whose incident it belongs to.
    pub check: String,
    /// Why it is down.
    pub cause: String,
    /// It is there, but hangs: it is stopped first.
    pub hung: bool,
}

/// Every check to look at, and every service to restart.
pub(super) fn looks(
    report: &Report,
    config: &Config,
    services: &BTreeMap<String, Known>,
    incidents: &BTreeMap<String, Incident>,
    now: DateTime<Utc>,
) -> (Vec<Look>, Vec<Restart>) {
    let mut looks: Vec<Look> = Vec::new();
    let mut restarts = Vec::new();
    let mut down: BTreeMap<&str, String> = BTreeMap::new();

    // The processes first: what else is found of a service may follow from them.
    for (name, known) in services {
        let finding = report
            .findings
            .iter()
            .find(|finding| finding.kind == "process" && finding.service.as_ref() == Some(name));
        let mut look = finding.map_or_else(|| unchecked(name, &known.status), look);
        if stopped(&known.status) {
            look.excuse = Some(Excuse::Stopped);
        } else if let Some(other) = known.waits_for.filter(|_| look.state != State::Ok) {
            look.excuse = Some(Excuse::Follows(other.to_owned()));
            down.insert(name, look.check.clone());
        } else if look.state == State::Critical {
            down.insert(name, look.check.clone());
            if let Some(cause) = dead(&known.status)
                && recovers(config, name)
            {
                let restart =
                    Restart { service: name.clone(), check: look.check.clone(), cause, hung: false };
                let restart = recover(&mut look, restart, known, config, incidents, now);
                restarts.extend(restart.filter(|_| !known.supervised));
            }
        }
        look.unproven = !known.proven;
        looks.push(look);
    }

    for finding in &report.findings {
        if looks.iter().any(|look| look.check == finding.check) {
            continue;
        }
        let mut look = look(finding);
        if look.check == UPGRADE {
            withhold(&mut look, services);
        }
        if let Some(service) = &finding.service {
            let is_stopped = services.get(service).is_some_and(|known| stopped(&known.status));
            look.excuse = if is_stopped {
                Some(Excuse::Stopped)
            } else {
                down.get(service.as_str()).cloned().map(Excuse::Follows)
            };
            let hangs = finding.kind == "heartbeat" && look.excuse.is_none() && recovers(config, service);
            let known = services.get(service).filter(|known| hangs && known.status.process().is_some());
            match known.map(|known| (known, known.waits_for, known.hung.clone())) {
                Some((known, None, Some(cause))) => {
                    let restart =
                        Restart { service: service.clone(), check: look.check.clone(), cause, hung: true };
                    restarts.extend(recover(&mut look, restart, known, config, incidents, now));
                }
                Some((_, Some(UPGRADE), Some(_))) => {
                    look.summary = format!("{}; not restarted, for the sake of {UPGRADE}", look.summary);
                }
                _ => {}
            }
        }
        looks.push(look);
    }
    looks.extend(settled(report, services, incidents));
    let inherited: Vec<Option<Excuse>> =
        looks.iter().map(|look| inherited(&look.check, &looks, config)).collect();
    for (look, inherited) in looks.iter_mut().zip(inherited) {
        look.excuse = look.excuse.take().or(inherited);
    }
    (looks, restarts)
}

/// Decides whether a service is restarted now; where that has gone too far, the look says so.
fn recover(
    look: &mut Look,
    restart: Restart,
    known: &Known,
    config: &Config,
    incidents: &BTreeMap<String, Incident>,
    now: DateTime<Utc>,
) -> Option<Restart> {
    let open = incidents.get(&look.check).filter(|incident| incident.closed.is_none());
    let gave_up = open.is_some_and(|incident| incident.gave_up);
    let most = config.alerts.max_restarts_per_hour;
    match recovery::decide(&known.attempts, gave_up, most, now) {
        Attempt::Now => Some(restart),
        Attempt::Later => None,
        Attempt::Never => {
            let (name, died) = (&restart.service, if restart.hung { "hung" } else { "died" });
            look.gave_up = true;
            look.alert = RESTART_LOOP.to_owned();
            look.summary = format!(
                "{}; it {died} more than {most} times within an hour and is not restarted again",
                look.summary
            );
            let verb = if restart.hung { "restart --force" } else { "start" };
            look.remedy = Some(format!("mend the cause, then: ops {verb} {name}"));
            None
        }
    }
}

/// The excuse that a check has from those it comes `after`: what follows from a CRITICAL, or from
/// its operator's stop. The config has no circles.
fn inherited(check: &str, looks: &[Look], config: &Config) -> Option<Excuse> {
    let after = config.check.get(check).map_or(&[][..], |check| check.common.after.as_slice());
    let parents = after.iter().filter_map(|name| looks.iter().find(|look| look.check == *name));
    let mut follows = None;
    for parent in parents {
        match parent.excuse.clone().or_else(|| inherited(&parent.check, looks, config)) {
            Some(Excuse::Stopped) => return Some(Excuse::Stopped),
            Some(excuse) => follows = follows.or(Some(excuse)),
            None if parent.state == State::Critical => {
                follows = follows.or_else(|| Some(Excuse::Follows(parent.check.clone())));
            }
            None => {}
        }
    }
    follows
}

fn look(finding: &Finding) -> Look {
    Look {
        check: finding.check.clone(),
        alert: finding.alert.clone(),
        state: finding.state,
        summary: finding.summary.clone(),
        remedy: finding.remedy.clone(),
        excuse: None,
        gave_up: false,
        unproven: false,
    }
}

/// A service whose process no check looks at is looked at all the same. No check can have this
/// name: a colon is not allowed in one.
fn unchecked(name: &str, status: &Status) -> Look {
    let (state, summary) = match dead(status) {
        Some(cause) => (State::Critical, format!("{name} does not run: {cause}")),
        None => (State::Ok, format!("{name} runs")),
    };
    Look {
        check: format!("service:{name}"),
        alert: "daemon_critical".to_owned(),
        state,
        summary,
        remedy: Some(format!("ops start {name}")),
        excuse: None,
        gave_up: false,
        unproven: false,
    }
}

pub(super) fn stopped(status: &Status) -> bool {
    status.stopped_by_operator.is_some() && !matches!(status.liveness, Liveness::Running(_))
}

pub(super) fn dead(status: &Status) -> Option<String> {
    match &status.liveness {
        Liveness::Running(_) => None,
        Liveness::Dead(cause) => Some(cause.clone()),
        Liveness::Stranger { pid, command, .. } => {
            Some(format!("its pid file names {pid}, which is another program: {command}"))
        }
    }
}

fn recovers(config: &Config, service: &str) -> bool {
    config.alerts.recover && config.service.get(service).is_some_and(|service| service.recover)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Run;
    use crate::base::process::Process;
    use crate::service::Stopped;

    fn finding(check: &str, kind: &str, state: State) -> Finding {
        Finding {
            check: check.to_owned(),
            kind: kind.to_owned(),
            service: (kind != "disk").then(|| "daemon".to_owned()),
            state,
            seen: state,
            looked_at: None,
            summary: "as it is".to_owned(),
            metrics: Vec::new(),
            remedy: None,
            critical: false,
            alert: "daemon_critical".to_owned(),
        }
    }

    fn config() -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops.toml");
        std::fs::write(&file, "").unwrap();
        crate::config::load(&file, None).unwrap().config
    }

    fn known(stopped: bool, attempts: usize) -> BTreeMap<String, Known> {
        let status = Status {
            service: "daemon".to_owned(),
            liveness: Liveness::Dead("process 12 is gone".to_owned()),
            pid_file_names: None,
            stopped_by_operator: stopped.then(Stopped::default),
        };
        let attempts = vec![Utc::now() - chrono::TimeDelta::minutes(50); attempts];
        [(
            "daemon".to_owned(),
            Known { status, attempts, waits_for: None, supervised: false, proven: true, hung: None },
        )]
        .into()
    }

    fn down() -> Report {
        let findings = vec![
            finding("disk", "disk", State::Critical),
            finding("heartbeat", "heartbeat", State::Critical),
            finding("process", "process", State::Critical),
        ];
        Report::new("agent", &Run::begin("test"), findings)
    }

    fn excuses(looks: &[Look]) -> Vec<(&str, Option<Excuse>)> {
        let mut excuses: Vec<_> =
            looks.iter().map(|look| (look.check.as_str(), look.excuse.clone())).collect();
        excuses.sort_by_key(|(check, _)| *check);
        excuses
    }

    #[test]
    fn what_follows_from_a_dead_process_is_no_news() {
        let (looks, restarts) = looks(&down(), &config(), &known(false, 0), &BTreeMap::new(), Utc::now());
        let follows = Some(Excuse::Follows("process".to_owned()));
        assert_eq!(excuses(&looks), [("disk", None), ("heartbeat", follows), ("process", None)]);
        assert_eq!(restarts.len(), 1);
        assert_eq!(restarts[0].cause, "process 12 is gone");
    }

    #[test]
    fn an_operator_s_stop_is_no_news_and_not_undone() {
        let (looks, restarts) = looks(&down(), &config(), &known(true, 0), &BTreeMap::new(), Utc::now());
        let stopped = || Some(Excuse::Stopped);
        assert_eq!(excuses(&looks), [("disk", None), ("heartbeat", stopped()), ("process", stopped())]);
        assert!(restarts.is_empty());
    }

    #[test]
    fn a_restart_under_way_is_no_crash() {
        let mut known = known(false, 0);
        known.values_mut().for_each(|known| known.waits_for = Some("a start"));
        let (looks, restarts) = looks(&down(), &config(), &known, &BTreeMap::new(), Utc::now());
        assert_eq!(looks.iter().filter(|look| look.excuse.is_none()).count(), 1, "the disk");
        assert!(restarts.is_empty());
    }

    #[test]
    fn for_the_sake_of_an_unfinished_upgrade_nothing_is_restarted() {
        let mut dead = known(false, 0);
        dead.values_mut().for_each(|known| known.waits_for = Some(UPGRADE));
        let mut report = down();
        report.findings.push(Finding { service: None, ..finding(UPGRADE, "upgrade", State::Critical) });
        let (looks, restarts) = super::looks(&report, &config(), &dead, &BTreeMap::new(), Utc::now());
        let of = |looks: &[Look], check: &str| looks.iter().find(|look| look.check == check).unwrap().clone();
        assert!(restarts.is_empty());
        assert_eq!(of(&looks, "process").excuse, Some(Excuse::Follows(UPGRADE.to_owned())));
        assert!(of(&looks, "heartbeat").excuse.is_some() && of(&looks, "disk").excuse.is_none());
        let upgrade = of(&looks, UPGRADE);
        assert!(upgrade.excuse.is_none() && upgrade.gave_up, "{upgrade:?}");
        assert_eq!(upgrade.summary, "as it is; daemon is down, and not started by itself");

        // One that hangs is told, and left.
        let mut hung = dead;
        hung.values_mut().for_each(|known| {
            known.status.liveness = Liveness::Running(process());
            known.hung = Some("its heart stopped".to_owned());
        });
        report.findings[2].state = State::Ok;
        let (looks, restarts) = super::looks(&report, &config(), &hung, &BTreeMap::new(), Utc::now());
        let heartbeat = of(&looks, "heartbeat");
        assert!(restarts.is_empty() && heartbeat.excuse.is_none() && !of(&looks, UPGRADE).gave_up);
        assert_eq!(heartbeat.summary, "as it is; not restarted, for the sake of ops:upgrade");
    }

    fn process() -> Process {
        Process::example(Utc::now())
    }

    #[test]
    fn a_supervised_service_is_left_to_its_supervisor_until_both_give_up() {
        let supervised = |attempts| {
            let mut known = known(false, attempts);
            known.values_mut().for_each(|known| known.supervised = true);
            looks(&down(), &config(), &known, &BTreeMap::new(), Utc::now())
        };
        let (looks, restarts) = supervised(1);
        let process = looks.iter().find(|look| look.check == "process").unwrap();
        assert!(restarts.is_empty() && process.excuse.is_none() && !process.gave_up);
        let (looks, restarts) = supervised(3);
        let process = looks.iter().find(|look| look.check == "process").unwrap();
        assert!(restarts.is_empty() && process.gave_up && process.alert == RESTART_LOOP);
    }

    #[test]
    fn too_many_crashes_are_a_loop() {
        let (looks, restarts) = looks(&down(), &config(), &known(false, 3), &BTreeMap::new(), Utc::now());
        let process = looks.iter().find(|look| look.check == "process").unwrap();
        assert!(process.gave_up && process.alert == RESTART_LOOP && restarts.is_empty());
    }

    #[test]
    fn a_service_without_a_check_is_looked_at() {
        let report = Report::new("agent", &Run::begin("test"), Vec::new());
        let (looks, restarts) = looks(&report, &config(), &known(false, 0), &BTreeMap::new(), Utc::now());
        assert_eq!(looks[0].check, "service:daemon");
        assert_eq!(restarts[0].check, "service:daemon");
    }

    #[test]
    fn recovery_can_be_switched_off() {
        let mut config = config();
        config.alerts.recover = false;
        let (_, restarts) = looks(&down(), &config, &known(false, 0), &BTreeMap::new(), Utc::now());
        assert!(restarts.is_empty());
    }
}
