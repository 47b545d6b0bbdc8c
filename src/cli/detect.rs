//! `ops detect`: whose processes there are, and why we think so.

use super::Context;
use super::table::{self, Column};
use crate::base::units;
use crate::base::{State, text};
use crate::config::Loaded;
use crate::service::{Detected, Detection, Kind, Services};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;

/// How much of a command line the table shows, in characters.
const COMMAND: usize = 60;

/// List every process that is this agent's, or looks like it, and why
///
/// Each is a `service` (of one that runs), a `leftover` (of an earlier run, by the mark that is
/// inherited from it), or a `stranger` (it merely resembles the agent, stands in its pid file, or
/// holds a port of it). Nothing is ended. The exit code is 1 when there are leftovers or strangers.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Body<'a> {
    run: &'a str,
    state: State,
    #[serde(flatten)]
    detection: &'a Detection,
}

/// `ops detect`
pub(super) fn run(context: &Context, _args: Args) -> Result<State> {
    let Loaded { config, home } = context.load()?;
    let services = Services { home: &home, config: &config, run: &context.run };
    let detection = services.detect()?;
    let of = |kind: Kind| detection.processes.iter().filter(move |found| found.kind == kind);
    let state = match detection.processes.iter().all(|found| found.kind == Kind::Service) {
        true => State::Ok,
        false => State::Warning,
    };
    if context.common.json {
        context.print_json(&Body { run: &context.run.id, state, detection: &detection })?;
    } else if detection.processes.is_empty() {
        context.print("no process of this agent's, and none that looks like it")?;
    } else {
        context.print(&table(context, &detection))?;
    }
    for note in &detection.notes {
        context.note(&text::sanitize(note));
    }
    let configured = |found: &&Detected| config.service.contains_key(&found.service);
    if of(Kind::Leftover).any(|found| configured(&found)) {
        context.note("leftovers: `ops stop --force` ends them, and the agent; `ops start` starts it anew");
    }
    let removed: Vec<_> = of(Kind::Leftover).filter(|found| !configured(found)).collect();
    if !removed.is_empty() {
        let pids: Vec<_> = removed.iter().filter_map(|found| found.pid).map(|pid| pid.to_string()).collect();
        context.note(&format!(
            "leftovers of a service that was removed: end them yourself, kill {}",
            pids.join(" ")
        ));
    }
    if of(Kind::Stranger).next().is_some() {
        context.note(
            "strangers are never ended by ops: look at each, and end what should not be there yourself",
        );
    }
    Ok(state)
}

fn table(context: &Context, detection: &Detection) -> String {
    let columns = [
        Column::Numbers("pid"),
        Column::Words("what"),
        Column::Numbers("age"),
        Column::Words("command"),
        Column::Words("why"),
    ];
    let row = |found: &Detected| {
        let service = text::one_line(&found.service, 40);
        let what = match found.kind {
            Kind::Service => service,
            Kind::Leftover => format!("leftover of {service}"),
            Kind::Stranger => "stranger".to_owned(),
        };
        vec![
            found.pid.map_or("?".to_owned(), |pid| pid.to_string()),
            what,
            found.started.map_or(String::new(), |at| units::age(context.run.now, at).to_string()),
            text::one_line(&found.command, COMMAND),
            text::sanitize(&found.why.join("; ")),
        ]
    };
    let rows: Vec<_> = detection.processes.iter().map(row).collect();
    let lines = table::lines(&columns, &rows);
    let width = match context.screen() {
        Some((_, width)) if lines.iter().any(|line| line.chars().count() > width) => width,
        _ => return lines.join("\n"),
    };
    // Command and reason below each other.
    let [pid, what, age, ..] = columns;
    let mut lines = table::lines(&[pid, what, age], &rows).into_iter();
    let mut narrow: Vec<String> = lines.next().into_iter().collect();
    for (line, row) in lines.zip(&rows) {
        narrow.push(line);
        for cell in row.iter().skip(3) {
            narrow.extend(
                text::wrap(cell, width.saturating_sub(6).max(20))
                    .iter()
                    .map(|piece| format!("      {piece}")),
            );
        }
    }
    narrow.join("\n")
}
