//! Extended attributes and access control lists of files, read and set by descriptor.
//!
//! What is kept: `user.*`, and POSIX ACLs, which Linux shows as `system.posix_acl_access` and `_default`. On
//! macOS, everything but what the system sets by itself (`com.apple.*`); its ACLs are no attributes.
//!
//! What is not: `security.*` (labels belong to the host and its policy, and no restore gives a file the
//! capabilities of another) and `trusted.*` (of the host, and of root alone).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fd::AsFd;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The access control list.
pub const ACL: &str = "system.posix_acl_access";
/// The list that what is made in a folder gets.
pub const DEFAULT_ACL: &str = "system.posix_acl_default";
/// The most that is kept of one file: no file system of Linux but XFS and tmpfs has room for so much.
const MOST: usize = 256 << 10;

/// Attributes, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs(pub BTreeMap<String, Vec<u8>>);

/// What a file has, and the names of what is not kept.
#[derive(Debug, Default)]
pub struct Read {
    /// What is kept.
    pub kept: Xattrs,
    /// What is not, though nobody but its owner set it.
    pub unkept: Vec<OsString>,
}

/// Reads the attributes of an open file or folder. A file system without them has none.
///
/// # Errors
/// They cannot be read.
pub fn read(file: impl AsFd) -> io::Result<Read> {
    let mut read = Read::default();
    let mut names = vec![0; 1024];
    let length = loop {
        match flistxattr(&file, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < MOST => names = vec![0; names.len() * 4],
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(read),
            Err(error) => return Err(error.into()),
        }
    };
    let mut left = MOST;
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if is_of_the_host(name) {
            continue;
        }
        let text = std::str::from_utf8(name).ok().filter(|name| is_kept(name));
        let value = text.map(|name| value(&file, name, left)).transpose()?.flatten();
        match (text, value) {
            (Some(name), Some(value)) => {
                left -= value.len();
                read.kept.0.insert(name.to_owned(), value);
            }
            _ => read.unkept.push(OsString::from_vec(name.to_vec())),
        }
    }
    Ok(read)
}

/// The value of an attribute. None: it is gone, or longer than `most`.
fn value(file: impl AsFd, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 1024.min(most)];
    loop {
        match fgetxattr(&file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < most => value = vec![0; (value.len() * 8).min(most)],
            Err(Errno::RANGE | Errno::NODATA) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
fn is_kept(name: &str) -> bool {
    name.starts_with("user.") || [ACL, DEFAULT_ACL].contains(&name)
}

#[cfg(not(target_os = "linux"))]
fn is_kept(_: &str) -> bool {
    true
}

/// Whether the system sets it, by itself or by its policy.
fn is_of_the_host(name: &[u8]) -> bool {
    if cfg!(target_os = "linux") {
        [
            &b"security.selinux"[..],
            b"security.apparmor",
            b"security.SMACK64",
            b"security.ima",
            b"security.evm",
        ]
        .contains(&name)
            || name.starts_with(b"trusted.overlay.")
    } else {
        name.starts_with(b"com.apple.")
    }
}

impl Xattrs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets all of them on an open file or folder that we made, and takes from it a list that it got from
    /// the folder it was made in. Gives the names of those that could not be set.
    pub fn set(&self, file: impl AsFd) -> Vec<String> {
        for list in
            [ACL, DEFAULT_ACL].iter().filter(|list| cfg!(target_os = "linux") && !self.0.contains_key(**list))
        {
            // There is none, or its file system has none.
            let _ = fremovexattr(&file, *list);
        }
        let set = |(name, value): &(&String, &Vec<u8>)| {
            is_kept(name) && fsetxattr(&file, name.as_str(), value, XattrFlags::empty()).is_ok()
        };
        self.0.iter().filter(|one| !set(one)).map(|(name, _)| name.clone()).collect()
    }

    /// The mode of a file that gets none of its access control list: the group has what the list gave the
    /// owning group, not what it gave anybody in it.
    pub fn mode_without_acl(&self, mode: u32) -> u32 {
        let Some(list) = self.0.get(ACL) else { return mode };
        let entries = entries(list);
        let of = |tag: u16| entries.iter().flatten().find(|entry| entry.tag == tag).map(|entry| entry.perm);
        let group = of(GROUP_OBJ).unwrap_or(0) & of(MASK).unwrap_or(7) & 7;
        mode & !0o070 | mode & u32::from(group) << 3
    }

    /// As `tar` has them: the lists as text, by user and group numbers, and the rest as they are.
    pub fn pax(&self) -> Vec<(String, Vec<u8>)> {
        let record = |(name, value): (&String, &Vec<u8>)| match name.as_str() {
            ACL => Some(("SCHILY.acl.access".to_owned(), text(value)?)),
            DEFAULT_ACL => Some(("SCHILY.acl.default".to_owned(), text(value)?)),
            // As GNU tar spells a name in a record, which ends at the first `=`.
            name => {
                let name = name.replace('%', "%25").replace('=', "%3D");
                Some((format!("SCHILY.xattr.{name}"), value.clone()))
            }
        };
        self.0.iter().filter_map(record).collect()
    }
}

const GROUP_OBJ: u16 = 4;
const MASK: u16 = 0x10;

/// One entry of an access control list, as Linux stores it.
struct AclEntry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// The entries of a list of version 2. None: it is something else.
fn entries(list: &[u8]) -> Option<Vec<AclEntry>> {
    let (parts, []) = list.strip_prefix(&2u32.to_le_bytes())?.as_chunks::<8>() else { return None };
    Some(
        parts
            .iter()
            .map(|part| AclEntry {
                tag: u16::from_le_bytes([part[0], part[1]]),
                perm: u16::from_le_bytes([part[2], part[3]]),
                id: u32::from_le_bytes([part[4], part[5], part[6], part[7]]),
            })
            .collect(),
    )
}

/// A list as `acl_from_text(3)` reads it, without names, which mean somebody else on another host.
fn text(list: &[u8]) -> Option<Vec<u8>> {
    let line = |AclEntry { tag, perm, id }: &AclEntry| {
        let id = id.to_string();
        let (tag, id) = match *tag {
            1 => ("user", ""),
            2 => ("user", id.as_str()),
            GROUP_OBJ => ("group", ""),
            8 => ("group", id.as_str()),
            MASK => ("mask", ""),
            0x20 => ("other", ""),
            _ => return None,
        };
        let may = |bit: u16, letter: char| if perm & bit == 0 { '-' } else { letter };
        Some(format!("{tag}:{id}:{}{}{}\n", may(4, 'r'), may(2, 'w'), may(1, 'x')))
    };
    let lines: Option<String> = entries(list)?.iter().map(line).collect();
    lines.map(String::into_bytes)
}

impl Serialize for Xattrs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, STANDARD.encode(value))))
    }
}

