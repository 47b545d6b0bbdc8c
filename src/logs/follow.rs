//! Follows logs as they grow, are cut, rotated, or give way to a new day's file.

use super::marks::{Level, marks};
use super::place::Place;
use super::tail::{Line, Query, shown};
use super::wanted::Wanted;
use crate::base::{Home, lines, text};
use crate::config::Config;
use crate::log_files::Log;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So long a file is held open, after its last line, that is not the one to be written to now.
const LINGERS: Duration = Duration::from_secs(3600);

/// So many files are held open at most, save what is busy: a process may have few.
const OPEN: usize = 200;

/// Where we are in some logs.
#[derive(Debug)]
pub struct Follower {
    home: Home,
    config: Config,
    wanted: Wanted,
    query: Query,
    /// By device and inode: a file that is renamed stays the same.
    places: BTreeMap<(u64, u64), Place>,
    entries: BTreeMap<String, Entry>,
    /// The files that the last look found, and of each whether it is the one that its name means now.
    there: BTreeMap<(u64, u64), bool>,
    /// How many files were found.
    found: u64,
    /// What was said of already.
    failed: BTreeSet<PathBuf>,
}

/// What came.
#[derive(Debug, Default)]
pub struct News {
    /// The lines that were asked for, in the order of time.
    pub lines: Vec<Line>,
    /// The names of logs that were cut, so that it cannot be told whether all was read before.
    pub cut: BTreeSet<String>,
    /// Logs that cannot be followed, and why: each is told once.
    pub failed: Vec<(PathBuf, io::Error)>,
    /// Whether anything came, asked for or not.
    pub busy: bool,
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
    /// Follows logs from where the files end now. What comes was written since then, whatever time it bears.
    pub fn new(home: &Home, config: &Config, wanted: &Wanted, query: &Query) -> Follower {
        let mut follower = Follower {
            home: home.clone(),
            config: config.clone(),
            wanted: wanted.clone(),
            query: query.clone(),
            places: BTreeMap::new(),
            entries: BTreeMap::new(),
            there: BTreeMap::new(),
            found: 0,
            failed: BTreeSet::new(),
        };
        // What fails now fails at the first call as well.
        follower.look(true);
        follower
    }

    /// Where in a file what comes begins.
    pub fn start_in(&self, path: &Path) -> Option<u64> {
        self.places.values().find(|place| place.path == path).map(|place| place.offset)
    }

    /// What came since the last call, also to files that are new.
    pub fn poll(&mut self, now: DateTime<Utc>) -> News {
        let failed = self.look(false);
        let failed = failed.into_iter().filter(|(path, _)| self.failed.insert(path.clone())).collect();
        News { failed, ..self.poll_known(now) }
    }

    /// What came since the last call to the files that are known.
    pub fn poll_known(&mut self, now: DateTime<Utc>) -> News {
        let there = &self.there;
        let mut news = News::default();
        let mut came = Vec::new();
        // What is in the older files came first.
        let mut keys: Vec<_> = self.places.iter().map(|(key, place)| (place.number, *key)).collect();
        keys.sort_unstable();
        for (_, key) in keys {
            let Some(place) = self.places.get_mut(&key) else { continue };
            let mut lines = Vec::new();
            if place.read(&mut lines) {
                news.cut.insert(place.name.clone());
            }
            news.busy |= !lines.is_empty();
            if there.get(&key) != Some(&true) {
                // Another is written to now: nothing more will come to the end of its last line.
                lines.extend(place.rest());
            }
            let entry = self.entries.entry(place.name.clone()).or_default();
            // Within a log lines stay in their order.
            let mut earliest = DateTime::<Utc>::MIN_UTC;
            for line in lines {
                let line = lines::split(&line).pop().unwrap_or_default();
                entry.goes_on(&line, now);
                earliest = earliest.max(entry.at.unwrap_or(now).min(now));
                if self.query.wants(&line, entry.level) {
                    let text = text::sanitize(&shown(line, 0));
                    let log = place.name.clone();
                    came.push((earliest, Line { log, at: entry.at, level: entry.level, text }));
                }
            }
        }
        self.places.retain(|key, place| {
            let (listed, newest) = (there.contains_key(key), there.get(key) == Some(&true));
            if !newest && place.grew.elapsed() > LINGERS {
                place.close();
            }
            listed || place.file.is_some() && !place.is_gone()
        });
        self.close_idle();
        came.sort_by_key(|(key, _)| *key);
        news.lines = came.into_iter().map(|(_, line)| line).collect();
        news
    }

