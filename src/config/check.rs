//! `[check.NAME]`: one question about the agent. `kind` decides which further keys it has.

use crate::base::range::{Bad, Range, Unit};
use crate::base::units::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::path::PathBuf;

/// One check, as configured.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is asked.
    #[serde(flatten)]
    pub kind: Kind,
    /// What every check has.
    #[serde(flatten)]
    pub common: Common,
}

/// The keys that every check has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// Whether it runs.
    pub enabled: bool,
    /// Whether "could not tell" ranks above a warning.
    pub critical: bool,
    /// How long it may take before it counts as "could not tell".
    pub timeout: Span,
    /// The alert type while it warns; by its kind unless said otherwise.
    pub alert_warning: Option<String>,
    /// The alert type while it is critical or cannot be told.
    pub alert_critical: Option<String>,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            enabled: true,
            critical: false,
            timeout: Span::seconds(8),
            alert_warning: None,
            alert_critical: None,
        }
    }
}

/// The names of the kinds, as written in `kind = "…"`.
pub const KINDS: [&str; 10] = [
    "process",
    "heartbeat",
    "sqlite",
    "disk",
    "log_size",
    "log_errors",
    "tcp",
    "backup_age",
    "drill_age",
    "copy_age",
];

/// The kinds of check.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Is the service's process there, and is it really the service?
    Process(Process),
    /// Does it still get on with its work?
    Heartbeat(Heartbeat),
    /// Are its databases sound?
    Sqlite(Sqlite),
    /// Is there room on the disk?
    Disk(Disk),
    /// Are the logs bounded?
    LogSize(LogSize),
    /// Do the logs speak of errors?
    LogErrors(LogErrors),
    /// Does something answer on a port?
    Tcp(Tcp),
    /// Is there a recent, verified backup?
    BackupAge(BackupAge),
    /// Was a backup restored on trial lately?
    DrillAge(DrillAge),
    /// Is there a recent backup in the bucket?
    CopyAge(CopyAge),
}

impl Kind {
    /// The name, as written in `kind = "…"`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Process(_) => "process",
            Kind::Heartbeat(_) => "heartbeat",
            Kind::Sqlite(_) => "sqlite",
            Kind::Disk(_) => "disk",
            Kind::LogSize(_) => "log_size",
            Kind::LogErrors(_) => "log_errors",
            Kind::Tcp(_) => "tcp",
            Kind::BackupAge(_) => "backup_age",
            Kind::DrillAge(_) => "drill_age",
            Kind::CopyAge(_) => "copy_age",
        }
    }

    /// Reads the table of a kind, without the keys that every check has.
    pub(super) fn read<'de, D: Deserializer<'de>>(kind: &str, table: D) -> Result<Kind, D::Error> {
        Ok(match kind {
            "process" => Kind::Process(Process::deserialize(table)?),
            "heartbeat" => Kind::Heartbeat(Heartbeat::deserialize(table)?),
            "sqlite" => Kind::Sqlite(Sqlite::deserialize(table)?),
            "disk" => Kind::Disk(Disk::deserialize(table)?),
            "log_size" => Kind::LogSize(LogSize::deserialize(table)?),
            "log_errors" => Kind::LogErrors(LogErrors::deserialize(table)?),
            "tcp" => Kind::Tcp(Tcp::deserialize(table)?),
            "backup_age" => Kind::BackupAge(BackupAge::deserialize(table)?),
            "drill_age" => Kind::DrillAge(DrillAge::deserialize(table)?),
            "copy_age" => Kind::CopyAge(CopyAge::deserialize(table)?),
            other => return Err(de::Error::unknown_variant(other, &KINDS)),
        })
    }
}

/// `kind = "process"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Whose process.
    pub service: String,
}

/// `kind = "heartbeat"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Whose status file.
    pub service: String,
    /// An age, or a multiple of the interval that the status file states.
    #[serde(default = "Limit::twice")]
    pub warn: Limit,
    /// The same, for critical.
    #[serde(default = "Limit::four_times")]
    pub crit: Limit,
}

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
    /// Globs, relative to the home; of several files that match, the one written last is read.
    pub paths: Vec<String>,
    /// How many of its last lines are looked at.
    #[serde(default = "hundred_lines")]
    pub lines: usize,
    /// Words that make a line an error line, whatever their case.
    #[serde(default = "error_words")]
    pub words: Vec<String>,
    /// More error lines than this are a warning.
    #[serde(default = "Most::five")]
    pub warn: Most<{ COUNT }>,
    /// More than this are critical; never, unless said.
    #[serde(default)]
    pub crit: Option<Most<{ COUNT }>>,
}

