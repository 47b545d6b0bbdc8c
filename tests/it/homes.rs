//! Random homes: whatever goes in comes out again bit for bit, by a restore and by plain `tar`.

use agent_ops::base::Run;
use agent_ops::{backup, config, restore};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        // Some of it presses well, some does not. No two stretches are the same.
        let pattern = if self.below(2) == 0 { u64::MAX } else { 0x0303_0303_0303_0303 };
        let words = std::iter::repeat_with(|| (self.next() & pattern).to_le_bytes());
        let stretch: Vec<u8> = words.take(length.min(8192) / 8 + 1).flatten().collect();
        let mut bytes = Vec::with_capacity(length + stretch.len());
        while bytes.len() < length {
            bytes.extend_from_slice(&stretch);
            bytes.extend(bytes.len().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// What a path is, with all that must come back.
#[derive(Debug, PartialEq, Eq)]
pub enum Thing {
    Folder { mode: u32, xattrs: Xattrs },
    Link(PathBuf),
    File { mode: u32, mtime: (i64, i64), xattrs: Xattrs, content: Vec<u8> },
}

/// Attributes by name, access control lists among them.
pub type Xattrs = BTreeMap<String, Vec<u8>>;

pub type Tree = BTreeMap<PathBuf, Thing>;

pub fn tree(root: &Path, skip: &[&str]) -> Tree {
    let top = |path: &Path| path.iter().next().and_then(OsStr::to_str).map(str::to_owned);
    walkdir::WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter_map(|path| {
            let inside = path.strip_prefix(root).unwrap().to_owned();
            if top(&inside).is_some_and(|top| skip.contains(&top.as_str())) || inside.ends_with("lost+found")
            {
                return None;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let thing = if meta.is_symlink() {
                Thing::Link(fs::read_link(&path).unwrap())
            } else if meta.is_dir() {
                Thing::Folder { mode: meta.mode() & 0o3777, xattrs: xattrs(&path) }
            } else if meta.is_file() {
                let mtime = (meta.mtime(), meta.mtime_nsec());
                let content = fs::read(&path).unwrap();
                Thing::File { mode: meta.mode() & 0o777, mtime, xattrs: xattrs(&path), content }
            } else {
                return None;
            };
            Some((inside, thing))
        })
        .collect()
}

fn xattrs(path: &Path) -> Xattrs {
    let mut names = vec![0; 4096];
    let length = rustix::fs::listxattr(path, &mut names).unwrap_or(0);
    let mut xattrs = Xattrs::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).unwrap();
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        if name.starts_with("user.") || name.starts_with("system.posix_acl") {
            xattrs.insert(name.to_owned(), value);
        }
    }
    xattrs
}

/// An access control list for a user that there need not be, as Linux stores it.
fn acl(random: &mut Random) -> Vec<u8> {
    let none = u32::MAX;
    let mut perm = || random.below(8) as u16;
    let entries = [
        (1u16, 6 | perm(), none),
        (2, perm(), 4711),
        (4, perm(), none),
        (8, perm(), 4712),
        (0x10, perm(), none),
        (0x20, perm(), none),
    ];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        list.extend([tag.to_le_bytes(), perm.to_le_bytes()].as_flattened());
        list.extend(id.to_le_bytes());
    }
    list
}

/// Gives some things attributes, where the file system keeps any.
fn attributes(path: &Path, random: &mut Random) {
    let set = |name: &str, value: &[u8]| {
        let _ = rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty());
    };
    match random.below(6) {
        0 => set("user.plain", b"a value"),
        1 => {
            set("user.odd=%25 \u{fc}", &random.bytes(100));
            set("user.empty", b"");
        }
        2 => {
            let length = random.below(3000) as usize;
            set("user.long", &random.bytes(length));
        }
        3 => set("system.posix_acl_access", &acl(random)),
        4 if path.is_dir() => set("system.posix_acl_default", &acl(random)),
        _ => {}
    }
}

/// A name that programs stumble over.
fn name(random: &mut Random, number: usize) -> OsString {
    let odd: [&[u8]; 13] = [
        b"plain",
        b"with space ",
        b"-rf",
        b"new\nline",
        b"not\xffutf8\xc0",
        "\u{fc}\u{1f980}".as_bytes(),
        b"back\\slash",
        b"*?[x]",
        b"'quote\"",
        b"\x1b[31m",
        b".hidden",
        b"\r",
        b"long",
    ];
    let which = random.below(odd.len() as u64) as usize;
    let mut bytes = odd[which].to_vec();
    if odd[which] == b"long" {
        bytes.extend(std::iter::repeat_n(b'x', random.below(240) as usize));
    }
    bytes.extend(number.to_string().bytes());
    OsString::from_vec(bytes)
}

