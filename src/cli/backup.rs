//! `backup`, `ops backup`: make an archive; list, verify, prune and pin those there are.

use super::prune::{self, How};
use super::restore::finish_earlier;
use super::watched::watched;
use super::{Context, archives, key, remote, verify};
use crate::backup::manifest::{Leads, LinkOut, Name};
use crate::backup::{self, LeftOut, Made, Plan, Pruning, Reading};
use crate::base::units::Size;
use crate::base::{Fault, Journal, State, events, text};
use crate::config::Loaded;
use crate::restore;
use crate::schedule::Job;
use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

/// So many links are named at most.
const LINKS: usize = 5;

/// Make a verified archive, then prune by the rule.
///
/// While `ops upgrade` is at it none is made, which is no failure: exit code 1.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// What to do with the archives there are; without it, make one
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Show what would go in and what would be pruned; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Read files too whose inode, size and times did not change since the last archive
    #[arg(long, conflicts_with = "dry_run")]
    pub paranoid: bool,
}

/// What can be done with the archives there are.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// List the archives, newest first
    List {
        /// Those in the bucket
        #[arg(long)]
        remote: bool,
    },
    /// Read an archive back: every hash, every database
    Verify {
        /// latest, a name, or a path
        #[arg(value_name = "ARCHIVE", default_value = "latest")]
        archive: String,
        /// Every archive that there is
        #[arg(long, conflicts_with = "archive")]
        all: bool,
    },
    /// Delete what the rule (keep in [backup]) does not want
    Prune {
        /// Say what would go and why; delete nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Do not ask, however much would go
        #[arg(long)]
        yes: bool,
        /// In the bucket
        #[arg(long)]
        remote: bool,
    },
    /// Bring to the bucket what is missing there (every backup does)
    Copy {
        /// Sign also copies there that are not here any more and whose origin is not proved: those of
        /// earlier versions, or of a key that was lost
        #[arg(long)]
        trust: bool,
    },
    /// Show, export or import the key that copies in the bucket are signed with
    Key {
        /// What to do with it; without this, show its name
        #[command(subcommand)]
        verb: Option<key::Verb>,
    },
    /// Keep an archive whatever the rule says
    Pin {
        /// latest, a name, or a path
        #[arg(value_name = "ARCHIVE")]
        archive: String,
        /// Take it back
        #[arg(long)]
        off: bool,
    },
}

/// Makes an archive, or does what the verb says.
pub fn run(context: &Context, args: Args) -> Result<State> {
    if args.verb.is_some() && (args.dry_run || args.paranoid) {
        return Err(Fault::unknown("--dry-run and --paranoid before a verb are those of making a backup")
            .hint("options of a verb stand behind it, as in `backup prune --dry-run`")
            .into());
    }
    let loaded = context.load()?;
    if args.verb.is_some() || args.dry_run {
        return act(context, &loaded, args);
    }
    watched(context, &loaded, Job::Backup, || act(context, &loaded, args))
}

fn act(context: &Context, loaded: &Loaded, args: Args) -> Result<State> {
    backup::need_home(&loaded.config)?;
    let journal = context.journal(loaded);
    let journal = journal.as_ref();
    match args.verb {
        None if args.dry_run => dry_run(context, loaded, journal),
        None => make(context, loaded, journal, args.paranoid),
        Some(Verb::List { remote: true }) => archives::list_remote(context, loaded, journal),
        Some(Verb::List { remote: false }) => archives::list(context, loaded, journal),
        Some(Verb::Verify { all: true, .. }) => verify::all(context, loaded, journal),
        Some(Verb::Verify { archive, all: false }) => verify::one(context, loaded, journal, &archive),
        Some(Verb::Prune { dry_run, yes, remote: false }) => {
            prune::here(context, loaded, journal, How { dry_run, yes })
        }
        Some(Verb::Prune { dry_run, yes, remote: true }) => {
            prune::there(context, loaded, journal, How { dry_run, yes })
        }
        Some(Verb::Copy { trust }) => remote::copy(context, loaded, journal, trust),
        Some(Verb::Key { verb }) => key::run(context, loaded, verb),
        Some(Verb::Pin { archive, off }) => pin(context, loaded, journal, &archive, !off),
    }
}

