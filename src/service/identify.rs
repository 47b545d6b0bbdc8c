//! Whether a service runs, and as which process.

use super::fit::{Fit, Look, Place, Wanted};
use super::manager::Definition;
use super::record::Record;
use super::tree::{self, MARKER, Mark};
use super::{Liveness, Services, Status, Stopped};
use crate::base::process::Process;
use crate::base::{arguments, beneath, text};
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use std::io::Read;
use std::path::Path;

pub(super) fn look(services: &Services<'_>, name: &str) -> Result<Status> {
    let service = services.service(name)?;
    let record = Record::read(services.home, name);
    // A copy of a home has the record and the pid file of the first one: whose it is, its mark says.
    let home = tree::home(services);
    let may_be_ours = |process: &Process| {
        let mark = process.environment(MARKER).and_then(|text| Mark::parse(&text.to_string_lossy()));
        mark.is_none_or(|mark| record.owns(&mark, name, &home))
    };
    let started = match &record.identity {
        Some(identity) => identity.find()?.filter(may_be_ours),
        None => None,
    };
    let claim = service.pid_file.as_deref().map(read_pid_file);
    let claimed = match &claim {
        Some(Claim::Pid { pid, written }) => Process::find(*pid)?.map(|process| (process, *written)),
        _ => None,
    };

    let mut pid_file_names = None;
    let liveness = match (started, claimed) {
        (Some(ours), Some((other, _))) if other.alive() && other.identity != ours.identity => {
            pid_file_names = Some((other.identity.pid, describe(&other)));
            Liveness::Running(ours)
        }
        (Some(ours), _) => Liveness::Running(ours),
        (None, Some((process, _))) if process.zombie => {
            Liveness::Dead(format!("process {} has ended and is a zombie", process.identity.pid))
        }
        (None, Some((process, written))) => {
            let possible = could_have_written(&process, written) && may_be_ours(&process);
            let look = match possible {
                true => Some(Wanted::of(services, name)?.look(&process, &process.arguments())),
                false => None,
            };
            let is_it = |look: Look| match look.place {
                Place::Here => look.fit >= Fit::Program,
                Place::Untold => look.fit == Fit::Whole,
                // The pid file may be that of the home which this one is a copy of.
                Place::Elsewhere => false,
            };
            if look.is_some_and(is_it) {
                Liveness::Running(process)
            } else {
                let resembles = look.is_some_and(|look| look.fit > Fit::None);
                Liveness::Stranger { pid: process.identity.pid, command: describe(&process), resembles }
            }
        }
        (None, None) => Liveness::Dead(why_dead(services, claim.as_ref(), &record)),
    };
    let stopped_by_operator = match (record.stopped_by_operator, &liveness) {
        (Some(at), _) => Some(Stopped { at: Some(at), with: None }),
        (None, Liveness::Running(_)) => None,
        (None, _) => stopped_by_manager(services, name, &record),
    };
    Ok(Status { service: name.to_owned(), liveness, pid_file_names, stopped_by_operator })
}

/// What its manager knows of a stop that went past us. One that does not answer tells nothing: then the
/// service is taken to be down by itself, and people hear of it.
fn stopped_by_manager(services: &Services<'_>, name: &str, record: &Record) -> Option<Stopped> {
    let definition = Definition::installed(services.home, name).ok().flatten()?;
    definition.stopped(services.home, name, record).ok().flatten()
}

/// What a pid file says.
#[derive(Debug, PartialEq)]
pub(super) enum Claim {
    /// There is none.
    Missing,
    /// There is no pid in it.
    Unreadable(String),
    /// This pid, written at this time.
    Pid { pid: u32, written: DateTime<Utc> },
}

/// A pid with blanks around it has no more bytes.
const MOST: u64 = 256;

pub(super) fn read_pid_file(path: &Path) -> Claim {
    let read = || -> std::io::Result<(String, DateTime<Utc>)> {
        let file = beneath::open_named(path)?;
        let written = file.metadata()?.modified()?.into();
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), written))
    };
    match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Claim::Missing,
        Err(error) => Claim::Unreadable(error.to_string()),
        Ok((text, written)) => match text.trim().parse() {
            Ok(pid) if pid > 0 && pid <= i32::MAX as u32 => Claim::Pid { pid, written },
            _ => Claim::Unreadable(format!("it reads '{}'", text::one_line(&text, 20))),
        },
    }
}

/// A process that started after the file was written did not write it: the number was recycled.
/// Two seconds allow for clocks of different grain.
fn could_have_written(process: &Process, written: DateTime<Utc>) -> bool {
    process.started <= written + TimeDelta::seconds(2)
}

pub(super) fn describe(process: &Process) -> String {
    let arguments = process.arguments();
    if arguments.is_empty() {
        "a process without a command line".to_owned()
    } else {
        arguments::shown(&arguments, 80)
    }
}

fn why_dead(services: &Services<'_>, claim: Option<&Claim>, record: &Record) -> String {
    match (claim, &record.identity) {
        (Some(Claim::Pid { pid, .. }), _) => format!("process {pid} is gone"),
        (Some(Claim::Unreadable(why)), _) => format!("its pid file has no pid: {why}"),
        (_, Some(identity)) => format!("process {} is gone", identity.pid),
        (_, None) if services.home.root().is_dir() => match &record.failed {
            Some(why) => format!("it could not be started: {why}"),
            None => "it was never started".to_owned(),
        },
        (_, None) => format!("there is no home {}", services.home.root().display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pid_files_with_rubbish_have_no_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pid");
        assert_eq!(read_pid_file(&path), Claim::Missing);
        assert!(matches!(read_pid_file(dir.path()), Claim::Unreadable(_)), "a folder");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(matches!(read_pid_file(&path), Claim::Unreadable(why) if why.contains("regular")));
        fs::remove_file(&path).unwrap();
        let much = "1".repeat(1 << 20);
        for rubbish in [&much, "", "abc", "-5", "0", "99999999999", "1 2", "\x1b[2J"] {
            fs::write(&path, rubbish).unwrap();
            assert!(matches!(read_pid_file(&path), Claim::Unreadable(_)), "{rubbish:?}");
        }
        fs::write(&path, " 42\n").unwrap();
        assert!(matches!(read_pid_file(&path), Claim::Pid { pid: 42, .. }));
    }
}
