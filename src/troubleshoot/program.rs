//! What a service is started with: its folder, its program, what interprets that, and its script.

use super::cause::{Cause, Found, quoted};
use super::view::View;
use crate::base::State;
use crate::base::beneath::open_named;
use crate::config::Service;
use anyhow::Result;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where cron looks for programs (Debian's cron, Vixie's on macOS).
const CRON_PATH: &str = "/usr/bin:/bin";

/// What became of looking for a program.
#[derive(Clone, Debug, PartialEq)]
enum Program {
    Fine,
    /// On our PATH, but not where cron looks.
    NotForCron(PathBuf),
    Missing,
    NotOnPath,
    /// A link, and what it names that is not there.
    Dangling(PathBuf, PathBuf),
    NotExecutable,
    Folder,
    /// A script whose first line names what is not there.
    NoInterpreter(String),
}

struct Facts {
    service: String,
    gravity: State,
    cwd: (PathBuf, bool),
    word: String,
    program: Program,
    /// The script that it is to run, if that is not there.
    no_script: Option<PathBuf>,
    /// The virtual environment that the program would be in, and whether that is there.
    venv: Option<(PathBuf, bool)>,
    requirements: bool,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let mut causes = Vec::new();
    for (loaded, name, service, _) in view.each() {
        let words = view.services(loaded).command(service);
        if let Some(facts) = gather(name, view.gravity(name), service, &words) {
            causes.extend(judge(&facts));
        }
    }
    Ok(causes.into())
}

fn gather(name: &str, gravity: State, service: &Service, words: &[String]) -> Option<Facts> {
    let word = words.first()?;
    let ours = std::env::var("PATH").unwrap_or_default();
    let own = service.env.get("PATH");
    let path = own.unwrap_or(&ours);
    let script = interpreted(words).map(|script| service.cwd.join(script)).filter(|path| !path.exists());
    Some(Facts {
        service: name.to_owned(),
        gravity,
        cwd: (service.cwd.clone(), service.cwd.is_dir()),
        word: word.clone(),
        program: find(word, &service.cwd, path, own.is_none()),
        no_script: script,
        venv: venv(&service.cwd.join(word)),
        requirements: service.cwd.join("requirements.txt").is_file(),
    })
}

/// Looks as the system does: along PATH, or from the folder that the service runs in.
fn find(word: &str, cwd: &Path, path: &str, by_cron: bool) -> Program {
    if word.contains('/') {
        return look(&cwd.join(word), path);
    }
    let on = |path: &str| {
        let places =
            std::env::split_paths(path).map(|folder| cwd.join(folder).join(word)).collect::<Vec<_>>();
        places
            .into_iter()
            .find(|place| fs::metadata(place).is_ok_and(|meta| meta.is_file() && is_executable(&meta)))
    };
    match on(path) {
        None => Program::NotOnPath,
        Some(place) => match look(&place, path) {
            Program::Fine if by_cron && on(CRON_PATH).is_none() => Program::NotForCron(place),
            other => other,
        },
    }
}

fn is_executable(meta: &fs::Metadata) -> bool {
    meta.permissions().mode() & 0o111 != 0
}

fn look(program: &Path, path: &str) -> Program {
    let Ok(meta) = fs::metadata(program) else {
        return match dangling(program) {
            Some(target) => Program::Dangling(program.to_owned(), target),
            None => Program::Missing,
        };
    };
    if meta.is_dir() {
        return Program::Folder;
    }
    if !is_executable(&meta) {
        return Program::NotExecutable;
    }
    match shebang(program) {
        Some(line) if !has_interpreter(&line, path) => Program::NoInterpreter(line),
        _ => Program::Fine,
    }
}

/// The end of a chain of links that names nothing.
fn dangling(link: &Path) -> Option<PathBuf> {
    let mut at = link.to_owned();
    for _ in 0..20 {
        match fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) if at == link => return None,
            Err(_) => return Some(at),
        }
    }
    Some(at)
}

/// What follows `#!` in the first line.
fn shebang(program: &Path) -> Option<String> {
    let mut head = [0; 256];
    let count = open_named(program).and_then(|mut file| file.read(&mut head)).ok()?;
    let head = String::from_utf8_lossy(&head[..count]).into_owned();
    Some(head.split('\n').next()?.strip_prefix("#!")?.to_owned())
}

