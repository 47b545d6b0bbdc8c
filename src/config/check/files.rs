//! Checks of what lies on disk.

use super::limits::{BYTES, Bounds, COUNT, Free, Least, Most, PERCENT, SECONDS};
use crate::base::units::{Size, Span};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::collections::BTreeMap;
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
    /// The size of a `-wal` file: one that grows without end has a reader that never lets go.
    #[serde(default = "Bounds::wal")]
    pub wal: Bounds<BYTES>,
    /// How often all of a database is checked, its indices too (`integrity_check`): as soon as it fits
    /// into the budget.
    #[serde(default = "week")]
    pub full: Span,
}

/// `kind = "jsonl"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jsonl {
    /// Globs, relative to the home. A pattern without `*` names a file that must be there.
    pub paths: Vec<String>,
    /// How many bytes may come within an hour.
    #[serde(default)]
    pub growth: Option<Bounds<BYTES>>,
}

/// `kind = "file_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileAge {
    /// Globs, relative to the home.
    pub paths: Vec<String>,
    /// Which of several files.
    #[serde(default)]
    pub which: Which,
    /// Its age, above which to warn.
    #[serde(default = "Most::hour")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::four_hours")]
    pub crit: Most<{ SECONDS }>,
    /// How many files there are.
    #[serde(default)]
    pub count: Option<Bounds<COUNT>>,
    /// The least it may be long: a file that is written anew each time may end up empty.
    #[serde(default)]
    pub min_size: Option<Size>,
}

/// Which of several files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The one written last: something should have been written since. There must be one.
    #[default]
    Newest,
    /// The one written first: it should have been taken away. None at all is well.
    Oldest,
}

/// `kind = "permissions"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// Globs, relative to the home.
    pub paths: Vec<String>,
    /// The most that may be allowed, octal.
    #[serde(default)]
    pub mode: Mode,
}

/// Permissions, written octal in quotes: `"0600"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Default for Mode {
    fn default() -> Mode {
        Mode(0o600)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Mode(mode)),
            _ => Err(de::Error::custom(format!("'{text}' is no mode; write it like \"0600\""))),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

/// `kind = "pin"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Files, relative to the home, and the SHA-256 that each must have, as `sha256sum` prints it.
    pub files: BTreeMap<String, Sha256>,
}

/// A SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sha256(pub String);

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Sha256(text.to_ascii_lowercase()))
        } else {
            Err(de::Error::custom(format!(
                "'{text}' is no SHA-256: 64 hexadecimal digits, as sha256sum prints"
            )))
        }
    }
}

/// `kind = "disk"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A path on the file system in question; the home unless said otherwise.
    #[serde(default, serialize_with = "crate::base::name::path::serialize")]
    pub path: PathBuf,
    /// Free space below which to warn, such as `5GB`.
    #[serde(default = "Free::five_gb")]
    pub warn: Free,
    /// Free space below which it is critical.
    #[serde(default = "Free::two_gb")]
    pub crit: Free,
    /// Free inodes, in percent, below which to warn.
    #[serde(default = "Least::ten")]
    pub inodes_warn: Least<{ PERCENT }>,
    /// The same, for critical.
    #[serde(default = "Least::five")]
    pub inodes_crit: Least<{ PERCENT }>,
    /// If it goes on filling up as in the last day: the time left, below which to warn.
    #[serde(default)]
    pub full_warn: Option<Least<{ SECONDS }>>,
    /// The same, for critical.
    #[serde(default)]
    pub full_crit: Option<Least<{ SECONDS }>>,
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

fn week() -> Span {
    Span::days(7)
}
