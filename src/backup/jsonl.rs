//! The last line of a JSONL file: part of the file, unless somebody is in the middle of writing it.

use serde::de::IgnoredAny;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often a file that keeps changing is read.
pub(super) const ATTEMPTS: usize = 5;
/// How long the writer of an unfinished line gets to go on with it.
const PAUSE: Duration = Duration::from_millis(50);
/// Nobody is in the middle of writing a file that was last written so long ago.
const FRESH: Duration = Duration::from_secs(10);
/// A line longer than this is not parsed.
const LONGEST_LINE: u64 = 64 << 20;

/// Whether a file is named as one of lines of JSON.
pub(super) fn is_jsonl(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl")
}

/// Whether a file was not written between two looks.
pub(super) fn same(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len() && (a.mtime(), a.mtime_nsec()) == (b.mtime(), b.mtime_nsec())
}

/// The bytes after the last line break, if they are neither blank nor whole JSON values.
pub(super) fn unfinished(source: &mut (impl Read + Seek), size: u64) -> io::Result<u64> {
    let begin = last_line(source, size)?;
    let length = size - begin;
    source.seek(SeekFrom::Start(begin))?;
    let line = BufReader::new(source.take(length.min(LONGEST_LINE)));
    for value in serde_json::Deserializer::from_reader(line).into_iter::<IgnoredAny>() {
        match value {
            Ok(_) => {}
            Err(error) if error.is_io() => return Err(error.into()),
            Err(_) => return Ok(length),
        }
    }
    Ok(if length > LONGEST_LINE { length } else { 0 })
}

/// Looks at the end of a file until it is finished, or nobody writes it. Gives what the file was like
/// then, and how many bytes at its end are of a line that is being written.
pub(super) fn settle(file: &mut File, mut meta: Metadata) -> io::Result<(Metadata, u64)> {
    for attempt in 1.. {
        let writing = match unfinished(file, meta.len()) {
            Ok(length) => length,
            // It became shorter just now.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        let later = after_pause(file, &meta, writing)?;
        if writing == 0 || same(&meta, &later) {
            return Ok((meta, 0));
        }
        if attempt == ATTEMPTS {
            return Ok((meta, writing));
        }
        meta = later;
    }
    Ok((meta, 0))
}

/// What a file is like now: if it ends in an unfinished line and was written lately, in a moment.
pub(super) fn after_pause(file: &File, meta: &Metadata, unfinished: u64) -> io::Result<Metadata> {
    let age = meta.modified().map(|written| match SystemTime::now().duration_since(written) {
        Ok(age) => age,
        Err(ahead) => ahead.duration(),
    });
    if unfinished > 0 && age.is_ok_and(|age| age < FRESH) {
        std::thread::sleep(PAUSE);
    }
    file.metadata()
}

/// Where the line begins that ends at `size`.
fn last_line(source: &mut (impl Read + Seek), size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut buffer = vec![0; 64 << 10];
    while end > 0 {
        let begin = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..(end - begin) as usize];
        source.seek(SeekFrom::Start(begin))?;
        source.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|&byte| byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Write};

    fn of(content: &[u8]) -> u64 {
        unfinished(&mut Cursor::new(content), content.len() as u64).unwrap()
    }

    #[test]
    fn only_half_a_value_is_unfinished() {
        let whole: [&[u8]; 16] = [
            b"",
            b"{\"id\":1}\n",
            b"{\"id\":1}\n{\"id\":2}",
            b"{\"id\":1}",
            b"[1,2]",
            b"\"text\"",
            b"12",
            b"\n\n\n",
            b"{}\n \t ",
            b"{\"id\":1}\r\n{\"id\":2}\r",
            b"{\"id\":1}\r\n",
            b"{\"a\":1}{\"a\":2}",
            b"{\"a\":1} {\"a\":2} ",
            b"{\"a\":\"\xff\"}",
            b"no JSON at all\n",
            b"\0\0\0\n",
        ];
        for content in whole {
            assert_eq!(of(content), 0, "{}", String::from_utf8_lossy(content));
        }
        let half: [(&[u8], u64); 8] = [
            (b"{\"id\":1}\n{\"tor", 5),
            (b"{\"id\":1}\n{\"id\":2", 7),
            (b"{\"id\":1}\n{\"id\":2}\n[", 1),
            (b"\"te", 3),
            (b"{}\n\0\0\0", 3),
            (b"{}\n{\"a\":1}{\"b", 10),
            (b"{}\nnul", 3),
            (b"no JSON", 7),
        ];
        for (content, length) in half {
            assert_eq!(of(content), length, "{}", String::from_utf8_lossy(content));
        }
        assert_eq!(of(&[b"first\n\"".to_vec(), vec![b'x'; 200_000]].concat()), 200_001);
        assert_eq!(of(&[b"first\n\"".to_vec(), vec![b'x'; 200_000], b"\"".to_vec()].concat()), 0);
        assert_eq!(of(&vec![b'['; 1_000_000]), 1_000_000, "no stack is used up");
    }

    proptest! {
        #[test]
        fn what_is_left_ends_with_a_line_or_is_nothing(content in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'{'), Just(b'}'), Just(b'1'), Just(0), Just(0xff)], 0..40
        )) {
            let left = &content[..content.len() - of(&content) as usize];
            prop_assert!(left.len() == content.len() || left.last().is_none_or(|&byte| byte == b'\n'));
            prop_assert_eq!(of(left), 0);
        }
    }

    #[test]
    fn a_file_at_rest_is_whole_whatever_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"{}\n{\"half").unwrap();
        let meta = file.metadata().unwrap();
        let (settled, cut) = settle(&mut file, meta).unwrap();
        assert_eq!((settled.len(), cut), (9, 0), "written just now, and by nobody any more");
    }
}
