//! The report for people: a line a finding, what to do about it below.

use super::{Finding, Report};
use crate::base::render::paint;
use crate::base::{State, text};

/// The table; with `colored`, states in colour. What is longer than `columns` goes on below.
pub fn render(report: &Report, colored: bool, columns: Option<usize>) -> String {
    let width = widest(report);
    report.findings.iter().map(|finding| one(finding, colored, columns, width)).collect()
}

/// What is not well, and the names of the rest.
pub fn brief(report: &Report, colored: bool, columns: Option<usize>) -> String {
    let width = widest(report);
    let (good, bad): (Vec<_>, Vec<_>) = report.findings.iter().partition(|one| one.state == State::Ok);
    let mut text: String = bad.iter().map(|finding| one(finding, colored, columns, width)).collect();
    if !good.is_empty() {
        let names = good.iter().map(|finding| finding.check.as_str()).collect::<Vec<_>>().join(", ");
        text.push_str(&line(State::Ok, &good.len().to_string(), &names, colored, columns, width));
    }
    text
}

fn widest(report: &Report) -> usize {
    report.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0)
}

fn one(finding: &Finding, colored: bool, columns: Option<usize>, width: usize) -> String {
    let mut text = line(finding.state, &finding.check, &finding.summary, colored, columns, width);
    if let Some(remedy) = &finding.remedy {
        below(&mut text, &wrapped(&format!("-> {remedy}"), columns, width), width);
    }
    text
}

fn line(state: State, name: &str, what: &str, colored: bool, columns: Option<usize>, width: usize) -> String {
    let word = paint(colored, state, &format!("{state:<8}"));
    let pieces = wrapped(what, columns, width);
    let (first, rest) = pieces.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    let mut text = format!("{} {word}  {name:<width$}  {first}\n", mark(state));
    below(&mut text, rest, width);
    text
}

fn below(text: &mut String, pieces: &[String], width: usize) {
    for piece in pieces {
        text.push_str(&format!("  {:8}  {:<width$}  {piece}\n", "", ""));
    }
}

fn wrapped(text: &str, columns: Option<usize>, width: usize) -> Vec<String> {
    match columns {
        Some(columns) => text::wrap(text, columns.saturating_sub(width + 14).max(20)),
        None => vec![text.to_owned()],
    }
}

/// A shape for those who see no colours.
pub fn mark(state: State) -> char {
    match state {
        State::Ok => '+',
        State::Warning => '!',
        State::Critical => 'X',
        State::Unknown => '?',
    }
}
