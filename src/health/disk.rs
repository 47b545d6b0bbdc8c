//! Is there room on the disk?

use super::{Answer, Metric};
use crate::base::State;
use crate::base::range::Unit;
use crate::base::units::Size;
use crate::config::check::Disk;
use anyhow::{Context, Result};

pub(super) fn look(options: &Disk) -> Result<Answer> {
    let path = &options.path;
    let disk = rustix::fs::statvfs(path).with_context(|| format!("cannot look at {}", path.display()))?;
    // What an ordinary user can still write.
    let free = disk.f_bavail * disk.f_frsize;
    let total = disk.f_blocks * disk.f_frsize;
    let used = 100.0 * (1.0 - free as f64 / total.max(1) as f64);
    let mut metric =
        Metric::new("free", free as f64, Unit::Bytes).limits(Some(options.warn.0), Some(options.crit.0));
    metric.max = Some(total as f64);
    let mut summary = format!("{} free of {} ({used:.0} % used)", Size(free), Size(total));
    let mut state = metric.judge();
    match state {
        State::Warning => summary.push_str(&format!(", less than {}", Size(options.warn.0.limit() as u64))),
        State::Critical => summary.push_str(&format!(", less than {}", Size(options.crit.0.limit() as u64))),
        _ => {}
    }
    // Some file systems have no inode table and say 0 of 0.
    if disk.f_files > 0 && disk.f_favail == 0 {
        state = State::Critical;
        summary.push_str(", and no inode is left");
    }
    Ok(Answer::new(state, summary)
        .metric(metric)
        .metric(Metric::new("used", (used * 10.0).round() / 10.0, Unit::Percent))
        .remedy("ops rotate-logs frees what the logs take; ops backup prune shows what the backups take"))
}
