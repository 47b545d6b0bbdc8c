//! The end of a compressed log, without reading what comes before it: our logs are made of many gzip members.

use crate::base::lines;
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, Read};

/// More than a member of ours takes.
const MEMBER: u64 = 2 << 20;

/// What a member holds at most, to be read here.
const CONTENT: u64 = 4 << 20;

/// A gzip member's first bytes, with no name or comment in its header (RFC 1952, 2.3).
const BEGINS: [u8; 4] = [0x1f, 0x8b, 8, 0];

/// The last lines, at least so many, if they stand in members of their own at the end; the first may be torn, unless `all`
/// is there. None: it has to be read from its beginning.
pub(super) fn last_lines(file: &File, wanted: usize) -> io::Result<Option<(Vec<u8>, bool)>> {
    let mut end = file.metadata()?.len();
    let (mut text, mut newlines) = (Vec::new(), 0);
    while end > 0 && newlines <= wanted {
        if text.len() as u64 >= 2 * CONTENT {
            return Ok(None);
        }
        let from = end.saturating_sub(MEMBER);
        let bytes = lines::read(file, from, end)?;
        let begins = (0..bytes.len()).rev().filter(|&at| bytes[at..].starts_with(&BEGINS));
        // What only looks like a beginning does not end here with the right sum.
        let Some((at, mut member)) = begins.filter_map(|at| Some((at, content(&bytes[at..])?))).next() else {
            return Ok(None);
        };
        newlines += member.iter().filter(|&&byte| byte == b'\n').count();
        member.append(&mut text);
        text = member;
        end = from + at as u64;
    }
    Ok(Some((text, end == 0)))
}

/// What one member holds that is all there is of these bytes.
fn content(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = GzDecoder::new(bytes);
    let mut content = Vec::new();
    decoder.by_ref().take(CONTENT).read_to_end(&mut content).ok()?;
    let ended = decoder.read(&mut [0]).ok()? == 0;
    (ended && decoder.into_inner().is_empty()).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::pack::{Part, pack};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_end_is_read_without_the_beginning() {
        let text: String = (0..400_000).map(|number| format!("line {number}\n")).collect();
        let (mut source, into) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all(text.as_bytes()).unwrap();
        let mut parts = [Part::new(&source, text.len() as u64, &into)];
        pack(&mut parts);
        let (end, all) = last_lines(&into, 50).unwrap().unwrap();
        assert!(!all && end.len() < 1 << 20 && text.as_bytes().ends_with(&end));
        let (end, all) = last_lines(&into, 100_000).unwrap().unwrap();
        assert!(!all && text.as_bytes().ends_with(&end));
        // Nobody looks at its beginning.
        into.write_all_at(&[0; 1000], 0).unwrap();
        assert!(last_lines(&into, 50).unwrap().is_some());
        assert!(last_lines(&into, 400_000).unwrap().is_none());
    }

    #[test]
    fn what_takes_more_than_is_read_here_is_left_to_others() {
        let mut file = tempfile::tempfile().unwrap();
        for _ in 0..4 {
            let mut encoder = GzEncoder::new(&mut file, Compression::fast());
            encoder.write_all(format!("{}\n", "x".repeat(999)).repeat(3000).as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        assert!(last_lines(&file, 5000).unwrap().is_some());
        assert_eq!(last_lines(&file, 11_000).unwrap(), None, "not only some of them");
    }

    #[test]
    fn what_is_of_one_piece_or_torn_is_left_to_others() {
        let gz = |text: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let of = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            last_lines(&file, 1).unwrap()
        };
        let small = gz(b"one\ntwo\n");
        assert_eq!(of(&small), Some((b"one\ntwo\n".to_vec(), true)));
        assert_eq!(of(&small[..small.len() - 1]), None);
        assert_eq!(of(&[small.clone(), BEGINS.to_vec()].concat()), None);
        assert_eq!(of(&gz(&vec![b'x'; 9 << 20])), None, "a bomb");
        assert_eq!(of(b""), Some((Vec::new(), true)));
    }
}
