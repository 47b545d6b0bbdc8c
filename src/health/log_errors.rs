//! Do the logs speak of errors? Counts error lines among the last lines.

use super::{Answer, Metric, View};
use crate::base::range::Unit;
use crate::base::{State, lines, text};
use crate::config::check::LogErrors;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// A line is seldom longer; a log without newlines costs no more than this for each.
const BYTES_A_LINE: u64 = 4096;

pub(super) fn look(view: &View, options: &LogErrors) -> Result<Answer> {
    let Some(path) = newest(view, options)? else {
        return Ok(Answer::new(State::Ok, "no log yet").metric(Metric::new("errors", 0.0, Unit::Count)));
    };
    let name = view.loaded.home.show(&path);
    let tail = lines::last_lines(&path, options.lines, options.lines as u64 * BYTES_A_LINE)
        .with_context(|| format!("cannot read {name}"))?;
    let words: Vec<String> = options.words.iter().map(|word| word.to_lowercase()).collect();
    let wrong: Vec<&String> = tail
        .iter()
        .filter(|line| {
            let line = line.to_lowercase();
            words.iter().any(|word| line.contains(word.as_str()))
        })
        .collect();
    let metric = Metric::new("errors", wrong.len() as f64, Unit::Count)
        .limits(Some(options.warn.0), options.crit.map(|crit| crit.0));
    let mut summary = format!(
        "{} in the last {} of {name}",
        text::count(wrong.len(), "error"),
        text::count(tail.len(), "line")
    );
    let state = metric.judge();
    if let Some(last) = wrong.last().filter(|_| state != State::Ok) {
        summary.push_str(&format!(": {}", text::one_line(last, 100)));
    }
    Ok(Answer::new(state, summary).metric(metric).remedy("ops logs daemon -n 100 shows them"))
}

/// The file that was written last.
fn newest(view: &View, options: &LogErrors) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for pattern in &options.paths {
        let full = view.loaded.home.path(pattern);
        let matches =
            glob::glob(&full.to_string_lossy()).with_context(|| format!("'{pattern}' is no pattern"))?;
        for path in matches.flatten() {
            if let Ok(meta) = path.metadata()
                && meta.is_file()
                && let Ok(written) = meta.modified()
            {
                found.push((written, path));
            }
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}
