//! Every process that is this agent's, or looks like it: why we think so, and whose it is.
//!
//! Nothing is signalled here. A service's and a leftover's are proven ([`tree`]); what merely resembles
//! is a stranger, which nothing of ours ever ends.

use super::fit::{Fit, Wanted};
use super::identify;
use super::record::Record;
use super::tree::{self, MARKER, Mark, Seen, Tie};
use super::{Liveness, Services, Status};
use crate::base::arguments;
use crate::base::process;
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How much of a command line is shown, in characters.
const COMMAND: usize = 200;

/// Whose a process is; the stronger kind is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It resembles the agent, stands in its pid file or holds a port of it, but is not provably its.
    Stranger,
    /// It is provably of a run of a service, but not of the one that is under way.
    Leftover,
    /// It belongs to a service that runs.
    Service,
}

/// One process, and why it is in the list.
#[derive(Clone, Debug, Serialize)]
pub struct Detected {
    /// Its number; none: it holds a port, but we may not look at it.
    pub pid: Option<u32>,
    /// Whose it is.
    pub kind: Kind,
    /// Of which service, or which one it resembles.
    pub service: String,
    /// Each reason, as a clause.
    pub why: Vec<String>,
    /// Its command line, without secrets, safe to print.
    pub command: String,
    /// When it started.
    pub started: Option<DateTime<Utc>>,
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Detection {
    /// The processes: those of services first, then leftovers, then strangers; by pid.
    pub processes: Vec<Detected>,
    /// What could not be told.
    pub notes: Vec<String>,
}

pub(super) fn detect(services: &Services<'_>) -> Result<Detection> {
    let machine = Machine::look(services)?;
    let mut evidence = Evidence::default();
    let mut notes = Vec::new();
    for name in services.config.service.keys() {
        let status = services.status(name)?;
        machine.members(name, &status, &mut evidence);
        named_by_pid_file(services, &status, &mut evidence)?;
        if let Err(error) = run_by_manager(services, name, &mut evidence) {
            notes.push(format!("what the manager of {name} runs cannot be told: {error:#}"));
        }
    }
    machine.of_removed_services(&mut evidence);
    machine.look_alikes(&mut evidence)?;
    let mut detection = Detection { processes: evidence.conclude(&machine.all), notes };
    ports(services, &machine.all, &mut detection);
    detection.processes.sort_by_key(|found| (std::cmp::Reverse(found.kind), found.pid));
    Ok(detection)
}

/// What speaks for each process, by pid: only the strongest kind counts.
#[derive(Default)]
struct Evidence(BTreeMap<u32, (Kind, String, Vec<String>)>);

impl Evidence {
    fn add(&mut self, pid: u32, kind: Kind, service: &str, why: String) {
        let new = || (kind, service.to_owned(), Vec::new());
        let known = self.0.entry(pid).or_insert_with(new);
        if known.0 < kind {
            *known = new();
        }
        if known.0 == kind && !known.2.contains(&why) {
            known.2.push(why);
        }
    }

    /// One that ended meanwhile is no longer in the list.
    fn conclude(self, all: &[Seen]) -> Vec<Detected> {
        let seen = |pid| all.iter().find(move |seen| seen.process.identity.pid == pid);
        let described = |(pid, (kind, service, why))| Some(describe(seen(pid)?, kind, service, why));
        self.0.into_iter().filter_map(described).collect()
    }
}

fn describe(seen: &Seen, kind: Kind, service: String, why: Vec<String>) -> Detected {
    Detected {
        pid: Some(seen.process.identity.pid),
        kind,
        service,
        why,
        command: arguments::shown(&seen.process.arguments(), COMMAND),
        started: Some(seen.process.started),
    }
}

/// One look at all processes, and the agent they are compared with.
struct Machine<'a> {
    services: &'a Services<'a>,
    home: String,
    all: Vec<Seen>,
    /// Us, and what we run under: its command line may well have the words of ours.
    lineage: BTreeSet<u32>,
}