fn make(context: &Context, loaded: &Loaded, journal: Option<&Journal>, paranoid: bool) -> Result<State> {
    finish_earlier(context, loaded, journal)?;
    let reading = if paranoid { Reading::Everything } else { Reading::Changed };
    let made = log(context, loaded, backup::make_reading(loaded, &context.run, journal, reading))?;
    for problem in &made.problems {
        context.warn(&format!("look at this: {}", text::one_line(problem, 500)));
    }
    made.unjudged.iter().for_each(|database| context.note(&format!("note: {database}")));
    if !made.vanished.is_empty() {
        let names: Vec<_> = made.vanished.iter().map(|name| name.0.display().to_string()).collect();
        context.detail(&format!("gone before they were read: {}", text::one_line(&names.join(", "), 500)));
    }
    for cut in &made.cut {
        let (path, bytes) = (cut.path.0.display(), text::count(cut.bytes as usize, "byte"));
        context.note(&text::one_line(
            &format!("{path}: its last line was being written; {bytes} of it are not in the archive"),
            500,
        ));
    }
    note_links(context, &made.links_out);
    for unkept in &made.unkept {
        let line = format!("{}: {}", unkept.path.0.display(), unkept.what.words());
        context.detail(&text::one_line(&line, 500));
    }
    if !made.pruned.is_empty() {
        context.note(&format!("pruned: {}", made.pruned.join(", ")));
    }
    if let Some(copied) = &made.remote {
        context.note(&remote::describe(copied));
    }
    if context.common.json {
        context.print_json(&made)?;
    } else {
        context.print(&made.line(&loaded.home))?;
    }
    Ok(made.state)
}

/// Names the links to what may be state and is not in the archive: some of them, for there may be many.
fn note_links(context: &Context, links: &[LinkOut]) {
    let mut links = links.iter().filter(|link| link.matters());
    for link in links.by_ref().take(LINKS) {
        let what = match link.leads {
            Leads::NotIncluded => "which no include names",
            _ => "outside the home",
        };
        let (path, target) = (link.path.0.display(), link.target.0.display());
        let line =
            format!("link: {path} points to {target}, {what}: the link is saved, not what it points to");
        context.note(&text::one_line(&line, 500));
    }
    let more = links.count();
    if more > 0 {
        context.note(&format!("and {}; `backup --dry-run` lists them all", text::count(more, "more link")));
    }
}

