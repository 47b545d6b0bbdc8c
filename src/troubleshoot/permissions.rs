//! Whose files these are, and who can read the secrets among them. The classic: one run as root, and from
//! then on the agent cannot write its own database.

use super::cause::{Cause, Found, quoted};
use super::view::View;
use crate::base::{Home, State, database, text};
use crate::config::{Config, Kind};
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// So many files of ours are looked at.
const MOST: usize = 2000;

/// So many are named.
const NAMED: usize = 5;

/// One file: its name for people, its owner and mode.
#[derive(Clone, Debug)]
struct Owned {
    path: String,
    uid: u32,
    mode: u32,
}

struct Facts {
    owner: u32,
    /// Whom the agent runs as.
    users: BTreeSet<u32>,
    /// What holds secrets.
    secrets: Vec<Owned>,
    /// What we write: `.ops` and what is in it, our logs.
    ours: Vec<Owned>,
    /// What the agent writes: databases, pid and status files, logs.
    agents: Vec<Owned>,
    /// The mode of `.ops`.
    state: Option<u32>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.at_home() else { return Ok(Found::default()) };
    let (home, config) = (&loaded.home, &loaded.config);
    let owned = |path: &Path, meta: &Metadata| Owned {
        path: path.display().to_string(),
        uid: meta.uid(),
        mode: meta.mode(),
    };
    let look = |paths: &BTreeSet<PathBuf>| -> Vec<Owned> {
        paths.iter().filter_map(|path| Some(owned(path, &path.metadata().ok()?))).collect()
    };
    let ours = WalkDir::new(home.ops()).into_iter().flatten().take(MOST);
    let ours = ours.filter_map(|entry| Some(owned(entry.path(), &entry.metadata().ok()?)));
    let owner = home.root().metadata()?.uid();
    let facts = Facts {
        owner,
        users: view.users(owner),
        secrets: look(&secret_files(config)),
        ours: ours.collect(),
        agents: look(&agent_files(home, config)),
        state: home.ops().metadata().ok().map(|meta| meta.mode()),
    };
    Ok(judge(home, &facts).into())
}

