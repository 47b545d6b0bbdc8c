//! What every verb gets: the run, the common options, and the ways to say something.

use super::commands;
use crate::base::maintenance::Maintenance;
use crate::base::privilege;
use crate::base::render::document;
use crate::base::text::harmless;
use crate::base::units::Span;
use crate::base::watchdog::{self, Watchdog};
use crate::base::{Fault, Journal, Run, State, format};
use crate::config::{self, Loaded};
use crate::health::Report;
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of every program.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// The config file
    #[arg(short, long, global = true, env = "OPS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The agent's home folder
    #[arg(long, global = true, env = "OPS_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Color,
}

/// A home that its owner may not read, as whom we act, is no failure of the work: nothing was done.
fn refuse_denied<T>(found: io::Result<T>, path: &Path) -> Result<()> {
    let Err(error) = found else { return Ok(()) };
    let error = anyhow::Error::from(error);
    let Some(acting) = privilege::explain_denied(&error) else { return Ok(()) };
    let message = format!("nothing was done: cannot read {}: {error:#} ({acting})", path.display());
    Err(Fault::unknown(message).hint("give the home, all that is in it and its config to one user").into())
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// An error, and as whom we were refused where that is not who asked.
fn described(error: &anyhow::Error) -> String {
    match privilege::explain_denied(error) {
        Some(acting) => format!("{error:#} ({acting})"),
        None => format!("{error:#}"),
    }
}

/// How long the config, and the home that it names, may take to answer.
const TO_LOAD: Duration = Duration::from_secs(120);

/// One invocation, as a verb sees it.
#[derive(Debug)]
pub struct Context {
    /// The facts of this run.
    pub run: Run,
    /// The common options.
    pub common: Common,
    colored: bool,
    /// What was printed last.
    said: RefCell<String>,
    /// Whether nobody reads what is printed.
    unread: Cell<bool>,
}

impl Context {
    /// The context of a program begun now.
    pub fn new(program: &str, common: Common) -> Context {
        let plain = || {
            !io::stdout().is_terminal()
                || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
                || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
        };
        let colored = match common.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !plain(),
        };
        let run = Run { watched: !common.quiet, ..Run::begin(program) };
        Context { run, common, colored, said: RefCell::default(), unread: Cell::default() }
    }

    /// Finds and reads the config; the home must be there.
    pub fn load(&self) -> Result<Loaded> {
        // Before it is known how long the run may take.
        let _watchdog = Watchdog::begin(&self.run, TO_LOAD, None);
        watchdog::phase("reading the config");
        let file = config::find(self.common.config.as_deref(), self.common.home.as_deref())?;
        let loaded = config::load(&file, self.common.home.as_deref())?;
        let home = loaded.home.root();
        if !home.is_dir() {
            refuse_denied(fs::metadata(home), home)?;
            return Err(Fault::unknown(format!("the agent's home {} is not a folder", home.display()))
                .hint(format!("set [agent] home in {}, or create the folder", file.display()))
                .into());
        }
        let mark = loaded.home.format();
        refuse_denied(loaded.home.read(&mark), &mark)?;
        format::check(&loaded.home)?;
        Ok(loaded)
    }

    /// Opens the journal of a home, if it can be had: what can be done without it is done.
    pub fn journal(&self, loaded: &Loaded) -> Option<Journal> {
        match Journal::open(&loaded.home) {
            Ok(journal) => {
                if let Some(aside) = journal.set_aside() {
                    self.note(&format!(
                        "the journal {}; it is now {}, a new one was begun",
                        aside.why,
                        aside.path.display()
                    ));
                }
                Some(journal)
            }
            Err(error) => {
                self.note(&format!("no history is kept: {error:#}"));
                None
            }
        }
    }

    /// Prints results to stdout.
    pub fn print(&self, text: &str) -> Result<()> {
        text.clone_into(&mut self.said.borrow_mut());
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{}", harmless(text.trim_end_matches('\n'), self.colored));
        match written.and_then(|()| out.flush()) {
            // Whoever reads our output has seen enough. The work goes on, and its exit code tells the state.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.unread.set(true),
            written => written?,
        }
        Ok(())
    }

    /// Whether nobody reads what we print any more.
    pub(super) fn unread(&self) -> bool {
        self.unread.get()
    }

    /// What was printed last.
    pub(super) fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Notes that something of ours is at the agent, until this is dropped. Without the note it goes
    /// on all the same.
    pub(super) fn maintenance(&self, loaded: &Loaded, limit: Span) -> Option<Maintenance> {
        Maintenance::begin(&loaded.home, &self.run, limit)
            .map_err(|error| self.note(&format!("{error:#}; people may be alerted meanwhile")))
            .ok()
    }

    /// Warns of what the config takes from this shell, and somebody who runs us later will not have.
    pub(super) fn note_environment(&self, loaded: &Loaded, who: &str) {
        let config = &loaded.config;
        if config.from_environment.is_empty() {
            return;
        }
        let names = config.from_environment.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let into = match &config.agent.env_file {
            Some(file) => format!("write them into {}", file.display()),
            None => format!(
                "write them into a file, and env_file = \"FILE\" into [agent] of {}",
                config.file.display()
            ),
        };
        self.note(&format!("taken from this shell, and not known to {who}: {names}; {into}"));
    }

    /// Prints a document for machines.
    pub fn print_json<T: Serialize>(&self, body: &T) -> Result<()> {
        let text = document(body)?;
        self.print(&text)
    }

    /// A text for people, the commands in it (`ops …`) so that they mean this agent wherever they are copied to.
    pub(super) fn told(&self, text: &str) -> String {
        commands::told(text, &commands::options(&self.common))
    }

    /// What a report has people do, likewise. What was found stays: it quotes others, who meant what they wrote.
    pub(super) fn tell(&self, report: &mut Report) {
        for finding in &mut report.findings {
            finding.remedy = finding.remedy.take().map(|remedy| self.told(&remedy));
        }
    }

    /// Says something to people, on stderr, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.common.quiet {
            self.warn(text);
        }
    }

    /// Says why the exit code is not 0, on stderr: with `--quiet` too, for cron's log.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{}", harmless(&self.told(text), false));
    }

    /// Says what only matters to someone who asked with `-v`.
    pub fn detail(&self, text: &str) {
        if self.common.verbose > 0 {
            self.note(text);
        }
    }

    /// Whether stdout gets colours.
    pub fn colored(&self) -> bool {
        self.colored
    }

    /// Rows and columns of the terminal that results go to; none: they go elsewhere.
    pub(super) fn screen(&self) -> Option<(usize, usize)> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
    }

    /// Asks before something that cannot be undone easily.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown, when nobody can be asked and `--yes` was not given.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<bool> {
        if yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Fault::unknown(format!(
                "{question} There is no terminal to ask on; nothing was changed"
            ))
            .hint("say --yes to go ahead without being asked")
            .into());
        }
        let mut err = io::stderr().lock();
        write!(err, "{} [y/N] ", harmless(question, false))?;
        err.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Prints an error as the last word of a run: on stderr, and as a document with `--json`.
    pub(super) fn report(&self, error: &anyhow::Error) -> State {
        let (state, hint) = Fault::of(error);
        let hint = hint.map(|hint| self.told(hint));
        let hint = hint.as_deref();
        if self.common.json {
            #[derive(Serialize)]
            struct Failure<'a> {
                run: &'a str,
                state: State,
                error: String,
                hint: Option<&'a str>,
            }
            let failure = Failure { run: &self.run.id, state, error: described(error), hint };
            let _ = self.print_json(&failure);
        }
        self.complain(error);
        state
    }

    /// Says what went wrong, on stderr.
    pub(super) fn complain(&self, error: &anyhow::Error) {
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "{}: {}", self.run.program, harmless(&described(error), false));
        if let Some(hint) = Fault::of(error).1 {
            let _ = writeln!(err, "hint: {}", harmless(&self.told(hint), false));
        }
    }
}