impl<'a> Machine<'a> {
    fn look(services: &'a Services<'a>) -> Result<Machine<'a>> {
        let me = std::process::id();
        let mut all = tree::look_around()?;
        let lineage = tree::lineage(&all, me);
        all.retain(|seen| seen.process.identity.pid != me);
        Ok(Machine { services, home: tree::home(services), all, lineage })
    }

    /// What belongs to a service as it runs now, and what is left of earlier runs.
    fn members(&self, name: &str, status: &Status, evidence: &mut Evidence) {
        let record = Record::read(self.services.home, name);
        let first = status.process().map(|process| &process.identity);
        let is_first = |seen: &Seen| Some(&seen.process.identity) == first;
        if let Some(first) = first
            && record.identity.as_ref() == Some(first)
        {
            evidence.add(first.pid, Kind::Service, name, format!("recorded when {name} was started"));
        }
        let run = self.all.iter().find(|seen| is_first(seen)).and_then(|seen| seen.mark.as_ref());
        let run = run.map(|mark| mark.run.as_str());
        let ours = |mark: &Mark| record.owns(mark, name, &self.home);
        let foreign = |seen: &Seen| seen.mark.as_ref().is_some_and(|mark| !ours(mark));
        let sessions = record.identity.iter().map(|identity| identity.pid).collect();

        let of_this_run = |seen: &Seen| {
            is_first(seen)
                || seen.mark.as_ref().is_some_and(|mark| ours(mark) && Some(mark.run.as_str()) == run)
        };
        let now = tree::belongings(&self.all, &sessions, of_this_run, foreign);
        for (&pid, tie) in &now {
            let why = match tie {
                Tie::Proven if first.is_some_and(|first| first.pid == pid) => continue,
                Tie::Proven => format!("carries the mark of {name}, as it runs now"),
                tie => tied(tie, name),
            };
            evidence.add(pid, Kind::Service, name, why);
        }
        let any_run = |seen: &Seen| seen.mark.as_ref().is_some_and(ours);
        let beside = |seen: &Seen| foreign(seen) || now.contains_key(&seen.process.identity.pid);
        for (pid, tie) in tree::belongings(&self.all, &sessions, any_run, beside) {
            let why = match tie {
                Tie::Proven => format!("carries the mark of an earlier run of {name}"),
                tie => tied(&tie, name),
            };
            evidence.add(pid, Kind::Leftover, name, why);
        }
        self.unproven(name, &record, evidence);
    }

    /// In the session of a run that ended, but without its mark: the number of the session may have
    /// gone to another since. What is proven has stronger evidence already.
    fn unproven(&self, name: &str, record: &Record, evidence: &mut Evidence) {
        let Some(last) = &record.identity else { return };
        for Seen { process, mark } in &self.all {
            let later = process.identity.boot == last.boot && process.identity.start >= last.start;
            if process.session == last.pid && later && mark.is_none() {
                let why =
                    format!("in a session {} as the last run of {name} had, without its mark", last.pid);
                evidence.add(process.identity.pid, Kind::Stranger, name, why);
            }
        }
    }

    /// Started by us for this home, under a name that the config no longer has.
    fn of_removed_services(&self, evidence: &mut Evidence) {
        for Seen { process, mark } in &self.all {
            let Some(mark) = mark else { continue };
            if mark.home == self.home && !self.services.config.service.contains_key(&mark.service) {
                let why = format!("carries the mark of {}, which the config no longer has", mark.service);
                evidence.add(process.identity.pid, Kind::Leftover, &mark.service, why);
            }
        }
    }

    /// The words of a service's command line in that of a process which is not provably anybody's.
    fn look_alikes(&self, evidence: &mut Evidence) -> Result<()> {
        let unmarked: Vec<_> = self
            .all
            .iter()
            .filter(|seen| seen.mark.is_none() && !self.lineage.contains(&seen.process.identity.pid))
            .map(|seen| (&seen.process, seen.process.arguments()))
            .filter(|(_, arguments)| !arguments.is_empty())
            .collect();
        for name in self.services.config.service.keys() {
            let command = Wanted::of(self.services, name)?;
            for (process, arguments) in &unmarked {
                let look = command.look(process, arguments);
                // One that we saw just before it became another agent's service has its mark by now.
                if look.fit == Fit::None || process.environment(MARKER).is_some() {
                    continue;
                }
                let why = match look.fit {
                    Fit::Whole if look.may_be() => format!("its command line is that of {name}"),
                    Fit::Program | Fit::Behind if look.may_be() => {
                        format!("its command line is that of {name}, but for its options")
                    }
                    Fit::Arguments if command.telling_arguments() => format!("has the arguments of {name}"),
                    _ => continue,
                };
                evidence.add(process.identity.pid, Kind::Stranger, name, why);
            }
        }
        Ok(())
    }
}

