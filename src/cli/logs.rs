//! `ops logs`: the last lines of a log, and following it.

use super::Context;
use crate::base::{Fault, State, text};
use crate::logs::{self, Follower};
use anyhow::Result;
use clap::Args as Arguments;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Show the last lines of a log, or follow it
#[derive(Arguments, Clone, Debug)]
pub struct Args {
    /// Which: `daemon`, `alerts`, … or `all`; the first service's, unless said
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How many lines
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    pub lines: usize,
    /// Go on with what comes: across rotations and new days
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines that hold this, whatever its case
    #[arg(long, value_name = "WORD")]
    pub grep: Option<String>,
}

/// One log's tail.
#[derive(Serialize)]
struct Tail {
    name: String,
    file: String,
    lines: Vec<String>,
}

/// Prints the tail of a log, and what comes after it with `--follow`.
pub fn run(context: &Context, args: Args) -> Result<State> {
    if args.follow && context.common.json {
        return Err(Fault::unknown("--follow has no end, so it cannot be one JSON document").into());
    }
    let loaded = context.load()?;
    let names = logs::named(&loaded.home, &loaded.config.logs);
    let first_service = loaded.config.service.keys().find(|service| names.contains_key(*service));
    let name = args.name.clone().or_else(|| first_service.cloned()).unwrap_or_else(|| "all".to_owned());
    let wanted = choose(&name, &names)?;
    let word = args.grep.as_deref();

    // From here on lines are followed: those that come while the tail is read are not missed.
    let only = wanted.keys().next().filter(|_| name != "all").map(String::as_str);
    let follower = args.follow.then(|| Follower::new(&loaded.home, &loaded.config.logs, only));
    let mut state = State::Ok;
    let mut tails = Vec::new();
    for (name, path) in &wanted {
        match logs::tail(path, args.lines, word) {
            Ok(lines) => {
                let file = text::sanitize(&loaded.home.show(path));
                tails.push(Tail { name: name.clone(), file, lines });
            }
            // One that cannot be read does not hide the others.
            Err(error) if wanted.len() > 1 => {
                context.note(&format!("{error:#}"));
                state = State::Warning;
            }
            Err(error) => return Err(error),
        }
    }
    if context.common.json {
        #[derive(Serialize)]
        struct Body {
            logs: Vec<Tail>,
        }
        context.print_json(&Body { logs: tails })?;
        return Ok(state);
    }

    let mut shown = String::new();
    for tail in &tails {
        if wanted.len() > 1 {
            let gap = if shown.is_empty() { "" } else { "\n" };
            context.print(&format!("{gap}==> {} <==", tail.file))?;
            shown = tail.name.clone();
        }
        if !tail.lines.is_empty() {
            context.print(&tail.lines.join("\n"))?;
        }
    }
    match follower {
        Some(follower) => follow(context, follower, word, only.is_none(), shown),
        None => Ok(state),
    }
}

/// The logs of a name; all of them for `all`.
fn choose(name: &str, names: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, PathBuf>> {
    if name == "all" {
        return Ok(names.clone());
    }
    // Then the newest of those whose name goes on after it: `daemon_stdout` for `daemon`.
    let longer = || {
        let prefix = format!("{name}_");
        let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
        names.iter().filter(|(known, _)| known.starts_with(&prefix)).max_by_key(|(_, path)| modified(path))
    };
    if let Some((name, path)) = names.get_key_value(name).or_else(longer) {
        return Ok(BTreeMap::from([(name.clone(), path.clone())]));
    }
    let known: Vec<&str> = names.keys().map(String::as_str).collect();
    let hint = match (text::nearest(name, known.iter().copied()), known.is_empty()) {
        (_, true) => "there are no logs yet".to_owned(),
        (Some(near), _) => format!("did you mean '{near}'? There are: all, {}", known.join(", ")),
        (None, _) => format!("there are: all, {}", known.join(", ")),
    };
    Err(Fault::unknown(format!("there is no log '{}'", text::one_line(name, 80))).hint(hint).into())
}

fn follow(
    context: &Context,
    mut follower: Follower,
    word: Option<&str>,
    headed: bool,
    mut shown: String,
) -> Result<State> {
    loop {
        for line in follower.poll() {
            if word.is_some_and(|word| !logs::holds(&line.text, word)) {
                continue;
            }
            if headed && line.name != shown {
                context.print(&format!("\n==> {} <==", line.name))?;
                shown = line.name;
            }
            context.print(&line.text)?;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
