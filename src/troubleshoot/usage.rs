//! Does a service take more of the machine than it should?

use super::cause::{Cause, Found};
use super::view::View;
use crate::base::process::{self, Process};
use crate::base::units::{Size, Span};
use crate::base::{State, units};
use crate::service::Liveness;
use anyhow::Result;
use std::time::{Duration, Instant};

/// For so long it is watched.
const LOOK: Duration = Duration::from_secs(1);

struct Facts {
    service: String,
    pid: u32,
    /// Percent of one processor, while we watched.
    cpu: f64,
    rss: u64,
    uptime: Span,
    /// Of the machine: all, and what could be had.
    memory: Option<(u64, u64)>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let running: Vec<(&str, &Process)> = view
        .each()
        .filter_map(|(_, name, _, status)| match &status.as_ref().ok()?.liveness {
            Liveness::Running(process) => Some((name, process)),
            _ => None,
        })
        .collect();
    if running.is_empty() {
        return Ok(Found::default());
    }
    let look = |process: &Process| Ok::<_, anyhow::Error>((process.identity.find()?, Instant::now()));
    let before = running.iter().map(|(_, process)| look(process)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(LOOK);
    let mut causes = Vec::new();
    for ((name, process), (before, at)) in running.into_iter().zip(before) {
        let (Some(before), (Some(now), then)) = (before, look(process)?) else { continue };
        let facts = Facts {
            service: name.to_owned(),
            pid: now.identity.pid,
            cpu: 100.0 * now.cpu.saturating_sub(before.cpu).as_secs_f64() / (then - at).as_secs_f64(),
            rss: now.rss,
            uptime: units::age(view.run.now, now.started),
            memory: process::memory(),
        };
        causes.extend(judge(&facts));
    }
    Ok(causes.into())
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let Facts { service, pid, .. } = facts;
    let mut causes = Vec::new();
    let cause = |id, text: String| Cause::new(id, State::Warning, 85, text).of(service);
    if facts.cpu >= 90.0 {
        causes.push(
            cause("busy", format!("{service} (pid {pid}) keeps a processor busy: {:.0} % of one", facts.cpu))
                .seen(format!("watched for {}; it has run for {}", Span(LOOK), facts.uptime))
                .run(format!("ops logs {service}_stderr -n 50"))
                .run(format!("ops restart {service}"))
                .advise("look at what it does first: an operation that is stuck in a loop ends only with it"),
        );
    }
    let Some((total, free)) = facts.memory else { return causes };
    if facts.rss > total / 2 {
        causes.push(
            cause(
                "memory",
                format!("{service} (pid {pid}) takes {} of {} of memory", Size(facts.rss), Size(total)),
            )
            .seen(format!("it has run for {}: one that grows with its age leaks", facts.uptime))
            .run(format!("ops restart {service}"))
            .advise("a check of kind resources with rss and uptime tells of it in time"),
        );
    } else if free < total / 20 {
        causes.push(
            cause(
                "memory",
                format!("the machine is short of memory: {} of {} can be had", Size(free), Size(total)),
            )
            .seen(format!("{service} takes {} of it", Size(facts.rss)))
            .run("ps aux --sort -rss | head -5")
            .advise("when nothing is left the kernel ends whoever takes most"),
        );
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_one_a_large_one_and_a_full_machine() {
        let ids = |cpu, rss, free| {
            let facts = Facts {
                service: "bot".to_owned(),
                pid: 1,
                cpu,
                rss,
                uptime: Span::days(9),
                memory: Some((1000, free)),
            };
            judge(&facts).iter().map(|cause| cause.id).collect::<Vec<_>>()
        };
        assert!(ids(50.0, 100, 500).is_empty());
        assert_eq!(ids(97.0, 100, 500), ["busy"]);
        assert_eq!(ids(0.0, 600, 20), ["memory"]);
        assert_eq!(ids(0.0, 100, 20), ["memory"]);
    }
}
