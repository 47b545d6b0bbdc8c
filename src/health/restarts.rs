//! Does a service start over and over? Every start that a run comes across is remembered, whoever
//! started it, save those that followed a stop of ours: `ops restart`, an upgrade.

use super::{Answer, Metric, View};
use crate::base::process::Identity;
use crate::base::range::Unit;
use crate::base::text;
use crate::config::check::Restarts;
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What is remembered as.
const STARTS: &str = "starts";

/// The starts that were seen.
#[derive(Default, Deserialize, Serialize)]
struct Starts {
    /// The process seen last.
    last: Option<Identity>,
    /// When each was started, but the first of all and those that were asked for.
    again: Vec<DateTime<Utc>>,
}

pub(super) fn look(view: &View, name: &str, options: &Restarts) -> Result<Answer> {
    let status = view.status(&options.service)?;
    let mut starts = view.recall::<Starts>(name, STARTS).map(|(_, starts)| starts).unwrap_or_default();
    if let Some(process) = status.process() {
        let asked_for = view.services().was_asked_for(&options.service, &process.identity);
        starts.see(&process.identity, process.started, asked_for);
    }
    let per = options.per.delta();
    starts.again.retain(|at| view.run.now - *at < per);
    let metric = Metric::new("restarts", starts.again.len() as f64, Unit::Count)
        .limits(Some(options.warn.0), Some(options.crit.0));
    let number = text::count(starts.again.len(), "restart");
    let summary = format!("{number} of {} within {}", options.service, options.per);
    Ok(Answer::new(metric.judge(), summary)
        .metric(metric)
        .remember(STARTS, &starts)
        .remedy("`ops logs` shows its last words; `ops alert why restart_loop` tells what to look at"))
}

impl Starts {
    fn see(&mut self, identity: &Identity, started: DateTime<Utc>, asked_for: bool) {
        let other = self.last.as_ref().is_some_and(|last| last != identity);
        if other && !asked_for {
            self.again.push(started);
        }
        self.last = Some(identity.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_process_is_a_restart() {
        let mut starts = Starts::default();
        let now = Utc::now();
        for (pid, start, asked_for, expected) in [
            (7, 1, false, 0),
            (7, 1, false, 0),
            (8, 2, false, 1),
            (8, 2, false, 1),
            (7, 3, true, 1),
            (7, 3, false, 1),
            (7, 4, false, 2),
        ] {
            starts.see(&Identity { pid, start, boot: "b".to_owned() }, now, asked_for);
            assert_eq!(starts.again.len(), expected, "{pid} {start}");
        }
    }
}
