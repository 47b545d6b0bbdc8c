//! Checks of what lies on disk.

use super::limits::{BYTES, COUNT, Free, Most};
use crate::base::units::Span;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `kind = "sqlite"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// Globs, relative to the home. A pattern without `*` names a database that must be there.
    pub paths: Vec<String>,
    /// How long all scans of one run may take together.
    #[serde(default = "scan_budget")]
    pub budget: Span,
}

/// `kind = "disk"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A path on the file system in question; the home unless said otherwise.
    #[serde(default)]
    pub path: PathBuf,
    /// Free space below which to warn, such as `5GB`.
    #[serde(default = "Free::five_gb")]
    pub warn: Free,
    /// Free space below which it is critical.
    #[serde(default = "Free::two_gb")]
    pub crit: Free,
}

/// `kind = "log_size"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogSize {
    /// All logs together, such as `1GB`.
    #[serde(default = "Most::bytes_1_gb")]
    pub warn: Most<{ BYTES }>,
    /// The same, for critical.
    #[serde(default = "Most::bytes_5_gb")]
    pub crit: Most<{ BYTES }>,
}

/// `kind = "log_errors"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogErrors {
    /// Globs, relative to the home.
    pub paths: Vec<String>,
    /// How many of the last lines are looked at, of the log that was written last.
    #[serde(default = "hundred_lines")]
    pub lines: usize,
    /// Counted are the error lines that came within this time instead.
    #[serde(default)]
    pub per: Option<Span>,
    /// Words that make a line an error line, whatever their case.
    #[serde(default = "error_words")]
    pub words: Vec<String>,
    /// Words that make it none all the same.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// More error lines than this are a warning.
    #[serde(default = "Most::five")]
    pub warn: Most<{ COUNT }>,
    /// More than this are critical; never, unless said.
    #[serde(default)]
    pub crit: Option<Most<{ COUNT }>>,
}

fn scan_budget() -> Span {
    Span::seconds(5)
}

fn hundred_lines() -> usize {
    100
}

fn error_words() -> Vec<String> {
    ["error", "critical", "fatal", "traceback", "panic"].map(str::to_owned).into()
}