    /// Closes the files to which nothing came for longest, where there are too many.
    fn close_idle(&mut self) {
        let mut open: Vec<&mut Place> =
            self.places.values_mut().filter(|place| place.file.is_some()).collect();
        if open.len() > OPEN {
            open.sort_by_key(|place| place.grew);
            let more = open.len() - OPEN / 2;
            open.into_iter().take(more).for_each(Place::close);
        }
    }

    fn open(&self) -> usize {
        self.places.values().filter(|place| place.file.is_some()).count()
    }

    /// Finds the files that there are, and gives those that cannot be opened.
    fn look(&mut self, first: bool) -> Vec<(PathBuf, io::Error)> {
        let mut there = BTreeMap::new();
        let (mut failed, mut open) = (Vec::new(), self.open());
        for (name, logs) in self.wanted.logs(&self.home, &self.config) {
            let newest = logs.last().filter(|log| log.is_in_use()).map(|log| log.file);
            for log in logs.iter().filter(|log| !log.compressed) {
                let is_newest = newest == Some(log.file);
                there.insert(log.file, is_newest);
                match self.look_at(&name, log, first, is_newest) {
                    Ok(is_opened) => open += usize::from(is_opened),
                    Err(error) => failed.push((log.path.clone(), error)),
                }
                if open > OPEN {
                    self.close_idle();
                    open = self.open();
                }
            }
        }
        self.there = there;
        failed
    }

    fn look_at(&mut self, name: &str, log: &Log, first: bool, newest: bool) -> io::Result<bool> {
        let number = self.found;
        let place = self.places.entry(log.file).or_insert_with(|| {
            self.found += 1;
            // What is new and was rotated is the copy of one that we know.
            Place::new(name, log, number, !first && log.is_in_use())
        });
        let renamed = place.path != log.path;
        place.path.clone_from(&log.path);
        place.at = log.at.clone();
        if place.file.is_none() && (newest && !place.rests || place.modified != log.modified) {
            place.open(log.file, renamed && log.is_in_use())?;
            place.modified = log.modified;
            return Ok(place.file.is_some());
        }
        Ok(false)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    #[test]
    fn through_cuts_rotations_and_a_new_day() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let config = crate::config::bare(&home.path("ops.toml"), Some(dir.path())).config;
        fs::create_dir_all(home.logs()).unwrap();
        let append = |name: &str, text: &str| {
            let mut file = OpenOptions::new().create(true).append(true).open(home.log(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let texts = |news: News| news.lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        append("daemon_20261119", &"an old line\n".repeat(1000));
        append("other", "x\n");
        let mut follower =
            Follower::new(&home, &config, &Wanted::Name("daemon".to_owned()), &Query::default());
        assert!(follower.poll(Utc::now()).lines.is_empty());
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
        // A slow thread still has the old one.
        append("daemon_20261119", "late\n");
        append("daemon_20261120", "seven\n");
        assert_eq!(texts(follower.poll(Utc::now())), ["late", "seven"]);
        // Rotated as by logrotate, by renaming and by copying: nothing is shown again.
        fs::rename(home.log("daemon_20261120"), home.logs().join("daemon.log.1")).unwrap();
        append("daemon", "eight\n");
        assert_eq!(texts(follower.poll(Utc::now())), ["eight"]);
        append("daemon", "nine\n");
        fs::copy(home.log("daemon"), home.logs().join("daemon.log.2")).unwrap();
        assert_eq!(texts(follower.poll(Utc::now())), ["nine"]);
        // Emptied, and longer than before when it is looked at again: what was shown is not there any more.
        fs::write(home.log("daemon"), "ten\n".repeat(100)).unwrap();
        let news = follower.poll(Utc::now());
        assert_eq!(
            (news.lines.len(), news.cut.into_iter().collect::<Vec<_>>()),
            (100, vec!["daemon".to_owned()])
        );
        // A line of many megabytes is one line.
        append("daemon", &"x".repeat(5 << 20));
        append("daemon", "\neleven\n");
        let news = follower.poll(Utc::now());
        assert!(news.lines.len() == 2 && news.lines[0].text.len() < 40_000, "{}", news.lines.len());
        assert_eq!(news.lines[1].text, "eleven");
    }
}
