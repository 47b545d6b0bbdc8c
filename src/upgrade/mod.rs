//! A new program for the agent, or the old one back.
//!
//! [`upgrade`]: look, back up and verify, stop what runs, run a command, start what ran, and watch it for a
//! settling time. Whatever fails from the stop on puts everything back. What it is at stands in a
//! [`Note`], so that the next command knows of an upgrade that was cut short: [`go_back`] puts it back.

mod back;
mod command;
mod note;
mod watch;

pub use command::need_programs;

use crate::backup::{self, Made};
use crate::base::durable::Lock;
use crate::base::name::Name;
use crate::base::step::step;
use crate::base::units::{Size, Span};
use crate::base::upgrade::{Note, REMEDY, cut_short};
use crate::base::{Fault, Journal, Run, State, arguments, text};
use crate::config::Loaded;
use crate::health::Report;
use crate::service::Services;
use anyhow::{Context, Result};
use command::{Interrupt, Job};
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// So long an upgrade should take at most, or putting one back: then people hear of it, and again of what is
/// wrong.
pub fn longest(settle: Span) -> Span {
    Span(Span::minutes(4 * 60).0.saturating_add(settle.0))
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Program and arguments, run in the home.
    pub command: Vec<String>,
    /// How long the agent is watched afterwards.
    pub settle: Span,
    /// Go on although the agent is not well, or could not be put back; kill what does not stop.
    pub force: bool,
    /// What the command prints goes to our stderr: stdout is for one document.
    pub to_stderr: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is upgraded and was well for the settling time.
    Upgraded,
    /// It is as it was before.
    PutBack,
    /// It could not all be put back.
    NotPutBack,
}

/// One step that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Which.
    pub step: &'static str,
    /// Whether it went well.
    pub good: bool,
    /// What was done, or why not.
    pub text: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What an upgrade came to.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// The run.
    pub run: String,
    /// `ok`, or `critical`.
    pub state: State,
    /// How it ended.
    pub outcome: Outcome,
    /// That, in a sentence.
    pub text: String,
    /// The backup of before.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub archive: PathBuf,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// What is left to do by hand, a command each.
    pub remedies: Vec<String>,
}

/// The steps so far; each is told as it is done.
struct Progress<'a> {
    say: &'a dyn Fn(&str),
    steps: Vec<Step>,
}

impl Progress<'_> {
    fn step(&mut self, step: &'static str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        let begun = Instant::now();
        let done = work();
        let text = match &done {
            Ok(text) => text.clone(),
            Err(error) => format!("{error:#}"),
        };
        (self.say)(&text::one_line(&format!("{step}: {text}"), 500));
        let seconds = begun.elapsed().as_secs_f64();
        self.steps.push(Step { step, good: done.is_ok(), text, seconds });
        done.map(drop)
    }
}

/// What every part of it works with.
#[derive(Clone, Copy)]
struct Work<'a> {
    loaded: &'a Loaded,
    run: &'a Run,
    journal: Option<&'a Journal>,
    /// What commands print goes to our stderr.
    to_stderr: bool,
}

impl Work<'_> {
    fn services(&self) -> Services<'_> {
        Services { home: &self.loaded.home, config: &self.loaded.config, run: self.run }
    }
}

/// The services that run now, and those that their operator stopped.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// They are stopped for the upgrade and started afterwards.
    pub running: Vec<String>,
    /// They stay stopped.
    pub stopped: Vec<String>,
}

/// Looks at the services.
pub fn find(loaded: &Loaded, run: &Run) -> Result<Found> {
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let mut found = Found::default();
    for name in services.names(None)? {
        let status = services.status(&name)?;
        match status.process() {
            Some(_) => found.running.push(name),
            None if status.stopped_by_operator.is_some() => found.stopped.push(name),
            None => {}
        }
    }
    Ok(found)
}

/// Looks at the agent as it is before. Changes nothing of it.
///
/// # Errors
/// A [`Fault`] of state Critical when a check is critical that does not follow from an operator's stop,
/// unless `force` is given; of state Unknown when what runs could not be started again.
pub fn pre_flight(loaded: &Loaded, run: &Run, journal: Option<&Journal>, force: bool) -> Result<Report> {
    let found = find(loaded, run)?;
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    for name in &found.running {
        services.may_start(name).context("nothing was changed")?;
    }
    let report = watch::look(loaded, run, journal);
    let bad = watch::critical(&report, &loaded.config, &found.stopped);
    if bad.is_empty() || force {
        return Ok(report);
    }
    let bad: Vec<_> = bad.iter().map(|finding| format!("{}: {}", finding.check, finding.summary)).collect();
    Err(Fault::critical(format!("the agent is not well; nothing was changed: {}", bad.join("; ")))
        .hint("mend that first; or --force: what is critical now is then no reason to put it back")
        .into())
}

