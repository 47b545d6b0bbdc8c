//! Do the logs speak of errors? Counts error lines among the last lines, or within a time; those
//! that came since the last run are known by their place, whatever rotation did meanwhile.

use super::{Answer, Metric, View};
use crate::base::mark::{self, Mark};
use crate::base::name::by_path;
use crate::base::range::Unit;
use crate::base::units::Span;
use crate::base::{State, lines, text};
use crate::config::check::LogErrors;
use crate::log_files::{self, Log};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A line is seldom longer; a log without newlines costs no more than this for each.
const BYTES_A_LINE: u64 = 4096;

/// The most that is read of a log that grew since the last run.
const MOST_NEWS: u64 = 16 << 20;

/// How many signatures are told.
const TOLD: usize = 3;

/// What is remembered as.
const PLACES: &str = "places";

/// What this check remembers.
#[derive(Default, Deserialize, Serialize)]
struct Memory {
    /// Where each log was read up to.
    #[serde(with = "by_path")]
    places: BTreeMap<PathBuf, Mark>,
    /// When how many error lines came, as far back as `per` asks.
    came: Vec<(DateTime<Utc>, usize)>,
}

pub(super) fn look(view: &View, name: &str, options: &LogErrors) -> Result<Answer> {
    let logs = logs(view, options)?;
    let is_error = error_lines(options);
    let known = view.recall::<Memory>(name, PLACES).map(|(_, memory)| memory);
    let first = known.is_none();
    let mut memory = known.unwrap_or_default();
    let mut news = Vec::new();
    let mut skipped = 0;
    memory.places.retain(|path, _| logs.iter().any(|log| log.path == *path));
    for log in &logs {
        let reading = || format!("cannot read {}", view.loaded.home.show(&log.path));
        let file = log.at.open().with_context(reading)?;
        let moved = |number| log_files::moved(&view.loaded.home, log, number);
        let read = match memory.places.get(&log.path) {
            Some(mark) => mark.news(&file, MOST_NEWS, moved),
            // What was there before the first run is nothing new.
            None if first => Mark::end(&file).map(|mark| (mark::News::default(), mark)),
            None => mark::whole(&file, MOST_NEWS),
        };
        let (came, mark) = read.with_context(reading)?;
        skipped += came.skipped;
        news.extend(came.lines.into_iter().filter(|line| is_error(line)));
        memory.places.insert(log.path.clone(), mark);
    }
    let now = view.run.now;
    let new = Metric::new("new", news.len() as f64, Unit::Count);
    let answer = match options.per {
        Some(per) => {
            memory.came.push((now, news.len()));
            memory.came.retain(|(at, _)| *at <= now && now - *at < per.delta());
            within(per, memory.came.iter().map(|(_, count)| count).sum(), &news, options)
        }
        None => in_the_last_lines(view, &logs, &is_error, options)?,
    };
    let mut answer = answer.metric(new).remember(PLACES, &memory);
    if skipped > 0 {
        answer
            .summary
            .push_str(&format!("; {} too many to read were skipped", text::count(skipped as usize, "byte")));
    }
    Ok(answer.remedy("`ops logs daemon -n 100` shows them"))
}

/// Of so long a time.
fn within(per: Span, count: usize, news: &[String], options: &LogErrors) -> Answer {
    judge(count, format!("{} within {per}", text::count(count, "error")), news, options)
}

/// Of the last lines of the log that was written last.
fn in_the_last_lines(
    view: &View,
    logs: &[Log],
    is_error: &dyn Fn(&str) -> bool,
    options: &LogErrors,
) -> Result<Answer> {
    let Some(log) = logs.last() else {
        return Ok(Answer::new(State::Ok, "no log yet").metric(Metric::new("errors", 0.0, Unit::Count)));
    };
    let name = view.loaded.home.show(&log.path);
    let most = options.lines as u64 * BYTES_A_LINE;
    let tail = log
        .at
        .open()
        .and_then(|file| lines::last_lines_of(&file, options.lines, most))
        .with_context(|| format!("cannot read {name}"))?;
    let all = text::count(tail.len(), "line");
    let wrong: Vec<String> = tail.into_iter().filter(|line| is_error(line)).collect();
    let summary = format!("{} in the last {all} of {name}", text::count(wrong.len(), "error"));
    Ok(judge(wrong.len(), summary, &wrong, options))
}

