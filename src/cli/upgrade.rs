//! `ops upgrade`: a new program for the agent, or the old one back.

use super::Context;
use super::restore::finish_earlier;
use crate::base::units::Span;
use crate::base::upgrade::{REMEDY, cut_short};
use crate::base::{Fault, Journal, State, arguments, events, text};
use crate::config::Loaded;
use crate::upgrade::{self, Done, Found, Outcome, Wish};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;
use std::ffi::OsString;

/// Back up, stop, run a command, start, and watch the agent; put everything back if it does not come up
///
/// Nothing is stopped before the command is found, and a backup is made and verified. When the command fails, when the agent does not
/// start, ends or is restarted within the settling time, when a check is critical at its end that was not
/// before, or on Ctrl-C: it is put back. The state comes from the backup, and only what [backup] includes
/// is in it. Code outside is the business of the `rollback` command of [upgrade]: without one nothing is done
/// about it. What did not run before is not started.
///
/// Meanwhile nobody is alerted, nothing is restarted and no backup is made. One that was cut short is told by
/// `alert`, and what may be half new is not started by itself until --back or --keep. Exit codes: 0 upgraded, 2 not upgraded (put back or
/// not, it says exactly), 3 bad usage.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// How long the agent must live and be well afterwards; [upgrade] settle, unless said here
    #[arg(long, value_name = "SPAN", value_parser = Span::parse)]
    pub(super) settle: Option<Span>,
    /// Go on although a check is critical or there would be no way back; kill what does not stop
    #[arg(long)]
    pub(super) force: bool,
    /// Look, and say what would be done
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Put back an upgrade that was cut short
    #[arg(long, conflicts_with_all = ["settle", "command", "keep"])]
    pub(super) back: bool,
    /// Forget an upgrade that was cut short: things stay as they are
    #[arg(long, conflicts_with_all = ["settle", "command", "force"])]
    pub(super) keep: bool,
    /// Program and arguments, run in the agent's home; [upgrade] command, unless given here
    #[arg(last = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
}

/// `ops upgrade`
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    if args.keep || args.back {
        return end_earlier(context, &loaded, &args);
    }
    let config = &loaded.config.upgrade;
    let wish = Wish {
        command: if args.command.is_empty() { config.command.clone() } else { args.command.clone() },
        settle: args.settle.unwrap_or(config.settle),
        force: args.force,
        to_stderr: context.common.json,
    };
    if wish.command.first().is_none_or(String::is_empty) {
        let file = loaded.config.file.display();
        return Err(Fault::unknown("there is no command to upgrade by")
            .hint(format!("`ops upgrade -- CMD…`, or command = [\"…\"] in [upgrade] of {file}"))
            .into());
    }
    upgrade::need_programs(&loaded, &wish)?;
    if let Some(note) = cut_short(&loaded.home)? {
        return Err(Fault::unknown(note.describe(&loaded.home)).hint(REMEDY).into());
    }
    let found = upgrade::find(&loaded, &context.run)?;
    let journal = context.journal(&loaded);
    let plan = plan(&loaded, &found, &wish);
    if args.dry_run {
        return dry_run(context, &loaded, journal.as_ref(), &wish, &found, &plan);
    }
    if !context.confirm(&format!("{plan} Go on?"), args.yes)? {
        context.note("nothing was changed");
        return Ok(State::Unknown);
    }
    finish_earlier(context, &loaded, journal.as_ref())?;
    let _maintenance = context.maintenance(&loaded, upgrade::longest(wish.settle));
    let back_up = || {
        let made = super::backup::make_and_log(context, &loaded, journal.as_ref())?;
        context.note(&format!("backup: {}", made.line(&loaded.home)));
        for problem in &made.problems {
            context.note(&format!("look at this: {}", text::one_line(problem, 500)));
        }
        Ok(made)
    };
    let say = |text: &str| context.note(text);
    let done = upgrade::upgrade(&loaded, &context.run, journal.as_ref(), &wish, back_up, &say);
    match done {
        Ok(done) => tell(context, &loaded, journal.as_ref(), &done),
        Err(error) => {
            log(context, &loaded, "ERROR", &format!("{error:#}"));
            Err(error)
        }
    }
}

