//! What a log got since an earlier run, although it may have been rotated, cut or replaced meanwhile.

use super::beneath::Dir;
use super::lines;
use super::text::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// How many bytes before a place tell whether it is still the same place.
const BEFORE: u64 = 64;

/// A place in a file, at the end of a whole line, that can be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    inode: (u64, u64),
    offset: u64,
    before: String,
}

/// What came after a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The whole lines, oldest first; not safe to print.
    pub lines: Vec<String>,
    /// Bytes before them that were too many to read.
    pub skipped: u64,
}

impl Mark {
    /// The end of the last whole line of a file: nothing before it is news.
    pub fn end(file: &File) -> io::Result<Mark> {
        let size = file.metadata()?.len();
        let unfinished = lines::read(file, size.saturating_sub(lines::BLOCK), size)?;
        let unfinished = unfinished.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
        Mark::at(file, size - unfinished)
    }

    fn at(file: &File, offset: u64) -> io::Result<Mark> {
        Ok(Mark { inode: inode(file)?, offset, before: before(file, offset)? })
    }

    /// The lines of a file since this place, none read twice, and the place after them. At most the
    /// last `most` bytes are read. Where the file is another one now, `moved` opens the one that it was, by device and inode.
    pub fn news(
        &self,
        file: &File,
        most: u64,
        moved: impl FnOnce((u64, u64)) -> Option<File>,
    ) -> io::Result<(News, Mark)> {
        let from = self.find(file, most)?;
        let (mut news, mark) = since(file, from, most, End::Line)?;
        if inode(file)? != self.inode
            && let Some(old) = moved(self.inode)
        {
            // Its last lines came before those of the new one. Nothing more comes to it, nor to a last line without an end.
            let (rest, _) = since(&old, self.find(&old, most)?, most, End::Rest)?;
            news.skipped += rest.skipped;
            news.lines.splice(0..0, rest.lines);
        }
        Ok((news, mark))
    }

    /// Where this place is in a file now; its beginning, if it is not in it.
    fn find(&self, file: &File, most: u64) -> io::Result<u64> {
        let meta = file.metadata()?;
        if inode(file)? != self.inode {
            return Ok(0);
        }
        if self.offset <= meta.len() && before(file, self.offset)? == self.before {
            return Ok(self.offset);
        }
        // Cut in place: what stayed lies nearer to the beginning now.
        let floor = meta.len().saturating_sub(most);
        let tail = lines::read(file, floor, meta.len())?;
        let ends = tail.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        for (at, _) in ends {
            let begin = (at + 1).saturating_sub(BEFORE as usize);
            if digest(&tail[begin..=at]) == self.before {
                return Ok(floor + at as u64 + 1);
            }
        }
        Ok(0)
    }
}

/// The lines of a file that is new: all of it is news.
pub fn whole(file: &File, most: u64) -> io::Result<(News, Mark)> {
    since(file, 0, most, End::Line)
}

/// Which file it is, whatever it is called: device and inode.
pub fn inode(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

/// Opens the file of such a number in a folder: `x.log.1` after `x.log` was renamed.
pub fn in_folder(folder: &Dir, number: (u64, u64)) -> Option<File> {
    let mut entries = folder.entries("").ok()?.flatten();
    let file = folder.open_file(entries.find(|entry| entry.inode == number.1)?.name).ok()?;
    (inode(&file).ok()? == number).then_some(file)
}

/// Up to where a file is read.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The end of its last whole line.
    Line,
    /// Its last byte.
    Rest,
}

fn since(file: &File, from: u64, most: u64, up_to: End) -> io::Result<(News, Mark)> {
    let size = file.metadata()?.len();
    let begin = from.max(size.saturating_sub(most));
    let mut bytes = lines::read(file, begin, size)?;
    let mut skipped = begin - from;
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    // A line without an end that is longer than all we read will not be waited for.
    let all = up_to == End::Rest || end == 0 && bytes.len() as u64 >= most;
    let end = if all { bytes.len() } else { end };
    bytes.truncate(end);
    let mark = Mark::at(file, begin + end as u64)?;
    if skipped > 0 {
        let first = bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        skipped += first as u64;
        bytes.drain(..first);
    }
    Ok((News { lines: lines::split(&bytes), skipped }, mark))
}

