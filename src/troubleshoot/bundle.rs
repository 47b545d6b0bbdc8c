//! The archive for a bug report: what helps to understand, without what must not leave this machine.

use super::cause::Diagnosis;
use super::digest;
use super::parts;
use super::redact::Redactor;
use super::view::{Subject, View};
use crate::base::beneath::{Dir, Options};
use crate::base::render::document;
use crate::base::secret::REDACTED;
use crate::base::units::{self, Size};
use crate::base::{Fault, durable, lines, privilege, text};
use crate::schedule;
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// So many lines of each log go in, and no more bytes of each.
const LINES: usize = 500;
const BYTES: u64 = 256 << 10;

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// The archive.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub file: PathBuf,
    /// What is in it.
    pub files: Vec<String>,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Writes the archive, readable by its owner alone. `render` gives the diagnosis as people read it. What the
/// agent wrote is in it only with `quotes`.
///
/// # Errors
/// A [`Fault`] of state Unknown when there is such a file already.
pub fn write(
    subject: &Subject,
    diagnosis: &Diagnosis,
    render: impl Fn(&Diagnosis) -> String,
    file: &Path,
    quotes: bool,
) -> Result<Bundle> {
    // First, that nothing is gathered in vain, or written over.
    let out = Dir::open(durable::parent(file)).and_then(|folder| {
        folder.open_with(file.file_name().unwrap_or_default(), &Options::new().write().create_new(0o600))
    });
    let out = out.map_err(|error| {
        let fault = Fault::unknown(format!("cannot make the bundle {}: {error}", file.display()));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied if let Some(acting) = privilege::acting() => {
                let message = format!("cannot make the bundle {}: {error} ({acting})", file.display());
                Fault::unknown(message).hint("--bundle FILE puts it where that user may write")
            }
            std::io::ErrorKind::AlreadyExists => {
                fault.hint("nothing is overwritten: --bundle FILE names another")
            }
            _ => fault.hint("--bundle FILE puts it elsewhere"),
        }
    })?;
    let written = match quotes {
        true => fill(&out, subject, diagnosis, &render(diagnosis), true),
        false => {
            let diagnosis = diagnosis.without_quotes();
            fill(&out, subject, &diagnosis, &render(&diagnosis), false)
        }
    };
    match written {
        Ok(files) => {
            Ok(Bundle { file: file.to_owned(), files, bytes: out.metadata().map_or(0, |meta| meta.len()) })
        }
        Err(error) => {
            let _ = durable::remove(file);
            Err(error.context(format!("cannot write the bundle {}", file.display())))
        }
    }
}

fn fill(
    out: &File,
    subject: &Subject,
    diagnosis: &Diagnosis,
    report: &str,
    quotes: bool,
) -> Result<Vec<String>> {
    let redactor = Redactor::of(subject, true);
    let mut parts = vec![
        ("report.txt".to_owned(), redactor.text(report)),
        ("report.json".to_owned(), pretty(redactor.json(serde_json::from_str(&document(diagnosis)?)?))?),
        ("system.txt".to_owned(), redactor.text(&parts::system(subject))),
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
        add("config.toml", parts::config(loaded, &redactor));
        add(
            "detect.json",
            view.services(loaded).detect().and_then(|found| pretty(redactor.json(json!(found)))),
        );
        add("status.json", pretty(redactor.json(parts::status(&view))));
        add(
            "crontab.txt",
            schedule::read().map(|crontab| redactor.text(&parts::our_lines(&crontab, loaded.home.root()))),
        );
    }
    if let Some(journal) = view.journal() {
        let checks = view.agent.as_ref().map(|loaded| &loaded.config.check);
        let kind = |check: &str| checks.and_then(|checks| checks.get(check)).map(|check| check.kind.name());
        let has_none = |check: &str| kind(check).is_some_and(digest::kind_quotes_nobody);
        add(
            "journal.json",
            parts::history(&journal, quotes, has_none).and_then(|history| pretty(redactor.json(history))),
        );
    }
    if let Some(loaded) = view.at_home() {
        for (name, log) in parts::chosen(loaded) {
            if !quotes {
                add(&format!("logs/{name}.digest"), digest::of(&log, LINES, view.run.now));
                continue;
            }
            let text =
                log.at.open().and_then(|file| lines::last_lines_of(&file, LINES, BYTES)).map(|lines| {
                    let lines: Vec<String> = lines.iter().map(|line| text::sanitize(line)).collect();
                    redactor.text(&(lines.join("\n") + "\n"))
                });
            add(&format!("logs/{name}"), text.with_context(|| format!("cannot read {}", log.path.display())));
        }
    }
    // Once more, over all of it: names and what was put together.
    for (name, content) in &mut parts {
        (*name, *content) = (redactor.known(name), redactor.known(content));
    }
    parts.insert(
        0,
        ("MANIFEST.txt".to_owned(), manifest(subject, &parts, &missing, redactor.unknown, quotes)),
    );
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

fn manifest(
    subject: &Subject,
    parts: &[(String, String)],
    missing: &[String],
    unknown: usize,
    quotes: bool,
) -> String {
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
        "\nLeft out, with [redacted] in its place: the secrets of the config and where they stand elsewhere; the values of\n\
         the env_file and of a service's environment, and those of -p, -P and -a in its command, from 4 characters on;\n\
         what follows the name of a password, token or key; Bearer and Basic headers; users, passwords and queries in\n\
         addresses; private keys; keys of well-known services; long words of letters and digits; who is told by alerts;\n\
         numbers of telephones and cards. Of mail addresses only the part behind the @ is left; a user's home is ~.\n\
         Never in it: databases and memory of the agent, lines of the crontab that are not ours.\n",
    );
    text.push_str(match quotes {
        false => {
            "Nor is what the agent wrote, or what was sent to people: of its logs, and of ours, which may quote it, only\n\
             when each of the last 500 lines was written, how bad and how long it is. What checks found in its logs, files\n\
             and answers, what starts, upgrades and other actions said, and its last words, are left out as well.\n\
             --with-logs puts all of that in.\n"
        }
        true => {
            "Made with --with-logs: the last 500 lines of each log are in it as they are, with whatever the agent wrote:\n\
             names, and texts of messages. Only what is listed above was left out of them.\n"
        }
    });
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
    Ok(text::harmless_json(serde_json::to_string_pretty(&value)?) + "\n")
}