/// `kind = "tcp"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`.
    pub address: String,
    /// How long the connection may take to be made.
    #[serde(default = "Most::second")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical: no connection within this time is critical too.
    #[serde(default = "Most::five_seconds")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "backup_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackupAge {
    /// Age of the newest verified archive above which to warn.
    #[serde(default = "Most::day_and_a_bit")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::three_days")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "drill_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DrillAge {
    /// Age of the last good drill, or of the first backup where there was none, above which to warn.
    #[serde(default = "Most::week_and_a_day")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::month")]
    pub crit: Most<{ SECONDS }>,
}

/// `kind = "copy_age"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CopyAge {
    /// Age of the newest archive in the bucket, or of the first backup where there was none yet, above
    /// which to warn.
    #[serde(default = "Most::day_and_a_bit")]
    pub warn: Most<{ SECONDS }>,
    /// The same, for critical.
    #[serde(default = "Most::three_days")]
    pub crit: Most<{ SECONDS }>,
}

const SECONDS: u8 = 0;
const BYTES: u8 = 1;
const COUNT: u8 = 2;

/// A threshold above which it is bad, in seconds, bytes or a count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Most<const UNIT: u8>(pub Range);

impl Most<BYTES> {
    fn bytes_1_gb() -> Self {
        Most(Range::above(1e9))
    }
    fn bytes_5_gb() -> Self {
        Most(Range::above(5e9))
    }
}

impl Most<COUNT> {
    fn five() -> Self {
        Most(Range::above(5.0))
    }
}

impl Most<SECONDS> {
    fn second() -> Self {
        Most(Range::above(1.0))
    }
    fn five_seconds() -> Self {
        Most(Range::above(5.0))
    }
    fn day_and_a_bit() -> Self {
        Most(Range::above(26.0 * 3600.0))
    }
    fn three_days() -> Self {
        Most(Range::above(3.0 * 86_400.0))
    }
    fn week_and_a_day() -> Self {
        Most(Range::above(8.0 * 86_400.0))
    }
    fn month() -> Self {
        Most(Range::above(30.0 * 86_400.0))
    }
}

impl<'de, const UNIT: u8> Deserialize<'de> for Most<UNIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unit = match UNIT {
            SECONDS => Unit::Seconds,
            BYTES => Unit::Bytes,
            _ => Unit::Count,
        };
        threshold(deserializer, unit, Bad::Above).map(Most)
    }
}

impl<const UNIT: u8> Serialize for Most<UNIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A threshold of free bytes: below it is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Free(pub Range);

impl Free {
    fn five_gb() -> Free {
        Free(Range::below(5e9))
    }
    fn two_gb() -> Free {
        Free(Range::below(2e9))
    }
}

impl<'de> Deserialize<'de> for Free {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Free, D::Error> {
        threshold(deserializer, Unit::Bytes, Bad::Below).map(Free)
    }
}

impl Serialize for Free {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A limit of a heartbeat's age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many intervals of the agent: `2x`.
    Times(f64),
    /// An age: `2h`.
    Age(Span),
}

impl Limit {
    fn twice() -> Limit {
        Limit::Times(2.0)
    }
    fn four_times() -> Limit {
        Limit::Times(4.0)
    }

    /// The limit in seconds, for an agent whose interval is known; of one whose interval is
    /// not, an hour is taken.
    pub fn seconds(self, interval: Option<f64>) -> f64 {
        match self {
            Limit::Times(times) => times * interval.unwrap_or(3600.0),
            Limit::Age(age) => age.as_secs(),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(times) = text.strip_suffix('x').and_then(|number| number.trim().parse::<f64>().ok())
            && times.is_finite()
            && times > 0.0
        {
            return Ok(Limit::Times(times));
        }
        Span::parse(&text).map(Limit::Age).map_err(|_| {
            de::Error::custom(format!("'{text}' is neither a multiple like 2x nor an age like 2h"))
        })
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Times(times) => serializer.collect_str(&format!("{times}x")),
            Limit::Age(age) => age.serialize(serializer),
        }
    }
}

fn threshold<'de, D: Deserializer<'de>>(deserializer: D, unit: Unit, bad: Bad) -> Result<Range, D::Error> {
    struct Visitor(Unit, Bad);
    impl de::Visitor<'_> for Visitor {
        type Value = Range;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number or a threshold like \"5GB\", \"26h\" or \"10:20\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Range, E> {
            Range::parse(text, self.0, self.1).map_err(E::custom)
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Range, E> {
            self.visit_f64(number as f64)
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Range, E> {
            Ok(if self.1 == Bad::Below { Range::below(number) } else { Range::above(number) })
        }
    }
    deserializer.deserialize_any(Visitor(unit, bad))
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