fn before(file: &File, offset: u64) -> io::Result<String> {
    Ok(digest(&lines::read(file, offset.saturating_sub(BEFORE), offset)?))
}

/// A log may hold secrets; a short hash of its end does not.
fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    const MOST: u64 = 1 << 20;

    fn append(path: &Path, text: &str) {
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn open(path: &Path) -> File {
        lines::open(path).unwrap()
    }

    fn news(mark: &mut Mark, path: &Path) -> Vec<String> {
        let folder = Dir::open(path.parent().unwrap()).unwrap();
        let moved = |number| in_folder(&folder, number);
        let (news, next) = mark.news(&open(path), MOST, moved).unwrap();
        *mark = next;
        news.lines
    }

    #[test]
    fn every_line_once_whatever_happens_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        append(&path, "old\nunfin");
        let mut mark = Mark::end(&open(&path)).unwrap();
        assert_eq!(news(&mut mark, &path), [""; 0]);
        append(&path, "ished\none\n");
        assert_eq!(news(&mut mark, &path), ["unfinished", "one"]);
        // Rotated by name, with a last line that was not seen.
        append(&path, "two\nlast words");
        fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        append(&path, "three\n");
        assert_eq!(news(&mut mark, &path), ["two", "last words", "three"]);
        // Copied and truncated, and longer again than it was.
        fs::write(&path, "four is a longer line\nfive\n").unwrap();
        assert_eq!(news(&mut mark, &path), ["four is a longer line", "five"]);
        // Cut in place: the first half goes, the rest stays, more comes.
        append(&path, "six\nseven\n");
        assert_eq!(news(&mut mark, &path), ["six", "seven"]);
        fs::write(&path, "five\nsix\nseven\neight\n").unwrap();
        assert_eq!(news(&mut mark, &path), ["five", "six", "seven", "eight"], "less than 64 bytes stayed");
        let long = "a line that is long enough to be known again although all before it is gone";
        append(&path, &format!("{long}\n"));
        assert_eq!(news(&mut mark, &path), [long]);
        fs::write(&path, format!("{long}\nnine\n")).unwrap();
        assert_eq!(news(&mut mark, &path), ["nine"]);
        // Replaced by another.
        fs::write(dir.path().join("new"), "ten\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(news(&mut mark, &path), ["ten"]);
    }

    #[test]
    fn what_is_too_much_is_skipped_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        append(&path, "begin\n");
        let mark = Mark::end(&open(&path)).unwrap();
        append(&path, &"0123456789\n".repeat(100));
        let (news, after) = mark.news(&open(&path), 100, |_| None).unwrap();
        assert_eq!((news.lines.len(), news.skipped), (9, 1001));
        assert_eq!(after.news(&open(&path), 100, |_| None).unwrap().0, News::default());
        // One line without end is not waited for, nor read again.
        let path = dir.path().join("giant.log");
        append(&path, &"x".repeat(500));
        let (news, after) = whole(&open(&path), 100).unwrap();
        assert_eq!((news.lines.len(), news.skipped), (1, 400));
        assert_eq!(after.news(&open(&path), 100, |_| None).unwrap().0, News::default());
    }

    proptest! {
        /// However the writes fall between the looks, each whole line is seen once.
        #[test]
        fn each_whole_line_is_seen_once(pieces in prop::collection::vec("[ab\n]{0,12}", 1..12)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.log");
            append(&path, "");
            let mut mark = Mark::end(&open(&path)).unwrap();
            let mut seen = Vec::new();
            for piece in &pieces {
                append(&path, piece);
                seen.extend(news(&mut mark, &path));
            }
            let all = pieces.concat();
            let whole = all.rfind('\n').map_or("", |at| &all[..at]);
            let expected: Vec<&str> = if all.contains('\n') { whole.split('\n').collect() } else { Vec::new() };
            prop_assert_eq!(seen, expected);
        }
    }
}
