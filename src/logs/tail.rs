//! The last lines of logs that fit what is asked for, read from their ends.

use super::marks::{Level, Stamp, marks};
use super::members;
use crate::base::units::Size;
use crate::base::{lines, text};
use crate::log_files::Log;
use chrono::{DateTime, SecondsFormat, Utc};
use flate2::bufread::MultiGzDecoder;
use regex_lite::Regex;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// At most so many lines, the last ones.
    pub lines: usize,
    /// Only what was written since.
    pub since: Option<DateTime<Utc>>,
    /// Only what is so bad or worse, with the lines that belong to it.
    pub level: Option<Level>,
    /// Only lines in which it is found.
    pub grep: Option<Regex>,
}

impl Query {
    pub(super) fn wants(&self, line: &str, level: Option<Level>) -> bool {
        self.level.is_none_or(|wanted| level.is_some_and(|level| level >= wanted))
            && self.grep.as_ref().is_none_or(|pattern| pattern.is_match(line))
    }
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The log's name.
    pub log: String,
    /// When it was written, as far as it, or the line that it belongs to, says so.
    #[serde(serialize_with = "in_utc")]
    pub at: Option<DateTime<Utc>>,
    /// How bad it is, as it or the line that it belongs to says.
    pub level: Option<Level>,
    /// The line, safe to print.
    pub text: String,
}

fn in_utc<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).serialize(serializer)
}

/// What was found.
#[derive(Debug, Default)]
pub struct Tail {
    /// The lines of all logs in the order of time; those of one file stay in the order in which
    /// they stand there.
    pub lines: Vec<Line>,
    /// Whether there may be more of what was asked for, before these.
    pub cut: bool,
    /// What could not be read, or not to its end, and why.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// So much without a line that is new enough, and what comes before is taken for older, too.
/// One line that lies about its time does not hide the others.
const STALE: usize = 256 << 10;

/// The most that may belong to one line.
const LONGEST_ENTRY: usize = 1 << 20;

/// How much of a compressed log is looked at together.
const CHUNK: usize = 8 << 20;

/// The last lines of some logs, given by name and the one in use last. Logs of the past are read
/// if the time asked for reaches back to them; without one, until so many lines were looked at as are wanted. `end_of`: where to stop in a log, if not at its end.
///
/// A log without any times counts as written when its file was.
pub fn tail(
    logs: &BTreeMap<String, Vec<Log>>,
    query: &Query,
    now: DateTime<Utc>,
    end_of: impl Fn(&Path) -> Option<u64>,
) -> Tail {
    let mut tail = Tail::default();
    let mut found = Vec::new();
    for (name, logs) in logs {
        let mut of_name = 0;
        let mut looked_at = 0;
        let mut oldest = now;
        let mut files = Vec::new();
        for log in logs.iter().rev() {
            match query.since {
                Some(since) if log.modified < since => continue,
                None if looked_at >= query.lines => break,
                _ => {}
            }
            if of_name >= query.lines && log.modified < oldest {
                tail.cut = true;
                break;
            }
            let mut gather = Gather::new(query, log.modified);
            if let Err(error) = gather.read(log, end_of(&log.path)) {
                tail.failed.push((log.path.clone(), error));
            }
            tail.cut |= gather.full;
            of_name += gather.found.len();
            looked_at += gather.looked_at;
            // A log is shown as it stands in the file, even if its clock was set back meanwhile.
            let mut key = DateTime::<Utc>::MIN_UTC;
            let mut lines = Vec::new();
            for (at, level, line) in gather.found.into_iter().rev() {
                key = key.max(at.unwrap_or(log.modified).min(now));
                oldest = oldest.min(key);
                lines.push((key, Line { log: name.clone(), at, level, text: line }));
            }
            files.push(lines);
        }
        // Lines of one time stay in the order of their files.
        found.extend(files.into_iter().rev().flatten());
    }
    found.sort_by_key(|(key, _)| *key);
    let more = found.len().saturating_sub(query.lines);
    tail.cut |= more > 0;
    tail.lines = found.into_iter().skip(more).map(|(_, line)| line).collect();
    for line in &mut tail.lines {
        line.text = text::sanitize(&line.text);
    }
    tail
}

/// The most that is shown of a line, in bytes.
const SHOWN: usize = 32 << 10;

/// A line as far as it is shown, and how much there is of it besides.
pub(super) fn shown(mut line: String, left_out: u64) -> String {
    let length = line.len() as u64 + left_out;
    if length > SHOWN as u64 + 100 {
        line.truncate(line.floor_char_boundary(SHOWN));
        line.push_str(&format!("… ({} more)", Size(length - SHOWN as u64)));
    }
    line
}

/// Takes the lines of one log, the last one first.
struct Gather<'a> {
    query: &'a Query,
    /// What was looked at last was written no later.
    not_after: DateTime<Utc>,
    /// The time of the entry after the one that is looked at.
    after: Option<DateTime<Utc>>,
    /// Lines that belong to one that comes yet, with the level that each has by itself.
    pending: Vec<(String, u64, Option<Level>)>,
    pending_bytes: usize,
    /// Bytes since something was new enough.
    stale: usize,
    /// Whether it has as many lines as are wanted.
    full: bool,
    looked_at: usize,
    /// The last line first.
    found: Vec<(Option<DateTime<Utc>>, Option<Level>, String)>,
}

