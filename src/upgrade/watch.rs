//! Is the agent as well as before? Its checks, compared; and does it live on?

use super::command::Interrupt;
use crate::base::process::Identity;
use crate::base::units::Span;
use crate::base::{Journal, Run, State};
use crate::config::{Config, Loaded};
use crate::health::{self, Due, Finding, Report};
use crate::service::Services;
use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// Looks at everything now; what each check finds counts at once.
pub(super) fn look(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Report {
    let run = Run { id: run.id.clone(), ..Run::begin(&run.program) };
    health::check_some(loaded, &run, journal, &[], Due::AtOnce)
}

/// What is critical and does not follow from services that their operator stopped.
pub(super) fn critical<'a>(report: &'a Report, config: &Config, stopped: &[String]) -> Vec<&'a Finding> {
    let excused = |finding: &&Finding| follows(&finding.check, report, config, stopped);
    report
        .findings
        .iter()
        .filter(|finding| finding.state == State::Critical)
        .filter(|finding| !excused(finding))
        .collect()
}

fn follows(check: &str, report: &Report, config: &Config, stopped: &[String]) -> bool {
    let service =
        report.findings.iter().find(|finding| finding.check == check).and_then(|f| f.service.as_ref());
    let after = config.check.get(check).map_or(&[][..], |check| check.common.after.as_slice());
    service.is_some_and(|service| stopped.contains(service))
        // The config has no circles.
        || after.iter().any(|parent| follows(parent, report, config, stopped))
}

/// What is critical now and was not before.
///
/// # Errors
/// When anything is; names all of it.
pub(super) fn compare(before: &Report, now: &Report) -> Result<()> {
    let was = |check: &str| {
        before.findings.iter().any(|finding| finding.check == check && finding.state == State::Critical)
    };
    let worse =
        now.findings.iter().filter(|finding| finding.state == State::Critical && !was(&finding.check));
    // That it took long is no reason to undo it.
    let worse = worse.filter(|finding| finding.check != health::UPGRADE);
    let worse: Vec<_> = worse.map(|finding| format!("{}: {}", finding.check, finding.summary)).collect();
    if worse.is_empty() { Ok(()) } else { Err(anyhow!("critical, and not so before: {}", worse.join("; "))) }
}

/// Waits as long as the settling time and sees that each service stays the same process.
///
/// # Errors
/// When one ends or is another, or when told to stop.
pub(super) fn settle(
    services: &Services<'_>,
    names: &[String],
    settle: Span,
    interrupt: &Interrupt,
) -> Result<()> {
    let process = |name: &String| -> Result<Option<Identity>> {
        Ok(services.status(name)?.process().map(|process| process.identity.clone()))
    };
    let first = names.iter().map(process).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    loop {
        interrupt.check()?;
        for (name, first) in names.iter().zip(&first) {
            let after = Span(begun.elapsed());
            let Some(first) = first else { return Err(anyhow!("{name} ended right after its start")) };
            match process(name)? {
                Some(now) if now == *first => {}
                Some(now) => {
                    return Err(anyhow!(
                        "{name} ended {after} after its start, and runs as pid {} now",
                        now.pid
                    ));
                }
                None => return Err(anyhow!("{name} (pid {}) ended {after} after its start", first.pid)),
            }
        }
        let left = settle.0.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(250)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &str, service: Option<&str>, state: State) -> Finding {
        Finding {
            check: check.to_owned(),
            kind: "process".to_owned(),
            service: service.map(str::to_owned),
            state,
            seen: state,
            looked_at: None,
            summary: "as it is".to_owned(),
            metrics: Vec::new(),
            remedy: None,
            critical: false,
            alert: check.to_owned(),
        }
    }

    fn report(findings: Vec<Finding>) -> Report {
        Report::new("agent", &Run::begin("test"), findings)
    }

    #[test]
    fn only_what_was_not_critical_before_counts() {
        let before = report(vec![
            finding("a", None, State::Ok),
            finding("b", None, State::Critical),
            finding("c", None, State::Unknown),
        ]);
        let now = |a, c| {
            report(vec![finding("a", None, a), finding("b", None, State::Critical), finding("c", None, c)])
        };
        assert!(compare(&before, &now(State::Warning, State::Unknown)).is_ok());
        let error = compare(&before, &now(State::Critical, State::Critical)).unwrap_err().to_string();
        assert!(error.contains("a: as it is; c: as it is") && !error.contains("b:"), "{error}");
    }

    #[test]
    fn what_follows_from_an_operator_s_stop_is_no_reason_to_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops.toml");
        std::fs::write(
            &file,
            "[service.bot]\ncommand = [\"bot\"]\n[check.p]\nkind = \"process\"\nservice = \"bot\"\n\
             [check.port]\nkind = \"tcp\"\naddress = \"localhost:1\"\nafter = [\"p\"]\n[check.disk]\nkind = \"disk\"\n",
        )
        .unwrap();
        let config = crate::config::load(&file, None).unwrap().config;
        let now = report(vec![
            finding("disk", None, State::Critical),
            finding("p", Some("bot"), State::Critical),
            finding("port", None, State::Critical),
        ]);
        let names = |stopped: &[String]| -> Vec<String> {
            critical(&now, &config, stopped).iter().map(|finding| finding.check.clone()).collect()
        };
        assert_eq!(names(&["bot".to_owned()]), ["disk"]);
        assert_eq!(names(&[]), ["disk", "p", "port"]);
    }
}
