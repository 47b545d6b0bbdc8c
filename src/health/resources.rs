//! Does a service take more of the machine than it should?

use super::{Answer, Metric, View};
use crate::base::State;
use crate::base::process::{self, Identity, Process, Usage};
use crate::base::range::Unit;
use crate::base::units::{Size, age};
use crate::config::check::{Bounds, Resources};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What is remembered as.
const CPU: &str = "cpu";

/// The processor time of a process at the last look.
#[derive(Deserialize, Serialize)]
struct Spent {
    identity: Identity,
    seconds: f64,
}

pub(super) fn look(view: &View, name: &str, options: &Resources) -> Result<Answer> {
    let status = view.status(&options.service)?;
    let Some(process) = status.process() else {
        // That it does not run is for the check of the process to say.
        return Ok(Answer::new(State::Ok, format!("{} does not run: it takes nothing", options.service)));
    };
    let others = if options.tree { tree(process)? } else { Vec::new() };
    let total = Total::of(process, &others);
    let spent = Spent { identity: process.identity.clone(), seconds: total.cpu };
    let before = view.recall::<Spent>(name, CPU);
    let cpu = before.and_then(|(at, before)| percent_of_cpu(&before, at, &spent, view.run.now));
    let metrics = judged(options, &total, cpu, age(view.run.now, process.started).as_secs());
    let mut answer = Answer::new(State::Ok, String::new());
    let mut told = vec![Size(total.rss).to_string()];
    told.extend(cpu.map(|cpu| format!("{cpu:.1} % of a processor")));
    for metric in metrics {
        let state = metric.judge();
        answer.state = answer.state.worse(state);
        if state != State::Ok {
            told.push(beyond(&metric, state));
        }
        answer.metrics.push(metric);
    }
    let whose = if others.is_empty() { String::new() } else { format!(" and {} it started", others.len()) };
    answer.summary = format!("{}{whose}: {}", options.service, told.join(", "));
    Ok(answer
        .remember(CPU, &spent)
        .remedy("`ops logs` shows what it does; `ops restart` gives back what a leak took"))
}

/// What a process and those it started take together.
struct Total {
    rss: u64,
    cpu: f64,
    threads: u32,
    fds: Option<f64>,
    maps: Option<f64>,
}

impl Total {
    fn of(process: &Process, others: &[Process]) -> Total {
        let all = || std::iter::once(process).chain(others);
        let usages: Vec<Usage> = all().map(Process::usage).collect();
        // Limits are each process's own: the one that is nearest to its limit counts.
        let nearest = |share: fn(&Usage) -> Option<f64>| usages.iter().filter_map(share).reduce(f64::max);
        Total {
            rss: all().map(|process| process.rss).sum(),
            cpu: all().map(|process| process.cpu.as_secs_f64()).sum(),
            threads: all().map(|process| process.threads).sum(),
            fds: nearest(|usage| percent(usage.fds, usage.fds_limit)),
            maps: nearest(|usage| percent(usage.maps, usage.maps_limit)),
        }
    }
}

fn percent(some: Option<u64>, of: Option<u64>) -> Option<f64> {
    let (some, of) = (some?, of.filter(|of| *of > 0)?);
    Some((some as f64 / of as f64 * 1000.0).round() / 10.0)
}

/// Those in the session of a process: we start each service in one of its own.
fn tree(process: &Process) -> Result<Vec<Process>> {
    let mut all = process::all()?;
    let leader = process.identity.pid;
    all.retain(|other| other.session == leader && other.identity.pid != leader && other.alive());
    Ok(all)
}

/// The processor time between two looks at the same process, in percent of one processor.
fn percent_of_cpu(before: &Spent, at: DateTime<Utc>, now: &Spent, then: DateTime<Utc>) -> Option<f64> {
    let passed = (then - at).num_milliseconds() as f64 / 1000.0;
    let same = before.identity == now.identity && now.seconds >= before.seconds && passed >= 1.0;
    same.then(|| ((now.seconds - before.seconds) / passed * 1000.0).round() / 10.0)
}

fn judged(options: &Resources, total: &Total, cpu: Option<f64>, uptime: f64) -> Vec<Metric> {
    let metric = |label: &str, value: f64, unit: Unit, (warn, crit)| {
        Metric::new(label, value, unit).limits(warn, crit)
    };
    let mut metrics = vec![metric("rss", total.rss as f64, Unit::Bytes, Bounds::ranges(options.rss))];
    metrics.extend(cpu.map(|cpu| metric("cpu", cpu, Unit::Percent, Bounds::ranges(options.cpu))));
    metrics.push(metric("threads", f64::from(total.threads), Unit::Count, Bounds::ranges(options.threads)));
    metrics.extend(total.fds.map(|fds| metric("fds", fds, Unit::Percent, Bounds::ranges(Some(options.fds)))));
    metrics.extend(
        total.maps.map(|maps| metric("maps", maps, Unit::Percent, Bounds::ranges(Some(options.maps)))),
    );
    metrics.push(metric("uptime", uptime.floor(), Unit::Seconds, Bounds::ranges(options.uptime)));
    metrics
}

/// `fds 97 % (limit 95)`.
fn beyond(metric: &Metric, state: State) -> String {
    let limit = if state == State::Critical { metric.crit } else { metric.warn };
    let limit = limit.map_or(0.0, |limit| limit.limit());
    let (value, limit) = match metric.unit {
        Unit::Bytes => return format!("{} limit {}", metric.label, Size(limit as u64)),
        Unit::Seconds => (age_text(metric.value), age_text(Some(limit))),
        unit => (format!("{} {}", metric.value.unwrap_or(0.0), unit.uom()), limit.to_string()),
    };
    format!("{} {} (limit {limit})", metric.label, value.trim_end())
}

fn age_text(seconds: Option<f64>) -> String {
    crate::base::units::Span::seconds(seconds.unwrap_or(0.0) as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn processor_time_is_that_between_two_looks_at_one_process() {
        let now = Utc::now();
        let ago = now - TimeDelta::seconds(300);
        let spent = |start: u64, seconds: f64| Spent {
            identity: Identity { pid: 7, start, boot: String::new() },
            seconds,
        };
        assert_eq!(percent_of_cpu(&spent(1, 10.0), ago, &spent(1, 160.0), now), Some(50.0));
        assert_eq!(percent_of_cpu(&spent(1, 10.0), ago, &spent(2, 160.0), now), None, "another process");
        assert_eq!(percent_of_cpu(&spent(1, 10.0), now, &spent(1, 10.0), now), None, "no time has passed");
        assert_eq!(percent(Some(512), Some(1024)), Some(50.0));
        assert_eq!(percent(Some(512), None), None);
    }
}
