//! Is the service's process there, and is it really the service?

use super::{Answer, Metric, View};
use crate::base::State;
use crate::base::range::Unit;
use crate::base::units::{Size, age};
use crate::config::check::Process;
use crate::service::Liveness;
use anyhow::Result;

pub(super) fn look(view: &View, options: &Process) -> Result<Answer> {
    let name = &options.service;
    let status = view.status(name)?;
    let restart = if view.loaded.config.service.len() > 1 {
        format!("`ops start {name}`")
    } else {
        "`ops start`".to_owned()
    };
    let critical = |summary: String, remedy: &str| Ok(Answer::new(State::Critical, summary).remedy(remedy));
    let process = match status.liveness {
        Liveness::Running(process) => process,
        Liveness::Dead(why) => {
            let summary = match status.stopped_by_operator {
                Some(stopped) => format!("{name} was stopped {}", stopped.told(view.run.now)),
                None => format!("{name} is not running: {why}"),
            };
            // Whoever reads it would start a second one.
            let double = view.services().double(name);
            let double = double.map(|double| format!("; {double}, but was not started by ops"));
            return critical(summary + &double.unwrap_or_default(), &restart);
        }
        Liveness::Stranger { pid, command, .. } => {
            let summary = format!("{name} is not running: its pid file names {pid}, which is '{command}'");
            return critical(summary, &restart);
        }
    };
    let pid = process.identity.pid;
    if let Some((other, command)) = status.pid_file_names {
        let summary =
            format!("{name} runs as pid {pid}, but its pid file names {other}, which is '{command}'");
        return critical(summary, "`ops restart`");
    }
    let uptime = age(view.run.now, process.started);
    let answer = if process.stopped {
        let summary = format!("{name} (pid {pid}) is stopped by a signal");
        Answer::new(State::Critical, summary)
            .remedy("`kill -CONT` lets it go on; `ops restart --force` starts it anew")
    } else if let Some(pending) = view.services().pending_stop(name) {
        Answer::new(State::Warning, pending.describe())
            .remedy("wait until it has ended, or `ops restart --force`")
    } else {
        Answer::new(State::Ok, format!("{name} runs as pid {pid} for {uptime}, {}", Size(process.rss)))
    };
    Ok(answer
        .metric(Metric::new("uptime", uptime.as_secs().floor(), Unit::Seconds))
        .metric(Metric::new("rss", process.rss as f64, Unit::Bytes))
        .metric(Metric::new("cpu", process.cpu.as_secs_f64(), Unit::Seconds))
        .metric(Metric::new("threads", f64::from(process.threads), Unit::Count)))
}