fn judge(count: usize, mut summary: String, wrong: &[String], options: &LogErrors) -> Answer {
    let metric = Metric::new("errors", count as f64, Unit::Count)
        .limits(Some(options.warn.0), options.crit.map(|crit| crit.0));
    let state = metric.judge();
    if state != State::Ok && !wrong.is_empty() {
        summary.push_str(&format!(": {}", grouped(wrong)));
    }
    Answer::new(state, summary).metric(metric)
}

/// What makes a line an error line.
fn error_lines(options: &LogErrors) -> impl Fn(&str) -> bool {
    let lower = |words: &[String]| words.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>();
    let (words, ignored) = (lower(&options.words), lower(&options.ignore));
    move |line: &str| {
        let line = line.to_lowercase();
        let any = |words: &[String]| words.iter().any(|word| line.contains(word.as_str()));
        any(&words) && !any(&ignored)
    }
}

/// Lines that differ only in numbers told once, the most frequent first: `5x '… 12 …'`.
fn grouped(wrong: &[String]) -> String {
    let mut groups: BTreeMap<String, (usize, &String)> = BTreeMap::new();
    for line in wrong {
        let group = groups.entry(signature(line)).or_insert((0, line));
        // The last of its kind speaks for it.
        *group = (group.0 + 1, line);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let more = groups.len().saturating_sub(TOLD);
    let mut told: Vec<String> = groups
        .iter()
        .take(TOLD)
        .map(|(count, line)| match count {
            1 => text::one_line(line, 100),
            count => format!("{count}x {}", text::one_line(line, 100)),
        })
        .collect();
    if more > 0 {
        told.push(format!("{more} other kinds"));
    }
    told.join("; ")
}

/// A line without what differs from one time to the next: numbers, times, addresses, ids.
fn signature(line: &str) -> String {
    let word = |word: &str| {
        let hexadecimal = word.len() >= 6 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if hexadecimal { "#".to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "#") }
    };
    let mut signature = String::new();
    for part in line.split_whitespace().map(word) {
        for c in part.chars() {
            // However many digits a number has.
            if c != '#' || !signature.ends_with('#') {
                signature.push(c);
            }
        }
        signature.push(' ');
    }
    signature.chars().take(200).collect()
}

/// The logs that the patterns name, the one written last at the end.
fn logs(view: &View, options: &LogErrors) -> Result<Vec<Log>> {
    let home = &view.loaded.home;
    let mut found = log_files::matching(home, &options.paths);
    if let Some((path, why)) = found.failed.first() {
        bail!("{}: {why}", home.show(path));
    }
    // One that a pattern only happens to fit is passed over.
    let is_named = |path: &Path| options.paths.iter().any(|pattern| home.path(pattern) == path);
    if let Some((path, why)) = found.strange.iter().find(|(path, _)| is_named(path)) {
        bail!("{} is {why}, which is not followed", home.show(path));
    }
    found.logs.append(&mut found.archived);
    found.logs.retain(|log| !log.compressed);
    found.logs.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(found.logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_numbers_are_one_kind() {
        let line = |n: usize| {
            format!("[2026-11-20 09:30:{n:02}] ERROR port {} of 9f86d081884c7d65 refused", n * 700)
        };
        let mut lines: Vec<String> = (0..12).map(line).collect();
        lines.push("ERROR disk full\x1b[2J".to_owned());
        let told = grouped(&lines);
        assert!(told.starts_with("12x [2026-11-20 09:30:11] ERROR port 7700"), "{told}");
        assert!(told.contains("; ERROR disk full\\u{1b}[2J"), "{told}");
        assert_eq!(grouped(&["a b".to_owned(), "a c".to_owned()]), "a b; a c");
    }
}
