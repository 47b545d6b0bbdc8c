//! The last lines of a file, read from its end: a file of a gigabyte costs its tail only.

use std::fs::File;
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use super::beneath::open_named as open;

/// How much is read at a time.
pub(super) const BLOCK: u64 = 64 << 10;

/// The last `n` lines, oldest first; a last line without newline counts. At most `max_bytes`
/// are read: a line cut by that is left out, unless it is all there is, then its end is given.
///
/// What is not UTF-8 becomes `U+FFFD`; NUL bytes (a hole left by a truncated file) are dropped.
/// The lines are not safe to print: see [`super::text::sanitize`].
pub fn last_lines(path: &Path, n: usize, max_bytes: u64) -> io::Result<Vec<String>> {
    last_lines_of(&open(path)?, n, max_bytes)
}

/// [`last_lines`] of what is open.
pub fn last_lines_of(file: &File, n: usize, max_bytes: u64) -> io::Result<Vec<String>> {
    let end = file.metadata()?.len();
    let start = start_of_last(file, end, n, max_bytes)?;
    Ok(split(&read(file, start, end)?))
}

/// Where the last `n` lines before `end` begin, but not more than `max_bytes` before it.
pub fn start_of_last(file: &File, end: u64, n: usize, max_bytes: u64) -> io::Result<u64> {
    if n == 0 {
        return Ok(end);
    }
    let floor = end.saturating_sub(max_bytes);
    let mut to = end;
    let mut newlines = 0;
    // The first line after a newline seen so far: where to begin if the bytes run out.
    let mut first_whole = None;
    while to > floor {
        let from = to.saturating_sub(BLOCK).max(floor);
        let block = read(file, from, to)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = from + index as u64 + 1;
            // The newline that ends the last line begins none.
            if after == end {
                continue;
            }
            newlines += 1;
            first_whole = Some(after);
            if newlines == n {
                return Ok(after);
            }
        }
        to = from;
    }
    // The bytes may have begun exactly with a line.
    let whole = floor == 0 || read(file, floor - 1, floor)? == b"\n";
    Ok(if whole { floor } else { first_whole.unwrap_or(floor) })
}

/// The bytes from one offset to another; fewer if the file was cut meanwhile.
pub fn read(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(Error::other)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Cuts bytes into lines, without their ends (`\n` or `\r\n`) and without NUL bytes.
pub fn split(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|&byte| byte == b'\n').map(clean).collect()
}

fn clean(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).replace('\0', "")
}

/// The most that is kept of a line.
pub const LONGEST: usize = 1 << 20;

/// Gives the lines before `end`, the last one first, until `each` says that it is enough. Only
/// what is given is read. Of a line of more than a megabyte the beginning comes, with how many bytes of it are left out.
///
/// The hole that a truncated file has at its front counts as its beginning.
pub fn backwards(file: &File, end: u64, mut each: impl FnMut(String, u64) -> bool) -> io::Result<()> {
    let mut to = end;
    let mut left_out = 0;
    // What begins before the block: the end of a line.
    let mut begun = Vec::new();
    while to > 0 {
        let from = to.saturating_sub(BLOCK);
        let mut block = read(file, from, to)?;
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        block.append(&mut begun);
        if to == end && block.last() == Some(&b'\n') {
            block.pop();
        }
        to = from;
        let first = block.iter().position(|&byte| byte == b'\n');
        if let Some(first) = first {
            for line in block[first + 1..].rsplit(|&byte| byte == b'\n') {
                if !each(clean(line), std::mem::take(&mut left_out)) {
                    return Ok(());
                }
            }
            block.truncate(first);
        }
        begun = block;
        left_out += begun.len().saturating_sub(LONGEST) as u64;
        begun.truncate(LONGEST);
    }
    if end > 0 {
        each(clean(&begun), left_out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn tail(content: &[u8], n: usize, max_bytes: u64) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        last_lines(file.path(), n, max_bytes).unwrap()
    }

    #[test]
    fn the_last_lines_of_all_sorts_of_files() {
        let most = 1 << 20;
        assert_eq!(tail(b"", 3, most), [""; 0]);
        assert_eq!(tail(b"a\nb\nc\n", 2, most), ["b", "c"]);
        assert_eq!(tail(b"a\nb\nc", 2, most), ["b", "c"], "a last line without newline counts");
        assert_eq!(tail(b"a\r\nb\r\n", 5, most), ["a", "b"]);
        assert_eq!(tail(b"a\n\n\n", 2, most), ["", ""]);
        assert_eq!(tail(b"a\nb", 0, most), [""; 0]);
        assert_eq!(tail(b"\0\0\0\0after a hole\nb\xff\n", 2, most), ["after a hole", "b\u{fffd}"]);
    }

    #[test]
    fn a_giant_line_is_bounded() {
        let giant = vec![b'x'; 3 << 20];
        assert_eq!(tail(&giant, 3, 1000)[0].len(), 1000);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [b"a\n", &giant[..], b"\nz\n"].concat()).unwrap();
        let mut lengths = Vec::new();
        backwards(file.as_file(), giant.len() as u64 + 5, |line, left_out| {
            lengths.push((line.len(), left_out));
            true
        })
        .unwrap();
        assert!(lengths.len() == 3 && lengths[0] == (1, 0) && lengths[2] == (1, 0), "{lengths:?}");
        assert_eq!(lengths[1].0 as u64 + lengths[1].1, giant.len() as u64);
        assert!(lengths[1].0 < LONGEST + 2 * BLOCK as usize, "{lengths:?}");
        let mut after = giant.clone();
        after.extend(b"\nshort\n");
        assert_eq!(tail(&after, 3, 1000), ["short"], "a cut line is left out if there is a whole one");
    }

    #[test]
    fn only_the_tail_of_a_huge_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A hole: reading it all would take long and 64 GiB.
        file.as_file().set_len(64 << 30).unwrap();
        file.as_file().write_all_at(b"\nlast\n", 64 << 30).unwrap();
        assert_eq!(last_lines(file.path(), 1, 1 << 30).unwrap(), ["last"]);
        let mut back = Vec::new();
        let mut all = |line, _| {
            back.push(line);
            true
        };
        backwards(file.as_file(), (64 << 30) + 6, &mut all).unwrap();
        assert_eq!(back, ["last", ""]);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(last_lines(dir.path(), 1, 100).is_err());
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(last_lines(&fifo, 1, 100).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn as_if_the_whole_file_had_been_read(text in "[ab\n]{0,60}", n in 0usize..8, most in 1u64..70) {
            let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(&text).split('\n').collect();
            let lines = if text.is_empty() { Vec::new() } else { lines };
            let found = tail(text.as_bytes(), n, most);
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &text).unwrap();
            let mut back = Vec::new();
            backwards(file.as_file(), text.len() as u64, |line, _| {
                back.insert(0, line);
                true
            })
            .unwrap();
            prop_assert_eq!(&back, &lines);
            if most >= text.len() as u64 {
                prop_assert_eq!(&found, &lines[lines.len().saturating_sub(n)..].to_vec());
            } else if found.len() > 1 {
                prop_assert_eq!(&found[..], &lines[lines.len() - found.len()..]);
            }
        }
    }
}