fn database(path: &Path, random: &mut Random) {
    let db = rusqlite::Connection::open(path).unwrap();
    let wal = random.below(2) == 0;
    db.pragma_update(None, "journal_mode", if wal { "wal" } else { "delete" }).unwrap();
    db.pragma_update(None, "user_version", random.below(1000) as i64).unwrap();
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB); CREATE INDEX i ON t(a)")
        .unwrap();
    let insert = "INSERT INTO t(a, b) VALUES(?1, ?2)";
    for _ in 0..random.below(40) {
        let blob = random.below(3000) as usize;
        db.execute(insert, (random.next().to_string(), random.bytes(blob))).unwrap();
    }
}

/// What may stand at the end of a JSONL file: a writer died there, or writes no last line break.
fn tail(random: &mut Random) -> Vec<u8> {
    let tails: [&[u8]; 12] = [
        b"",
        b"{\"tor",
        b"{\"n\":1}",
        b"\n\n \n",
        b"  ",
        b"{\"n\":1}\r\n",
        b"{\"n\":1}\r\n{\"n\":2}\r",
        b"\0\0\0\0",
        b"{\"n\":\"\xff\xfe\"}",
        b"not JSON",
        b"{\"n\":1}{\"n\":",
        b"huge",
    ];
    match tails[random.below(tails.len() as u64) as usize] {
        b"huge" => [b"{\"n\":\"".to_vec(), vec![b'x'; 60_000 + random.below(100_000) as usize]].concat(),
        tail => tail.to_vec(),
    }
}

/// What is in a home.
pub struct Filled {
    /// What must come out of its archive.
    pub tree: Tree,
    /// Links that lead out of it, which only `tar` makes again.
    pub outward: Vec<PathBuf>,
    /// What cannot be kept, and must be reported.
    pub unkept: Vec<PathBuf>,
}

/// Fills a home; gives what must come out of its archive.
pub fn fill(home: &Path, random: &mut Random) -> Filled {
    let mut folders = vec![PathBuf::new()];
    let (mut outward, mut unkept) = (Vec::new(), Vec::new());
    for number in 0..1 + random.below(14) as usize {
        let parent = folders[random.below(folders.len() as u64) as usize].clone();
        let mut inside = parent.join(name(random, number));
        let size = match random.below(16) {
            0 => 0,
            1 => 262_144 + random.below(3) - 1,
            2 => 1_048_576 + random.below(3) - 1,
            3 => 512 * random.below(4),
            _ => random.below(6000),
        } as usize;
        let kind = if number == 0 { 5 } else { random.below(12) };
        match kind {
            0 | 1 => {
                fs::create_dir(home.join(&inside)).unwrap();
                folders.push(inside);
                continue;
            }
            2 => {
                let targets: [&[u8]; 6] =
                    [b"nowhere", b".", b"./plain0", b"no\xfftext", b"/srv/elsewhere", b"./a/../../.."];
                let which = random.below(targets.len() as u64) as usize;
                let target = PathBuf::from(OsString::from_vec(targets[which].to_vec()));
                symlink(&target, home.join(&inside)).unwrap();
                let depth = inside.components().count();
                if which == 4 || which == 5 && depth < 3 {
                    outward.push(inside);
                }
                continue;
            }
            7 => {
                assert!(Command::new("mkfifo").arg("--").arg(home.join(&inside)).status().unwrap().success());
                unkept.push(inside);
                continue;
            }
            3 => {
                inside.as_mut_os_string().push(".jsonl");
                let lines: String = (0..random.below(50)).map(|n| format!("{{\"n\":{n}}}\n")).collect();
                let tail = tail(random);
                fs::write(home.join(&inside), [lines.as_bytes(), &tail].concat()).unwrap();
            }
            4 => {
                let mut file = File::create(home.join(&inside)).unwrap();
                file.set_len(random.below(1_000_000)).unwrap();
                file.seek(SeekFrom::Start(random.below(1_200_000))).unwrap();
                file.write_all(&random.bytes(size % 5000)).unwrap();
            }
            6 => database(&home.join(&inside), random),
            _ => fs::write(home.join(&inside), random.bytes(size)).unwrap(),
        }
        let path = home.join(&inside);
        let mode = [0o600, 0o644, 0o755, 0o400, 0o777, 0o640, 0o606, 0o4755][random.below(8) as usize];
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        if mode > 0o777 {
            unkept.push(inside);
        }
        attributes(&path, random);
        let file = File::open(&path).unwrap();
        let since = Duration::new(random.below(2_000_000_000), random.below(1_000_000_000) as u32);
        file.set_modified(SystemTime::UNIX_EPOCH + since).unwrap();
    }
    for folder in folders.iter().skip(1) {
        let mode = [0o700, 0o755, 0o770, 0o1777, 0o2775][random.below(5) as usize];
        fs::set_permissions(home.join(folder), Permissions::from_mode(mode)).unwrap();
        attributes(&home.join(folder), random);
    }
    unkept.sort();
    Filled { tree: tree(home, &["ops.toml"]), outward, unkept }
}