impl<'a> Gather<'a> {
    fn new(query: &'a Query, modified: DateTime<Utc>) -> Gather<'a> {
        Gather {
            query,
            not_after: modified,
            after: None,
            pending: Vec::new(),
            pending_bytes: 0,
            stale: 0,
            full: query.lines == 0,
            looked_at: 0,
            found: Vec::new(),
        }
    }

    fn read(&mut self, log: &Log, end: Option<u64>) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let file = log.at.open()?;
        if log.compressed {
            // What is asked for by what it says may stand before that.
            if self.query.since.is_none()
                && self.query.grep.is_none()
                && self.query.level.is_none()
                && let Some((text, all)) = members::last_lines(&file, self.query.lines)?
            {
                let lines = lines::split(&text);
                lines.into_iter().skip(usize::from(!all)).rev().all(|line| self.line(line, 0));
                self.finish();
                return Ok(());
            }
            return self.compressed(BufReader::new(file), log.modified);
        }
        let length = file.metadata()?.len();
        let end = end.map_or(length, |end| end.min(length));
        let result = lines::backwards(&file, end, |line, left_out| self.line(line, left_out));
        self.finish();
        result
    }

    /// What is compressed can only be read from its beginning: piece by piece, so that a bomb
    /// does not fill the memory.
    fn compressed(&mut self, file: impl io::BufRead, modified: DateTime<Utc>) -> io::Result<()> {
        let mut decoder = MultiGzDecoder::new(file);
        let mut chunk = Vec::new();
        // The first line first.
        let mut found = std::collections::VecDeque::new();
        let mut full = false;
        let result = loop {
            let room = (CHUNK - chunk.len()) as u64;
            // What comes before the damage is still good.
            let read = decoder.by_ref().take(room).read_to_end(&mut chunk);
            let last = chunk.len() < CHUNK || read.is_err();
            let rest = if last { Vec::new() } else { chunk.split_off(last_entry(&chunk)) };
            let mut gather = Gather::new(self.query, modified);
            for line in lines::split(&chunk).into_iter().rev() {
                if !gather.line(line, 0) {
                    break;
                }
            }
            gather.finish();
            self.looked_at += gather.looked_at;
            full |= gather.full;
            found.extend(gather.found.into_iter().rev());
            let more = found.len().saturating_sub(self.query.lines);
            full |= more > 0;
            found.drain(..more);
            chunk = rest;
            if last {
                break read.map(|_| ());
            }
        };
        self.full = full;
        self.found = found.into_iter().rev().collect();
        result
    }

    /// Takes a line; whether more are wanted.
    fn line(&mut self, line: String, left_out: u64) -> bool {
        let marks = marks(&line);
        self.looked_at += 1;
        self.pending_bytes += line.len() + 1;
        self.pending.push((line, left_out, marks.level));
        if let Some(at) = marks.stamp.and_then(|stamp| stamp.resolve(self.not_after)) {
            if matches!(marks.stamp, Some(Stamp::Time(_))) {
                self.not_after = self.not_after.min(at);
            }
            self.after = Some(at);
            let level = marks.level.or_else(|| self.pending.iter().filter_map(|(_, _, level)| *level).max());
            self.take(|_, _| level);
        } else if self.pending_bytes > LONGEST_ENTRY {
            self.finish();
        }
        self.full = self.found.len() >= self.query.lines;
        !self.full && self.stale < STALE
    }

    /// Takes what belongs to no line with a time: each line by itself, and what is indented
    /// to the one before it.
    fn finish(&mut self) {
        let mut levels = Vec::with_capacity(self.pending.len());
        for (line, _, level) in self.pending.iter().rev() {
            let before = levels.last().copied().flatten();
            levels.push(if line.starts_with([' ', '\t']) { before } else { *level });
        }
        levels.reverse();
        self.take(|index, _| levels.get(index).copied().flatten());
    }

