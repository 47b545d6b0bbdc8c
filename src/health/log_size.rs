//! Are the logs bounded?

use super::{Answer, Metric, View};
use crate::base::range::Unit;
use crate::base::text;
use crate::base::units::Size;
use crate::config::check::LogSize;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

pub(super) fn look(view: &View, options: &LogSize) -> Result<Answer> {
    let mut sizes = BTreeMap::new();
    for (_, pattern) in view.loaded.config.logs.globs() {
        let full = view.loaded.home.path(pattern);
        let matches =
            glob::glob(&full.to_string_lossy()).with_context(|| format!("'{pattern}' is no pattern"))?;
        for path in matches.flatten() {
            // A link is not followed: what it names is not ours to bound.
            if let Ok(meta) = path.symlink_metadata()
                && meta.is_file()
            {
                sizes.insert(path, meta.len());
            }
        }
    }
    let total: u64 = sizes.values().sum();
    let metric =
        Metric::new("size", total as f64, Unit::Bytes).limits(Some(options.warn.0), Some(options.crit.0));
    let largest = sizes.iter().max_by_key(|(_, size)| **size);
    let largest = largest.map_or(String::new(), |(path, size)| {
        format!(", the largest {} with {}", view.loaded.home.show(path), Size(*size))
    });
    let summary = format!("{} in {}{largest}", Size(total), text::count(sizes.len(), "file"));
    Ok(Answer::new(metric.judge(), summary).metric(metric).remedy("`ops rotate-logs`"))
}
