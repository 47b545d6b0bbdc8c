//! The rule of direction: a room imports only from the rows below it, never from a neighbour.

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
