//! `backup list`: the archives here, and with `--remote` those in the bucket.

use super::Context;
use super::table::{self, Column};
use crate::backup::remote;
use crate::backup::{self, Archive, Verdict, catalog};
use crate::base::units::{self, Size, Span};
use crate::base::{Journal, State, text};
use crate::config::Loaded;
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::path::PathBuf;

/// `backup list`.
pub(super) fn list(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    #[derive(Serialize)]
    struct Listing {
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        dir: PathBuf,
        archives: Vec<Line>,
    }
    #[derive(Serialize)]
    struct Line {
        #[serde(flatten)]
        archive: Archive,
        /// Whether it was in the bucket when that was last looked at; none: there is no bucket, or
        /// nobody looked yet.
        copied: Option<bool>,
        kept_because: Vec<String>,
        /// Whether it is the one that a restore takes.
        latest: bool,
    }
    let copies = remote::known(loaded, journal)?;
    let catalog = catalog::status(loaded, journal)?;
    let (latest, newer) = (catalog.latest().map(|latest| latest.name.clone()), catalog.newer_flaws());
    let pruning = backup::judge(loaded, journal, &context.run)?;
    let lines = catalog.archives.into_iter().map(|archive| Line {
        latest: latest.as_ref() == Some(&archive.name),
        copied: copies.as_ref().map(|copies| copies.get(&archive.name) == Some(&archive.bytes)),
        kept_because: reasons(&pruning.verdicts, archive.ours, &archive.name),
        archive,
    });
    let archives: Vec<Line> = lines.collect();
    let dir = loaded.config.backup.dir.clone();
    if context.common.json {
        context.print_json(&Listing { dir, archives })?;
        return Ok(State::Ok);
    }
    if archives.is_empty() {
        context.print(&format!("no archives in {}", dir.display()))?;
        return Ok(State::Ok);
    }
    // Nobody needs a column that says the same of all.
    let encrypted = archives.iter().any(|line| line.archive.encrypted);
    let mut columns = vec![
        Column::Words("archive"),
        Column::Numbers("age"),
        Column::Numbers("size"),
        Column::Numbers("files"),
        Column::Numbers("verified"),
        Column::Numbers("drilled"),
    ];
    columns.extend(encrypted.then_some(Column::Words("encrypted")));
    columns.extend(loaded.config.backup.s3.is_some().then_some(Column::Words("copy")));
    columns.push(Column::Words("kept because"));
    let ago = |at: DateTime<Utc>| format!("{} ago", whole(units::age(context.run.now, at)));
    let rows = archives.iter().map(|Line { archive, copied, kept_because, .. }| {
        let verified = match archive.verified_at {
            _ if !archive.verified => "no".to_owned(),
            Some(at) => ago(at),
            None => "yes".to_owned(),
        };
        let problem = archive.problem.iter().filter(|_| archive.flaws.is_empty()).cloned();
        let flaws =
            archive.flaws.iter().take(2).map(|flaw| format!("{}: {flaw}", archive.word().to_uppercase()));
        let unjudged = match archive.unjudged.len() {
            0 => None,
            number => Some(format!("{} not judged", text::count(number, "database"))),
        };
        let notes = flaws.chain(unjudged).chain(problem).map(|note| text::one_line(&note, 200));
        let because: Vec<String> = notes.chain([kept_because.join(", ")]).collect();
        let mut row = vec![
            archive.name.clone(),
            units::age(context.run.now, archive.time).to_string(),
            Size(archive.bytes).to_string(),
            archive.files.map_or("?".to_owned(), |files| files.to_string()),
            verified,
            archive.drilled.map_or("-".to_owned(), ago),
        ];
        row.extend(encrypted.then(|| yes_or_no(archive.encrypted)));
        if loaded.config.backup.s3.is_some() {
            row.push(copied.map_or("?".to_owned(), yes_or_no));
        }
        row.push(because.join("; "));
        row
    });
    context.print(&table::lines(&columns, &rows.collect::<Vec<_>>()).join("\n"))?;
    newer.iter().for_each(|flaw| context.note(&format!("look at this: {}", text::one_line(flaw, 500))));
    Ok(State::Ok)
}

/// `backup list --remote`.
pub(super) fn list_remote(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<State> {
    let remote = remote::list(loaded, &context.run, journal)?;
    if context.common.json {
        context.print_json(&remote)?;
        return Ok(State::Ok);
    }
    if remote.archives.is_empty() {
        context.print(&format!("no archives in {}", remote.remote))?;
        return Ok(State::Ok);
    }
    let columns = [
        Column::Words("archive"),
        Column::Numbers("age"),
        Column::Numbers("size"),
        Column::Words("whole"),
        Column::Words("origin"),
        Column::Words("kept because"),
    ];
    let rows = remote.archives.iter().map(|copy| {
        vec![
            copy.name.clone(),
            units::age(context.run.now, copy.time).to_string(),
            Size(copy.bytes).to_string(),
            yes_or_no(copy.whole()),
            copy.origin.describe().to_owned(),
            reasons(&remote.verdicts, copy.ours, &copy.name).join(", "),
        ]
    });
    let mut lines = table::lines(&columns, &rows.collect::<Vec<_>>());
    lines.push(format!("in {}", remote.remote));
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// Why an archive stays.
fn reasons(verdicts: &[Verdict], ours: bool, name: &str) -> Vec<String> {
    match verdicts.iter().find(|verdict| ours && verdict.name == name) {
        Some(verdict) if verdict.keep => verdict.reasons.clone(),
        Some(_) => vec!["goes with the next backup".to_owned()],
        None => vec!["not ours: never pruned".to_owned()],
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// The largest unit alone: `3d`, for a narrow column.
fn whole(age: Span) -> String {
    age.to_string().split(' ').next().unwrap_or_default().to_owned()
}