/// The files that the config reads secrets from.
fn secret_files(config: &Config) -> BTreeSet<PathBuf> {
    fn walk(value: &Value, found: &mut BTreeSet<PathBuf>) {
        match value {
            Value::String(text) => found.extend(text.strip_prefix("file:").map(PathBuf::from)),
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(items) => items.values().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found: BTreeSet<PathBuf> =
        config.agent.env_file.iter().chain(&config.backup.identity).cloned().collect();
    // The shape in which secrets are shown tells where they are kept.
    if let Ok(channels) = serde_json::to_value((&config.alerts, &config.check, &config.backup.s3)) {
        walk(&channels, &mut found);
    }
    found
}

fn agent_files(home: &Home, config: &Config) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (name, service) in &config.service {
        found.extend(service.pid_file.iter().chain(&service.status_file).cloned());
        found.extend(["stdout", "stderr"].map(|stream| home.log(&format!("{name}_{stream}"))));
    }
    for path in databases(home, config) {
        found.extend(database::sidecars(&path));
        found.insert(path);
    }
    found
}

/// The files that the checks of kind `sqlite` look at.
pub(super) fn databases(home: &Home, config: &Config) -> BTreeSet<PathBuf> {
    let checks = config.check.values().filter(|check| check.common.enabled);
    let patterns = checks.flat_map(|check| match &check.kind {
        Kind::Sqlite(options) => options.paths.clone(),
        _ => Vec::new(),
    });
    let sidecar =
        |path: &PathBuf| ["-wal", "-shm", "-journal"].iter().any(|end| path.to_string_lossy().ends_with(end));
    patterns
        .flat_map(|pattern| {
            let root = glob::Pattern::escape(&home.root().to_string_lossy());
            let pattern = if pattern.starts_with('/') { pattern } else { format!("{root}/{pattern}") };
            glob::glob(&pattern).into_iter().flatten().flatten().collect::<Vec<_>>()
        })
        .filter(|path| !sidecar(path) && path.is_file())
        .collect()
}

fn judge(home: &Home, facts: &Facts) -> Vec<Cause> {
    let mut causes = Vec::new();
    let open: Vec<&Owned> = facts.secrets.iter().filter(|file| file.mode & 0o007 != 0).collect();
    if !open.is_empty() {
        let paths = open.iter().map(|file| quoted(&file.path)).collect::<Vec<_>>().join(" ");
        causes.push(
            Cause::new(
                "secrets_open",
                State::Warning,
                200,
                format!(
                    "{} with secrets can be read or written by everybody on this host",
                    text::count(open.len(), "file")
                ),
            )
            .seen_all(open.iter().map(|file| format!("{} has mode {:o}", file.path, file.mode & 0o777)))
            .run(format!("chmod 600 {paths}")),
        );
    }
    // Root may write whatever there is.
    let foreign = |file: &&Owned| {
        file.uid != facts.owner && !facts.users.contains(&file.uid) && !facts.users.contains(&0)
    };
    let name = |cause: Cause, files: &[&Owned]| {
        let named = files.iter().take(NAMED);
        let cause = cause.seen_all(named.map(|file| format!("{} belongs to user {}", file.path, file.uid)));
        match files.len().checked_sub(NAMED) {
            Some(more @ 1..) => cause.seen(format!("and {more} more")),
            _ => cause,
        }
    };
    // What is root's cannot be written by another; what is the owner's can by root.
    let agents: Vec<&Owned> = facts.agents.iter().filter(foreign).collect();
    if !agents.is_empty() {
        let cause = Cause::new(
            "agent_files_of_another",
            State::Critical,
            14,
            format!(
                "the agent's own files belong to another than user {}, whose home this is: it may not be able to write them",
                facts.owner
            ),
        );
        let paths = agents.iter().map(|file| quoted(&file.path)).collect::<Vec<_>>().join(" ");
        causes.push(name(cause, &agents).run(format!("sudo chown {} {paths}", facts.owner)).advise(
            "the agent, or a program that opened its database, was run as another user once, by sudo perhaps",
        ));
    }
    let ours: Vec<&Owned> = facts.ours.iter().filter(foreign).collect();
    if !ours.is_empty() {
        let cause = Cause::new(
            "state_of_another",
            State::Warning,
            90,
            "our own state in .ops belongs to another user: runs of the owner cannot write it",
        );
        causes.push(
            name(cause, &ours)
                .run(format!("sudo chown -R {} {}", facts.owner, quoted(&home.ops().display().to_string())))
                .advise("ops was run as another user once, by sudo perhaps"),
        );
    }
    if facts.state.is_some_and(|mode| mode & 0o077 != 0) {
        causes.push(
            Cause::new(
                "state_open",
                State::Warning,
                210,
                "our own state .ops is open to other users of this host",
            )
            .seen(format!("it has mode {:o}", facts.state.unwrap_or_default() & 0o777))
            .run(format!("chmod 700 {}", quoted(&home.ops().display().to_string()))),
        );
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_and_open_secrets_are_told() {
        let home = Home::new("/srv/bot".into());
        let file = |path: &str, uid, mode| Owned { path: path.to_owned(), uid, mode };
        let good = Facts {
            owner: 1000,
            users: BTreeSet::from([1000]),
            secrets: vec![file("/srv/bot/.env", 1000, 0o100_640)],
            ours: vec![file("/srv/bot/.ops/ops.db", 1000, 0o100_600)],
            agents: vec![file("/srv/bot/a.db", 1000, 0o100_644)],
            state: Some(0o40_700),
        };
        assert!(judge(&home, &good).is_empty());
        let bad = Facts {
            secrets: vec![file("/srv/bot/my .env", 1000, 0o100_644)],
            ours: (0..7).map(|n| file(&format!("/srv/bot/.ops/{n}"), 0, 0o100_600)).collect(),
            agents: vec![file("/srv/bot/a.db-wal", 0, 0o100_644)],
            state: Some(0o40_755),
            ..good
        };
        let causes = judge(&home, &bad);
        let ids: Vec<_> = causes.iter().map(|cause| cause.id).collect();
        assert_eq!(ids, ["secrets_open", "agent_files_of_another", "state_of_another", "state_open"]);
        assert_eq!(causes[0].remedy, ["chmod 600 '/srv/bot/my .env'"]);
        assert_eq!(causes[1].remedy, ["sudo chown 1000 /srv/bot/a.db-wal"]);
        assert_eq!(causes[2].evidence.last().map(String::as_str), Some("and 2 more"));
    }
}
