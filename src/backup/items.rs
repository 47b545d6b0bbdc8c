//! The files of a manifest in little memory: about 70 bytes each, where an [`Item`] takes 300.

use super::manifest::{Item, Kind, Name};
use crate::base::text::hex;
use crate::base::xattrs::Xattrs;
use chrono::DateTime;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// So many items are packed together: the first of them says all, the others what differs.
const GROUP: usize = 64;

const FOLDER: u8 = 1;
const LINK: u8 = 2;
/// It has the mode, owner and group of the item before it.
const SAME_OWNER: u8 = 4;
/// It says where its content begins.
const AT: u8 = 8;
/// Its hash is no SHA-256 in small letters, and kept as text.
const ODD_HASH: u8 = 16;
const STAMP: u8 = 32;
const CUT: u8 = 64;
const XATTRS: u8 = 128;

/// A list of items.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Items {
    groups: Vec<Box<[u8]>>,
    /// The last group, which is not full.
    open: Vec<u8>,
    /// What the item before said, in the last group.
    before: Before,
    count: usize,
}

/// What an item may leave out, because the one before it said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Before {
    path: Vec<u8>,
    owner: (u32, u32, u32),
}

impl Items {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One more, at the end.
    pub fn push(&mut self, item: &Item) {
        if self.count.is_multiple_of(GROUP) && self.count > 0 {
            self.groups.push(self.open.as_slice().into());
            self.open.clear();
            self.before = Before::default();
        }
        self.count += 1;
        write(&mut self.open, item, &mut self.before);
    }

    /// All of them, in order.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_at(0)
    }

    /// One of them.
    pub fn get(&self, number: usize) -> Option<Item> {
        self.iter_at(number / GROUP).nth(number % GROUP)
    }

    fn iter_at(&self, group: usize) -> Iter<'_> {
        Iter { items: self, next: group, left: Left(&[]), before: Before::default() }
    }

    fn group(&self, number: usize) -> Option<&[u8]> {
        if number == self.groups.len() {
            Some(&self.open)
        } else {
            self.groups.get(number).map(|group| &**group)
        }
    }
}

/// The items of a list.
pub struct Iter<'a> {
    items: &'a Items,
    next: usize,
    left: Left<'a>,
    before: Before,
}

impl Iterator for Iter<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.left.0.is_empty() {
            self.left = Left(self.items.group(self.next)?);
            self.next += 1;
            self.before = Before::default();
        }
        self.left.item(&mut self.before)
    }
}