/// A line that ends as on Windows names an interpreter that there is not.
fn has_interpreter(line: &str, path: &str) -> bool {
    let mut words = line.trim_start().split([' ', '\t']).filter(|word| !word.is_empty());
    let Some(first) = words.next() else { return true };
    if !Path::new(first).exists() {
        return false;
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
    match name.filter(|_| first.ends_with("/env")) {
        Some(name) => std::env::split_paths(path).any(|folder| folder.join(name).exists()),
        None => true,
    }
}

/// The script behind a known interpreter, as the configured command names it.
fn interpreted(words: &[String]) -> Option<&str> {
    let program = words.first()?.rsplit('/').next()?;
    let known = ["python", "node", "ruby", "perl", "sh", "bash", "zsh", "deno", "bun"];
    if !known.iter().any(|name| program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') == *name) {
        return None;
    }
    // An option may take the next word, or say that there is no script.
    let first = words.get(1)?;
    (!first.starts_with('-') && first.contains(['/', '.'])).then_some(first.as_str())
}

/// `X` of `X/bin/python3`, if that is meant to be a virtual environment.
fn venv(program: &Path) -> Option<(PathBuf, bool)> {
    let folder = program.parent().filter(|bin| bin.ends_with("bin"))?.parent()?;
    let python = program.file_name()?.to_str()?.starts_with("python");
    let named = folder.file_name()?.to_str().is_some_and(|name| name.contains("venv"));
    let is = folder.join("pyvenv.cfg").is_file();
    (python && (is || named)).then(|| (folder.to_owned(), is))
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let Facts { service, gravity, word, .. } = facts;
    let cause = |id, rank, text: String| Cause::new(id, *gravity, rank, text).of(service);
    if !facts.cwd.1 {
        let text = format!("the folder that {service} runs in, {}, is not there", facts.cwd.0.display());
        return vec![
            cause("cwd_missing", 10, text)
                .seen(format!("cwd in [service.{service}]"))
                .advise("where is the program now? put it back, or set cwd and command right"),
        ];
    }
    let rebuild = |cause: Cause| match &facts.venv {
        Some((venv, there)) => {
            let path = quoted(&venv.display().to_string());
            let install = match facts.requirements {
                true => format!(
                    "{path}/bin/pip install -r {}",
                    quoted(&facts.cwd.0.join("requirements.txt").display().to_string())
                ),
                false => format!("{path}/bin/pip install …"),
            };
            let what =
                if *there { "belongs to a Python that was removed or replaced" } else { "is not there" };
            cause
                .seen(format!("the virtual environment {} {what}", venv.display()))
                .run(format!("python3 -m venv --clear {path}"))
                .run(install)
        }
        None => cause.advise("install it, or set command right; ops config show prints it as it is"),
    };
    let mut causes = Vec::new();
    match &facts.program {
        Program::Fine => {}
        Program::NotForCron(place) => causes.push(
            Cause::new(
                "program_not_for_cron",
                State::Warning,
                100,
                format!("{service}'s program {word} is not where cron looks: a restart by alert would fail"),
            )
            .of(service)
            .seen(format!("here it is {}; cron's PATH is {CRON_PATH}", place.display()))
            .advise(format!(
                "write the whole path into command of [service.{service}], or a PATH into its env"
            )),
        ),
        Program::Missing => {
            causes.push(rebuild(cause(
                "program_missing",
                11,
                format!("{service} cannot start: its program {word} is not there"),
            )));
        }
        Program::NotOnPath => causes.push(
            cause(
                "program_missing",
                11,
                format!("{service} cannot start: there is no program {word} on PATH"),
            )
            .advise("install it, or write the whole path into command"),
        ),
        Program::Dangling(link, target) => {
            let text =
                format!("{service} cannot start: {word} is a link to {}, which is gone", target.display());
            causes.push(rebuild(cause("program_dangling", 11, text).seen(link.display().to_string())));
        }
        Program::NotExecutable => causes.push(
            cause(
                "program_not_executable",
                11,
                format!("{service} cannot start: {word} may not be executed"),
            )
            .run(format!("chmod +x {}", quoted(&facts.cwd.0.join(word).display().to_string()))),
        ),
        Program::Folder => causes.push(
            cause("program_missing", 11, format!("{service} cannot start: {word} is a folder"))
                .advise("command names a program and its arguments, a word each"),
        ),
        Program::NoInterpreter(line) => {
            let windows = line.ends_with('\r');
            let text = format!(
                "{service} cannot start: {word} wants the interpreter {}, which is not there",
                line.trim()
            );
            let cause = cause("interpreter_missing", 11, text);
            causes.push(match windows {
                true => cause
                    .seen("its lines end as on Windows: the name has a carriage return at its end")
                    .run(format!(
                        "perl -pi -e 's/\\r$//' {}",
                        quoted(&facts.cwd.0.join(word).display().to_string())
                    )),
                false => rebuild(cause),
            });
        }
    }
    if let Some(script) = &facts.no_script {
        causes.push(
            cause(
                "script_missing",
                11,
                format!("{service} cannot start: its script {} is not there", script.display()),
            )
            .advise("was the program moved, or a checkout emptied? put it back, or set command or cwd right"),
        );
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn executable(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn ids(cwd: &Path, command: &[&str]) -> Vec<&'static str> {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let service = Service { cwd: cwd.to_owned(), ..Service::default() };
        let facts = gather("bot", State::Critical, &service, &words).unwrap();
        judge(&facts).iter().map(|cause| cause.id).collect()
    }

    #[test]
    fn each_way_of_not_being_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        executable(&at("good"), "#!/bin/sh\n");
        executable(&at("env"), "#!/usr/bin/env -S sh -e\n");
        executable(&at("lost"), "#!/nowhere/python3\n");
        executable(&at("lost-env"), "#!/usr/bin/env no-such-interpreter\n");
        executable(&at("windows"), "#!/bin/sh\r\n");
        fs::write(at("plain"), "#!/bin/sh\n").unwrap();
        fs::create_dir_all(at(".venv/bin")).unwrap();
        symlink(at("python-that-went"), at(".venv/bin/python")).unwrap();
        symlink("python", at(".venv/bin/python3")).unwrap();
        fs::write(at("main.py"), "").unwrap();
        for (command, expected) in [
            (&["./good"][..], &[][..]),
            (&["./env"], &[]),
            (&["sh", "-c", "no/such.file"], &[]),
            (&["sh", "good"], &[]),
            (&["sh", "./gone.sh"], &["script_missing"]),
            (&["./gone"], &["program_missing"]),
            (&["no-such-program-anywhere"], &["program_missing"]),
            (&["./.venv"], &["program_missing"]),
            (&["./plain"], &["program_not_executable"]),
            (&["./lost"], &["interpreter_missing"]),
            (&["./lost-env"], &["interpreter_missing"]),
            (&["./windows"], &["interpreter_missing"]),
            (&[".venv/bin/python3", "main.py"], &["program_dangling"]),
        ] {
            assert_eq!(ids(dir.path(), command), expected, "{command:?}");
        }
        assert_eq!(ids(&at("none"), &["./good"]), ["cwd_missing"]);
    }

    #[test]
    fn a_virtual_environment_is_rebuilt() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("requirements.txt"), "").unwrap();
        let service = Service { cwd: dir.path().to_owned(), ..Service::default() };
        let words = [".venv/bin/python3".to_owned(), "main.py".to_owned()];
        let causes = judge(&gather("bot", State::Critical, &service, &words).unwrap());
        assert_eq!(causes[0].id, "program_missing");
        assert!(causes[0].evidence[0].contains(".venv is not there"), "{:?}", causes[0]);
        assert!(
            causes[0].remedy[0].starts_with("python3 -m venv")
                && causes[0].remedy[1].contains("requirements.txt")
        );
        assert_eq!(causes[1].id, "script_missing");
    }

    #[test]
    fn cron_looks_in_fewer_places() {
        let dir = tempfile::tempdir().unwrap();
        executable(&dir.path().join("bin/bot"), "#!/bin/sh\n");
        let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
        assert_eq!(find("bot", dir.path(), &path, true), Program::NotForCron(dir.path().join("bin/bot")));
        assert_eq!(find("bot", dir.path(), &path, false), Program::Fine);
        assert_eq!(find("sh", dir.path(), &path, true), Program::Fine);
    }
}
