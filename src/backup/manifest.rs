//! What an archive says of itself: `manifest.json`, and `checksums.sha256` for ordinary tools.

pub use super::items::Items;
pub use crate::base::database::Unjudged;
pub use crate::base::name::Name;

use super::hashed::Hashed;
use super::limits::remarks;
use crate::base::text::one_line;
use crate::base::xattrs::Xattrs;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, BufWriter};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The version of the format that this program writes, and the newest it reads.
///
/// 2 says of each database whether it is sound, of each include whether it found anything, and what of
/// the archive before is missing. 1 is still read.
pub const SCHEMA: u32 = 2;
/// The manifest's name below the top folder.
pub const MANIFEST: &str = "manifest.json";
/// The checksums' name below the top folder.
pub const CHECKSUMS: &str = "checksums.sha256";
/// The folder of raw copies of damaged databases, below the top folder.
pub const DAMAGED: &str = ".damaged";
/// The folder of files from outside the home, below the top folder.
pub const OUTSIDE: &str = ".outside";
/// The folder of what commands of `[backup.dump]` wrote, below the top folder.
pub const DUMPS: &str = ".dumps";
/// The folder of files of the home whose names an archive needs for itself.
pub const RENAMED: &str = ".home";

/// The index of one archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// The top folder that everything is under.
    pub folder: String,
    /// The agent's name.
    pub agent: String,
    /// The host it was made on.
    pub host: String,
    /// The run that made it.
    pub run: String,
    /// When that run began.
    pub time: DateTime<Utc>,
    /// The place in the order of making: one more than any archive before it.
    pub sequence: u64,
    /// The version of agent-ops that made it.
    pub version: String,
    /// Everything in it that a restore brings back.
    pub files: Items,
    /// Which of the files are databases, and how they are.
    pub databases: Vec<Database>,
    /// Raw copies of what could not be saved as a sound database, for a person to look at.
    pub damaged: Vec<Item>,
    /// Files that went away while the archive was made.
    #[serde(deserialize_with = "remarks")]
    pub vanished: Vec<Name>,
    /// What else a person should know.
    #[serde(deserialize_with = "remarks")]
    pub problems: Vec<String>,
    /// What each include of `[backup]` found.
    #[serde(default)]
    pub includes: Vec<Include>,
    /// Databases that an archive before had and this one lacks. While it is made, those that it is to have.
    #[serde(default)]
    pub lacking: Vec<Lacking>,
    /// Links that lead to nothing in the archive.
    #[serde(default, deserialize_with = "remarks")]
    pub links_out: Vec<LinkOut>,
    /// What could not be kept as it was.
    #[serde(default, deserialize_with = "remarks")]
    pub unkept: Vec<Unkept>,
    /// What commands of `[backup.dump]` wrote.
    #[serde(default)]
    pub dumps: Vec<Dump>,
    /// Those that failed.
    #[serde(default)]
    pub no_dumps: Vec<NoDump>,
}

/// A symbolic link that leads to nothing in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOut {
    /// Where the link is, relative to the home.
    pub path: Name,
    /// Where it points.
    pub target: Name,
    /// What is there.
    pub leads: Leads,
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leads {
    /// Out of the home.
    Outside,
    /// To something in the home that is not included.
    NotIncluded,
    /// To a place in the home where nothing is.
    Nowhere,
    /// To what comes with the system, or goes at each boot.
    System,
}

impl LinkOut {
    /// Whether a person should know: state may be there that the backup does not have.
    pub fn matters(&self) -> bool {
        matches!(self.leads, Leads::Outside | Leads::NotIncluded)
    }
}

/// Something that an archive does not have as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// Where it is, relative to the home.
    pub path: Name,
    /// What is not kept.
    pub what: Loss,
}

/// What an archive does not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// A socket: whoever listens makes it.
    Socket,
    /// A FIFO.
    Fifo,
    /// A device.
    Device,
    /// It was a file, folder or link when the backup began, and then something else.
    ChangedKind,
    /// The set-user-ID or set-group-ID bit of a file: it is in the archive, and no restore sets it.
    SetId,
    /// An extended attribute.
    Attribute {
        /// Its name.
        name: Name,
    },
    /// Its extended attributes and access control lists, which could not be read.
    Attributes,
}

