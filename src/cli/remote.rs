//! The part of `backup` and `restore` that is about the bucket.

use super::Context;
use crate::backup::remote::{self, Copied, Remote};
use crate::base::units::{self, Size};
use crate::base::{Fault, Journal, State, events, text};
use crate::config::Loaded;
use anyhow::Result;
use serde::Serialize;

/// `backup copy`: brings to the bucket what is missing there.
pub(super) fn copy(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    let Some(copied) = remote::copy(loaded, &context.run, journal) else {
        return Err(Fault::unknown("there is no bucket: the config has no [backup.s3]")
            .hint("set endpoint and bucket there; the runbook Backup and Restore shows how")
            .into());
    };
    let state = if copied.problems.is_empty() { State::Ok } else { State::Warning };
    for problem in &copied.problems {
        context.note(&format!("look at this: {}", text::one_line(problem, 500)));
    }
    let line = match copied.problems.first() {
        Some(problem) => problem.clone(),
        None => describe(&copied),
    };
    events::append(&loaded.home, "backup", &context.run, state.word(), "Backups copied", &line)?;
    if context.common.json {
        context.print_json(&copied)?;
    } else {
        context.print(&describe(&copied))?;
    }
    Ok(state)
}

/// `2 archives (3.1 MB) copied to s3://bucket/bot/`.
pub(super) fn describe(copied: &Copied) -> String {
    let mut line = match copied.copied.len() {
        0 if copied.missing.is_empty() && copied.problems.is_empty() => {
            format!("every archive is in {} already", copied.remote)
        }
        number => {
            let sent = Size(copied.sent);
            format!("{} copied to {} ({sent} sent)", text::count(number, "archive"), copied.remote)
        }
    };
    if !copied.missing.is_empty() {
        line.push_str(&format!(", {} still missing there", copied.missing.len()));
    }
    if !copied.pruned.is_empty() {
        line.push_str(&format!(", pruned there: {}", copied.pruned.join(", ")));
    }
    if copied.swept > 0 {
        line.push_str(&format!(", {} given up", text::count(copied.swept, "abandoned upload")));
    }
    line
}

/// `backup list --remote`.
pub(super) fn list(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    let remote = remote::list(loaded, &context.run, journal)?;
    if context.common.json {
        context.print_json(&remote)?;
        return Ok(State::Ok);
    }
    if remote.archives.is_empty() {
        context.print(&format!("no archives in {}", remote.remote))?;
        return Ok(State::Ok);
    }
    let widest = remote.archives.iter().map(|copy| copy.name.len()).max().unwrap_or(0);
    let mut lines = vec![format!("{:widest$}  {:>8}  {:>10}  whole  kept because", "archive", "age", "size")];
    for copy in &remote.archives {
        let because = match remote.verdicts.iter().find(|verdict| copy.ours && verdict.name == copy.name) {
            Some(verdict) if verdict.keep => verdict.reasons.join(", "),
            Some(_) => "goes with the next backup".to_owned(),
            None => "not ours: never pruned".to_owned(),
        };
        let age = units::age(context.run.now, copy.time);
        let whole = if copy.verified { "yes" } else { "no" };
        lines.push(format!(
            "{:widest$}  {age:>8}  {:>10}  {whole:5}  {because}",
            copy.name,
            Size(copy.bytes)
        ));
    }
    lines.push(format!("in {}", remote.remote));
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// `backup prune --remote`.
pub(super) fn prune(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    dry_run: bool,
    yes: bool,
) -> Result<State> {
    #[derive(Serialize)]
    struct Outcome {
        dry_run: bool,
        deleted: Vec<String>,
        #[serde(flatten)]
        remote: Remote,
    }
    let remote = remote::list(loaded, &context.run, journal)?;
    let going = remote.leaving().count();
    if remote.drastic && !dry_run {
        let question = format!(
            "This deletes {going} of {} archives in {}. Go ahead?",
            remote.verdicts.len(),
            remote.remote
        );
        if !context.confirm(&question, yes)? {
            context.note("nothing was deleted");
            return Ok(State::Unknown);
        }
    }
    let deleted = if dry_run { Vec::new() } else { remote::prune(loaded, &context.run, journal)? };
    if !deleted.is_empty() {
        let line = format!("deleted in {}: {}", remote.remote, deleted.join(", "));
        events::append(&loaded.home, "backup", &context.run, "OK", "Backups pruned", &line)?;
    }
    if context.common.json {
        context.print_json(&Outcome { dry_run, deleted, remote })?;
        return Ok(State::Ok);
    }
    let word = |keep: bool| if keep { "stays" } else { "goes " };
    let verdicts = remote.verdicts.iter();
    let mut lines: Vec<String> = verdicts
        .map(|verdict| format!("{}  {}  {}", word(verdict.keep), verdict.name, verdict.reasons.join(", ")))
        .collect();
    lines.push(match dry_run {
        true => format!("{} would go; nothing was deleted (dry run)", text::count(going, "archive")),
        false => format!("{} deleted in {}", text::count(deleted.len(), "archive"), remote.remote),
    });
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// Brings the archive of `remote:NAME` here and gives its name here; None: it is no such word.
pub(super) fn fetch(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: Option<&str>,
) -> Result<Option<String>> {
    let Some(which) = which.and_then(|which| which.strip_prefix("remote:")) else { return Ok(None) };
    let path = remote::fetch(loaded, &context.run, journal, which)?;
    context.note(&format!("{} is here, checked and verified", loaded.home.show(&path)));
    Ok(path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
}
