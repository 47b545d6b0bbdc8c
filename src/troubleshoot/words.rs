//! The last words of a service: what stands last in its logs.

use crate::base::{Home, text};
use std::path::Path;

/// The last lines of a log that say something, with the log's name; none: it is empty, or not there.
pub(super) fn last(home: &Home, path: &Path, count: usize) -> Vec<String> {
    let name = home.show(path);
    let lines = home.last_lines(path, count * 4, 64 << 10).unwrap_or_default();
    let told: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    told[told.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("{name}: {}", text::sanitize(line)))
        .collect()
}

/// Those of a service: of its standard error, else of what it printed.
pub(super) fn of_service(home: &Home, service: &str, count: usize) -> Vec<String> {
    let of = |stream: &str| last(home, &home.log(&format!("{service}_{stream}")), count);
    let errors = of("stderr");
    if errors.is_empty() { of("stdout") } else { errors }
}
