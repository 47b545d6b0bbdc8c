//! The outer form of an archive: gzip members, each a block of the tar stream.
//!
//! Any gzip reader sees one file (RFC 1952, 2.2: members may be concatenated). Each member
//! names, in an extra field `AO`, its own length, the length and SHA-256 of its content, and
//! whether it belongs to the index at the end. So the members can be walked without inflating
//! them, inflated side by side, and copied to another archive as they are. Where the file system
//! shares extents between files, an extra field `AP` of zeros makes each member as long as a number
//! of its blocks, and such a copy takes no space.

use super::limits;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The most content of a member.
pub(super) const BLOCK: usize = 1 << 20;
/// The most content of a member of a database: its writers touch a page here and there, and smaller
/// members come again more often. Each begins with nothing to refer to, which costs 0.2 %.
pub(super) const PAGES: usize = 256 << 10;
/// The most that a member may be longer than its content.
const MOST_EXTRA: usize = 64 << 10;

/// The header of a member (RFC 1952, 2.3): magic, deflate, FEXTRA, no time, no hint, Unix. The length
/// of the extra fields follows.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3];
/// The head of the field that names things.
const NAMES: [u8; 4] = [b'A', b'O', 41, 0];
/// The length of that field, with its head.
const EXTRA: usize = NAMES.len() + 41;
/// Header and that field.
const PREFIX: usize = HEAD.len() + 2 + EXTRA;
/// The head of the field that makes a member longer; its length follows.
const PADDING: [u8; 2] = *b"AP";
/// The least that can be added.
const LEAST_PADDING: usize = PADDING.len() + 2;
/// Header, values, CRC and length.
const FRAME: usize = PREFIX + 8;

/// The SHA-256 of a block's content.
pub(super) type Hash = [u8; 32];

/// One member, as its header tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Where it begins in the archive.
    pub(super) at: u64,
    /// Its length there.
    pub(super) length: u64,
    /// Where its content begins in the tar stream.
    pub(super) position: u64,
    /// The length of its content.
    pub(super) content: u64,
    /// Whether it belongs to the index.
    pub(super) index: bool,
    /// The hash of its content.
    pub(super) hash: Hash,
}

/// Makes members.
pub(super) struct Maker {
    compressor: Compressor,
    /// Where content is compressed, longer than any of it.
    room: Vec<u8>,
    /// Members are as long as a number of these.
    unit: usize,
}

impl Maker {
    /// Makes members that are as long as a number of `unit` bytes; 1 for any length.
    pub(super) fn new(unit: usize) -> Maker {
        Maker { compressor: Compressor::new(CompressionLvl::default()), room: Vec::new(), unit }
    }

    /// The member of some content, at most [`BLOCK`] of it.
    pub(super) fn member(&mut self, content: &[u8], hash: &Hash, index: bool) -> io::Result<Vec<u8>> {
        let bound = self.compressor.deflate_compress_bound(content.len());
        self.room.resize(self.room.len().max(bound), 0);
        let packed = self
            .compressor
            .deflate_compress(content, &mut self.room[..bound])
            .map_err(|error| io::Error::other(format!("cannot compress: {error}")))?;
        let plain = FRAME + packed;
        let mut length = plain.next_multiple_of(self.unit);
        if (1..LEAST_PADDING).contains(&(length - plain)) {
            length += self.unit.max(LEAST_PADDING);
        }
        let padding = length - plain;
        let size = (content.len() as u32).to_le_bytes();
        let mut member = Vec::with_capacity(length);
        member.extend_from_slice(&HEAD);
        member.extend_from_slice(&((EXTRA + padding) as u16).to_le_bytes());
        member.extend_from_slice(&NAMES);
        member.extend_from_slice(&(length as u32).to_le_bytes());
        member.extend_from_slice(&size);
        member.push(u8::from(index));
        member.extend_from_slice(hash);
        if padding > 0 {
            member.extend_from_slice(&PADDING);
            member.extend_from_slice(&((padding - LEAST_PADDING) as u16).to_le_bytes());
            member.resize(PREFIX + padding, 0);
        }
        member.extend_from_slice(&self.room[..packed]);
        member.extend_from_slice(&libdeflater::crc32(content).to_le_bytes());
        member.extend_from_slice(&size);
        Ok(member)
    }
}

/// The hash by which a block is known.
pub(super) fn hash(content: &[u8]) -> Hash {
    Sha256::digest(content).into()
}

/// Inflates one member to `content`.
///
/// # Errors
/// `InvalidData`, when it is not what its header and its CRC say.
pub(super) fn inflate(
    decompressor: &mut Decompressor,
    member: &[u8],
    block: &Block,
    content: &mut Vec<u8>,
) -> io::Result<()> {
    content.resize(block.content as usize, 0);
    // A member that were shorter than its header says would leave its neighbours elsewhere for
    // other readers than for us: its last four bytes must be the length of its content.
    let ends = member.ends_with(&(block.content as u32).to_le_bytes());
    match decompressor.gzip_decompress(member, content) {
        Ok(length) if length == content.len() && ends => Ok(()),
        _ => Err(broken("a block is not what its header says")),
    }
}

/// The members of an archive, in order. None: it is not made of ours.
///
/// # Errors
/// `InvalidData`, when it begins with one of our members but they do not follow each other to
/// its end, or lead to no index: it was cut or damaged.
pub(super) fn table(file: &File) -> io::Result<Option<Vec<Block>>> {
    let size = file.metadata()?.len();
    let (mut at, mut position) = (0, 0);
    let mut blocks = Vec::new();
    while at < size {
        let mut head = [0; PREFIX];
        let read = match file.read_exact_at(&mut head, at) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            read => read,
        };
        let ours = read.is_ok() && head.starts_with(&HEAD) && head[HEAD.len() + 2..].starts_with(&NAMES);
        if !ours && at == 0 {
            return Ok(None);
        }
        if !ours {
            return Err(broken("its blocks do not follow each other: it is damaged or was cut"));
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (length, content) = (u64::from(number(16)), u64::from(number(20)));
        let padding = usize::from(u16::from_le_bytes([head[10], head[11]])).checked_sub(EXTRA);
        let least = padding.map(|padding| (FRAME + padding) as u64);
        if least.is_none_or(|least| length < least) || at + length > size {
            return Err(broken("its last block is cut off"));
        }
        if content > BLOCK as u64 || length > (BLOCK + MOST_EXTRA) as u64 {
            return Err(broken("a block is larger than any block of ours"));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&head[25..]);
        blocks.push(Block { at, length, position, content, index: head[24] == 1, hash });
        at += length;
        if blocks.len() as u64 > limits::blocks(at) {
            return Err(broken("it has more blocks than any archive of its length"));
        }
        position += content;
    }
    match blocks.iter().any(|block| block.index) {
        true => Ok(Some(blocks)),
        false if size == 0 => Ok(None),
        false => Err(broken("its index is missing: it was cut")),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
