//! Are the logs bounded?

use super::{Answer, Metric, View};
use crate::base::range::Unit;
use crate::base::text;
use crate::base::units::Size;
use crate::config::Logs;
use crate::config::check::LogSize;
use crate::log_files;
use anyhow::{Result, bail};

pub(super) fn look(view: &View, options: &LogSize) -> Result<Answer> {
    // What is left alone by `exclude` takes room, too; the archive, which only grows, is not looked through.
    let mut rules = Logs { exclude: Vec::new(), ..view.loaded.config.logs.clone() };
    rules.rule.values_mut().for_each(|rule| rule.archive = false);
    // A link is not followed: what it names is not ours to bound.
    let found = log_files::find(&view.loaded.home, &rules);
    let failed = found.failed.first();
    let failed = failed.map(|(path, why)| format!("cannot look at {}: {why}", view.loaded.home.show(path)));
    if let (Some(failed), true) = (&failed, found.logs.is_empty()) {
        bail!("{failed}");
    }
    let total: u64 = found.logs.iter().map(|log| log.bytes).sum();
    let metric =
        Metric::new("size", total as f64, Unit::Bytes).limits(Some(options.warn.0), Some(options.crit.0));
    let largest = found.logs.iter().max_by_key(|log| log.bytes);
    let largest = largest.map_or(String::new(), |log| {
        format!(", the largest {} with {}", view.loaded.home.show(&log.path), Size(log.bytes))
    });
    let failed = failed.map_or(String::new(), |failed| format!("; {failed}"));
    let summary = format!("{} in {}{largest}{failed}", Size(total), text::count(found.logs.len(), "file"));
    Ok(Answer::new(metric.judge(), summary).metric(metric).remedy("`ops rotate-logs`"))
}
