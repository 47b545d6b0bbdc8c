use super::*;
use crate::backup::unpack::Unpacker;
use flate2::read::{GzDecoder, MultiGzDecoder};
use proptest::prelude::*;
use std::io::{Seek, SeekFrom};

fn archive(pieces: &[(&[u8], bool)], stock: Option<Arc<Stock>>) -> (File, u64) {
    archive_of(1, pieces, stock)
}

fn archive_of(unit: usize, pieces: &[(&[u8], bool)], stock: Option<Arc<Stock>>) -> (File, u64) {
    let mut packer = Packer::with_unit(tempfile::tempfile().unwrap(), stock, unit).unwrap();
    for (piece, cut) in pieces {
        packer.write_all(piece).unwrap();
        if *cut {
            packer.cut().unwrap();
        }
    }
    packer.begin_index().unwrap();
    packer.write_all(b"the index").unwrap();
    let (mut file, length, copied) = packer.finish().unwrap();
    assert_eq!(file.metadata().unwrap().len(), length);
    file.rewind().unwrap();
    (file, copied)
}

fn stock(file: &File) -> (Arc<Stock>, Vec<Block>) {
    let table = blocks::table(file).unwrap().unwrap();
    (Arc::new(Stock::new(file.try_clone().unwrap(), &table)), table)
}

fn inflated(mut file: &File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().unwrap();
    MultiGzDecoder::new(file).read_to_end(&mut content).unwrap();
    content
}

fn large() -> Vec<u8> {
    (0..875_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[test]
fn every_member_is_read_back_not_only_the_first() {
    let large = large();
    let (mut file, _) = archive(&[(b"small", true), (&large, false)], None);
    assert_eq!(inflated(&file), [b"small", large.as_slice(), b"the index"].concat());
    // The trap that the test is for: the other decoder stops after one member, contentedly.
    file.rewind().unwrap();
    let mut first = Vec::new();
    GzDecoder::new(&file).read_to_end(&mut first).unwrap();
    assert_eq!(first, b"small");

    let table = blocks::table(&file).unwrap().unwrap();
    let index = table.iter().find(|block| block.index).unwrap();
    file.seek(SeekFrom::Start(index.at)).unwrap();
    let mut content = Vec::new();
    MultiGzDecoder::new(&file).read_to_end(&mut content).unwrap();
    assert_eq!(content, b"the index");
}

#[test]
fn what_was_there_is_copied_not_compressed() {
    let mut content = large();
    let (first, copied) = archive(&[(b"head", true), (&content, true)], None);
    assert_eq!(copied, 0);
    let (stock, table) = stock(&first);
    content[1_000_000] ^= 1;
    content.extend_from_slice(b"and more");
    let (second, copied) = archive(&[(b"new head", true), (&content, true)], Some(Arc::clone(&stock)));
    assert_eq!(inflated(&second), [b"new head", content.as_slice(), b"the index"].concat());
    let changed: Vec<_> = blocks::table(&second)
        .unwrap()
        .unwrap()
        .into_iter()
        .filter(|block| !table.iter().any(|old| old.hash == block.hash))
        .map(|block| block.position)
        .collect();
    // The head, the block of the flipped bit, the last one.
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(copied > first.metadata().unwrap().len() * 5 / 10, "{copied}");
}

#[test]
fn members_can_all_lie_on_blocks_of_the_file_system() {
    let content = large();
    let pieces: Vec<_> = (0..600).map(|length| (&content[..length * 7], true)).collect();
    let (first, _) = archive_of(4096, &pieces, None);
    let (stock, table) = stock(&first);
    assert!(table.iter().all(|block| block.at % 4096 == 0 && block.length % 4096 == 0));
    assert_eq!(table.len(), 600, "one has nothing in it, and there is the index");
    let (second, copied) = archive_of(4096, &pieces, Some(stock));
    assert_eq!(copied, table.iter().filter(|block| !block.index).map(|block| block.length).sum::<u64>());
    let whole = pieces.iter().map(|piece| piece.0).chain([&b"the index"[..]]).collect::<Vec<_>>().concat();
    assert_eq!(inflated(&second), whole);
    assert_eq!(inflated(&first), whole);
}

#[test]
fn a_run_of_members_is_copied_whole() {
    let content = large();
    let (first, _) = archive(&[(b"head", true), (&content, true)], None);
    let (stock, table) = stock(&first);
    let mut packer = Packer::new(tempfile::tempfile().unwrap(), Some(stock)).unwrap();
    packer.write_all(b"another head").unwrap();
    let members: Vec<_> = table.iter().filter(|block| !block.index && block.position > 0).copied().collect();
    packer.copy(&members).unwrap();
    assert_eq!(packer.position(), 12 + content.len() as u64);
    packer.begin_index().unwrap();
    packer.write_all(b"index").unwrap();
    let (file, ..) = packer.finish().unwrap();
    assert_eq!(inflated(&file), [b"another head", content.as_slice(), b"index"].concat());
}

#[test]
fn a_cut_is_seen_wherever_it_is_made() {
    let whole = {
        let mut bytes = Vec::new();
        archive(&[(b"first block", true), (b"second block", true)], None).0.read_to_end(&mut bytes).unwrap();
        bytes
    };
    for length in 1..whole.len() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole[..length]).unwrap();
        match blocks::table(&file) {
            Err(_) => {}
            // So short that it could be any gzip file.
            Ok(None) => assert!(length < 57, "{length}"),
            Ok(Some(_)) => panic!("a cut at {length} was not seen"),
        }
    }
}

#[test]
fn a_flipped_bit_is_seen_wherever_it_is() {
    let (mut whole, _) = archive(&[(b"first block, first block", true), (b"second block", true)], None);
    let mut bytes = Vec::new();
    whole.read_to_end(&mut bytes).unwrap();
    let content = inflated(&whole);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&damaged).unwrap();
        let Ok(Some(table)) = blocks::table(&file) else { continue };
        let mut read = Vec::new();
        // The hash and the mark of the index are not looked at here; all else speaks up.
        if Unpacker::new(file, table).read_to_end(&mut read).is_ok() {
            assert_eq!(read, content, "bit {bit}");
        }
    }
}

#[test]
fn foreign_gzip_files_are_told_apart() {
    let mut file = tempfile::tempfile().unwrap();
    assert!(blocks::table(&file).unwrap().is_none());
    file.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(blocks::table(&file).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_pieces_come_back_whole_and_the_same_again_from_the_stock(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), 1usize..120, any::<bool>()), 1..12),
    ) {
        let pieces: Vec<(Vec<u8>, bool)> =
            pieces.into_iter().map(|(piece, times, cut)| (piece.repeat(times), cut)).collect();
        let pieces: Vec<(&[u8], bool)> = pieces.iter().map(|(piece, cut)| (piece.as_slice(), *cut)).collect();
        let (first, _) = archive(&pieces, None);
        let table = blocks::table(&first).unwrap().unwrap();
        let mut read = Vec::new();
        Unpacker::new(first.try_clone().unwrap(), table).read_to_end(&mut read).unwrap();
        prop_assert_eq!(&read, &inflated(&first));
        let (second, copied) = archive(&pieces, Some(stock(&first).0));
        prop_assert_eq!(inflated(&second), read);
        let content = blocks::table(&second).unwrap().unwrap().iter().filter(|b| !b.index).map(|b| b.length).sum::<u64>();
        prop_assert_eq!(copied, content);
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in any::<Vec<u8>>()) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let _ = blocks::table(&file);
    }
}
