//! `ops troubleshoot`: what is wrong, why, and what to do.

use super::{Context, commands};
use crate::base::render::paint;
use crate::base::{State, text, units};
use crate::troubleshoot::{self, Bundle, Cause, Diagnosis, Subject};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;
use std::path::PathBuf;

/// Find out why the agent does not run as it should, and what to do about it
///
/// Looks at what an expert would look at: config, home, permissions, disk, programs, versions, processes,
/// ports, heartbeats, processor and memory, databases, cron, channels, backups, clock, checks, logs.
/// Prints causes, the most likely first, each with what was seen and a command to copy. Nothing is
/// changed. The exit code is 2 when there is a cause for the agent not to run or work, 1 when there is
/// something to look at, 3 when nothing was found but something could not be told.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {
    /// Also write an archive for a bug report, without secrets and what the agent wrote, to this file or
    /// into this folder (default: where you are)
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    bundle: Option<Option<PathBuf>>,
    /// Into that also what the agent wrote: the lines of its logs, and of ours that quote them
    #[arg(long, requires = "bundle")]
    with_logs: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<&'a Bundle>,
}

/// `ops troubleshoot`
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    let common = &context.common;
    let subject = Subject::find(&context.run, common.config.as_deref(), common.home.as_deref());
    let mut diagnosis = troubleshoot::examine(&subject);
    let (before, options) = around(context, &subject, diagnosis.owner);
    let remedies = diagnosis.causes.iter_mut().flat_map(|cause| &mut cause.remedy);
    for command in remedies.filter(|command| commands::is_ours(command)) {
        *command = format!("{before}{}", commands::with_options(command, &options));
    }
    // Advice speaks to whoever reads it: the command alone, as in every other text.
    let told = |text: &mut String| *text = commands::told(text, &options);
    diagnosis.causes.iter_mut().flat_map(|cause| &mut cause.advice).for_each(told);
    diagnosis.notes.iter_mut().for_each(told);
    let bundle = match args.bundle {
        None => None,
        Some(file) => {
            let usual =
                || PathBuf::from(format!("agent-ops-bundle-{}.tar.gz", units::stamp(context.run.now)));
            let file = match file {
                Some(folder) if folder.is_dir() => folder.join(usual()),
                Some(file) => file,
                None => usual(),
            };
            let file = std::path::absolute(file)?;
            let render = |diagnosis: &Diagnosis| render(diagnosis, false);
            Some(troubleshoot::write_bundle(&subject, &diagnosis, render, &file, args.with_logs)?)
        }
    };
    if common.json {
        context.print_json(&Body { diagnosis: &diagnosis, bundle: bundle.as_ref() })?;
    } else {
        context.print(&render(&diagnosis, context.colored()))?;
    }
    if let Some(bundle) = bundle {
        context.note(&format!(
            "{} written, {}: look through it before you send it to somebody",
            bundle.file.display(),
            text::count(bundle.files.len(), "file")
        ));
    }
    Ok(diagnosis.state)
}

fn render(diagnosis: &Diagnosis, colored: bool) -> String {
    let mut lines = Vec::new();
    for (index, cause) in diagnosis.causes.iter().enumerate() {
        if index > 0 {
            lines.push(String::new());
        }
        lines.extend(one(cause, colored));
    }
    if !diagnosis.causes.is_empty() {
        lines.push(String::new());
    }
    lines.extend(diagnosis.notes.iter().map(|note| format!("note: {note}")));
    let count = |state: State| diagnosis.causes.iter().filter(|cause| cause.state == state).count();
    let looked = text::count(diagnosis.looked_at.len(), "thing");
    lines.push(match (count(State::Critical), count(State::Warning), count(State::Unknown)) {
        (0, 0, 0) => format!("Nothing was found: {looked} looked at."),
        (critical, warning, unknown) => format!(
            "{} why it may not run or work, {} to look at, {unknown} could not be told: {looked} looked at.",
            text::count(critical, "cause"),
            text::count(warning, "thing")
        ),
    });
    lines.join("\n")
}

fn one(cause: &Cause, colored: bool) -> Vec<String> {
    let word = format!("{:<8}", cause.state);
    let mut lines = vec![format!("{}  {}", paint(colored, cause.state, &word), cause.cause)];
    lines.extend(cause.evidence.iter().map(|seen| format!("          seen  {seen}")));
    lines.extend(cause.remedy.iter().map(|command| format!("          do    {command}")));
    lines.extend(cause.advice.iter().map(|advice| format!("          know  {advice}")));
    lines
}

/// What makes a command mean this agent when it is copied, and run as whom it should be: what stands before
/// it, and its options. Nothing, where the environment says it.
fn around(context: &Context, subject: &Subject, owner: Option<u32>) -> (String, String) {
    let (Some(owner), Some(agent)) = (owner, &subject.agent) else {
        return (String::new(), commands::options(&context.common));
    };
    // sudo takes the environment away, and another user has another home.
    let (file, home) = (&agent.config.file, agent.home.root());
    let config = Some(file.clone()).filter(|file| *file != home.join("ops.toml"));
    (format!("sudo -u '#{owner}' "), commands::naming(config, Some(home.to_owned())))
}
