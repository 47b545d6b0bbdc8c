//! The status file that a daemon writes at each heartbeat, in all the shapes it comes in.

use super::beneath::{SMALL, read_small_file};
use super::units;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// What a status file says. Whatever is missing or of an odd type is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusFile {
    /// `starting`, `running`, `stopping`, `stopped`, `error`, in lower case.
    pub status: String,
    /// When it was written.
    pub timestamp: Option<DateTime<Utc>>,
    /// By which process: a string, a number or null.
    pub pid: Option<u32>,
    /// Seconds between two heartbeats.
    pub interval: Option<f64>,
    /// The last heartbeat, from `details`, which may be empty.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// How many of its own checks passed, and of how many.
    pub checks: Option<(u64, u64)>,
    /// All of it.
    pub document: Value,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No such file.
    Missing,
    /// Empty, torn, not JSON, too large, or no permission: a clause that says which.
    Broken(String),
}

impl StatusFile {
    /// The number at a path such as `details.tasks_done`.
    pub fn number(&self, path: &str) -> Option<f64> {
        let value = path.split('.').try_fold(&self.document, |value, key| value.get(key))?;
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
    }

    /// The newest sign of life in it: the later of heartbeat and writing.
    pub fn sign_of_life(&self) -> Option<DateTime<Utc>> {
        self.last_heartbeat.max(self.timestamp)
    }

    /// Reads a status file. One that is empty or torn is read again, for 150 ms: not every
    /// daemon writes it atomically.
    pub fn read(path: &Path) -> Result<StatusFile, Unreadable> {
        let mut tries = 0;
        loop {
            match StatusFile::read_once(path) {
                Err(Unreadable::Broken(_)) if tries < 3 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(50));
                }
                read => return read,
            }
        }
    }

    fn read_once(path: &Path) -> Result<StatusFile, Unreadable> {
        let broken = |what: String| Unreadable::Broken(what);
        let text = match read_small_file(path, SMALL) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Unreadable::Missing),
            Err(error) => return Err(broken(error.to_string())),
        };
        StatusFile::parse(&text).map_err(broken)
    }

    /// What the bytes of a status file say.
    ///
    /// # Errors
    /// A clause that says why they say nothing.
    pub fn parse(bytes: &[u8]) -> Result<StatusFile, String> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').trim_matches('\0').trim();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        StatusFile::from_json(&value).ok_or_else(|| "it is JSON, but no object with a status".to_owned())
    }

    fn from_json(value: &Value) -> Option<StatusFile> {
        let object = value.as_object()?;
        let details = object.get("details");
        let time = |value: Option<&Value>| value.and_then(Value::as_str).and_then(units::parse_time);
        let number = |value: Option<&Value>| match value {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let detail = |key: &str| details.and_then(|details| details.get(key));
        let count = |key: &str| number(detail(key)).filter(|count| *count >= 0.0).map(|count| count as u64);
        Some(StatusFile {
            status: object.get("status")?.as_str()?.trim().to_ascii_lowercase(),
            timestamp: time(object.get("timestamp")),
            pid: number(object.get("pid"))
                .filter(|pid| *pid >= 1.0 && *pid <= f64::from(i32::MAX))
                .map(|pid| pid as u32),
            interval: number(object.get("heartbeat_interval"))
                .filter(|interval| interval.is_finite() && *interval > 0.0),
            last_heartbeat: time(detail("last_heartbeat")),
            checks: count("checks_passed").zip(count("total_checks")),
            document: value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn read(text: &str) -> Result<StatusFile, Unreadable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        fs::write(&path, text).unwrap();
        StatusFile::read_once(&path)
    }

    #[test]
    fn the_shapes_seen_in_the_wild() {
        let full = read(
            r#"{"status": "running", "timestamp": "2026-02-02T23:17:23.994230", "pid": "76581",
                "heartbeat_interval": 3600,
                "details": {"last_heartbeat": "2026-02-02T23:17:21.526298", "checks_passed": 4, "total_checks": 4}}"#,
        )
        .unwrap();
        assert_eq!((full.pid, full.interval, full.checks), (Some(76581), Some(3600.0), Some((4, 4))));
        assert_eq!(full.sign_of_life(), full.timestamp);

        let bare =
            read(r#"{"status":"Stopped","timestamp":"2026-02-02T23:17:23+01:00","pid":null,"details":{}}"#)
                .unwrap();
        assert_eq!((bare.status.as_str(), bare.pid, bare.last_heartbeat), ("stopped", None, None));
        assert_eq!(read("\u{feff}{\"status\":\"running\",\"pid\":7}").unwrap().pid, Some(7));
        assert_eq!(
            read(r#"{"status":"running","pid":-1,"heartbeat_interval":"NaN"}"#).unwrap().interval,
            None
        );
    }

    #[test]
    fn what_is_no_status_file() {
        for text in ["", "  ", "\0\0", "{\"status\": \"run", "[]", "{}", "null", "{\"status\": 3}", "running"]
        {
            assert!(matches!(read(text), Err(Unreadable::Broken(_))), "{text:?}");
        }
        assert_eq!(StatusFile::read(Path::new("/nowhere/at/all")), Err(Unreadable::Missing));
        assert!(matches!(StatusFile::read_once(Path::new("/")), Err(Unreadable::Broken(_))));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = read(&text);
        }
    }
}