    fn take(&mut self, level_of: impl Fn(usize, &str) -> Option<Level>) {
        let bytes = std::mem::take(&mut self.pending_bytes);
        let pending = std::mem::take(&mut self.pending);
        if self.query.since.is_some_and(|since| self.after.is_some_and(|at| at < since)) {
            self.stale += bytes;
            return;
        }
        self.stale = 0;
        for (index, (line, left_out, _)) in pending.into_iter().enumerate() {
            let level = level_of(index, &line);
            if !self.query.wants(&line, level) {
                continue;
            }
            if self.found.len() == self.query.lines {
                self.full = true;
                return;
            }
            self.found.push((self.after, level, shown(line, left_out)));
        }
    }
}

/// Where the last line with a time begins; at least, where the last line does.
fn last_entry(chunk: &[u8]) -> usize {
    let mut end = chunk.len();
    let mut last_line = None;
    while let Some(newline) = chunk[..end].iter().rposition(|&byte| byte == b'\n') {
        let start = newline + 1;
        last_line.get_or_insert(start);
        let line = chunk[start..end].split(|&byte| byte == b'\n').next().unwrap_or_default();
        if marks(&String::from_utf8_lossy(line)).stamp.is_some() {
            return start;
        }
        if chunk.len() - start > LONGEST_ENTRY {
            break;
        }
        end = newline;
    }
    last_line.unwrap_or(chunk.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_files::Location;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// The last lines of files, given oldest first with the time of their last change.
    fn of(files: &[(&Path, &str)], query: &Query) -> Tail {
        let logs = files.iter().map(|(path, modified)| {
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(utc(modified).into()).unwrap();
            Log::new(Location::named(path).unwrap(), &fs::metadata(path).unwrap())
        });
        let logs = BTreeMap::from([("x".to_owned(), logs.collect())]);
        tail(&logs, query, utc("2026-11-20T12:00:00Z"), |_| None)
    }

    fn texts(tail: &Tail) -> Vec<&str> {
        tail.lines.iter().map(|line| line.text.as_str()).collect()
    }

    fn gz(path: &Path, text: &[u8]) {
        let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap();
    }

    #[test]
    fn lines_without_a_time_belong_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let text = "no time yet\n\
            [2026-11-20T09:00:00Z] ERROR in cycle\n  File a.py\nValueError: x\n\
            [2026-11-20T10:00:00Z] all is well\n\x1b[2Jnoise\n\
            [2026-11-20T11:00:00Z] went down\nTraceback (most recent call last):\n  File b.py\n";
        fs::write(&path, text).unwrap();
        let files = [(&*path, "2026-11-20T11:00:00Z")];
        let query = Query { lines: 100, level: Some(Level::Error), ..Query::default() };
        let errors = of(&files, &query);
        assert_eq!(texts(&errors).len(), 6, "{errors:?}");
        assert_eq!(errors.lines[5].at, Some(utc("2026-11-20T11:00:00Z")));
        let query = Query { since: Some(utc("2026-11-20T09:30:00Z")), level: None, ..query };
        let late = of(&files, &query);
        assert_eq!(texts(&late)[..2], ["[2026-11-20T10:00:00Z] all is well", "\\u{1b}[2Jnoise"]);
        assert!(late.lines.len() == 5 && !late.cut);
        let query = Query { grep: Some(Regex::new("^  File b|noise").unwrap()), lines: 1, ..query };
        let found = of(&files, &query);
        assert_eq!(texts(&found), ["  File b.py"]);
        assert!(found.cut);
        assert!(of(&files, &Query::default()).lines.is_empty(), "none are asked for");
    }

    #[test]
    fn in_a_log_without_times_each_line_stands_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "fine\nERROR: a\n  more of a\nfine\n").unwrap();
        let query = Query {
            lines: 9,
            level: Some(Level::Warning),
            since: Some(utc("2026-11-20T00:00:00Z")),
            ..Query::default()
        };
        assert_eq!(texts(&of(&[(&path, "2026-11-20T11:00:00Z")], &query)), ["ERROR: a", "  more of a"]);
        assert!(of(&[(&path, "2026-11-19T11:00:00Z")], &query).lines.is_empty());
    }

    #[test]
    fn one_line_that_lies_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let text = "[2026-11-20T10:00:00Z] one\n[1970-01-01T00:00:00Z] lie\n[2026-11-20T10:01:00Z] two\n\
            [9999-01-01T00:00:00Z] lie\n[2026-11-20T10:02:00Z] three\n";
        fs::write(&path, text).unwrap();
        let query = Query { lines: 9, since: Some(utc("2026-11-20T09:00:00Z")), ..Query::default() };
        let found = of(&[(&path, "2026-11-20T11:00:00Z")], &query);
        assert_eq!(found.lines.len(), 4);
        assert!(texts(&found)[3].ends_with("three"), "the order of the file stays");
    }

    #[test]
    fn since_reads_back_into_compressed_logs_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let [oldest, old, new] = ["x_1.log.gz", "x_2.log.gz", "x_3.log"].map(|name| dir.path().join(name));
        fs::write(&oldest, "this is no gz, and is not read").unwrap();
        // More than is looked at together; an entry of many lines on each border.
        let mut text = String::new();
        for second in 0..40_000 {
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            text.push_str(&format!("[2026-11-19T{hour:02}:{minute:02}:{second:02}Z] ERROR x\n"));
            text.push_str(&format!("{:>220}\n", "a line that belongs to it"));
        }
        assert!(text.len() > CHUNK);
        gz(&old, text.as_bytes());
        fs::write(&new, "[2026-11-20T09:00:00Z] new\n").unwrap();
        let times = ["2026-11-18T23:00:00Z", "2026-11-19T12:00:00Z", "2026-11-20T09:00:00Z"];
        let files: Vec<(&Path, &str)> = [&*oldest, &*old, &*new].into_iter().zip(times).collect();
        let query = Query { lines: 1 << 20, since: Some(utc("2026-11-19T00:00:00Z")), ..Query::default() };
        let all = of(&files, &query);
        assert!(all.failed.is_empty() && !all.cut, "{:?}", all.failed);
        assert_eq!(all.lines.len(), 80_001);
        let query = Query { level: Some(Level::Error), ..query };
        assert_eq!(of(&files, &query).lines.len(), 80_000, "no entry is torn");
        let query = Query { lines: 3, level: None, ..query };
        let last = of(&files, &query);
        assert_eq!((texts(&last)[0], last.cut), ("[2026-11-19T11:06:39Z] ERROR x", true));
        let today = Query { since: None, ..query.clone() };
        assert_eq!(of(&files, &today).lines.len(), 3, "without a time as many are read as are wanted");
        let one = Query { lines: 1, ..today };
        assert_eq!(texts(&of(&files, &one)), ["[2026-11-20T09:00:00Z] new"]);
        // A damaged one gives what it can, and is told of.
        let bytes = fs::read(&old).unwrap();
        fs::write(&old, &bytes[..bytes.len() / 2]).unwrap();
        let damaged = of(&files, &Query { lines: 1 << 20, ..query });
        assert!(damaged.failed.len() == 1 && damaged.lines.len() > 10_000);
    }

    #[test]
    fn times_without_a_date_go_back_over_midnight() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let local = |text: &str| {
            let naive = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
            naive.and_local_timezone(chrono::Local).unwrap().to_utc()
        };
        fs::write(&path, "[23:00:00] INFO a\n[23:59:59] INFO b\n[00:00:01] INFO c\n[09:00:00] INFO d\n")
            .unwrap();
        let modified = local("2026-11-20 09:00:00").to_rfc3339();
        let query = Query { lines: 9, since: Some(local("2026-11-19 23:30:00")), ..Query::default() };
        let found = of(&[(&path, &modified)], &query);
        assert_eq!(texts(&found).len(), 3, "{found:?}");
        assert_eq!(found.lines[0].at, Some(local("2026-11-19 23:59:59")));
    }

    #[test]
    fn only_what_is_asked_for_is_read_of_a_huge_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let file = File::create(&path).unwrap();
        // Reading all of it would take long: 64 GiB, with an old line in the middle.
        file.write_all_at(b"\n[2026-11-20T08:00:00Z] old\n", 32 << 30).unwrap();
        file.write_all_at(&b"[2026-11-20T09:00:00Z] before\n".repeat(20_000), 64 << 30).unwrap();
        file.write_all_at(b"[2026-11-20T10:00:00Z] ERROR it\n", (64 << 30) + 600_000).unwrap();
        let files = [(&*path, "2026-11-20T10:00:00Z")];
        let query = Query { lines: 1000, ..Query::default() };
        assert_eq!(of(&files, &query).lines.len(), 1000);
        let query = Query { lines: 1000, since: Some(utc("2026-11-20T09:30:00Z")), ..query };
        assert_eq!(texts(&of(&files, &query)), ["[2026-11-20T10:00:00Z] ERROR it"]);
    }
}
