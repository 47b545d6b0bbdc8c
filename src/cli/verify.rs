//! `backup verify`: archives, read back to their last byte.

use super::Context;
use crate::backup::{self, Flaw, Look, NotJudged, Standing, catalog};
use crate::base::units::Size;
use crate::base::{Fault, Journal, State, text};
use crate::config::Loaded;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One that is whole.
#[derive(Serialize)]
struct Whole {
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    archive: PathBuf,
    /// False: it is encrypted, and only its hash was compared.
    opened: bool,
    origin: backup::Origin,
    files: usize,
    bytes: u64,
    databases: usize,
    notes: Vec<String>,
    /// What is wrong with it although it is, to the bit, what was made.
    flaws: Vec<Flaw>,
    /// Databases in it that could not be judged.
    unjudged: Vec<NotJudged>,
    /// Ok; Warning when it misses something, or could not be opened although there is an identity; Critical
    /// when a database in it is damaged.
    #[serde(skip)]
    state: State,
    /// The same for people.
    #[serde(skip)]
    line: String,
}

/// The answer about one.
#[derive(Serialize)]
struct One<'a> {
    #[serde(flatten)]
    whole: &'a Whole,
    /// What is wrong with archives that are newer than `latest`.
    newer: &'a [String],
}

/// Verifies one archive.
///
/// # Errors
/// What is wrong with it.
pub(super) fn one(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    which: &str,
) -> Result<State> {
    let archive = backup::find(loaded, journal, which)?;
    let whole = look(context, loaded, journal, &archive)?;
    let newer = match which {
        "latest" => catalog::status(loaded, journal)?.newer_flaws(),
        _ => Vec::new(),
    };
    if context.common.json {
        context.print_json(&One { whole: &whole, newer: &newer })?;
    } else {
        context.print(&whole.line)?;
    }
    newer.iter().for_each(|flaw| context.note(&format!("look at this: {}", text::one_line(flaw, 500))));
    Ok(if newer.is_empty() { whole.state } else { whole.state.worse(State::Warning) })
}

/// Verifies every archive there is, the newest first. One that is damaged does not keep the others from being
/// looked at.
pub(super) fn all(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    #[derive(Serialize)]
    struct Body {
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        dir: PathBuf,
        whole: Vec<Whole>,
        damaged: Vec<Damaged>,
    }
    #[derive(Serialize)]
    struct Damaged {
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        archive: PathBuf,
        error: String,
    }
    let dir = loaded.config.backup.dir.clone();
    let mut body = Body { dir, whole: Vec::new(), damaged: Vec::new() };
    let mut state = State::Ok;
    for archive in backup::list(loaded, journal)? {
        let path = body.dir.join(&archive.name);
        match look(context, loaded, journal, &path) {
            Ok(whole) => {
                state = state.worse(whole.state);
                if !context.common.json {
                    context.print(&whole.line)?;
                }
                body.whole.push(whole);
            }
            Err(error) => {
                state = state.worse(Fault::of(&error).0);
                let error = text::one_line(&format!("{error:#}"), 500);
                if !context.common.json {
                    context.print(&format!("{}: {error}", loaded.home.show(&path)))?;
                }
                body.damaged.push(Damaged { archive: path, error });
            }
        }
    }
    if context.common.json {
        context.print_json(&body)?;
    } else {
        let all = text::count(body.whole.len() + body.damaged.len(), "archive");
        let damaged = body.whole.iter().filter(|whole| whole.state == State::Critical).count();
        context.print(&format!("{all}, {} damaged", body.damaged.len() + damaged))?;
    }
    Ok(state)
}

fn look(context: &Context, loaded: &Loaded, journal: Option<&Journal>, archive: &Path) -> Result<Whole> {
    let look = backup::look_beside(loaded, archive);
    if let Some(journal) = journal {
        let manifest = match &look {
            Ok(Look::Opened(contents)) => contents.manifest.as_ref(),
            _ => None,
        };
        let damaged = look.as_ref().err().is_some_and(Fault::is_of_damage);
        if damaged || look.is_ok() {
            backup::record_look(loaded, journal, &context.run, archive, manifest, !damaged, false)?;
        }
    }
    let shown = loaded.home.show(archive);
    Ok(match look? {
        Look::Opened(contents) => {
            contents.unjudged.iter().for_each(|database| context.note(&format!("note: {database}")));
            for note in &contents.notes {
                context.note(&format!("note: {}", text::one_line(note, 500)));
            }
            Whole {
                archive: archive.to_owned(),
                opened: true,
                origin: contents.origin,
                files: contents.count(),
                bytes: contents.bytes(),
                databases: contents.sound_databases,
                state: state_of(&contents.flaws),
                line: format!("{shown} is whole: {}{}", contents.describe(), describe(&contents.flaws)),
                notes: contents.notes,
                flaws: contents.flaws,
                unjudged: contents.unjudged,
            }
        }
        Look::Closed { note, why } => {
            if let Some(why) = &why {
                context.note(&format!("look at this: {}", text::one_line(why, 500)));
            }
            let line = format!(
                "{shown} is to the bit what was made and verified ({}, {}); it was not opened{}",
                text::count(note.files, "file"),
                Size(note.content),
                if why.is_none() { ": there is no identity here" } else { "" }
            );
            let flaws = note.flaws();
            let state = if why.is_some() { State::Warning } else { State::Ok };
            Whole {
                state: state.worse(state_of(&flaws)),
                line: format!("{line}{}", describe(&flaws)),
                flaws,
                unjudged: Vec::new(),
                archive: archive.to_owned(),
                opened: false,
                origin: backup::Origin::Ours,
                files: note.files,
                bytes: note.content,
                databases: note.databases,
                notes: Vec::new(),
            }
        }
    })
}

/// The exit code of an archive with these flaws.
fn state_of(flaws: &[Flaw]) -> State {
    match Standing::of(flaws) {
        Standing::Good => State::Ok,
        Standing::Incomplete => State::Warning,
        Standing::Damaged | Standing::Unreadable => State::Critical,
    }
}

/// What is wrong with it, after what is right.
fn describe(flaws: &[Flaw]) -> String {
    let flaws = flaws.iter().take(5).map(|flaw| format!("; but {flaw}"));
    text::one_line(&flaws.collect::<String>(), 1000)
}
