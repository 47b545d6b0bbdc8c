//! The archive for a bug report: what helps to understand, without what must not leave this machine.

use super::cause::Diagnosis;
use super::redact::Redactor;
use super::view::{Subject, View};
use crate::base::render::document;
use crate::base::secret::REDACTED;
use crate::base::status_file::StatusFile;
use crate::base::units::{self, Size};
use crate::base::{Fault, Journal, State, arguments, lines, process, text};
use crate::config::Loaded;
use crate::logs;
use crate::schedule;
use crate::service::Liveness;
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::types::ValueRef;
use serde::Serialize;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// So many lines of each log go in, and no more bytes of each.
const LINES: usize = 500;
const BYTES: u64 = 256 << 10;

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

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// The archive.
    pub file: PathBuf,
    /// What is in it.
    pub files: Vec<String>,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Writes the archive, readable by its owner alone. `report` is the diagnosis as people read it.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is such a file already.
pub fn write(subject: &Subject, diagnosis: &Diagnosis, report: &str, file: &Path) -> Result<Bundle> {
    // First, that nothing is gathered in vain, or written over.
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(|error| {
        let fault = Fault::unknown(format!("cannot make the bundle {}: {error}", file.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                fault.hint("nothing is overwritten: --bundle FILE names another")
            }
            _ => fault.hint("--bundle FILE puts it elsewhere"),
        }
    })?;
    let written = fill(&out, subject, diagnosis, report);
    match written {
        Ok(files) => {
            Ok(Bundle { file: file.to_owned(), files, bytes: out.metadata().map_or(0, |meta| meta.len()) })
        }
        Err(error) => {
            let _ = std::fs::remove_file(file);
            Err(error.context(format!("cannot write the bundle {}", file.display())))
        }
    }
}

fn fill(out: &File, subject: &Subject, diagnosis: &Diagnosis, report: &str) -> Result<Vec<String>> {
    let redactor = Redactor::of(subject, true);
    let mut parts = vec![
        ("report.txt".to_owned(), redactor.text(report)),
        ("report.json".to_owned(), pretty(redactor.json(serde_json::from_str(&document(diagnosis)?)?))?),
        ("system.txt".to_owned(), redactor.text(&system(subject))),
    ];
    let mut missing = Vec::new();
    let (view, _copies) = View::new(subject);
    if let Some((message, _)) = &view.broken {
        parts.push(("config-error.txt".to_owned(), redactor.text(message)));
    }
    let mut add = |name: &str, content: Result<String>| match content {
        Ok(content) => parts.push((name.to_owned(), content)),
        Err(error) => missing.push(format!("{name}: {}", redactor.text(&format!("{error:#}")))),
    };
    if let Some(loaded) = view.whole() {
        add("config.toml", config(loaded, &redactor));
        add(
            "detect.json",
            view.services(loaded).detect().and_then(|found| pretty(redactor.json(json!(found)))),
        );
        add("status.json", pretty(redactor.json(status(&view))));
        add(
            "crontab.txt",
            schedule::read().map(|crontab| redactor.text(&our_lines(&crontab, loaded.home.root()))),
        );
    }
    if let Some(journal) = view.journal() {
        add("journal.json", history(&journal).and_then(|history| pretty(redactor.json(history))));
    }
    if let Some(loaded) = view.at_home() {
        for (name, path) in chosen(loaded) {
            let text = lines::last_lines(&path, LINES, BYTES).map(|lines| {
                let lines: Vec<String> = lines.iter().map(|line| text::sanitize(line)).collect();
                redactor.text(&(lines.join("\n") + "\n"))
            });
            add(&format!("logs/{name}"), text.with_context(|| format!("cannot read {}", path.display())));
        }
    }
    // Once more, over all of it: names and what was put together.
    for (name, content) in &mut parts {
        (*name, *content) = (redactor.known(name), redactor.known(content));
    }
    parts.insert(0, ("MANIFEST.txt".to_owned(), manifest(subject, &parts, &missing, redactor.unknown)));
    archive(out, subject, &parts)?;
    Ok(parts.into_iter().map(|(name, _)| name).collect())
}