/// Upgrades. `back_up` makes the backup; `say` is told each step.
///
/// # Errors
/// When it was refused, or failed before anything was stopped: nothing was changed. What failed later
/// is in [`Done`].
pub fn upgrade(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    wish: &Wish,
    back_up: impl FnOnce() -> Result<Made>,
    say: &dyn Fn(&str),
) -> Result<Done> {
    let _lock = lock(loaded, run)?;
    if let Some(note) = cut_short(&loaded.home)? {
        return Err(Fault::unknown(note.describe(&loaded.home)).hint(REMEDY).into());
    }
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress { say, steps: Vec::new() };
    let first = find(loaded, run)?;
    let before = pre_flight(loaded, run, journal, wish.force)?;
    step("pre-flight")?;
    let begun = Instant::now();
    let made = back_up().context("nothing was changed: there is no backup")?;
    can_go_back(loaded, &made, wish.force)?;
    step("backed up")?;
    if interrupt.told() {
        return Err(Fault::critical("it was interrupted; nothing was changed").into());
    }
    let text = made.line(&loaded.home);
    progress.steps.push(Step { step: "backup", good: true, text, seconds: begun.elapsed().as_secs_f64() });

    // As it is now: the backup took its time.
    let found = find(loaded, run)?;
    let stays = |name: &&String| found.running.contains(name) || found.stopped.contains(name);
    if let Some(name) = first.running.iter().find(|name| !stays(name) && !wish.force) {
        // Whoever stands behind it would start it again while the command is at it.
        return Err(Fault::critical(format!("{name} ended while the backup was made; nothing was changed"))
            .hint(format!("`ops logs {name}` shows its last words; --force goes on without it"))
            .into());
    }
    let archive = Name(made.archive.clone());
    let mut note = Note::begin(run, archive, found.running, longest(wish.settle))?;
    if let Some(who) = Lock::holder(&loaded.home, "backup") {
        say(&format!("wait: {who}"));
    }
    let noted = note::save(&note, loaded);
    let noted = noted.and_then(|()| back::await_backup(loaded, run, Some(&interrupt)));
    noted.inspect_err(|_| drop(note::remove(&note, loaded))).context("nothing was changed")?;
    step("noted")?;
    let mut done = Done {
        run: run.id.clone(),
        state: State::Ok,
        outcome: Outcome::Upgraded,
        text: String::new(),
        archive: made.archive,
        steps: Vec::new(),
        remedies: Vec::new(),
    };
    let work = Work { loaded, run, journal, to_stderr: wish.to_stderr };
    match forward(work, wish, &before, &mut note, &interrupt, &mut progress) {
        Ok(()) => {
            note::remove(&note, loaded)?;
            done.text = match note.services.is_empty() {
                true => format!(
                    "upgraded by {}; nothing ran before, so nothing was started",
                    shown(&wish.command)
                ),
                false => format!(
                    "upgraded by {}; {} settled for {}",
                    shown(&wish.command),
                    note.services.join(", "),
                    wish.settle
                ),
            };
        }
        Err(error) => {
            let left = back::put_back(work, &mut note, &mut progress);
            let pending = work.services().pending_stops(&note.services);
            conclude(loaded, &note, &mut done, &format!("not upgraded: {error:#}"), left, pending)?;
        }
    }
    done.steps = progress.steps;
    Ok(done)
}

/// Puts back an upgrade that was cut short.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is none. What could not be put back is in [`Done`].
pub fn go_back(
    loaded: &Loaded,
    run: &Run,
    journal: Option<&Journal>,
    to_stderr: bool,
    say: &dyn Fn(&str),
) -> Result<Done> {
    let _lock = lock(loaded, run)?;
    let mut note = need_cut_short(loaded)?;
    note.take_over(run, longest(Span::default()))?;
    // Once begun it goes on to its end.
    Interrupt::listen()?;
    let mut progress = Progress { say, steps: Vec::new() };
    let left = back::put_back(Work { loaded, run, journal, to_stderr }, &mut note, &mut progress);
    let mut done = Done {
        run: run.id.clone(),
        state: State::Ok,
        outcome: Outcome::PutBack,
        text: String::new(),
        archive: note.archive.0.clone(),
        steps: Vec::new(),
        remedies: Vec::new(),
    };
    let services = Services { home: &loaded.home, config: &loaded.config, run };
    let pending = services.pending_stops(&note.services);
    conclude(loaded, &note, &mut done, &note.describe(&loaded.home), left, pending)?;
    if done.outcome == Outcome::PutBack {
        done.state = State::Ok;
    }
    done.steps = progress.steps;
    Ok(done)
}

