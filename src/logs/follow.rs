//! Follows logs as they grow, are cut, rotated, or give way to a new day's file.

use super::marks::{Level, marks};
use super::tail::{Line, Query};
use crate::base::{Home, lines, text};
use crate::config::Logs;
use crate::log_files::{Log, by_name};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How much of a line without end is held back, and how much is read at once.
const MOST: u64 = 1 << 20;

/// How many of the last bytes are remembered, to find the place again in a file that was cut.
const REMEMBERED: usize = 512;

/// Where we are in some logs.
#[derive(Debug)]
pub struct Follower {
    home: Home,
    rules: Logs,
    /// One name, or all of them.
    wanted: Option<String>,
    query: Query,
    places: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
    offset: u64,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
    last: Vec<u8>,
    entry: Entry,
}

/// What the last line with a time said: those without belong to it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    at: Option<DateTime<Utc>>,
    level: Option<Level>,
    /// Whether the level is its own, not a guess from lines that belong to it.
    sure: bool,
}

impl Follower {
    /// Follows one name, or all, from where the files end now. What comes was written since
    /// then, whatever time it bears.
    pub fn new(home: &Home, rules: &Logs, wanted: Option<&str>, query: &Query) -> Follower {
        let mut follower = Follower {
            home: home.clone(),
            rules: rules.clone(),
            wanted: wanted.map(str::to_owned),
            query: query.clone(),
            places: BTreeMap::new(),
        };
        for (name, path) in follower.now() {
            if let Some(place) = Place::open(&path, true) {
                follower.places.insert(name, place);
            }
        }
        follower
    }

    /// Where in a file what comes begins.
    pub fn start_in(&self, path: &Path) -> Option<u64> {
        self.places.values().find(|place| place.path == path).map(|place| place.offset)
    }

    /// The lines that came since the last call and that were asked for, in the order of time.
    pub fn poll(&mut self, now: DateTime<Utc>) -> Vec<Line> {
        let mut came = Vec::new();
        for (name, path) in self.now() {
            let mut bytes = Vec::new();
            let mut entry = Entry::default();
            if let Some(place) = self.places.get_mut(&name) {
                place.read(&mut bytes);
                entry = place.entry;
                if place.is_still(&path) {
                    self.say(&name, &bytes, now, &mut came);
                    continue;
                }
                // A new day's file, or a rotated one: what is left in the old one came first.
                bytes.append(&mut place.begun);
                if bytes.last().is_some_and(|&last| last != b'\n') {
                    bytes.push(b'\n');
                }
            }
            if let Some(mut place) = Place::open(&path, false) {
                place.entry = entry;
                place.read(&mut bytes);
                self.places.insert(name.clone(), place);
            }
            self.say(&name, &bytes, now, &mut came);
        }
        came.sort_by_key(|(key, _)| *key);
        came.into_iter().map(|(_, line)| line).collect()
    }

    fn say(&mut self, name: &str, bytes: &[u8], now: DateTime<Utc>, came: &mut Vec<(DateTime<Utc>, Line)>) {
        let Some(entry) = self.places.get_mut(name).map(|place| &mut place.entry) else { return };
        let mut key = DateTime::<Utc>::MIN_UTC;
        for line in lines::split(bytes) {
            entry.goes_on(&line, now);
            // Within a log lines stay in their order.
            key = key.max(entry.at.unwrap_or(now).min(now));
            if self.query.wants(&line, entry.level) {
                let text = text::sanitize(&line);
                came.push((key, Line { log: name.to_owned(), at: entry.at, level: entry.level, text }));
            }
        }
    }

    fn now(&self) -> Vec<(String, PathBuf)> {
        let wanted = |name: &String| self.wanted.as_ref().is_none_or(|wanted| wanted == name);
        by_name(&self.home, &self.rules)
            .into_iter()
            .filter(|(name, _)| wanted(name))
            .filter_map(|(name, mut logs)| Some((name, logs.pop().filter(Log::is_in_use)?.path)))
            .collect()
    }
}

impl Entry {
    /// Takes the next line: a new entry, or more of this one.
    fn goes_on(&mut self, line: &str, now: DateTime<Utc>) {
        let marks = marks(line);
        match marks.stamp.and_then(|stamp| stamp.resolve(now)) {
            Some(at) => *self = Entry { at: Some(at), level: marks.level, sure: marks.level.is_some() },
            // In a log without times a line that is not indented stands for itself.
            None if self.at.is_none() && !line.starts_with([' ', '\t']) => self.level = marks.level,
            None if !self.sure => self.level = self.level.max(marks.level),
            None => {}
        }
    }
}

