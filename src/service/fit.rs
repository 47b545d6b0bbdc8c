//! Whether a process may be a service, by what it runs and where: program, script, folder.
//!
//! Options are what people vary: they do not decide. Words are compared as the files that they name, those
//! of a process in its own folder, so that one relative command in two homes is told apart.

use super::Services;
use crate::base::beneath;
use crate::base::process::Process;
use anyhow::Result;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How well a command line fits; the better is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It is another.
    None,
    /// It has the service's arguments under another program.
    Arguments,
    /// It is the service's program and script, behind what may be the value of an option or another script.
    Behind,
    /// It is the service's program and script, with other options.
    Program,
    /// It is the service's.
    Whole,
}

/// Where a process is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this agent, by its folder or its script.
    Here,
    /// Its folder says nothing, or may not be looked at.
    Untold,
    /// In another folder.
    Elsewhere,
}

/// What was found of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) fit: Fit,
    pub(super) place: Place,
    /// Its program or script is that of the service: the very same file.
    file: bool,
    /// It is neither root's, who may run anybody's, nor of the owner of the home.
    foreign: bool,
}

impl Look {
    const NONE: Look = Look { fit: Fit::None, place: Place::Elsewhere, file: false, foreign: false };

    /// Enough not to start a second one beside it.
    pub(super) fn may_be(self) -> bool {
        match self.place {
            _ if self.foreign => false,
            Place::Here => self.fit >= Fit::Behind,
            Place::Untold => self.fit == Fit::Whole && self.file,
            Place::Elsewhere => false,
        }
    }
}

/// The command of a service, to compare processes with.
pub(super) struct Wanted {
    words: Vec<String>,
    interpreter: Option<String>,
    /// Which words, besides the program, tell what is run.
    telling: Vec<String>,
    /// There is a file among them: another Python of the same name is the agent as well if it runs that.
    script: bool,
    folder: PathBuf,
    home: PathBuf,
    /// Whose the home is.
    owner: Option<u32>,
}

/// A process, as far as it is compared.
struct Other<'a> {
    words: &'a [OsString],
    /// Where it is now; none: it may not be looked at.
    folder: Option<&'a Path>,
}

/// How two words are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Same {
    Word,
    File,
    /// One that is in the home.
    Own,
}

impl Wanted {
    pub(super) fn of(services: &Services<'_>, name: &str) -> Result<Wanted> {
        let service = services.service(name)?;
        let words = services.command(service);
        let interpreter = words.first().and_then(|program| interpreter(&service.cwd.join(program)));
        let root = services.home.root();
        let telling = telling(&words, &service.cwd);
        Ok(Wanted {
            script: telling.iter().any(|word| service.cwd.join(word).is_file()),
            telling,
            words,
            interpreter,
            folder: service.cwd.clone(),
            home: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
            owner: fs::metadata(root).ok().map(|meta| meta.uid()),
        })
    }

    /// Whether its arguments say anything by themselves: a script, a folder, a module do; `serve` is
    /// in many a command line.
    pub(super) fn telling_arguments(&self) -> bool {
        self.words.iter().skip(1).any(|word| word.contains(['/', '.']))
    }

    pub(super) fn look(&self, process: &Process, arguments: &[OsString]) -> Look {
        if arguments.is_empty() {
            return Look::NONE;
        }
        let folder = process.folder();
        let (fit, same) = self.fit(&Other { words: arguments, folder: folder.as_deref() });
        if fit == Fit::None {
            return Look::NONE;
        }
        let foreign = process.uid != 0 && self.owner.is_some_and(|owner| owner != process.uid);
        let place = match folder {
            Some(folder) if self.is_here(&folder) => Place::Here,
            _ if same == Some(Same::Own) => Place::Here,
            Some(folder) if folder != Path::new("/") => Place::Elsewhere,
            _ => Place::Untold,
        };
        Look { fit, place, file: same >= Some(Same::File), foreign }
    }