impl Loss {
    /// Whether a person has to look at it.
    pub fn matters(&self) -> bool {
        matches!(self, Loss::ChangedKind | Loss::Attributes)
    }

    /// A few words for people.
    pub fn words(&self) -> String {
        let words = match self {
            Loss::Socket => "a socket is not archived",
            Loss::Fifo => "a FIFO is not archived",
            Loss::Device => "a device is not archived",
            Loss::ChangedKind => "it became something else while the backup ran",
            Loss::SetId => "no restore will set its set-user-ID or set-group-ID bit",
            Loss::Attributes => "its extended attributes and access control lists cannot be read",
            Loss::Attribute { name } => {
                return format!("the attribute {} is not archived", one_line(&name.0.to_string_lossy(), 100));
            }
        };
        words.to_owned()
    }
}

/// What a command of `[backup.dump]` wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Its name in the config.
    pub name: String,
    /// The program and its arguments, without secrets.
    pub command: String,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Its output.
    pub file: Item,
}

impl Dump {
    /// Its name in the archive, below the top folder.
    pub fn member(&self) -> PathBuf {
        Path::new(DUMPS).join(&self.name)
    }
}

/// A command of `[backup.dump]` that failed: there is no dump of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDump {
    /// Its name in the config.
    pub name: String,
    /// Why, for people.
    pub why: String,
}

/// What an include of `[backup]` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// The pattern, as the config has it.
    pub pattern: String,
    /// How many files, folders and links it matched.
    pub found: usize,
    /// Whether it names one path, which has to exist: it has no wildcard and is not optional.
    pub required: bool,
}

impl Include {
    /// Whether it names a path that has to exist, and does not.
    pub fn is_missing(&self) -> bool {
        self.required && self.found == 0
    }
}

/// A database that an archive before had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Its file, relative to the home.
    pub path: Name,
    /// The newest archive that has it.
    pub archive: String,
    /// When that one was made.
    pub time: DateTime<Utc>,
    /// When it was first missed.
    pub since: DateTime<Utc>,
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat")]
pub struct Item {
    /// Where it belongs: relative to the home, or absolute outside it.
    pub path: Name,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its permissions, octal.
    #[serde(with = "octal")]
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last written.
    pub mtime: DateTime<Utc>,
    /// Where a file's content begins in the tar stream. Archives of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// What changes whenever the file does: inode, size, times. Only of files that have members
    /// of their own and were at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// Bytes of an unfinished last line that are not in the archive: they were being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    /// Extended attributes and access control lists, in base64.
    #[serde(default, skip_serializing_if = "Xattrs::is_empty")]
    pub xattrs: Xattrs,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// The SHA-256 of its content, hexadecimal.
        sha256: String,
    },
    /// A folder.
    Folder,
    /// A symbolic link.
    Link {
        /// Where it points.
        target: Name,
    },
}

/// An [`Item`] as it is read: what serde flattens it reads twice, and an index is read often.
#[derive(Deserialize)]
struct Flat {
    path: Name,
    kind: String,
    size: Option<u64>,
    sha256: Option<String>,
    target: Option<Name>,
    #[serde(with = "octal")]
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: DateTime<Utc>,
    at: Option<u64>,
    stamp: Option<String>,
    cut: Option<u64>,
    #[serde(default)]
    xattrs: Xattrs,
}

impl TryFrom<Flat> for Item {
    type Error = String;

    fn try_from(flat: Flat) -> Result<Item, String> {
        let kind = match (flat.kind.as_str(), flat.size, flat.sha256, flat.target) {
            ("file", Some(size), Some(sha256), _) => Kind::File { size, sha256 },
            ("folder", ..) => Kind::Folder,
            ("link", _, _, Some(target)) => Kind::Link { target },
            _ => return Err(format!("a {} lacks something, or nobody knows what it is", flat.kind)),
        };
        let Flat { path, mode, uid, gid, mtime, at, stamp, cut, xattrs, .. } = flat;
        Ok(Item { path, kind, mode, uid, gid, mtime, at, stamp, cut, xattrs })
    }
}

