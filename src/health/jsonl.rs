//! Are the files of JSON lines whole? Every line that came since the last run is JSON, the last one
//! ends, and they do not grow without bounds.

use super::{Answer, Metric, View, named};
use crate::base::beneath::Dir;
use crate::base::mark::{self, Mark};
use crate::base::range::Unit;
use crate::base::units::Size;
use crate::base::{State, durable, lines, text};
use crate::config::check::{Bounds, Jsonl};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is remembered as.
const PLACES: &str = "places";

/// The most that is read of a file in one run.
const MOST: u64 = 16 << 20;

/// What this check remembers.
#[derive(Default, Deserialize, Serialize)]
struct Memory {
    #[serde(with = "crate::base::name::by_path")]
    places: BTreeMap<PathBuf, Mark>,
    /// How large all were, in the last hour.
    sizes: Vec<(DateTime<Utc>, u64)>,
}

pub(super) fn look(view: &View, name: &str, options: &Jsonl) -> Result<Answer> {
    let (paths, mut bad) = named::files(view, &options.paths, State::Critical, |_, _| true)?;
    let mut memory = view.recall::<Memory>(name, PLACES).map(|(_, memory)| memory).unwrap_or_default();
    memory.places.retain(|path, _| paths.contains(path));
    let (mut bytes, mut wrong, mut checked) = (0, 0, 0);
    for path in &paths {
        let shown = view.loaded.home.show(path);
        match one(path, memory.places.get(path)) {
            Ok(found) => {
                bytes += found.bytes;
                checked += found.lines;
                wrong += found.wrong.len();
                if let Some(line) = found.wrong.first() {
                    let number = text::count(found.wrong.len(), "line");
                    let line = text::one_line(line, 60);
                    bad.push((State::Critical, format!("{shown}: {number} that is no JSON: '{line}'")));
                }
                if found.torn {
                    bad.push((State::Warning, format!("{shown}: its last line has no end")));
                }
                memory.places.insert(path.clone(), found.mark);
            }
            Err(error) => bad.push((State::Unknown, format!("{shown} cannot be read: {error}"))),
        }
    }
    let now = view.run.now;
    memory.sizes.retain(|(at, _)| *at <= now && (now - *at).num_minutes() < 60);
    memory.sizes.push((now, bytes));
    let (warn, crit) = Bounds::ranges(options.growth);
    // Rotation makes them smaller: what was before it is not counted.
    let least = memory.sizes.iter().map(|(_, bytes)| *bytes).min().unwrap_or(bytes);
    let growth = Metric::new("growth", (bytes - least) as f64, Unit::Bytes).limits(warn, crit);
    if growth.judge() != State::Ok {
        bad.push((growth.judge(), format!("{} more within an hour", Size(bytes - least))));
    }
    let well = || (State::Ok, format!("{} whole, {}", text::count(paths.len(), "file"), Size(bytes)));
    let (state, summary) = named::sum_up(bad).unwrap_or_else(well);
    Ok(Answer::new(state, summary)
        .metric(Metric::new("wrong", wrong as f64, Unit::Count))
        .metric(Metric::new("lines", checked as f64, Unit::Count))
        .metric(Metric::new("size", bytes as f64, Unit::Bytes))
        .metric(growth)
        .remember(PLACES, &memory)
        .remedy("`ops restore --only` brings the last whole state of a file back"))
}

/// What one look at a file found.
struct Found {
    bytes: u64,
    /// New lines, all of them.
    lines: usize,
    /// Those that are not JSON.
    wrong: Vec<String>,
    /// What follows the last line break stays as it is.
    torn: bool,
    mark: Mark,
}

/// The first look takes the last lines, the next ones what came since.
fn one(path: &Path, place: Option<&Mark>) -> io::Result<Found> {
    let file = lines::open(path)?;
    let beside = |number| mark::in_folder(&Dir::open(durable::parent(path)).ok()?, number);
    let (news, mark) = match place {
        Some(place) => place.news(&file, MOST, beside)?,
        None => mark::whole(&file, MOST)?,
    };
    let lines = news.lines.len();
    let is_json = |line: &String| line.trim().is_empty() || serde_json::from_str::<IgnoredAny>(line).is_ok();
    let wrong = news.lines.into_iter().filter(|line| !is_json(line)).collect();
    Ok(Found { bytes: fs::metadata(path)?.len(), lines, wrong, torn: is_torn(path)?, mark })
}

/// Whether a file ends within a line, and still does a moment later.
fn is_torn(path: &Path) -> io::Result<bool> {
    let ends = || -> io::Result<Option<u64>> {
        let file = lines::open(path)?;
        let size = file.metadata()?.len();
        let last = lines::read(&file, size.saturating_sub(1), size)?;
        Ok((!last.is_empty() && last != b"\n").then_some(size))
    };
    let Some(size) = ends()? else { return Ok(false) };
    std::thread::sleep(Duration::from_millis(50));
    // One that grew is being written.
    Ok(ends()? == Some(size))
}