/// Backs one random home up, and has it restored by us and unpacked by `tar`.
fn there_and_back(seed: u64, scratch: &Path) {
    let dir = tempfile::tempdir_in(scratch).unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let Filled { tree: mut expected, outward, unkept } = fill(&home, &mut Random(seed));
    let file = home.join("ops.toml");
    let backups = dir.path().join("backups");
    fs::write(
        &file,
        format!(
            "[agent]\npreset = \"none\"\n[backup]\ndir = \"{}\"\ninclude = [\"**\"]\nexclude = [\"ops.toml\"]\n",
            backups.display()
        ),
    )
    .unwrap();
    let loaded = config::load(&file, Some(&home)).unwrap();
    let run = Run::begin("test");
    let made = backup::make(&loaded, &run, None).unwrap();
    assert!(made.problems.is_empty(), "seed {seed}: {made:?}");
    let mut told: Vec<_> = made.unkept.iter().map(|unkept| unkept.path.0.clone()).collect();
    told.sort();
    assert_eq!(told, unkept, "seed {seed}");
    let told: Vec<_> = made.links_out.iter().map(|link| &link.path.0).collect();
    assert!(outward.iter().all(|path| told.contains(&path)), "seed {seed}: {told:?}");

    let tar = unpack_by_tar(&made.archive, dir.path());
    let unpacked = tree(&dir.path().join(&loaded.config.agent.name), &["manifest.json", "checksums.sha256"]);
    same(seed, "unpacked by tar", &expected, unpacked, tar);

    let target = dir.path().join("restored");
    let prepared = restore::prepare(&loaded, &run, None, &restore::Selection::default()).unwrap();
    let restored = prepared.carry_out_to(&target).unwrap();
    assert!(restored.notes.len() == outward.len(), "seed {seed}: {restored:?}");
    for path in outward {
        expected.remove(&path);
    }
    same(seed, "restored", &expected, tree(&target, &[]), Keeps { nanoseconds: true, xattrs: true });
}

/// What a way of unpacking keeps.
#[derive(Clone, Copy)]
pub struct Keeps {
    pub nanoseconds: bool,
    pub xattrs: bool,
}

pub fn unpack_by_tar(archive: &Path, into: &Path) -> Keeps {
    let version = Command::new("tar").arg("--version").output().unwrap();
    let gnu = String::from_utf8_lossy(&version.stdout).contains("GNU tar");
    let mut tar = Command::new("tar");
    if gnu {
        tar.args(["--acls", "--xattrs", "--warning=no-timestamp"]);
    }
    tar.args(["-xzpf".as_ref(), archive.as_os_str(), "-C".as_ref(), into.as_os_str()]);
    let tar = tar.output().unwrap();
    assert!(tar.status.success() && (tar.stderr.is_empty() || !gnu), "{archive:?}: {tar:?}");
    Keeps { nanoseconds: false, xattrs: gnu }
}

#[track_caller]
pub fn same(seed: u64, how: &str, expected: &Tree, mut found: Tree, keeps: Keeps) {
    for (path, thing) in expected {
        let found = found.remove(path);
        let found = found.unwrap_or_else(|| panic!("seed {seed}, {how}: {path:?} is missing"));
        let same = match (thing, &found) {
            (
                Thing::File { mode, mtime, xattrs, content },
                Thing::File { mode: its_mode, mtime: its_mtime, xattrs: its_xattrs, content: its_content },
            ) => {
                let times = mtime.0 == its_mtime.0 && (!keeps.nanoseconds || mtime.1 == its_mtime.1);
                let attributes = !keeps.xattrs || (xattrs, mode) == (its_xattrs, its_mode);
                attributes && times && same_content(content, its_content)
            }
            (Thing::Folder { .. }, Thing::Folder { .. }) if !keeps.xattrs => true,
            (thing, found) => thing == found,
        };
        let short = |thing: &Thing| format!("{thing:?}").chars().take(300).collect::<String>();
        assert!(same, "seed {seed}, {how}: {path:?} was {} and is {}", short(thing), short(&found));
    }
    assert!(found.is_empty(), "seed {seed}, {how}: {:?} came from nowhere", found.keys());
}

/// Bit for bit; of a database the counters that SQLite's own copying sets anew may differ.
fn same_content(old: &[u8], new: &[u8]) -> bool {
    if !old.starts_with(b"SQLite format 3\0") || old.len() != new.len() {
        return old == new;
    }
    // "File change counter"; "schema cookie"; "version-valid-for" and the library's version.
    let without = |bytes: &[u8]| [&bytes[..24], &bytes[28..40], &bytes[44..92], &bytes[100..]].concat();
    without(old) == without(new)
}

/// Takes all of these seeds, on all cores.
pub fn homes(count: u64) {
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    there_and_back(seed, &scratch);
                }
            });
        }
    });
    assert!(next.load(Ordering::Relaxed) >= count);
}

/// `OPS_TEST_HOMES` takes more of them.
#[test]
fn random_homes_come_back_bit_for_bit() {
    homes(std::env::var("OPS_TEST_HOMES").map_or(150, |count| count.parse().unwrap()));
}
