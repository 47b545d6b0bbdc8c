//! A log without what stands in it: when each line was written, how bad it is, how long.
//!
//! Ours are no exception: a start, a restore or an upgrade that fails tells the agent's last words, and what
//! a command for rotated logs printed is its.

use crate::base::units::{self, Size};
use crate::logs::{self, Line, Log, Query};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// The kinds of check whose summary holds numbers and names of ours, and nothing that the agent, or another,
/// wrote.
const KINDS: [&str; 17] = [
    "process",
    "heartbeat",
    "sqlite",
    "disk",
    "log_size",
    "tcp",
    "backup_age",
    "copy_age",
    "drill_age",
    "restarts",
    "resources",
    "schedule",
    "systemd_units",
    "file_age",
    "permissions",
    "pin",
    "upgrade",
];

/// Whether what a check of this kind says may leave the machine.
pub(super) fn kind_quotes_nobody(kind: &str) -> bool {
    KINDS.contains(&kind)
}

/// Its last lines, told so.
pub(super) fn of(log: &Log, lines: usize, now: DateTime<Utc>) -> Result<String> {
    let logs = BTreeMap::from([(String::new(), vec![log.clone()])]);
    let mut tail = logs::tail(&logs, &Query { lines, ..Query::default() }, now, |_| None);
    if let Some((path, error)) = tail.failed.pop() {
        return Err(error).with_context(|| format!("cannot read {}", path.display()));
    }
    let head = format!(
        "# {} in all. What its last lines say is left out; of each: when, how bad, how many bytes. --with-logs puts it in.\n",
        Size(log.bytes)
    );
    Ok(head + &tail.lines.iter().map(line).collect::<String>())
}

fn line(line: &Line) -> String {
    let at = line.at.map_or("-".to_owned(), units::rfc3339);
    let level = line.level.map_or("-".to_owned(), |level| format!("{level:?}").to_lowercase());
    format!("{at} {level} {}\n", line.text.len())
}
