//! The command of an upgrade: run in the home with our terminal, ended with all it started when we are
//! told to stop.

use super::Wish;
use crate::base::process::{self, Process, Signal};
use crate::base::{Fault, program, text};
use crate::config::Loaded;
use anyhow::{Context, Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// In the environment of what we run: the run. Whatever it starts inherits it.
const MARKER: &str = "AGENT_OPS_UPGRADE";

/// How long what is told to end may take.
const GRACE: Duration = Duration::from_secs(10);

/// Whether somebody told us to stop: Ctrl-C, TERM, or a terminal that went away. From here on none of
/// these ends us: what was begun is put back first.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(super) fn listen() -> Result<Interrupt> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&told)).context("cannot wait for signals")?;
        }
        Ok(Interrupt(told))
    }

    pub(super) fn told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// When told so.
    pub(super) fn check(&self) -> Result<()> {
        if self.told() { Err(anyhow!("it was interrupted")) } else { Ok(()) }
    }
}

/// One command, ready to be run.
pub(super) struct Job<'a> {
    pub(super) words: &'a [String],
    pub(super) home: &'a Path,
    pub(super) run: &'a str,
    /// Its output goes to our stderr: stdout is for one document.
    pub(super) to_stderr: bool,
}

impl Job<'_> {
    /// Runs it to its end. Told to stop, it is ended, and all it started.
    ///
    /// # Errors
    /// When it cannot be started, fails, or was ended.
    pub(super) fn run(&self, interrupt: Option<&Interrupt>) -> Result<()> {
        let (program, arguments) = self.words.split_first().context("there is no command")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.home).env(MARKER, self.run);
        if self.to_stderr {
            command.stdout(Stdio::from(std::io::stderr().as_fd().try_clone_to_owned()?));
        }
        let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        let status = loop {
            if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {program}"))? {
                break status;
            }
            if let Some(interrupt) = interrupt.filter(|interrupt| interrupt.told()) {
                end_all(self.run, || drop(child.try_wait()))?;
                interrupt.check()?;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        judge(program, status)?;
        interrupt.map_or(Ok(()), Interrupt::check)
    }
}

/// Looks whether what is to be run is there, so that nothing is stopped for the sake of a typing error.
///
/// # Errors
/// A [`Fault`] of state Unknown when the command is not there, or the rollback command, unless `force` is
/// given.
pub fn need_programs(loaded: &Loaded, wish: &Wish) -> Result<()> {
    let home = loaded.home.root();
    let missing =
        |words: &[String]| words.first().filter(|word| program::find(word, home).is_none()).cloned();
    let fault = |what: &str, word: &str, hint: String| {
        let word = text::one_line(word, 200);
        let place =
            if word.contains('/') { format!("from {}", home.display()) } else { "on PATH".to_owned() };
        Err(Fault::unknown(format!("{what}: there is no program {word} {place}; nothing was changed"))
            .hint(hint)
            .into())
    };
    if let Some(word) = missing(&wish.command) {
        return fault(
            "cannot upgrade",
            &word,
            "look at how it is spelled, and whether it may be run".to_owned(),
        );
    }
    match missing(&loaded.config.upgrade.rollback) {
        Some(word) if !wish.force => {
            let file = loaded.config.file.display();
            fault(
                "no way back",
                &word,
                format!("mend rollback in [upgrade] of {file}; or --force, without it"),
            )
        }
        _ => Ok(()),
    }
}

fn judge(program: &str, status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(anyhow!("{program} failed ({status})")) }
}

/// Ends whatever the command of a run started and is still there: TERM, and KILL after a while. It
/// would go on writing while the old state comes back. `reap` is called while it waits.
pub(super) fn end_all(run: &str, mut reap: impl FnMut()) -> Result<()> {
    let me = std::process::id();
    let of_it = |process: &Process| {
        process.alive()
            && process.identity.pid != me
            && process.environment(MARKER).is_some_and(|mark| mark.to_str() == Some(run))
    };
    for signal in [Signal::TERM, Signal::KILL] {
        let deadline = Instant::now() + GRACE;
        let mut told = Vec::new();
        loop {
            let left: Vec<_> = process::all()?.into_iter().filter(of_it).collect();
            if left.is_empty() {
                return Ok(());
            }
            for process in left {
                if !told.contains(&process.identity) {
                    process.identity.signal(signal)?;
                    told.push(process.identity);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            reap();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Err(anyhow!("what the command started does not end, even when killed"))
}
