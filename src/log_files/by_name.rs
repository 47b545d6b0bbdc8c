//! Which log a name on the command line means.

use super::find::{find, search};
use super::log::Log;
use super::names::{family, is_number, rotated_forms};
use crate::base::{Home, text};
use crate::config::Logs;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name by which a log is asked for: its file name without ending and day, or, for one in
/// a folder below the others, the folder's.
fn name_of(home: &Home, log: &Log) -> String {
    let folder = log.path.parent().unwrap_or(Path::new(""));
    if folder != home.logs() && folder.parent() == Some(&home.logs()) {
        return text::name(folder.file_name().unwrap_or_default());
    }
    let file = text::name(OsStr::from_bytes(&family(log.name())));
    let stem = file.split_once(".log").map_or(&*file, |(stem, _)| stem);
    // `daemon.1.log.gz`: its place was taken when it was compressed.
    let numbered = stem.rsplit_once('.').filter(|(_, number)| log.compressed && is_number(number.as_bytes()));
    numbered.map_or(stem, |(stem, _)| stem).to_owned()
}

/// The logs of each name, also those of the past that were compressed or numbered; the one
/// that the name means now comes last: of those in use the one written last.
pub fn by_name(home: &Home, rules: &Logs) -> BTreeMap<String, Vec<Log>> {
    let usual = ["logs/**/*.log", "logs/**/*.log.gz"];
    let include = rules.include.iter().flat_map(|glob| [vec![glob.clone()], rotated_forms(glob)].concat());
    let globs = include.chain(usual.map(str::to_owned)).map(|glob| (None, glob));
    let all = Logs { exclude: Vec::new(), ..rules.clone() };
    let mut names: BTreeMap<String, Vec<Log>> = BTreeMap::new();
    for log in search(home, globs, &all, true).logs {
        names.entry(name_of(home, &log)).or_default().push(log);
    }
    names.values_mut().for_each(|logs| in_order(logs));
    names
}

/// The logs that only rules of the config name, by their file names, as [`by_name`] gives the others. What went to the
/// archive is among them.
pub fn by_rule(home: &Home, rules: &Logs) -> BTreeMap<String, Vec<Log>> {
    let others: BTreeSet<PathBuf> =
        by_name(home, rules).into_values().flatten().map(|log| log.path).collect();
    let found = find(home, &Logs { exclude: Vec::new(), ..rules.clone() });
    let only = found
        .logs
        .into_iter()
        .chain(found.archived)
        .filter(|log| log.rule.is_some() && !others.contains(&log.path));
    let mut names: BTreeMap<String, Vec<Log>> = BTreeMap::new();
    for log in only {
        names.entry(text::name(OsStr::from_bytes(&family(log.name())))).or_default().push(log);
    }
    names.values_mut().for_each(|logs| in_order(logs));
    names
}

fn in_order(logs: &mut [Log]) {
    logs.sort_by(|a, b| (a.is_in_use(), a.modified, &a.path).cmp(&(b.is_in_use(), b.modified, &b.path)));
}
