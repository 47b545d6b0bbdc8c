//! What of the machine and the agent goes into a bundle, each as a text or a document.

use super::redact::Redactor;
use super::view::{Subject, View};
use crate::base::secret::REDACTED;
use crate::base::status_file::StatusFile;
use crate::base::units::{self, Size};
use crate::base::{Journal, State, arguments, database, process, text};
use crate::config::Loaded;
use crate::logs::{self, Log};
use crate::service::Liveness;
use anyhow::{Context, Result};
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;

/// So many logs go in, those written last.
const LOGS: usize = 40;

/// What of the journal goes in: no contents of messages, and nothing that a check remembers.
const QUERIES: [(&str, &str); 6] = [
    (
        "incidents",
        "SELECT check_name, type, severity, opened_at, seen_at, closed_at, summary FROM incidents ORDER BY id DESC LIMIT 100",
    ),
    (
        "deliveries",
        "SELECT type, kind, messages.at, settled, channel, attempts, outcome, error FROM messages LEFT JOIN deliveries ON message = id ORDER BY id DESC LIMIT 100",
    ),
    ("jobs", "SELECT name, run, at, state FROM jobs"),
    ("restarts", "SELECT at, service, cause, pid, good FROM restarts ORDER BY id DESC LIMIT 100"),
    (
        "backups",
        "SELECT name, at, bytes, files, state, verified_at, drilled_at FROM backups ORDER BY at DESC LIMIT 100",
    ),
    ("actions", "SELECT run, at, program, what, state FROM actions ORDER BY id DESC LIMIT 100"),
];

pub(super) fn system(subject: &Subject) -> String {
    let uname = rustix::system::uname();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "-".to_owned());
    let memory =
        process::memory().map_or("?".to_owned(), |(all, free)| format!("{} of {}", Size(free), Size(all)));
    let home = subject.agent.as_ref().map(|loaded| loaded.home.root().to_owned());
    let disk = home.and_then(|home| rustix::fs::statvfs(home).ok()).map_or("?".to_owned(), |disk| {
        format!("{} of {}", Size(disk.f_bavail * disk.f_frsize), Size(disk.f_blocks * disk.f_frsize))
    });
    let program = std::env::current_exe().unwrap_or_default();
    [
        ("agent-ops", env!("CARGO_PKG_VERSION").to_owned()),
        ("program", program.display().to_string()),
        ("time", units::rfc3339(subject.run.now)),
        (
            "system",
            format!(
                "{} {} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy(),
                uname.machine().to_string_lossy()
            ),
        ),
        ("release", release.trim_matches('"').to_owned()),
        (
            "processors",
            std::thread::available_parallelism().map_or("?".to_owned(), |count| count.to_string()),
        ),
        ("memory free", memory),
        ("disk free", disk),
        ("user", rustix::process::geteuid().as_raw().to_string()),
        ("PATH", variable("PATH")),
        ("TZ", variable("TZ")),
        ("LANG", variable("LANG")),
    ]
    .map(|(name, value)| format!("{name:<12} {value}\n"))
    .concat()
}

/// As `ops config show`, with less: of the environment of services the names are left, and of command
/// lines what is no secret.
pub(super) fn config(loaded: &Loaded, redactor: &Redactor) -> Result<String> {
    let mut table = toml::Table::try_from(&loaded.config).context("cannot print the config")?;
    hide(&mut table, redactor);
    Ok(format!(
        "# {}\n{}",
        redactor.text(&loaded.config.file.display().to_string()),
        toml::to_string(&table)?
    ))
}

fn hide(table: &mut toml::Table, redactor: &Redactor) {
    for (key, value) in table.iter_mut() {
        match value {
            toml::Value::Table(inner) if ["env", "headers", "labels"].contains(&key.as_str()) => {
                inner.iter_mut().for_each(|(_, value)| *value = REDACTED.into());
            }
            toml::Value::Array(words) if ["command", "run"].contains(&key.as_str()) => {
                let words: Vec<OsString> =
                    words.iter().filter_map(|word| Some(word.as_str()?.into())).collect();
                *value = redactor.command(&arguments::shown(&words, 1000)).into();
            }
            toml::Value::String(text) if arguments::names_secret(key) && !text.starts_with("file:") => {
                *value = REDACTED.into();
            }
            // Who is told, and as whom.
            toml::Value::String(_) if ["chat", "user"].contains(&key.as_str()) => {
                *value = REDACTED.into();
            }
            value => hide_value(value, redactor),
        }
    }
}

fn hide_value(value: &mut toml::Value, redactor: &Redactor) {
    match value {
        toml::Value::String(text) => *text = redactor.text(text),
        toml::Value::Array(items) => items.iter_mut().for_each(|item| hide_value(item, redactor)),
        toml::Value::Table(inner) => hide(inner, redactor),
        _ => {}
    }
}