impl<'a> IntoIterator for &'a Items {
    type Item = Item;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<Item> for Items {
    fn from_iter<I: IntoIterator<Item = Item>>(all: I) -> Items {
        let mut items = Items::default();
        all.into_iter().for_each(|item| items.push(&item));
        items
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Items, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of files")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items, A::Error> {
                let mut items = Items::default();
                while let Some(item) = list.next_element()? {
                    items.push(&item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

fn write(out: &mut Vec<u8>, item: &Item, before: &mut Before) {
    let owner = (item.mode, item.uid, item.gid);
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let hash = match &item.kind {
        Kind::File { sha256, .. } => from_hex(sha256),
        _ => None,
    };
    let kind = match &item.kind {
        Kind::File { .. } => flag(hash.is_none(), ODD_HASH),
        Kind::Folder => FOLDER,
        Kind::Link { .. } => LINK,
    };
    out.push(
        kind | flag(owner == before.owner, SAME_OWNER)
            | flag(item.at.is_some(), AT)
            | flag(item.stamp.is_some(), STAMP)
            | flag(item.cut.is_some(), CUT)
            | flag(!item.xattrs.is_empty(), XATTRS),
    );
    let path = item.path.0.as_os_str().as_bytes();
    let shared = path.iter().zip(&before.path).take_while(|(a, b)| a == b).count();
    number(out, shared as u64);
    text(out, &path[shared..]);
    before.path.truncate(shared);
    before.path.extend_from_slice(&path[shared..]);
    if owner != before.owner {
        [owner.0, owner.1, owner.2].iter().for_each(|&id| number(out, id.into()));
        before.owner = owner;
    }
    let seconds = item.mtime.timestamp();
    // The sign goes last, so that it costs one bit.
    number(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
    number(out, item.mtime.timestamp_subsec_nanos().into());
    match &item.kind {
        Kind::File { size, sha256 } => {
            number(out, *size);
            match hash {
                Some(hash) => out.extend_from_slice(&hash),
                None => text(out, sha256.as_bytes()),
            }
        }
        Kind::Folder => {}
        Kind::Link { target } => text(out, target.0.as_os_str().as_bytes()),
    }
    item.at.iter().for_each(|&at| number(out, at));
    item.stamp.iter().for_each(|stamp| text(out, stamp.as_bytes()));
    item.cut.iter().for_each(|&cut| number(out, cut));
    if !item.xattrs.is_empty() {
        number(out, item.xattrs.0.len() as u64);
        for (name, value) in &item.xattrs.0 {
            text(out, name.as_bytes());
            text(out, value);
        }
    }
}

/// A number in groups of seven bits, the lowest first.
fn number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// A SHA-256 in small letters.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

/// What is left of a group. None of it is ever short: [`write`] wrote it.
struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn item(&mut self, before: &mut Before) -> Option<Item> {
        let flags = *self.bytes(1)?.first()?;
        let has = |flag: u8| flags & flag != 0;
        before.path.truncate(usize::try_from(self.number()?).ok()?);
        before.path.extend_from_slice(self.text()?);
        if !has(SAME_OWNER) {
            let mut id = || u32::try_from(self.number()?).ok();
            before.owner = (id()?, id()?, id()?);
        }
        let (mode, uid, gid) = before.owner;
        let seconds = self.number()?;
        let seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
        let mtime = DateTime::from_timestamp(seconds, u32::try_from(self.number()?).ok()?)?;
        let kind = if has(FOLDER) {
            Kind::Folder
        } else if has(LINK) {
            Kind::Link { target: Name(path(self.text()?)) }
        } else {
            let size = self.number()?;
            let sha256 = if has(ODD_HASH) { self.string()? } else { hex(self.bytes(32)?) };
            Kind::File { size, sha256 }
        };
        let at = if has(AT) { Some(self.number()?) } else { None };
        let stamp = if has(STAMP) { Some(self.string()?) } else { None };
        let cut = if has(CUT) { Some(self.number()?) } else { None };
        let mut xattrs = Xattrs::default();
        for _ in 0..if has(XATTRS) { self.number()? } else { 0 } {
            xattrs.0.insert(self.string()?, self.text()?.to_vec());
        }
        Some(Item { path: Name(path(&before.path)), kind, mode, uid, gid, mtime, at, stamp, cut, xattrs })
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        let end = self.0.iter().position(|byte| byte & 0x80 == 0)?;
        let bytes = self.bytes(end + 1)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.bytes(usize::try_from(count).ok()?)
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_path() -> impl Strategy<Value = Name> {
        prop_oneof![
            "(/?)([ab]{1,2}/){0,3}[abc]{0,3}".prop_map(|text| Name(text.into())),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Name(path(&bytes)))
        ]
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let hash = prop_oneof![
            any::<[u8; 32]>().prop_map(|hash| hex(&hash)),
            any::<[u8; 32]>().prop_map(|hash| hex(&hash).to_uppercase()),
            "[0-9a-zö]{0,70}",
        ];
        let kind = prop_oneof![
            (any::<u64>(), hash).prop_map(|(size, sha256)| Kind::File { size, sha256 }),
            Just(Kind::Folder),
            any_path().prop_map(|target| Kind::Link { target }),
        ];
        let owner = prop_oneof![Just((0o644, 0, 0)), any::<(u32, u32, u32)>()];
        let time = (-8_000_000_000_000i64..8_000_000_000_000, 0u32..1_000_000_000);
        let stamp = prop::option::of(".{0,20}");
        let xattrs = prop::collection::btree_map(".{1,9}", prop::collection::vec(any::<u8>(), 0..9), 0..3);
        (any_path(), kind, owner, time, any::<(Option<u64>, Option<u64>)>(), stamp, xattrs).prop_map(
            |(path, kind, (mode, uid, gid), (seconds, nanos), (at, cut), stamp, xattrs)| {
                let mtime = DateTime::from_timestamp(seconds, nanos).unwrap();
                Item { path, kind, mode, uid, gid, mtime, at, stamp, cut, xattrs: Xattrs(xattrs) }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn what_is_packed_is_what_was_given(all in prop::collection::vec(any_item(), 0..200)) {
            let items: Items = all.iter().cloned().collect();
            prop_assert_eq!(items.len(), all.len());
            prop_assert!(items.iter().eq(all.iter().cloned()));
            for number in [0, 1, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 199, 200] {
                prop_assert_eq!(items.get(number), all.get(number).cloned());
            }
        }
    }

    #[test]
    fn a_small_file_takes_less_than_eighty_bytes() {
        let mut items = Items::default();
        for number in 0..1000u32 {
            let kind = Kind::File { size: 100, sha256: hex(&[7; 32]) };
            let path = Name(format!("memory/notes/of-2026/note-{number:06}.md").into());
            let mtime = DateTime::from_timestamp(1_790_000_000, 123_456_789).unwrap();
            let at = Some(1024 * u64::from(number));
            let (mode, uid, gid) = (0o600, 1000, 1000);
            let (stamp, cut, xattrs) = (None, None, Xattrs::default());
            items.push(&Item { path, kind, mode, uid, gid, mtime, at, stamp, cut, xattrs });
        }
        let bytes = items.groups.iter().map(|group| group.len() + 32).sum::<usize>() + items.open.len();
        assert!(bytes < 80 * 1000, "{bytes}");
    }
}