/// What a database was like when it was saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "FlatDatabase")]
pub struct Database {
    /// Its file, relative to the home.
    pub path: Name,
    /// Pages.
    pub pages: u64,
    /// Bytes a page.
    pub page_size: u64,
    /// `wal` or `rollback`.
    pub mode: String,
    /// `ok`, or what its check said: text for people.
    pub integrity: String,
    /// What its check found.
    #[serde(flatten)]
    pub soundness: Soundness,
    /// For how long it was held, in seconds: writers of a `rollback` one waited so long.
    pub seconds: f64,
}

/// Whether a database is known to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "soundness", content = "reason", rename_all = "lowercase")]
pub enum Soundness {
    /// SQLite checked it and found nothing wrong.
    Sound,
    /// SQLite found it damaged.
    Damaged,
    /// SQLite could not check it. It is restored as it is.
    Unjudged(Unjudged),
}

/// A [`Database`] as it is read.
#[derive(Deserialize)]
struct FlatDatabase {
    path: Name,
    pages: u64,
    page_size: u64,
    mode: String,
    integrity: String,
    soundness: Option<String>,
    reason: Option<Unjudged>,
    seconds: f64,
}

impl From<FlatDatabase> for Database {
    fn from(flat: FlatDatabase) -> Database {
        let FlatDatabase { path, pages, page_size, mode, integrity, soundness, reason, seconds } = flat;
        let soundness = match soundness.as_deref() {
            Some("sound") => Soundness::Sound,
            Some("damaged") => Soundness::Damaged,
            Some(_) => Soundness::Unjudged(reason.unwrap_or(Unjudged::Other)),
            // Schema 1 has the text alone, also of databases that could not be judged.
            None if integrity == "ok" => Soundness::Sound,
            None => Unjudged::of_message(&integrity).map_or(Soundness::Damaged, Soundness::Unjudged),
        };
        Database { path, pages, page_size, mode, integrity, soundness, seconds }
    }
}

impl Database {
    /// Whether its check found nothing wrong.
    pub fn is_sound(&self) -> bool {
        self.soundness == Soundness::Sound
    }

    /// Whether its check found damage.
    pub fn is_damaged(&self) -> bool {
        self.soundness == Soundness::Damaged
    }

    /// Whether it could not be read, and so is not in the archive.
    pub fn is_left_out(&self) -> bool {
        matches!(self.soundness, Soundness::Unjudged(Unjudged::Locked | Unjudged::Unreadable))
    }
}

impl Manifest {
    /// How many files (not folders) it has.
    pub fn count(&self) -> usize {
        self.files.iter().filter(|item| !matches!(item.kind, Kind::Folder)).count()
    }

    /// Whether a file of the home is in it, as a file.
    pub fn has_file(&self, path: &Path) -> bool {
        let is_file = |item: Item| item.path.0 == path && matches!(item.kind, Kind::File { .. });
        self.files.iter().any(is_file)
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        // It may say anything.
        self.files.iter().fold(0, |bytes, item| bytes.saturating_add(item.size()))
    }

    /// Every item with its name in the archive, below the top folder.
    pub fn members(&self) -> impl Iterator<Item = (PathBuf, Item)> {
        let damaged = self.damaged.iter().map(|item| (damaged_member(&item.path.0), item.clone()));
        let dumps = self.dumps.iter().map(|dump| (dump.member(), dump.file.clone()));
        self.files.iter().map(|item| (member(&item.path.0), item)).chain(damaged).chain(dumps)
    }

