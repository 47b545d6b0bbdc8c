//! `backup verify`: archives, read back to their last byte.

use super::Context;
use crate::backup::{self, Look};
use crate::base::units::Size;
use crate::base::{Fault, Journal, State, text};
use crate::config::Loaded;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One that is whole.
#[derive(Serialize)]
struct Whole {
    archive: PathBuf,
    /// False: it is encrypted, and only its hash was compared.
    opened: bool,
    origin: backup::Origin,
    files: usize,
    bytes: u64,
    databases: usize,
    notes: Vec<String>,
    /// Ok, or Warning when it could not be opened although there is an identity.
    #[serde(skip)]
    state: State,
    /// The same for people.
    #[serde(skip)]
    line: String,
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
    if context.common.json {
        context.print_json(&whole)?;
    } else {
        context.print(&whole.line)?;
    }
    Ok(whole.state)
}

/// Verifies every archive there is, the newest first. One that is damaged does not keep the others from being
/// looked at.
pub(super) fn all(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    #[derive(Serialize)]
    struct Body {
        dir: PathBuf,
        whole: Vec<Whole>,
        damaged: Vec<Damaged>,
    }
    #[derive(Serialize)]
    struct Damaged {
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
        let damaged = body.damaged.len();
        context
            .print(&format!("{}, {damaged} damaged", text::count(body.whole.len() + damaged, "archive")))?;
    }
    Ok(state)
}

fn look(context: &Context, loaded: &Loaded, journal: Option<&Journal>, archive: &Path) -> Result<Whole> {
    // Databases are unpacked beside the archives if that is allowed, else where we may write.
    let dir = &loaded.config.backup.dir;
    let beside = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
    let scratch = if beside { dir.clone() } else { std::env::temp_dir() };
    let look = backup::look(&loaded.config.backup, archive, &scratch);
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
                state: State::Ok,
                line: format!("{shown} is whole: {}", contents.describe()),
                notes: contents.notes,
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
            Whole {
                archive: archive.to_owned(),
                opened: false,
                origin: backup::Origin::Ours,
                files: note.files,
                bytes: note.content,
                databases: note.databases,
                notes: Vec::new(),
                state: if why.is_some() { State::Warning } else { State::Ok },
                line,
            }
        }
    })
}
