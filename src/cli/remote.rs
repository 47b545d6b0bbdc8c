//! The part of `backup` and `restore` that is about the bucket.

use super::Context;
use crate::backup::remote::{self, Copied, Fetched};
use crate::base::units::Size;
use crate::base::{Fault, Journal, State, events, text};
use crate::config::Loaded;
use anyhow::Result;

/// `backup copy`: brings to the bucket what is missing there.
pub(super) fn copy(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    trust: bool,
) -> Result<State> {
    let Some(copied) = remote::copy(loaded, &context.run, journal, trust) else {
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
        0 if copied.missing.is_empty() && copied.problems.is_empty() && copied.signed.is_empty() => {
            format!("every archive is in {} already", copied.remote)
        }
        number => {
            let sent = Size(copied.sent);
            format!("{} copied to {} ({sent} sent)", text::count(number, "archive"), copied.remote)
        }
    };
    if !copied.signed.is_empty() {
        line.push_str(&format!(", {} signed that was there already", copied.signed.len()));
    }
    if copied.new_key {
        line.push_str("; signed with a new key, which a new host needs to restore from there: ");
        line.push_str("`ops backup key export FILE`, and keep that file elsewhere");
    }
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

/// Brings the archive of `remote:NAME` here and gives its name here; None: it is no such word.
pub(super) fn fetch(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: Option<&str>,
    trust: bool,
) -> Result<Option<String>> {
    let Some(which) = which.and_then(|which| which.strip_prefix("remote:")) else { return Ok(None) };
    let Fetched { path, doubts } = remote::fetch(loaded, &context.run, journal, which, trust)?;
    for doubt in doubts {
        context.note(&format!("look at this: {}", text::one_line(&doubt.to_string(), 500)));
    }
    context.note(&format!("{} is here, checked and verified", loaded.home.show(&path)));
    Ok(path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
}
