//! One [`Snapshot`] of everything, and the views of it: terminal, page, Prometheus text; as a
//! document for machines it is itself.
//!
//! Whatever cannot be had (no journal, no backup, no logs, nothing runs) is missing in the
//! snapshot, and every view of it is whole all the same.

mod brief;
mod gather;
mod history;
mod objectives;
mod page;
mod prometheus;
mod report;
mod signs;
mod snapshot;
mod strips;
mod terminal;

pub use history::{Bucket, History, Strip};
pub use objectives::Objective;
pub use report::{FARTHEST, Report, report};
pub use snapshot::*;

use crate::base::text::harmless;
use crate::base::{Journal, Run, render};
use crate::config::Loaded;
use anyhow::Result;
use std::path::PathBuf;

/// Looks at everything once. Nothing is recorded.
pub fn gather(loaded: &Loaded, run: &Run, journal: Option<&Journal>) -> Snapshot {
    gather::gather(loaded, run, journal)
}

/// The view for a terminal: at most `width` columns, and whole without colours.
pub fn terminal(snapshot: &Snapshot, width: usize, colored: bool) -> String {
    terminal::render(snapshot, width, colored)
}

/// The same for a terminal of so many rows: what is not well, and as much of the rest as fits.
pub fn brief(snapshot: &Snapshot, width: usize, rows: usize, colored: bool) -> String {
    brief::render(snapshot, width, rows, colored)
}

/// The page: one file of HTML that needs nothing else.
pub fn page(snapshot: &Snapshot) -> String {
    harmless(&page::render(snapshot), false).into_owned()
}

/// The text format of Prometheus.
pub fn prometheus(snapshot: &Snapshot) -> String {
    harmless(&prometheus::render(snapshot), false).into_owned()
}

/// Writes `logs/dashboard.html` and `logs/ops_status.json`, each replaced whole. Gives the page.
pub fn write_page(loaded: &Loaded, snapshot: &Snapshot) -> Result<PathBuf> {
    let home = &loaded.home;
    home.replace(&home.status_json(), (render::document(snapshot)? + "\n").as_bytes(), 0o644)?;
    home.replace(&home.dashboard_page(), page(snapshot).as_bytes(), 0o644)?;
    Ok(home.dashboard_page())
}