    fn is_here(&self, folder: &Path) -> bool {
        let same = || Some(same_file(&fs::metadata(folder).ok()?, &fs::metadata(&self.folder).ok()?));
        folder.starts_with(&self.home) || same().unwrap_or(false)
    }

    /// How well it fits, and how sure it is that what is run is the same.
    fn fit(&self, other: &Other<'_>) -> (Fit, Option<Same>) {
        let named = |at: usize, name: &str| {
            other.words.get(at).is_some_and(|word| bare(&word.to_string_lossy()) == bare(name))
        };
        let behind = match (&*self.words, &self.interpreter) {
            ([first, ..], _) if named(0, first) => 1,
            ([first, ..], Some(interpreter)) if named(0, interpreter) && named(1, first) => 2,
            _ => return (self.arguments(other), None),
        };
        let (program, rest) = (self.program(&other.words[behind - 1], other), &other.words[behind..]);
        let script = self.behind_options(rest, other);
        if program.is_none()
            && !(self.script && script.or(self.behind_values(rest, other)) >= Some(Same::File))
        {
            return (self.arguments(other), None);
        }
        let same = if self.script { script } else { script.max(program) };
        let told = match self.telling.is_empty() {
            true => behind_nothing(rest),
            false => script.is_some(),
        };
        match () {
            () if self.in_order(other, behind) => (Fit::Whole, same),
            () if told => (Fit::Program, same),
            () => match self.behind_values(rest, other) {
                Some(same) => (Fit::Behind, Some(same)),
                None => (self.arguments(other), None),
            },
        }
    }

    /// Whether it is the program: by its name, unless both are paths to different files.
    fn program(&self, word: &OsString, other: &Other<'_>) -> Option<Same> {
        let (first, text) = (&self.words[0], word.to_string_lossy());
        if first.contains('/') && text.contains('/') {
            return self.same(first, word, other);
        }
        (last_part(first) == last_part(&text)).then_some(Same::Word)
    }

    /// Whether the words that tell what is run come first, but for options; and how sure that is.
    fn behind_options(&self, words: &[OsString], other: &Other<'_>) -> Option<Same> {
        let mut operands = words.iter().filter(|word| !is_option(&word.to_string_lossy()));
        let same = |wanted: &String| self.same(wanted, operands.next()?, other);
        let each: Option<Vec<Same>> = self.telling.iter().map(same).collect();
        each?.into_iter().max()
    }

    /// Whether the script comes behind words each of which may be an option's value (`-W ignore`).
    fn behind_values(&self, words: &[OsString], other: &Other<'_>) -> Option<Same> {
        let wanted = self.telling.iter().find(|word| self.folder.join(word).is_file())?;
        let option = |at: usize| words.get(at).is_some_and(|word| is_option(&word.to_string_lossy()));
        if !option(0) {
            return None;
        }
        let found = (1..words.len())
            .take_while(|&at| option(at) || option(at - 1))
            .filter(|&at| !option(at))
            .find_map(|at| self.same(wanted, &words[at], other));
        // The last value may be followed by the script.
        let last = (1..words.len()).find(|&at| !option(at) && !option(at - 1));
        found.or_else(|| self.same(wanted, &words[last?], other)).filter(|same| *same >= Same::File)
    }

    /// Whether a process that does not fit has the service's arguments all the same: the same script
    /// under another interpreter, say. Not proof enough to signal it.
    fn arguments(&self, other: &Other<'_>) -> Fit {
        if self.words.len() > 1 && self.in_order(other, 0) { Fit::Arguments } else { Fit::None }
    }

    /// Whether all arguments stand among those of the process in this order.
    fn in_order(&self, other: &Other<'_>, from: usize) -> bool {
        let mut words = other.words[from..].iter();
        self.words[1..].iter().all(|wanted| words.any(|word| self.same(wanted, word, other).is_some()))
    }