    /// Writes `manifest.json`: a line a file, for `grep`, and quick to read.
    pub fn write_json(&self, mut out: impl io::Write) -> io::Result<()> {
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Lines))?;
        out.write_all(b"\n")
    }

    /// Writes `checksums.sha256`, in the order of the archive; `manifest` is the hash of the manifest's own
    /// file.
    pub fn write_checksums(&self, manifest: &str, mut out: impl io::Write) -> io::Result<()> {
        let mut text = Vec::new();
        for (name, item) in self.members() {
            if let Kind::File { sha256, .. } = &item.kind {
                checksum_line(&mut text, sha256, &name);
                out.write_all(&text)?;
                text.clear();
            }
        }
        checksum_line(&mut text, manifest, Path::new(MANIFEST));
        out.write_all(&text)
    }

    /// The SHA-256 of `manifest.json`.
    pub fn hash(&self) -> io::Result<String> {
        let mut text = Hashed::new(io::sink(), None);
        self.write_json(BufWriter::new(&mut text))?;
        Ok(text.finish())
    }

    /// The SHA-256 of `checksums.sha256`.
    pub fn hash_of_checksums(&self, manifest: &str) -> io::Result<String> {
        let mut text = Hashed::new(io::sink(), None);
        self.write_checksums(manifest, BufWriter::new(&mut text))?;
        Ok(text.finish())
    }
}

/// Spells JSON with each element of a list on a line of its own.
struct Lines;

impl serde_json::ser::Formatter for Lines {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"\n" } else { b",\n" })
    }
}

impl Item {
    /// Bytes of content; 0 for folders and links.
    pub fn size(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
    }
}

/// The name in the archive of a raw copy of a file of a damaged database.
pub fn damaged_member(path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(rest) => Path::new(DAMAGED).join(OUTSIDE).join(rest),
        Err(_) => Path::new(DAMAGED).join(path),
    }
}

/// The name in the archive of a path of the home: the same, unless an archive needs the name
/// for itself. What is outside the home has a folder of its own.
pub fn member(path: &Path) -> PathBuf {
    if let Ok(rest) = path.strip_prefix("/") {
        return Path::new(OUTSIDE).join(rest);
    }
    let first = path.iter().next().unwrap_or_default();
    if [MANIFEST, CHECKSUMS, DAMAGED, RENAMED, OUTSIDE, DUMPS].iter().any(|taken| first == *taken) {
        Path::new(RENAMED).join(path)
    } else {
        path.to_owned()
    }
}

/// A line as `sha256sum` writes it: a name with a line break or a backslash is escaped, and the
/// line says so by a backslash of its own.
///
/// A name with a carriage return is on a line of the BSD form. On a line of the other form `sha256sum -c` takes
/// one at the end for part of the line break, and its way to escape one is unknown to `shasum -c`.
fn checksum_line(text: &mut Vec<u8>, sha256: &str, name: &Path) {
    let name = name.as_os_str().as_bytes();
    if name.iter().any(|byte| b"\n\\".contains(byte)) {
        text.push(b'\\');
    }
    let bsd = name.contains(&b'\r');
    if bsd {
        text.extend_from_slice(BSD.0);
    } else {
        text.extend_from_slice(sha256.as_bytes());
        text.extend_from_slice(b"  ");
    }
    for &byte in name {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            byte => text.push(byte),
        }
    }
    if bsd {
        text.extend_from_slice(BSD.1);
        text.extend_from_slice(sha256.as_bytes());
    }
    text.push(b'\n');
}

/// What stands before and after the name on a line of the BSD form.
const BSD: (&[u8], &[u8]) = (b"SHA256 (", b") = ");