/// `--back` and `--keep`.
fn end_earlier(context: &Context, loaded: &Loaded, args: &Args) -> Result<State> {
    if args.dry_run {
        let found = cut_short(&loaded.home)?;
        let text = found.map_or("no upgrade was cut short".to_owned(), |note| note.describe(&loaded.home));
        context.print(&format!("{text}; nothing was done (dry run)"))?;
        return Ok(State::Ok);
    }
    if args.keep {
        let text = format!(
            "{}; it is forgotten, and all stays as it is (`ops start` starts what does not run)",
            upgrade::keep(loaded, &context.run)?
        );
        log(context, loaded, "INFO", &text);
        #[derive(Serialize)]
        struct Kept<'a> {
            run: &'a str,
            text: &'a str,
        }
        if context.common.json {
            context.print_json(&Kept { run: &context.run.id, text: &text })?;
        } else {
            context.print(&text)?;
        }
        return Ok(State::Ok);
    }
    if let Some(note) = cut_short(&loaded.home)?
        && !context.confirm(&format!("{}. Put everything back?", note.describe(&loaded.home)), args.yes)?
    {
        context.note("nothing was changed");
        return Ok(State::Unknown);
    }
    let journal = context.journal(loaded);
    finish_earlier(context, loaded, journal.as_ref())?;
    let _maintenance = context.maintenance(loaded, upgrade::longest(Span::default()));
    let say = |text: &str| context.note(text);
    let done = upgrade::go_back(loaded, &context.run, journal.as_ref(), context.common.json, &say)?;
    tell(context, loaded, journal.as_ref(), &done)
}

/// What will be done, in a sentence or two.
fn plan(loaded: &Loaded, found: &Found, wish: &Wish) -> String {
    let services = match found.running.is_empty() {
        true => "Nothing of the agent runs, and nothing will be started".to_owned(),
        false => format!(
            "{} will be stopped, started afterwards and watched for {}",
            found.running.join(", "),
            wish.settle
        ),
    };
    let code = match loaded.config.upgrade.rollback.is_empty() {
        true => "there is no rollback command: only what [backup] includes can be put back",
        false => "the rollback command puts its program back, if it must",
    };
    let words: Vec<_> = wish.command.iter().map(OsString::from).collect();
    let command = arguments::shown(&words, 400);
    text::one_line(&format!("Upgrade {} by: {command}. {services}; {code}.", loaded.config.agent.name), 1000)
}

fn dry_run(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    wish: &Wish,
    found: &Found,
    plan: &str,
) -> Result<State> {
    #[derive(Serialize)]
    struct Would<'a> {
        dry_run: bool,
        command: &'a [String],
        rollback: &'a [String],
        settle: Span,
        stopped: &'a [String],
        headline: String,
    }
    let report = upgrade::pre_flight(loaded, &context.run, journal, wish.force)?;
    let headline = crate::health::nagios::headline(&report);
    if context.common.json {
        context.print_json(&Would {
            dry_run: true,
            command: &wish.command,
            rollback: &loaded.config.upgrade.rollback,
            settle: wish.settle,
            stopped: &found.running,
            headline,
        })?;
    } else {
        context.print(&format!("{plan}\n{headline}\nNothing was done (dry run)."))?;
    }
    Ok(State::Ok)
}

fn tell(context: &Context, loaded: &Loaded, journal: Option<&Journal>, done: &Done) -> Result<State> {
    log(context, loaded, done.state.word(), &done.text);
    if let Some(journal) = journal {
        // Not journaled it is done all the same.
        let _ = journal.note(&context.run, &text::one_line(&done.text, 500), done.state);
    }
    if context.common.json {
        context.print_json(done)?;
        return Ok(done.state);
    }
    let mut lines = vec![text::one_line(&done.text, 2000)];
    if done.outcome == Outcome::NotPutBack {
        lines.push("What is left to do, in this order:".to_owned());
        lines.extend(done.remedies.iter().map(|command| format!("  {}", text::sanitize(command))));
        lines.push("or `ops upgrade --back`, which tries all of it again.".to_owned());
    }
    context.print(&lines.join("\n"))?;
    Ok(done.state)
}

fn log(context: &Context, loaded: &Loaded, level: &str, message: &str) {
    // Best effort: what was done matters more.
    let _ = events::append(&loaded.home, "restart", &context.run, level, "Upgrade", message);
}
