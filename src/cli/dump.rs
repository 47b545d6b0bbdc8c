//! `restore --dump`: what a command of `[backup.dump]` wrote, on standard output or loaded again.

use super::Context;
use super::restore::Args;
use crate::backup;
use crate::base::step::step;
use crate::base::units::Size;
use crate::base::{Fault, Journal, State, events};
use crate::config::Loaded;
use crate::restore::{self, Dumped};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::process::Stdio;

pub(super) fn run(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: Option<&str>,
    name: &str,
    args: &Args,
) -> Result<State> {
    let loads = loaded.config.backup.dump.get(name).map(|dump| dump.restore.as_slice()).unwrap_or_default();
    if args.load && loads.is_empty() {
        return Err(Fault::unknown(format!("[backup.dump.{name}] has no command `restore` to load it with"))
            .hint(format!("write one, or use `restore --dump {name} | …`"))
            .into());
    }
    if args.dry_run && !args.load {
        return Err(
            Fault::unknown("a dump on standard output changes nothing: there is nothing to dry-run").into()
        );
    }
    let dumped = restore::take_dump(loaded, &context.run, journal, which, name)?;
    dumped.notes.iter().for_each(|note| context.note(&format!("note: {note}")));
    if !args.load {
        let mut content = &dumped.content;
        std::io::copy(&mut content, &mut std::io::stdout().lock()).context("cannot write the dump")?;
        return Ok(State::Ok);
    }
    load(context, loaded, name, loads, dumped, args)
}

fn load(
    context: &Context,
    loaded: &Loaded,
    name: &str,
    words: &[String],
    dumped: Dumped,
    args: &Args,
) -> Result<State> {
    #[derive(Serialize)]
    struct Document<'a> {
        dump: &'a str,
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        archive: &'a PathBuf,
        bytes: u64,
        loaded: bool,
    }
    let (command, archive) = (backup::shown_command(words), loaded.home.show(&dumped.archive));
    let question = format!(
        "Load the dump {name} ({}) of {archive} by `{command}`? No service is stopped for it.",
        Size(dumped.bytes)
    );
    let mut document = Document { dump: name, archive: &dumped.archive, bytes: dumped.bytes, loaded: false };
    if args.dry_run {
        if context.common.json {
            context.print_json(&document)?;
        } else {
            context.print(&format!("{question} Nothing was done (dry run); the dump is whole."))?;
        }
        return Ok(State::Ok);
    }
    if !context.confirm(&question, args.yes)? {
        context.note("nothing was changed");
        return Ok(State::Unknown);
    }
    let content = dumped.content.try_clone().context("cannot use the dump")?;
    let mut load = backup::ready_command(loaded, words)?;
    step("dump loads")?;
    // Its output is for people; ours is one document.
    let status = load.stdin(content).stdout(Stdio::from(std::io::stderr())).status();
    let status = status.with_context(|| format!("cannot run {command}"))?;
    let line = format!("the dump {name} of {archive} was loaded by `{command}`");
    if !status.success() {
        let failed =
            format!("{command} failed ({status}): the dump {name} of {archive} is not, or not all, loaded");
        events::append(&loaded.home, "backup", &context.run, "CRITICAL", "Restore failed", &failed)?;
        return Err(Fault::critical(failed).hint("what it said is above").into());
    }
    events::append(&loaded.home, "backup", &context.run, "OK", "Restored", &line)?;
    document.loaded = true;
    if context.common.json {
        context.print_json(&document)?
    } else {
        context.print(&line)?
    }
    Ok(State::Ok)
}
