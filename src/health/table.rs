//! The report for people: a line a finding, what to do about it below.

use super::Report;
use crate::base::State;
use crate::base::render::paint;

/// The table; with `colored`, states in colour.
pub fn render(report: &Report, colored: bool) -> String {
    let width = report.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in &report.findings {
        let word = paint(colored, finding.state, &format!("{:<8}", finding.state));
        text.push_str(&format!(
            "{} {word}  {:<width$}  {}\n",
            mark(finding.state),
            finding.check,
            finding.summary
        ));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("  {:8}  {:<width$}  -> {remedy}\n", "", ""));
        }
    }
    text
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
