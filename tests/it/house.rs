//! The rules of the house: a room imports only from the rows below it, never from a neighbour; files are
//! opened in one place.

use std::fs;
use std::path::{Path, PathBuf};

/// The rows, from the doors down. Rooms in one row do not know each other.
const ROWS: [&[&str]; 9] = [
    &["cli"],
    &["dashboard", "troubleshoot", "upgrade"],
    &["alert", "restore"],
    &["health"],
    &["backup", "logs"],
    &["service", "agent", "schedule", "log_files"],
    &["config"],
    &["base"],
    &[],
];

fn row(room: &str) -> Option<usize> {
    ROWS.iter().position(|rooms| rooms.contains(&room))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a line of code names: `crate::room::…` or `use crate::{a::x, b::y}`.
fn rooms_named(line: &str) -> Vec<String> {
    line.match_indices("crate::")
        .flat_map(|(at, word)| {
            let rest = &line[at + word.len()..];
            let list = match rest.strip_prefix('{') {
                Some(list) => list.split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            list.into_iter()
                .map(|path| path.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
                .collect::<Vec<String>>()
        })
        .collect()
}

#[test]
fn every_import_points_down() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(from) = row(&room) else { continue };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for target in rooms_named(line) {
                let Some(to) = row(&target) else { continue };
                arrows += 1;
                if target != room && to <= from {
                    wrong.push(format!("{}:{}: {room} imports from {target}", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(arrows > 50, "the rule looks at nothing: {arrows} imports found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_a_row() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(source).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(name == "lib.rs" || name == "bin" || row(&name).is_some(), "{name} is in no row");
    }
}

/// Calls that open, make, move or remove something by a path: it may lead elsewhere by then, and what is there
/// may block. `base::beneath` does it by descriptors.
const BY_PATH: [&str; 22] = [
    "fs::read(",
    "fs::read_to_string(",
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::remove_file(",
    "fs::remove_dir(",
    "fs::remove_dir_all(",
    "fs::create_dir(",
    "fs::create_dir_all(",
    "fs::hard_link(",
    "fs::set_permissions(",
    "unix::fs::symlink(",
    "File::open(",
    "File::create(",
    "File::create_new(",
    "File::options(",
    "OpenOptions::new(",
    "DirBuilder::new(",
    "NamedTempFile",
    ".tempfile_in(",
    "Connection::open",
];

/// Where they may stand, and why.
const MAY: [(&str, &str); 9] = [
    ("agent/memory.rs", "the demo agent's own database, by SQLite"),
    ("agent/observe.rs", "/proc"),
    ("base/durable.rs", "makes folders that the operator named, with what is missing above them"),
    ("base/hostile.rs", "SQLite opens by path; looked at before and after"),
    ("base/journal.rs", "a journal in memory"),
    ("base/owner.rs", "/etc/passwd"),
    ("base/process/linux.rs", "/proc"),
    ("logs/writers.rs", "/proc"),
    ("troubleshoot/parts.rs", "/etc/os-release"),
];

/// Rooms that still open by path.
const NOT_YET: [&str; 1] = ["backup/"];

#[test]
fn files_are_opened_in_one_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut wrong, mut found) = (Vec::new(), std::collections::BTreeSet::new());
    for file in files {
        let inside = file.strip_prefix(&source).unwrap().to_str().unwrap();
        if inside.starts_with("base/beneath/") || inside.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // What follows are its tests.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim().starts_with("//")) {
            let calls = |call: &&&str| {
                line.match_indices(**call)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            };
            let Some(call) = BY_PATH.iter().find(calls) else { continue };
            match MAY.iter().map(|(file, _)| *file).chain(NOT_YET).find(|may| inside.starts_with(may)) {
                Some(may) => _ = found.insert(may),
                None => wrong.push(format!("{inside}:{}: {call}…) and not base::beneath", number + 1)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for may in MAY.iter().map(|(file, _)| *file).chain(NOT_YET) {
        assert!(found.contains(may), "{may} has no such call any more: take it off the list");
    }
}

/// What serde does with a path fails where it is not UTF-8: paths in documents go by `base::name`.
#[test]
fn paths_in_documents_may_be_any_bytes() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut wrong, mut found) = (Vec::new(), 0);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (mut derives, mut document, mut attribute) = (false, false, "");
        for (number, line) in text.lines().map(str::trim).enumerate() {
            let is_field = line.ends_with(',') && (line.contains("PathBuf") || line.contains("Path,"));
            if line.starts_with("#[derive(") {
                derives = line.contains("Serialize");
            } else if line.starts_with("judged! {") {
                derives = true;
            } else if line.contains("struct ") || line.contains("enum ") {
                document = std::mem::take(&mut derives) && line.ends_with('{');
            } else if line.starts_with('}') || line.contains("fn ") {
                document = false;
            } else if document && is_field && line.contains(": ") {
                found += 1;
                let by_name = ["name::", "by_path", "skip"].iter().any(|way| attribute.contains(way));
                if !by_name {
                    wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
                }
            }
            attribute = if line.starts_with("#[serde(") { line } else { "" };
        }
    }
    assert!(found > 50, "the rule looks at nothing: {found} paths found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