impl<'de> Deserialize<'de> for Xattrs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Xattrs, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let value = |(name, text): (String, String)| {
            STANDARD.decode(text).map(|value| (name, value)).map_err(de::Error::custom)
        };
        texts.into_iter().map(value).collect::<Result<_, _>>().map(Xattrs)
    }
}

/// A name to be shown: it may be anything.
pub fn shown(name: &OsStr) -> String {
    super::text::one_line(&String::from_utf8_lossy(name.as_bytes()), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            list.extend([tag.to_le_bytes(), perm.to_le_bytes()].as_flattened());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn a_list_is_text_for_tar_and_its_loss_widens_nothing() {
        let none = u32::MAX;
        // 0600 for its owner, and rw- for a user: the mode shows the mask, 0660.
        let acl = list(&[(1, 6, none), (2, 6, 65_534), (4, 0, none), (0x10, 6, none), (0x20, 0, none)]);
        let xattrs =
            Xattrs(BTreeMap::from([(ACL.to_owned(), acl), ("user.a=b%".to_owned(), b"\0\xff".to_vec())]));
        let pax = xattrs.pax();
        let text = "user::rw-\nuser:65534:rw-\ngroup::---\nmask::rw-\nother::---\n";
        assert_eq!(pax[0], ("SCHILY.acl.access".to_owned(), text.as_bytes().to_vec()));
        assert_eq!(pax[1], ("SCHILY.xattr.user.a%3Db%25".to_owned(), b"\0\xff".to_vec()));
        assert_eq!(xattrs.mode_without_acl(0o660), 0o600);
        let json = serde_json::to_string(&xattrs).unwrap();
        assert_eq!(serde_json::from_str::<Xattrs>(&json).unwrap(), xattrs);

        let wide = list(&[(1, 6, none), (4, 7, none), (8, 7, 100), (0x10, 5, none), (0x20, 4, none)]);
        let xattrs = Xattrs(BTreeMap::from([(ACL.to_owned(), wide)]));
        assert_eq!(xattrs.mode_without_acl(0o654), 0o654);
        for garbage in [&b""[..], b"\x02\0\0\0\x01", b"\x03\0\0\0", &list(&[(99, 7, 0)])] {
            let xattrs = Xattrs(BTreeMap::from([(ACL.to_owned(), garbage.to_vec())]));
            assert!(xattrs.pax().is_empty() || garbage.len() == 4, "{garbage:?}");
            assert_eq!(xattrs.mode_without_acl(0o777), 0o707);
        }
        assert_eq!(Xattrs::default().mode_without_acl(0o777), 0o777);
    }

    #[test]
    fn what_is_set_is_read_and_what_is_inherited_goes() {
        let file = tempfile::tempfile().unwrap();
        let long = vec![7; 2000];
        let xattrs =
            Xattrs(BTreeMap::from([("user.empty".to_owned(), Vec::new()), ("user.long".to_owned(), long)]));
        if xattrs.set(&file).is_empty() {
            assert_eq!(read(&file).unwrap().kept, xattrs);
        }
        let forbidden = Xattrs(BTreeMap::from([("security.capability".to_owned(), vec![1])]));
        assert_eq!(forbidden.set(&file), ["security.capability"], "whoever we are");
    }
}
