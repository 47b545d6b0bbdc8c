//! What reading an archive may cost. Every limit follows from the length of its file, so that it is
//! known before anything is inflated; an archive of this program, or of `tar`, is far below.

use super::blocks::{Block, PAGES};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The longest path that an operating system takes.
pub(super) const MOST_NAME: usize = 4096;
/// The checksums in an archive of somebody else. The shell scripts listed some dozens of files.
pub(super) const MOST_CHECKSUMS: u64 = 4 << 20;
/// The elements of a list in a manifest that only people read.
const MOST_REMARKS: usize = 100_000;

/// The bytes of all files in an archive: deflate shortens nothing by a larger factor, and sparse
/// files may have some holes that are in no archive.
pub(super) fn content(archive: u64) -> u64 {
    archive.saturating_mul(1032).saturating_add(2 << 30)
}

/// The bytes of all names in an archive, of which each counts for [`NAME`] more.
pub(super) fn names(archive: u64) -> u64 {
    archive.saturating_mul(16).saturating_add(24 << 20)
}

/// What a name costs beside its length.
pub(super) const NAME: u64 = 64;

/// The members of an archive of somebody else: `tar czf` needs 10 bytes for an empty file.
pub(super) fn members(archive: u64) -> u64 {
    65_536 + archive / 8
}

/// The blocks in the first bytes of an archive: 64 KiB of zeros, the shortest that comes often, needs
/// 140.
pub(super) fn blocks(bytes: u64) -> u64 {
    65_536 + bytes / 128
}

/// Whether the blocks of an index may be read: their content is not much longer than they are, since
/// hashes cannot be compressed, and all but the last are full.
pub(super) fn allow_index(blocks: &[Block]) -> bool {
    let (packed, content) = blocks
        .iter()
        .fold((0, 0), |(packed, content), block| (packed + block.length, content + block.content));
    content <= (packed * 64).clamp(4 << 20, 1 << 30)
        && blocks.len() as u64 <= 16 + content / (PAGES as u64 / 2)
}

/// Reads a list that only people read, and of that no more than [`MOST_REMARKS`]: a short element
/// takes many times its length in memory.
pub(super) fn remarks<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Remarks<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Remarks<T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut remarks = Vec::new();
            while remarks.len() < MOST_REMARKS
                && let Some(remark) = list.next_element()?
            {
                remarks.push(remark);
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(remarks)
        }
    }
    deserializer.deserialize_seq(Remarks(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::super::blocks::BLOCK;
    use super::*;

    fn block(length: u64, content: u64) -> Block {
        Block { at: 0, length, position: 0, content, index: true, hash: [0; 32] }
    }

    #[test]
    fn an_index_is_not_much_longer_than_its_blocks() {
        let full = BLOCK as u64;
        assert!(allow_index(&[block(80, 3)]));
        // Small ones whatever they are; a million files, at 70 bytes of 300.
        assert!(allow_index(&[block(2_000, full); 4]));
        assert!(allow_index(&vec![block(full / 4, full); 300]));
        assert!(!allow_index(&vec![block(2_000, full); 5]));
        assert!(!allow_index(&vec![block(full, full); 1025]), "longer than any");
        assert!(!allow_index(&vec![block(80, 3); 100]), "blocks of next to nothing");
    }

    #[test]
    fn of_remarks_without_end_the_first_are_read() {
        #[derive(serde::Deserialize)]
        struct Some {
            #[serde(deserialize_with = "remarks")]
            problems: Vec<String>,
            last: u8,
        }
        for (count, read) in [(0, 0), (3, 3), (MOST_REMARKS + 5, MOST_REMARKS)] {
            let list = vec!["\"\""; count].join(",");
            let some: Some = serde_json::from_str(&format!("{{\"problems\":[{list}],\"last\":1}}")).unwrap();
            assert_eq!((some.problems.len(), some.last), (read, 1));
        }
    }
}