    /// Words that name files are the same if the files are; else paths by their last part.
    fn same(&self, wanted: &str, word: &OsString, other: &Other<'_>) -> Option<Same> {
        let text = word.to_string_lossy();
        if last_part(wanted) != last_part(&text) {
            return None;
        }
        let ours = self.folder.join(wanted);
        let theirs = match other.folder {
            Some(folder) => Some(folder.join(word)),
            None => Some(PathBuf::from(word)).filter(|path| path.is_absolute()),
        };
        let files = || Some((fs::metadata(&ours).ok()?, fs::metadata(theirs?).ok()?));
        match files() {
            Some((ours_meta, theirs)) if same_file(&ours_meta, &theirs) => {
                let own = ours.canonicalize().is_ok_and(|path| path.starts_with(&self.home));
                Some(if own { Same::Own } else { Same::File })
            }
            Some(_) => None,
            None => {
                (text == wanted || (wanted.contains('/') && !wanted.ends_with('/'))).then_some(Same::Word)
            }
        }
    }
}

/// The words of a command that say what is run: up to the first file, and what stands right behind it
/// (`node dist/index.js daemon`); else the first that is no option (`gomikrobot gateway`).
fn telling(words: &[String], folder: &Path) -> Vec<String> {
    let operands: Vec<_> =
        words.iter().enumerate().skip(1).filter(|(_, word)| !is_option(word)).map(|(at, _)| at).collect();
    let file = operands.iter().position(|&at| folder.join(&words[at]).is_file());
    let count = match file {
        Some(file) if operands.get(file + 1) == Some(&(operands[file] + 1)) => file + 2,
        Some(file) => file + 1,
        // Of `./bot --port 80` the program says all.
        None if words.first().is_some_and(|program| program.contains('/'))
            && words.get(1).is_some_and(|word| word.starts_with("--")) =>
        {
            0
        }
        None => operands.len().min(1),
    };
    operands[..count].iter().map(|&at| words[at].clone()).collect()
}

fn is_option(word: &str) -> bool {
    word.starts_with('-')
}

/// `bot status` is not `bot`.
fn behind_nothing(rest: &[OsString]) -> bool {
    rest.first().is_none_or(|word| is_option(&word.to_string_lossy()))
}

fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name of a program without its version: `python3.11` and `python3` are both `python`.
fn bare(path: &str) -> &str {
    last_part(path).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

/// The interpreter that a script names in its first line: `#!/bin/sh`, `#!/usr/bin/env python3`.
fn interpreter(program: &Path) -> Option<String> {
    if !program.is_file() {
        return None;
    }
    let mut line = [0; 128];
    let read = beneath::open_named(program).and_then(|mut file| file.read(&mut line)).ok()?;
    let text = String::from_utf8_lossy(&line[..read]).into_owned();
    let mut words = text.lines().next()?.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    let name = if first.ends_with("/env") { words.find(|word| !word.starts_with('-'))? } else { first };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str], interpreter: Option<&str>, home: &Path) -> Wanted {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let telling = telling(&words, home);
        Wanted {
            script: telling.iter().any(|word| home.join(word).is_file()),
            telling,
            words,
            interpreter: interpreter.map(str::to_owned),
            folder: home.to_owned(),
            home: home.to_owned(),
            owner: None,
        }
    }

    fn fit(wanted: &Wanted, arguments: &[&str], folder: &Path) -> (Fit, Option<Same>) {
        let words: Vec<_> = arguments.iter().map(OsString::from).collect();
        wanted.fit(&Other { words: &words, folder: Some(folder) })
    }

    #[test]
    fn command_lines_that_fit_and_look_alikes_that_do_not() {
        let nowhere = Path::new("/nowhere");
        let fits = |words: &[&str], interpreter: Option<&str>, arguments: &[&str]| {
            fit(&wanted(words, interpreter, nowhere), arguments, nowhere).0 == Fit::Whole
        };
        let daemon = [".venv/bin/python3", "src/core/daemon.py"];
        assert!(fits(&daemon, None, &[".venv/bin/python3", "src/core/daemon.py", "--verbose"]));
        assert!(fits(&daemon, None, &["/home/a/.venv/bin/python3", "-u", "/home/a/src/core/daemon.py"]));
        assert!(!fits(&daemon, None, &["python3", "src/core/email_daemon.py"]));
        assert!(!fits(&daemon, None, &["vim", "python3", "src/core/daemon.py"]));
        assert!(!fits(&daemon, None, &["tail", "-f", "src/core/daemon.py"]));
        assert!(!fits(&daemon, None, &[]));
        assert!(fits(&["./run.sh"], Some("/bin/sh"), &["/bin/sh", "./run.sh"]));
        assert!(!fits(&["./run.sh"], Some("/bin/sh"), &["vim", "./run.sh"]));
        assert!(!fits(&["./run.sh"], None, &["/bin/sh", "./run.sh"]));
        assert!(!fits(&["bot", "--home", "/a/x"], None, &["bot", "--home", "/b/y"]), "another agent's");
        assert!(!fits(&["bot", "serve"], None, &["bot"]));
        assert!(!fits(&["bot", "serve"], None, &["bot2", "serve"]));
    }

    #[test]
    fn program_and_script_decide_and_options_do_not() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (home, other) = (dir.path().canonicalize().unwrap(), other.path().canonicalize().unwrap());
        for folder in [&home, &other] {
            fs::write(folder.join("daemon.py"), "").unwrap();
        }
        let python = wanted(&[".venv/bin/python3", "daemon.py", "--heartbeat", "3600", "-v"], None, &home);
        let script = home.join("daemon.py").display().to_string();
        for (arguments, folder, expected) in [
            (vec!["python3", "daemon.py", "--heartbeat", "300"], &home, Fit::Program),
            (vec!["python3.11", "-u", "daemon.py"], &home, Fit::Program),
            (vec!["/usr/bin/python3", &script], &other, Fit::Program),
            (vec!["python3", "daemon.py", "--heartbeat", "3600", "-v"], &home, Fit::Whole),
            // The words are the same, the file is another home's.
            (vec![".venv/bin/python3", "daemon.py", "--heartbeat", "3600", "-v"], &other, Fit::None),
            (vec!["python3", "-m", "pdb", "daemon.py"], &home, Fit::Behind),
            (vec!["python3", "-W", "ignore", "-u", "daemon.py", "-v"], &home, Fit::Behind),
            (vec!["python3", "-c", "import daemon", "daemon.py"], &home, Fit::Behind),
            (vec!["python3", "-u", "lint.py", "a", "daemon.py"], &home, Fit::None),
            (vec!["python3", "lint.py", "daemon.py"], &home, Fit::None),
            (vec!["vim", "daemon.py"], &home, Fit::None),
            (vec!["uv", "daemon.py", "--heartbeat", "3600", "-v"], &home, Fit::Arguments),
            (vec!["python3"], &home, Fit::None),
        ] {
            let (found, same) = fit(&python, &arguments, folder);
            assert_eq!(found, expected, "{arguments:?}");
            assert_eq!(same, (expected >= Fit::Behind).then_some(Same::Own), "{arguments:?}");
        }
        let serve = wanted(&["node", "daemon.py", "serve", "--port", "1"], None, &home);
        assert_eq!(fit(&serve, &["node", "daemon.py", "serve"], &home).0, Fit::Program);
        assert_eq!(fit(&serve, &["node", "daemon.py", "status"], &home).0, Fit::None, "another verb");
        let gateway = wanted(&["/opt/bot/bot", "gateway", "--port", "1"], None, &home);
        assert_eq!(fit(&gateway, &["./bot", "gateway"], &home).0, Fit::Program);
        assert_eq!(fit(&gateway, &["./bot", "status"], &home).0, Fit::None);
        let bare = wanted(&["./bot", "--port", "80"], None, &home);
        assert_eq!(fit(&bare, &["./bot", "--port", "81"], &home).0, Fit::Program);
        assert_eq!(fit(&bare, &["./bot", "status"], &home).0, Fit::None);
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
}
