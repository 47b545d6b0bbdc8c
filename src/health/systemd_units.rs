//! Are units of systemd active?

use super::{Answer, Metric, value};
use crate::base::range::Unit;
use crate::base::systemd::systemctl;
use crate::base::units::Span;
use crate::base::{State, text};
use crate::config::check::SystemdUnits;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Instant;

/// What to do where nobody answers.
const WITHOUT: &str =
    "is this machine run by systemd? If not, ask with a check of kind process, http or command";

pub(super) fn look(options: &SystemdUnits, timeout: Span) -> Result<Answer> {
    if cfg!(target_os = "macos") {
        return Ok(Answer::unknown("there is no systemd on macOS").remedy(WITHOUT));
    }
    let deadline = Instant::now() + timeout.0;
    let ask =
        |words: Vec<&str>| systemctl(options.user, words, deadline.saturating_duration_since(Instant::now()));
    let mut failed = String::new();
    let mut shown = String::new();
    let asked = (|| -> Result<()> {
        if !options.units.is_empty() {
            let properties = "--property=Id,LoadState,ActiveState,SubState,NRestarts,Result";
            let words =
                ["show", properties, "--"].into_iter().chain(options.units.iter().map(String::as_str));
            shown = ask(words.collect())?;
        }
        if options.failed {
            let words = ["list-units", "--state=failed", "--all", "--plain", "--no-legend", "--full"];
            failed = ask(words.to_vec())?;
        }
        Ok(())
    })();
    match asked {
        Ok(()) => {
            Ok(judge(options, &shown, &failed).remedy("systemctl status UNIT and journalctl -u UNIT say why"))
        }
        Err(error) => Ok(Answer::unknown(format!("{error:#}")).remedy(WITHOUT)),
    }
}

/// The answer, from what `systemctl` printed: blocks of `KEY=VALUE`, one a unit, and lines that begin with
/// the name of a unit that failed.
fn judge(options: &SystemdUnits, shown: &str, failed: &str) -> Answer {
    let blocks: Vec<BTreeMap<&str, &str>> = shown
        .split("\n\n")
        .map(|block| block.lines().filter_map(|line| line.trim().split_once('=')).collect::<BTreeMap<_, _>>())
        .filter(|block| block.contains_key("Id"))
        .collect();
    if blocks.len() != options.units.len() {
        let asked = text::count(options.units.len(), "unit");
        return Answer::unknown(format!("systemctl told of {} of {asked}", blocks.len()));
    }
    let mut bad = Vec::new();
    let mut metrics = Vec::new();
    for (unit, block) in options.units.iter().zip(&blocks) {
        let of = |key: &str| block.get(key).copied().unwrap_or_default();
        let state = match (of("LoadState"), of("ActiveState")) {
            ("not-found", _) => State::Critical,
            (_, "active" | "reloading" | "refreshing") => State::Ok,
            (_, "activating" | "deactivating" | "maintenance") => State::Warning,
            (_, "failed" | "inactive") => State::Critical,
            _ => State::Unknown,
        };
        let result = match of("Result") {
            "" | "success" => String::new(),
            result => format!(", {result}"),
        };
        if state != State::Ok {
            let what = match of("LoadState") {
                "not-found" => "there is no such unit".to_owned(),
                _ => format!("{} ({}{result})", of("ActiveState"), of("SubState")),
            };
            bad.push((state, format!("{unit}: {what}")));
        }
        if let Ok(restarts) = of("NRestarts").parse::<f64>() {
            let single = options.units.len() == 1;
            let label =
                if single { "restarts".to_owned() } else { value::as_label(&format!("restarts_{unit}")) };
            metrics.push(Metric::new(&label, restarts, Unit::Count));
        }
    }
    let known: Vec<&str> = blocks.iter().filter_map(|block| block.get("Id").copied()).collect();
    let others: Vec<&str> = failed
        .lines()
        .filter_map(|line| line.trim_start_matches(['●', '*', ' ']).split_whitespace().next())
        .filter(|unit| !known.contains(unit))
        .collect();
    if options.failed {
        metrics.push(Metric::new("failed", others.len() as f64, Unit::Count));
    }
    if !others.is_empty() {
        let few = others.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if others.len() > 5 { ", …" } else { "" };
        bad.push((
            State::Critical,
            format!("{} failed: {few}{more}", text::count(others.len(), "other unit")),
        ));
    }
    bad.sort_by_key(|(state, _)| std::cmp::Reverse(state.badness(false)));
    let state = bad.iter().fold(State::Ok, |worst, (state, _)| worst.worse(*state));
    let summary = match (bad.is_empty(), options.units.is_empty()) {
        (true, true) => "no unit failed".to_owned(),
        (true, false) => format!("{} active", text::count(options.units.len(), "unit")),
        (false, _) => bad.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join("; "),
    };
    metrics.into_iter().fold(Answer::new(state, summary), Answer::metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(units: &[&str], failed: bool, shown: &str, list: &str) -> (State, String, usize) {
        let units = units.iter().map(|unit| (*unit).to_owned()).collect();
        let answer = judge(&SystemdUnits { units, user: false, failed }, shown, list);
        (answer.state, answer.summary, answer.metrics.len())
    }

    fn block(load: &str, active: &str, sub: &str, result: &str) -> String {
        format!(
            "Id=a.service\nLoadState={load}\nActiveState={active}\nSubState={sub}\nNRestarts=2\nResult={result}\n"
        )
    }

    #[test]
    fn the_table_of_truth() {
        for (load, active, sub, result, state, summary) in [
            ("loaded", "active", "running", "success", State::Ok, "1 unit active"),
            ("loaded", "reloading", "reload", "success", State::Ok, "1 unit active"),
            ("loaded", "failed", "failed", "exit-code", State::Critical, "a: failed (failed, exit-code)"),
            ("loaded", "inactive", "dead", "success", State::Critical, "a: inactive (dead)"),
            ("not-found", "inactive", "dead", "success", State::Critical, "a: there is no such unit"),
            (
                "loaded",
                "activating",
                "auto-restart",
                "exit-code",
                State::Warning,
                "a: activating (auto-restart, exit-code)",
            ),
            ("loaded", "dreaming", "x", "", State::Unknown, "a: dreaming (x)"),
        ] {
            let shown = block(load, active, sub, result);
            assert_eq!(told(&["a"], false, &shown, ""), (state, summary.to_owned(), 1), "{active}");
        }
    }

    #[test]
    fn units_that_nobody_named() {
        let shown = block("loaded", "active", "running", "success");
        assert_eq!(told(&[], true, "", "").0, State::Ok);
        assert_eq!(told(&["a"], true, &shown, "").1, "1 unit active");
        let list = "● b.service loaded failed failed B\n  c.timer loaded failed failed C\n";
        assert_eq!(told(&["a"], true, &shown, list).1, "2 other units failed: b.service, c.timer");
        assert_eq!(told(&["a"], true, &shown, "a.service loaded failed failed A\n").0, State::Ok);
        // Not a word for what was asked.
        assert_eq!(told(&["a", "b"], false, &shown, "").0, State::Unknown);
        assert_eq!(told(&["a"], false, "\x1b[2J garbage", "").0, State::Unknown);
    }
}