impl Place {
    fn open(path: &Path, at_end: bool) -> Option<Place> {
        let file = lines::open(path).ok()?;
        let meta = file.metadata().ok()?;
        let mut place = Place {
            path: path.to_owned(),
            inode: (meta.dev(), meta.ino()),
            file,
            offset: 0,
            begun: Vec::new(),
            last: Vec::new(),
            entry: Entry::default(),
        };
        if at_end {
            place.offset = meta.len();
            place.last =
                lines::read(&place.file, place.offset.saturating_sub(REMEMBERED as u64), place.offset)
                    .unwrap_or_default();
        }
        Some(place)
    }

    fn is_still(&self, path: &Path) -> bool {
        path == self.path && path.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode)
    }

    /// Adds the whole lines that came.
    fn read(&mut self, came: &mut Vec<u8>) {
        let Ok(length) = self.file.metadata().map(|meta| meta.len()) else { return };
        if length < self.offset {
            self.offset = self.find_again(length);
            self.begun.clear();
        }
        while self.offset < length {
            let to = length.min(self.offset + MOST);
            let Ok(bytes) = lines::read(&self.file, self.offset, to) else { return };
            if bytes.is_empty() {
                return;
            }
            self.offset += bytes.len() as u64;
            self.last.extend_from_slice(&bytes);
            self.last.drain(..self.last.len().saturating_sub(REMEMBERED));
            self.begun.extend_from_slice(&bytes);
            let whole = match self.begun.iter().rposition(|&byte| byte == b'\n') {
                Some(end) => end + 1,
                None if self.begun.len() as u64 >= MOST => self.begun.len(),
                None => continue,
            };
            came.extend(self.begun.drain(..whole));
        }
    }

    /// Where to go on in a file that became shorter: after what was shown last, if that is
    /// still in it; else from its beginning.
    fn find_again(&self, length: u64) -> u64 {
        let from = length.saturating_sub(64 * MOST);
        let Ok(bytes) = lines::read(&self.file, from, length) else { return length };
        if self.last.is_empty() || bytes.len() < self.last.len() {
            return 0;
        }
        let found = bytes.windows(self.last.len()).rposition(|window| window == self.last);
        found.map_or(0, |at| from + (at + self.last.len()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    #[test]
    fn through_cuts_rotations_and_a_new_day() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        fs::create_dir_all(home.logs()).unwrap();
        let append = |name: &str, text: &str| {
            let mut file = OpenOptions::new().create(true).append(true).open(home.log(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        append("daemon_20261119", &"an old line\n".repeat(1000));
        append("other", "x\n");
        let mut follower = Follower::new(&home, &Logs::default(), Some("daemon"), &Query::default());
        assert!(follower.poll(Utc::now()).is_empty());
        append("daemon_20261119", "one\ntw");
        append("other", "not wanted\n");
        assert_eq!(texts(follower.poll(Utc::now())), ["one"]);
        append("daemon_20261119", "o\n");
        assert_eq!(texts(follower.poll(Utc::now())), ["two"]);
        // Cut in place to its end, then written on.
        let text = fs::read_to_string(home.log("daemon_20261119")).unwrap();
        fs::write(home.log("daemon_20261119"), &text[text.len() - 600..]).unwrap();
        append("daemon_20261119", "three\n");
        assert_eq!(texts(follower.poll(Utc::now())), ["three"], "nothing is shown twice");
        // Emptied by another rotation.
        fs::write(home.log("daemon_20261119"), "four\n").unwrap();
        assert_eq!(texts(follower.poll(Utc::now())), ["four"]);
        // Renamed away and begun anew.
        append("daemon_20261119", "last\x1b\n");
        fs::rename(home.log("daemon_20261119"), dir.path().join("away")).unwrap();
        append("daemon_20261119", "five\n");
        assert_eq!(texts(follower.poll(Utc::now())), ["last\\u{1b}", "five"]);
        // A new day.
        append("daemon_20261119", "no newline");
        append("daemon_20261120", "six\n");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        OpenOptions::new()
            .append(true)
            .open(home.log("daemon_20261120"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert_eq!(texts(follower.poll(Utc::now())), ["no newline", "six"]);
    }
}
