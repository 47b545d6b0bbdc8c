//! `[backup.dump.NAME]`: commands whose output goes into the archive, such as `pg_dump`.
//!
//! How much one writes is not known before it is done, and whether it is good, by its exit code alone. So its
//! output goes into the work folder first: a dump that failed is in no archive.

use super::manifest::NoDump;
use super::plan::Plan;
use crate::base::step::step;
use crate::base::units::Span;
use crate::base::{arguments, durable, process, program, text};
use crate::config::{self, Dump, Loaded};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// So much of what a command says is kept: its last words.
const LAST_WORDS: usize = 4 << 10;

/// What a command wrote.
#[derive(Clone, Debug)]
pub(super) struct Dumped {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) took: Duration,
    pub(super) bytes: u64,
    /// In the work folder.
    pub(super) file: PathBuf,
}

/// Runs all commands, one after another. What fails is a problem of the plan.
pub(super) fn all(loaded: &Loaded, work: &Path, plan: &mut Plan) {
    for (name, dump) in &loaded.config.backup.dump {
        let file = work.join(format!("{name}.dump"));
        match run(loaded, name, dump, file.clone()) {
            Ok(dumped) => {
                if dumped.bytes == 0 {
                    plan.problems.push(format!("the dump {name} is empty: its command wrote nothing"));
                }
                plan.dumps.push(dumped);
            }
            Err(error) => {
                let _ = durable::remove(&file);
                let why = text::one_line(&format!("{error:#}"), 500);
                plan.problems.push(format!("the dump {name} failed and is not in the archive: {why}"));
                plan.no_dumps.push(NoDump { name: name.clone(), why });
            }
        }
    }
}

fn run(loaded: &Loaded, name: &str, dump: &Dump, file: PathBuf) -> Result<Dumped> {
    let begun = Instant::now();
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let target = target.with_context(|| format!("cannot create {}", file.display()))?;
    let written = target.try_clone().context("cannot use the file")?;
    step("dump begun")?;
    let mut command = ready(loaded, &dump.command)?;
    command.stdin(Stdio::null()).stdout(target).stderr(Stdio::piped());
    let (status, said) = wait(command, dump.timeout)?;
    if !status.success() {
        let said = if said.is_empty() { said } else { format!(": {said}") };
        bail!("{} failed ({status}){said}", shown(&dump.command));
    }
    step("dumped")?;
    let bytes = written.metadata().context("cannot read the file")?.len();
    let command = shown(&dump.command);
    Ok(Dumped { name: name.to_owned(), command, took: begun.elapsed(), bytes, file })
}

/// A command of a dump, to run in the home with the variables of `env_file`, in a group of its own.
pub fn ready(loaded: &Loaded, words: &[String]) -> Result<Command> {
    let (first, arguments) = words.split_first().context("there is no command")?;
    let home = loaded.home.root();
    let Some(path) = program::find(first, home) else { bail!("there is no program {first}") };
    let mut command = Command::new(path);
    command.args(arguments).current_dir(home).process_group(0);
    if let Some(path) = &loaded.config.agent.env_file {
        command.envs(config::read_env_file(path)?);
    }
    Ok(command)
}

/// Waits for a command. When its time is over it is killed, with all it started that is in its group. Gives
/// its last words on stderr.
fn wait(mut command: Command, timeout: Span) -> Result<(ExitStatus, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let group = Pid::from_child(&child);
    let stderr = child.stderr.take();
    let words = std::thread::spawn(move || stderr.map_or(Vec::new(), last_words));
    let deadline = Instant::now() + timeout.0;
    let done = loop {
        if process::has_ended(group)? {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // It has not been waited for, so its group number is still its own.
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    if !done {
        bail!("{name} was not done within {timeout} and was killed");
    }
    // What left the group may hold the pipe open for longer.
    let ended = Instant::now();
    while !words.is_finished() && ended.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let words = if words.is_finished() { words.join().unwrap_or_default() } else { Vec::new() };
    let words = String::from_utf8_lossy(&words).into_owned();
    let last: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &last[last.len().saturating_sub(3)..];
    Ok((status, text::one_line(&last.join(" | "), 400)))
}

fn last_words(mut pipe: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }
    kept
}

/// A command as people read it, without secrets.
pub fn shown(words: &[String]) -> String {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    arguments::shown(&words, 200)
}