fn archive(out: &File, subject: &Subject, parts: &[(String, String)]) -> Result<()> {
    let folder = format!("agent-ops-bundle-{}", units::stamp(subject.run.now));
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        header.set_mtime(subject.run.now.timestamp().unsigned_abs());
        tar.append_data(&mut header, format!("{folder}/{name}"), content.as_bytes())?;
    }
    let mut out = tar.into_inner()?.finish()?;
    out.flush()?;
    out.sync_all()?;
    Ok(())
}

fn manifest(subject: &Subject, parts: &[(String, String)], missing: &[String], unknown: usize) -> String {
    let mut text = format!(
        "A bundle of `ops troubleshoot`, version {}, made {}.\nLook through it before you send it to somebody.\n\nWhat is in it, and how often something was left out of it:\n",
        env!("CARGO_PKG_VERSION"),
        units::rfc3339(subject.run.now)
    );
    for (name, content) in parts {
        let hidden = content.matches(REDACTED).count();
        text.push_str(&format!("  {:>9}  {hidden:>5}  {name}\n", Size(content.len() as u64).to_string()));
    }
    text.push_str(
        "\nLeft out, with [redacted] in its place: the secrets of the config and where they stand in logs; the values of\n\
         the env_file and of a service's environment; what follows the name of a password, token or key; Bearer and\n\
         Basic headers; users, passwords and queries in addresses; private keys; keys of well-known services; long\n\
         words of letters and digits. Of mail addresses only the part behind the @ is left; a user's home is ~.\n\
         Never in it: databases and memory of the agent, contents of alerts, lines of the crontab that are not ours.\n\
         Of each log the last 500 lines are in it, of compressed ones none.\n",
    );
    if unknown > 0 {
        text.push_str(&format!(
            "\n{} could not be fetched: where a log quotes one, only its look gives it away.\n",
            text::count(unknown, "secret")
        ));
    }
    if !missing.is_empty() {
        text.push_str(&format!("\nNot in it, because it could not be had:\n  {}\n", missing.join("\n  ")));
    }
    text
}

fn pretty(value: Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn system(subject: &Subject) -> String {
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
fn config(loaded: &Loaded, redactor: &Redactor) -> Result<String> {
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
                *value = redactor.text(&arguments::shown(&words, 1000)).into();
            }
            toml::Value::String(text) if arguments::names_secret(key) && !text.starts_with("file:") => {
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
fn status(view: &View) -> Value {
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
            "stopped_by_operator": stopped.map(units::rfc3339),
            "last_start": last.map(units::rfc3339),
            "status_file": file,
        })
    });
    json!({"schema": 1, "services": services.collect::<Vec<_>>()})
}

fn history(journal: &Journal) -> Result<Value> {
    let mut all = serde_json::Map::from_iter([("schema".to_owned(), json!(1))]);
    for (name, query) in QUERIES {
        let mut statement = journal.connection().prepare(query)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map([], |row| {
            let mut object = serde_json::Map::new();
            for (index, column) in columns.iter().enumerate() {
                object.insert(column.clone(), told(column, row.get_ref(index)?));
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
fn our_lines(crontab: &[u8], home: &Path) -> String {
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
fn chosen(loaded: &Loaded) -> Vec<(String, PathBuf)> {
    let home = &loaded.home;
    let mut found = logs::find(home, &loaded.config.logs).logs;
    found.retain(|log| {
        let inside = log.path.strip_prefix(home.root()).unwrap_or(&log.path);
        let memory =
            inside.iter().any(|part| part.to_string_lossy().to_ascii_lowercase().starts_with("memor"));
        let plain = log.path.extension().is_some_and(|extension| extension == "log");
        let database = crate::base::database::is_sqlite(&log.path).unwrap_or(true);
        plain && !memory && !database && !log.compressed
    });
    found.sort_by_key(|log| std::cmp::Reverse(log.modified));
    found.truncate(LOGS);
    let name = |path: &Path| home.show(path).trim_start_matches("logs/").replace(['/', '\\'], "_");
    found.into_iter().map(|log| (text::sanitize(&name(&log.path)), log.path)).collect()
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
