//! Whether a service runs, and as which process.

use super::manager::Definition;
use super::record::Record;
use super::tree::{self, MARKER, Mark};
use super::{Liveness, Services, Status, Stopped};
use crate::base::process::Process;
use crate::base::{arguments, text};
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

pub(super) fn look(services: &Services<'_>, name: &str) -> Result<Status> {
    let service = services.service(name)?;
    let record = Record::read(services.home, name);
    // A copy of a home has the record and the pid file of the first one: whose it is, its mark says.
    let home = tree::home(services);
    let of_another = |process: &Process| {
        let mark = process.environment(MARKER).and_then(|text| Mark::parse(&text.to_string_lossy()));
        mark.is_some_and(|mark| !record.owns(&mark, name, &home))
    };
    let started = match &record.identity {
        Some(identity) => identity.find()?.filter(|process| !of_another(process)),
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
            let fit = match could_have_written(&process, written) && !of_another(&process) {
                true => Wanted::of(services, name)?.fit(&process.arguments()),
                false => Fit::None,
            };
            if fit == Fit::Whole {
                Liveness::Running(process)
            } else {
                let resembles = fit == Fit::Arguments;
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

pub(super) fn read_pid_file(path: &Path) -> Claim {
    let read = || -> std::io::Result<(String, DateTime<Utc>)> {
        let written = fs::metadata(path)?.modified()?.into();
        Ok((String::from_utf8_lossy(&fs::read(path)?).into_owned(), written))
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

/// The command line of a service, to compare others with.
pub(super) struct Wanted {
    words: Vec<String>,
    interpreter: Option<String>,
}

/// How well a command line fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is the service's.
    Whole,
    /// It has the service's arguments under another program.
    Arguments,
    /// It is another.
    None,
}

impl Wanted {
    pub(super) fn of(services: &Services<'_>, name: &str) -> Result<Wanted> {
        let service = services.service(name)?;
        let words = services.command(service);
        let interpreter = words.first().and_then(|program| interpreter(&service.cwd.join(program)));
        Ok(Wanted { words, interpreter })
    }

    /// Whether its arguments say anything by themselves: a script, a folder, a module do; `serve` is
    /// in many a command line.
    pub(super) fn telling_arguments(&self) -> bool {
        self.words.iter().skip(1).any(|word| word.contains(['/', '.']))
    }

    pub(super) fn fit(&self, arguments: &[OsString]) -> Fit {
        match () {
            () if fits(&self.words, self.interpreter.as_deref(), arguments) => Fit::Whole,
            () if resembles(&self.words, arguments) => Fit::Arguments,
            () => Fit::None,
        }
    }
}

/// Whether a command line is that of the configured command: the same words in the same order,
/// paths by their last part, the program first or, if it is a script, behind its interpreter.
fn fits(wanted: &[String], interpreter: Option<&str>, arguments: &[OsString]) -> bool {
    let Some((program, rest)) = wanted.split_first() else { return false };
    let named = |at: usize, name: &str| {
        arguments.get(at).is_some_and(|word| last_part(&word.to_string_lossy()) == last_part(name))
    };
    let behind = match interpreter {
        _ if named(0, program) => 1,
        Some(interpreter) if named(0, interpreter) && named(1, program) => 2,
        _ => return false,
    };
    in_order(rest, &arguments[behind..])
}

/// Whether a process that does not fit has the service's arguments all the same: the same script
/// under another interpreter, say. Not proof enough to signal it, but enough not to start a
/// second one beside it.
fn resembles(wanted: &[String], arguments: &[OsString]) -> bool {
    wanted.len() > 1 && in_order(&wanted[1..], arguments)
}

/// Whether all words stand among the arguments in this order, paths by their last part.
fn in_order(words: &[String], arguments: &[OsString]) -> bool {
    let same = |wanted: &str, argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument == wanted
            || (wanted.contains('/') && !wanted.ends_with('/') && last_part(wanted) == last_part(&argument))
    };
    let mut arguments = arguments.iter();
    words.iter().all(|word| arguments.any(|argument| same(word, argument)))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The interpreter that a script names in its first line: `#!/bin/sh`, `#!/usr/bin/env python3`.
fn interpreter(program: &Path) -> Option<String> {
    let mut line = [0; 128];
    let read = fs::File::open(program).and_then(|mut file| std::io::Read::read(&mut file, &mut line)).ok()?;
    let text = String::from_utf8_lossy(&line[..read]).into_owned();
    let mut words = text.lines().next()?.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    let name = if first.ends_with("/env") { words.find(|word| !word.starts_with('-'))? } else { first };
    Some(name.to_owned())
}

fn describe(process: &Process) -> String {
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
        (_, None) if services.home.root().is_dir() => "it was never started".to_owned(),
        (_, None) => format!("there is no home {}", services.home.root().display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(wanted: &[&str], interpreter: Option<&str>, arguments: &[&str]) -> bool {
        let wanted: Vec<_> = wanted.iter().map(|&word| word.to_owned()).collect();
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        fits(&wanted, interpreter, &arguments)
    }

    #[test]
    fn command_lines_that_fit_and_look_alikes_that_do_not() {
        let daemon = [".venv/bin/python3", "src/core/daemon.py"];
        assert!(fit(&daemon, None, &[".venv/bin/python3", "src/core/daemon.py", "--verbose"]));
        assert!(fit(&daemon, None, &["/home/a/.venv/bin/python3", "-u", "/home/a/src/core/daemon.py"]));
        assert!(!fit(&daemon, None, &["python3", "src/core/email_daemon.py"]));
        assert!(!fit(&daemon, None, &["vim", "python3", "src/core/daemon.py"]));
        assert!(!fit(&daemon, None, &["tail", "-f", "src/core/daemon.py"]));
        assert!(!fit(&daemon, None, &[]));
        assert!(fit(&["./run.sh"], Some("/bin/sh"), &["/bin/sh", "./run.sh"]));
        assert!(!fit(&["./run.sh"], Some("/bin/sh"), &["vim", "./run.sh"]));
        assert!(!fit(&["./run.sh"], None, &["/bin/sh", "./run.sh"]));
        assert!(!fit(&["bot", "--home", "/a/x"], None, &["bot", "--home", "/b/y"]), "another agent's");
        assert!(!fit(&["bot", "serve"], None, &["bot"]));
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        for (line, name) in [("#!/bin/sh\n", "/bin/sh"), ("#! /usr/bin/env -S python3 -u\n", "python3")] {
            fs::write(&path, line).unwrap();
            assert_eq!(interpreter(&path).as_deref(), Some(name));
        }
        fs::write(&path, b"\x7fELF").unwrap();
        assert_eq!(interpreter(&path), None);
    }

    #[test]
    fn pid_files_with_rubbish_have_no_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pid");
        assert_eq!(read_pid_file(&path), Claim::Missing);
        for rubbish in ["", "abc", "-5", "0", "99999999999", "1 2", "\x1b[2J"] {
            fs::write(&path, rubbish).unwrap();
            assert!(matches!(read_pid_file(&path), Claim::Unreadable(_)), "{rubbish:?}");
        }
        fs::write(&path, " 42\n").unwrap();
        assert!(matches!(read_pid_file(&path), Claim::Pid { pid: 42, .. }));
    }
}