/// Makes an archive and leaves a line in `logs/backup.log`, whatever came of it.
pub(super) fn make_and_log(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<Made> {
    log(context, loaded, backup::make(loaded, &context.run, journal))
}

fn log(context: &Context, loaded: &Loaded, made: Result<Made>) -> Result<Made> {
    let logged = match &made {
        Ok(made) => {
            let mut line = made.line(&loaded.home);
            for problem in &made.problems {
                line.push_str(&format!("; {problem}"));
            }
            for database in &made.unjudged {
                line.push_str(&format!("; {database}"));
            }
            if let Some(copied) = &made.remote {
                line.push_str(&format!("; {}", remote::describe(copied)));
            }
            events::append(&loaded.home, "backup", &context.run, made.state.word(), "Backup made", &line)
        }
        Err(error) => {
            let state = Fault::of(error).0;
            let title = if state == State::Warning { "Backup skipped" } else { "Backup failed" };
            events::append(&loaded.home, "backup", &context.run, state.word(), title, &format!("{error:#}"))
        }
    };
    if let Err(error) = logged {
        context.note(&format!("{error:#}"));
    }
    if made.is_ok() {
        prune_asides(context, loaded);
    }
    made
}

/// Deletes what restores had set aside long ago. It waits for a good archive, as all deleting does.
fn prune_asides(context: &Context, loaded: &Loaded) {
    let said = match restore::prune_asides(loaded, &context.run) {
        Ok(gone) if gone.is_empty() => return,
        Ok(gone) => format!("old files of earlier restores deleted: {}", gone.join(", ")),
        Err(error) => format!("old files of earlier restores are still there: {error:#}"),
    };
    context.note(&said);
    let logged = events::append(&loaded.home, "backup", &context.run, "INFO", "Set aside", &said);
    if let Err(error) = logged {
        context.note(&format!("{error:#}"));
    }
}

fn dry_run(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    #[derive(Serialize)]
    struct Would<'a> {
        dry_run: bool,
        files: usize,
        bytes: u64,
        #[serde(flatten)]
        plan: &'a Plan,
        /// The names of the commands whose output would go in.
        dumps: Vec<&'a str>,
        pruning: &'a Pruning,
    }
    let plan = backup::plan::plan(&loaded.config)?;
    let pruning = backup::judge(loaded, journal, &context.run)?;
    let state = if plan.problems.is_empty() { State::Ok } else { State::Warning };
    if context.common.json {
        let (files, bytes) = (plan.count(), plan.bytes());
        let dumps = loaded.config.backup.dump.keys().map(String::as_str).collect();
        context.print_json(&Would { dry_run: true, files, bytes, plan: &plan, dumps, pruning: &pruning })?;
        return Ok(state);
    }
    let mut lines = Vec::new();
    for found in plan.databases.iter().chain(&plan.others) {
        let kind = format!("{:?}", found.shape).to_lowercase();
        let path = text::sanitize(&found.path.0.display().to_string());
        lines.push(format!("{:>10}  {kind:8}  {path}", Size(found.size)));
    }
    for LeftOut { path, reason } in &plan.left_out {
        let path = text::sanitize(&path.0.display().to_string());
        lines.push(format!("{:>10}  {:8}  {path} ({})", "-", "left out", reason.words()));
    }
    for LinkOut { path, target, leads } in &plan.links_out {
        let line = format!("{} -> {} ({})", path.0.display(), target.0.display(), words(*leads));
        lines.push(format!("{:>10}  {:8}  {}", "-", "link", text::sanitize(&line)));
    }
    for problem in &plan.problems {
        context.note(&format!("look at this: {}", text::one_line(problem, 500)));
    }
    for (name, dump) in &loaded.config.backup.dump {
        let command = backup::shown_command(&dump.command);
        lines.push(format!("{:>10}  {:8}  {}: what `{command}` writes", "?", "dump", text::sanitize(name)));
    }
    for verdict in pruning.verdicts.iter().filter(|verdict| !verdict.keep) {
        lines.push(format!("would prune {}: {}", verdict.name, verdict.reasons.join(", ")));
    }
    lines.push(format!(
        "{}, {}; nothing was written (dry run)",
        text::count(plan.count(), "file"),
        Size(plan.bytes())
    ));
    context.print(&lines.join("\n"))?;
    Ok(state)
}

fn words(leads: Leads) -> &'static str {
    match leads {
        Leads::Outside => "outside the home: not in the archive",
        Leads::NotIncluded => "no include names it: not in the archive",
        Leads::Nowhere => "nothing is there",
        Leads::System => "part of the system",
    }
}

fn pin(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: &str,
    on: bool,
) -> Result<State> {
    #[derive(Serialize)]
    struct Pinned {
        archive: Name,
        pinned: bool,
        changed: bool,
    }
    let archive = backup::find(loaded, journal, which)?;
    let changed = backup::pin(loaded, &archive, on)?;
    if context.common.json {
        context.print_json(&Pinned { archive: Name(archive), pinned: on, changed })?;
    } else {
        let word = if on { "pinned" } else { "not pinned" };
        let already = if changed { "" } else { " already" };
        context.print(&format!("{} is {word}{already}", loaded.home.show(&archive)))?;
    }
    Ok(State::Ok)
}
