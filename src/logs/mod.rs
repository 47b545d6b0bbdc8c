//! The logs: which there are, their last lines, following them, and keeping them bounded.

mod compress;
mod cut;
mod find;
mod follow;
mod plan;
mod rotate;
mod writers;

pub use find::{Found, Log, find, named};
pub use follow::{Follower, Line};
pub use plan::Action;
pub use rotate::{Done, Outcome, Rotation, rotate};

use crate::base::{lines, text};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The most that is read of a log to show its tail.
const MOST_SHOWN: u64 = 16 << 20;

/// The longest piece of one line that is shown.
const LONGEST: u64 = 64 << 10;

/// The last `n` lines of a log, safe to print; of those that hold `word`, if one is given
/// (whatever its case).
///
/// Without a word only the end of the file is read.
pub fn tail(path: &Path, n: usize, word: Option<&str>) -> Result<Vec<String>> {
    let read = || match word {
        None => lines::last_lines(path, n, MOST_SHOWN),
        Some(word) => matching(path, n, word),
    };
    let lines = read().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(lines.iter().map(|line| text::sanitize(line)).collect())
}

/// Whether a line holds a word, whatever its case.
pub fn holds(line: &str, word: &str) -> bool {
    line.to_lowercase().contains(&word.to_lowercase())
}

fn matching(path: &Path, n: usize, word: &str) -> std::io::Result<Vec<String>> {
    let mut reader = BufReader::with_capacity(1 << 16, lines::open(path)?);
    let mut last = VecDeque::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // A line longer than that is looked at in pieces.
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(last.into());
        }
        for line in lines::split(&bytes).into_iter().filter(|line| holds(line, word)) {
            last.push_back(line);
            if last.len() > n {
                last.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_matches_of_a_hostile_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"ERROR one\nfine\n\x1b[2JError two\r\nerr\xffor\nerror three").unwrap();
        let found = super::tail(file.path(), 2, Some("eRRoR")).unwrap();
        assert_eq!(found, ["\\u{1b}[2JError two", "error three"]);
        assert_eq!(super::tail(file.path(), 1, None).unwrap(), ["error three"]);
        assert!(super::tail(file.path().parent().unwrap(), 1, Some("x")).is_err());
    }
}