/// Reads `checksums.sha256` as `sha256sum` and `shasum` write it: hash and name of each line.
///
/// Lines that are neither are passed over.
pub fn read_checksums(text: &[u8]) -> Vec<(String, PathBuf)> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let (escaped, line) = match line.strip_prefix(b"\\") {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            let bsd = line.strip_prefix(BSD.0).and_then(|rest| {
                let (name, hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
                Some((hash, name.strip_suffix(BSD.1)?))
            });
            let (hash, name) = bsd.or_else(|| {
                let (hash, name) = line.split_at_checked(64)?;
                Some((hash, name.strip_prefix(b"  ").or_else(|| name.strip_prefix(b" *"))?))
            })?;
            let hash =
                std::str::from_utf8(hash).ok().filter(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()))?;
            let mut plain = Vec::with_capacity(name.len());
            let mut bytes = name.iter();
            while let Some(&byte) = bytes.next() {
                match byte {
                    b'\\' if escaped => plain.push(if bytes.next() == Some(&b'n') { b'\n' } else { b'\\' }),
                    byte => plain.push(byte),
                }
            }
            Some((hash.to_ascii_lowercase(), PathBuf::from(OsString::from_vec(plain))))
        })
        .collect()
}

mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{mode:04o}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        u32::from_str_radix(&String::deserialize(deserializer)?, 8).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_name_survives_json_and_checksums(bytes in prop::collection::vec(1u8..=255, 1..40)) {
            let name = Name(PathBuf::from(OsString::from_vec(bytes)));
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Name>(&json).unwrap(), &name);
            let hash = "ab".repeat(32);
            let mut text = Vec::new();
            checksum_line(&mut text, &hash, &name.0);
            prop_assert_eq!(read_checksums(&text), vec![(hash, name.0)]);
        }

        #[test]
        fn any_bytes_are_read_as_checksums_or_passed_over(bytes in any::<Vec<u8>>()) {
            read_checksums(&bytes);
        }
    }

    #[test]
    fn items_are_read_as_they_are_written() {
        let common = r#""mode":"0644","uid":1,"gid":2,"mtime":"2026-11-20T09:30:00Z""#;
        for kind in [
            r#""kind":"file","size":3,"sha256":"ab""#,
            r#""kind":"folder""#,
            r#""kind":"link","target":"elsewhere""#,
            r#""kind":"link","target":{"hex":"ff"}"#,
        ] {
            let text = format!(r#"{{"path":"a",{kind},{common}}}"#);
            let item: Item = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&item).unwrap(), text);
        }
        for kind in [r#""kind":"file","size":3"#, r#""kind":"link""#, r#""kind":"device""#] {
            let text = format!(r#"{{"path":"a",{kind},{common}}}"#);
            assert!(serde_json::from_str::<Item>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn databases_say_how_they_are_also_in_schema_1() {
        let of = |fields: &str| {
            let text =
                format!(r#"{{"path":"a","pages":1,"page_size":4096,"mode":"wal",{fields},"seconds":0.0}}"#);
            let database: Database = serde_json::from_str(&text).unwrap();
            let again = serde_json::to_string(&database).unwrap();
            assert_eq!(serde_json::from_str::<Database>(&again).unwrap().soundness, database.soundness);
            database.soundness
        };
        assert_eq!(of(r#""integrity":"ok""#), Soundness::Sound);
        assert_eq!(of(r#""integrity":"*** in database main ***; Page 3""#), Soundness::Damaged);
        for (text, reason) in [
            ("quick_check failed: no such collation sequence: MYC", Unjudged::Collation),
            ("no such tokenizer: mine", Unjudged::Tokenizer),
            ("quick_check failed: no such module: vec0", Unjudged::Module),
        ] {
            assert_eq!(of(&format!(r#""integrity":"{text}""#)), Soundness::Unjudged(reason));
            let now = format!(r#""integrity":"{text}","soundness":"damaged""#);
            assert_eq!(of(&now), Soundness::Damaged);
        }
        let later = r#""integrity":"?","soundness":"unjudged","reason":"not known yet""#;
        assert_eq!(of(later), Soundness::Unjudged(Unjudged::Other));
    }

    #[test]
    fn a_home_may_have_files_named_like_ours() {
        assert_eq!(member(Path::new("memory/manifest.json")), Path::new("memory/manifest.json"));
        assert_eq!(member(Path::new("manifest.json")), Path::new(".home/manifest.json"));
        assert_eq!(member(Path::new(".home/manifest.json")), Path::new(".home/.home/manifest.json"));
    }
}