/// Forgets an upgrade that was cut short: things stay as they are. Gives what it was.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is none.
pub fn keep(loaded: &Loaded, run: &Run) -> Result<String> {
    let _lock = lock(loaded, run)?;
    let note = need_cut_short(loaded)?;
    note::remove(&note, loaded)?;
    Ok(note.describe(&loaded.home))
}

fn need_cut_short(loaded: &Loaded) -> Result<Note> {
    cut_short(&loaded.home)?.ok_or_else(|| {
        Fault::unknown("no upgrade of this home was cut short; nothing was changed")
            .hint("`ops restore --aside` and `ops backup list` show what else can be brought back")
            .into()
    })
}

fn lock(loaded: &Loaded, run: &Run) -> Result<Lock> {
    backup::need_home(&loaded.config)?;
    Lock::take(&loaded.home, "upgrade", run, Duration::ZERO)
}

/// Everything from the stop to the end of the settling time.
fn forward(
    work: Work<'_>,
    wish: &Wish,
    before: &Report,
    note: &mut Note,
    interrupt: &Interrupt,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let (services, loaded) = (work.services(), work.loaded);
    for name in &note.services {
        progress.step("stop", || {
            services.stop(name, wish.force, false)?;
            step("stopped")?;
            Ok(format!("{name} is stopped"))
        })?;
        interrupt.check()?;
    }
    note::command_begins(note, loaded)?;
    (progress.say)(&format!("command: {}", shown(&wish.command)));
    let home = loaded.home.root();
    let job = Job { words: &wish.command, home, run: &work.run.id, to_stderr: work.to_stderr };
    progress.step("command", || {
        step("command begins")?;
        job.run(Some(interrupt))?;
        step("command done")?;
        Ok(format!("{} is done", shown(&wish.command)))
    })?;
    for name in &note.services {
        progress.step("start", || {
            let started = services.start(name)?;
            step("started")?;
            Ok(format!("{name} runs as pid {}", started.process().identity.pid))
        })?;
        interrupt.check()?;
    }
    if note.services.is_empty() {
        return Ok(());
    }
    progress.step("settle", || {
        watch::settle(&services, &note.services, wish.settle, interrupt)?;
        watch::compare(before, &watch::look(loaded, work.run, work.journal))?;
        step("settled")?;
        Ok(format!("well, and the same process, for {}", wish.settle))
    })
}

/// Refuses what could not be put back: a backup that does not open here, or for which there is no room.
fn can_go_back(loaded: &Loaded, made: &Made, force: bool) -> Result<()> {
    let refuse = |why: String, hint: &str| -> Result<()> {
        if force {
            return Ok(());
        }
        let hint = format!("{hint}; or --force, without a way back");
        Err(Fault::critical(format!("{why}; nothing was changed")).hint(hint).into())
    };
    if made.encrypted.as_ref().is_some_and(|how| !how.opened) {
        let why = "the backup is encrypted and cannot be opened here".to_owned();
        return refuse(why, "set identity in [backup] for as long as the upgrade takes");
    }
    let free = backup::free_space(loaded.home.root())?;
    if free < made.content {
        let needed = format!("{} are needed and {} are free", Size(made.content), Size(free));
        let why = format!("no room to bring the backup back in {}: {needed}", loaded.home.root().display());
        return refuse(why, "free some space");
    }
    Ok(())
}

/// Says how putting back ended. The note stays as long as something is left to do.
fn conclude(
    loaded: &Loaded,
    note: &Note,
    done: &mut Done,
    what: &str,
    left: back::Left,
    pending: Option<String>,
) -> Result<()> {
    done.state = State::Critical;
    let program_stays = note.changed && loaded.config.upgrade.rollback.is_empty();
    if left.troubles.is_empty() {
        note::remove(note, loaded)?;
        done.outcome = Outcome::PutBack;
        done.text = match program_stays {
            true => format!("{what}; the state in the backup was put back"),
            false => format!("{what}; everything was put back as it was"),
        };
        if let Some(pending) = pending {
            done.text = format!("{what}; nothing else was changed, but {pending}; `alert` starts it then");
            done.remedies = vec!["ops status".to_owned()];
        }
    } else {
        done.outcome = Outcome::NotPutBack;
        done.text = format!("{what}; and it could not all be put back: {}", left.troubles.join("; "));
        done.remedies = left.remedies;
    }
    if program_stays {
        done.text.push_str("; nothing was done about the program: set rollback in [upgrade]");
    }
    if let Some(added) = left.added {
        done.text.push_str(&format!("; {added}"));
    }
    Ok(())
}

/// A command as logs may see it: without what looks like a secret.
fn shown(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(OsString::from).collect();
    arguments::shown(&words, 400)
}

/// A command as a shell would take it.
fn quoted(words: &[String]) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@=%".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(harmless) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