fn tied(tie: &Tie, name: &str) -> String {
    match tie {
        Tie::Proven => format!("provably of {name}"),
        Tie::Child(parent) => format!("child of {parent}, which is of {name}"),
        Tie::Session(session) => format!("in session {session} of {name}"),
    }
}

fn named_by_pid_file(services: &Services<'_>, status: &Status, evidence: &mut Evidence) -> Result<()> {
    let name = &status.service;
    let Some(path) = &services.service(name)?.pid_file else { return Ok(()) };
    let file = services.home.show(path);
    let named = match identify::read_pid_file(path) {
        identify::Claim::Pid { pid, .. } => Some(pid),
        _ => None,
    };
    match &status.liveness {
        Liveness::Running(process) if named == Some(process.identity.pid) => {
            let why = format!("{file} names it");
            evidence.add(process.identity.pid, Kind::Service, name, why);
            if Record::read(services.home, name).identity.as_ref() != Some(&process.identity) {
                let why = format!("it runs what {name} runs");
                evidence.add(process.identity.pid, Kind::Service, name, why);
            }
        }
        Liveness::Stranger { pid, .. } => {
            evidence.add(
                *pid,
                Kind::Stranger,
                name,
                format!("{file} names it, but it is not provably {name}"),
            );
        }
        Liveness::Running(_) | Liveness::Dead(_) => {}
    }
    if let Some((pid, _)) = &status.pid_file_names {
        evidence.add(*pid, Kind::Stranger, name, format!("{file} names it, while {name} runs as another"));
    }
    Ok(())
}

/// What a manager runs as a service is the service's, whatever we know of it.
fn run_by_manager(services: &Services<'_>, name: &str, evidence: &mut Evidence) -> Result<()> {
    let Some(definition) = services.installed(name)? else { return Ok(()) };
    if let Some(pid) = definition.pid()? {
        let why = format!("{} runs it as {}", definition.manager(), definition.unit);
        evidence.add(pid, Kind::Service, name, why);
    }
    Ok(())
}

/// Who listens at the ports of the services.
fn ports(services: &Services<'_>, all: &[Seen], detection: &mut Detection) {
    let of: BTreeMap<u16, &String> = services
        .config
        .service
        .iter()
        .flat_map(|(name, service)| service.ports.iter().map(move |&port| (port, name)))
        .collect();
    if of.is_empty() {
        return;
    }
    let Some(listeners) = process::listeners(&of.keys().copied().collect()) else {
        detection.notes.push("who listens at a port cannot be told on this system".to_owned());
        return;
    };
    for listener in listeners {
        let Some(&name) = of.get(&listener.port) else { continue };
        let why = format!("listens at port {} of {name}", listener.port);
        let known = detection.processes.iter_mut().find(|found| found.pid == listener.pid);
        match (known, listener.pid) {
            (Some(known), _) if known.why.contains(&why) => {}
            (Some(known), _) => known.why.push(why),
            (None, Some(pid)) => {
                if let Some(seen) = all.iter().find(|seen| seen.process.identity.pid == pid) {
                    detection.processes.push(describe(seen, Kind::Stranger, name.clone(), vec![why]));
                }
            }
            (None, None) => {
                detection.notes.push(format!(
                    "port {} of {name} is held by a process that may not be looked at: another user's",
                    listener.port
                ));
                detection.processes.push(Detected {
                    pid: None,
                    kind: Kind::Stranger,
                    service: name.clone(),
                    why: vec![why],
                    command: String::new(),
                    started: None,
                });
            }
        }
    }
}