/// How each service is, and the part of its status file that is the same for all agents.
pub(super) fn status(view: &View) -> Value {
    let services = view.each().map(|(loaded, name, service, status)| {
        let how = match status {
            Err(why) => format!("could not tell: {why}"),
            Ok(status) => match &status.liveness {
                Liveness::Running(process) => {
                    format!("runs as {} since {}", process.identity.pid, units::rfc3339(process.started))
                }
                Liveness::Dead(why) => format!("does not run: {why}"),
                Liveness::Stranger { pid, command, .. } => {
                    format!("does not run: its pid file names {pid}, '{command}'")
                }
            },
        };
        let file = service.status_file.as_deref().map(StatusFile::read);
        let file = file.map(|file| match file {
            Ok(file) => json!({
                "status": file.status,
                "pid": file.pid,
                "interval": file.interval,
                "timestamp": file.timestamp.map(units::rfc3339),
                "last_heartbeat": file.last_heartbeat.map(units::rfc3339),
                "checks": file.checks,
            }),
            Err(why) => json!(format!("{why:?}")),
        });
        let stopped = status.as_ref().ok().and_then(|status| status.stopped_by_operator);
        let last = view.services(loaded).last_start(name).and_then(|(_, at)| at);
        json!({
            "service": name,
            "how": how,
            "stopped_by_operator": stopped.map(|stopped| stopped.told(view.run.now)),
            "last_start": last.map(units::rfc3339),
            "status_file": file,
        })
    });
    json!({"schema": 1, "services": services.collect::<Vec<_>>()})
}

/// Without `quotes`: of incidents no summary, unless `has_none` says of their check that it quotes nobody, and
/// of actions not what they said, which may be the agent's last words.
pub(super) fn history(journal: &Journal, quotes: bool, has_none: impl Fn(&str) -> bool) -> Result<Value> {
    let mut all = serde_json::Map::from_iter([("schema".to_owned(), json!(1))]);
    for (name, query) in QUERIES {
        let mut statement = journal.connection().prepare(query)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map([], |row| {
            let mut object = serde_json::Map::new();
            for (index, column) in columns.iter().enumerate() {
                object.insert(column.clone(), told(column, row.get_ref(index)?));
            }
            if !quotes {
                if let Some(said) = object.get_mut("what") {
                    *said = Value::Null;
                }
                let none = object.get("check_name").and_then(Value::as_str).is_some_and(&has_none);
                if let Some(summary) = object.get_mut("summary").filter(|_| !none) {
                    *summary = Value::Null;
                }
            }
            Ok(Value::Object(object))
        })?;
        all.insert(name.to_owned(), Value::Array(rows.collect::<rusqlite::Result<_>>()?));
    }
    Ok(Value::Object(all))
}

/// Times and states as people read them.
fn told(column: &str, value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) if column == "at" || column.ends_with("_at") => {
            json!(chrono::DateTime::from_timestamp_millis(number).map(units::rfc3339))
        }
        ValueRef::Integer(number) if ["state", "severity"].contains(&column) => {
            json!(State::from_code(number))
        }
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(text::sanitize(&String::from_utf8_lossy(text))),
        ValueRef::Null | ValueRef::Blob(_) => Value::Null,
    }
}

/// The block of this home, and of it alone.
pub(super) fn our_lines(crontab: &[u8], home: &Path) -> String {
    let crontab = String::from_utf8_lossy(crontab).into_owned();
    let home = home.display().to_string();
    let mut inside = false;
    let mut ours = String::new();
    for line in crontab.lines() {
        let of_home = |mark: &str| line.trim_end().ends_with(&format!(" {home} {mark}"));
        inside |= line.starts_with("# >>> agent-ops ") && of_home(">>>");
        if inside {
            ours.push_str(&text::sanitize(line));
            ours.push('\n');
        }
        inside &= !(line.starts_with("# <<< agent-ops ") && of_home("<<<"));
    }
    if ours.is_empty() { "(the crontab has no line of this agent)\n".to_owned() } else { ours }
}

/// The logs: plain ones that are called so. What lies in a folder of memory, or is a database by
/// another name, is none.
pub(super) fn chosen(loaded: &Loaded) -> Vec<(String, Log)> {
    let home = &loaded.home;
    let mut found = logs::find(home, &loaded.config.logs).logs;
    found.retain(|log| {
        let inside = log.path.strip_prefix(home.root()).unwrap_or(&log.path);
        let memory =
            inside.iter().any(|part| part.to_string_lossy().to_ascii_lowercase().starts_with("memor"));
        let plain = log.path.extension().is_some_and(|extension| extension == "log");
        let is_database = log.at.open().and_then(|file| database::is_sqlite_file(&file)).unwrap_or(true);
        plain && !memory && !is_database && !log.compressed
    });
    found.sort_by_key(|log| std::cmp::Reverse(log.modified));
    found.truncate(LOGS);
    let name = |path: &Path| home.show(path).trim_start_matches("logs/").replace(['/', '\\'], "_");
    found.into_iter().map(|log| (text::sanitize(&name(&log.path)), log)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_crontab_only_our_block() {
        let crontab = b"MAILTO=x\n# >>> agent-ops a /h >>>\n1\n# <<< agent-ops a /h <<<\nPASSWORD=x\n\
            # >>> agent-ops b /other >>>\n2\n# <<< agent-ops b /other <<<\n";
        assert_eq!(
            our_lines(crontab, Path::new("/h")),
            "# >>> agent-ops a /h >>>\n1\n# <<< agent-ops a /h <<<\n"
        );
        assert!(our_lines(crontab, Path::new("/none")).starts_with("(the crontab"));
    }
}
