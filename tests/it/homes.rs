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
struct Random(u64);

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
enum Thing {
    Folder { mode: u32 },
    Link(PathBuf),
    File { mode: u32, mtime: (i64, i64), content: Vec<u8> },
}

type Tree = BTreeMap<PathBuf, Thing>;

fn tree(root: &Path, skip: &[&str]) -> Tree {
    let top = |path: &Path| path.iter().next().and_then(OsStr::to_str).map(str::to_owned);
    walkdir::WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter_map(|path| {
            let inside = path.strip_prefix(root).unwrap().to_owned();
            if top(&inside).is_some_and(|top| skip.contains(&top.as_str())) {
                return None;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let thing = if meta.is_symlink() {
                Thing::Link(fs::read_link(&path).unwrap())
            } else if meta.is_dir() {
                Thing::Folder { mode: meta.mode() & 0o777 }
            } else {
                let mtime = (meta.mtime(), meta.mtime_nsec());
                Thing::File { mode: meta.mode() & 0o777, mtime, content: fs::read(&path).unwrap() }
            };
            Some((inside, thing))
        })
        .collect()
}

/// A name that programs stumble over.
fn name(random: &mut Random, number: usize) -> OsString {
    let odd: [&[u8]; 12] = [
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

/// Fills a home; gives what must come out of its archive.
fn fill(home: &Path, random: &mut Random) -> Tree {
    let mut folders = vec![PathBuf::new()];
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
        let kind = if number == 0 { 5 } else { random.below(10) };
        match kind {
            0 | 1 => {
                fs::create_dir(home.join(&inside)).unwrap();
                folders.push(inside);
                continue;
            }
            2 => {
                let targets = ["nowhere", ".", "./plain0"];
                symlink(targets[random.below(3) as usize], home.join(&inside)).unwrap();
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
        let mode = [0o600, 0o644, 0o755, 0o400, 0o777, 0o640][random.below(6) as usize];
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let file = File::open(&path).unwrap();
        let since = Duration::new(random.below(2_000_000_000), random.below(1_000_000_000) as u32);
        file.set_modified(SystemTime::UNIX_EPOCH + since).unwrap();
    }
    for folder in folders.iter().skip(1) {
        let mode = [0o700, 0o755, 0o770][random.below(3) as usize];
        fs::set_permissions(home.join(folder), Permissions::from_mode(mode)).unwrap();
    }
    tree(home, &["ops.toml"])
}

/// Backs one random home up, and has it restored by us and unpacked by `tar`.
fn there_and_back(seed: u64, scratch: &Path) {
    let dir = tempfile::tempdir_in(scratch).unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let expected = fill(&home, &mut Random(seed));
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

    let target = dir.path().join("restored");
    let prepared = restore::prepare(&loaded, &run, None, &restore::Selection::default()).unwrap();
    let restored = prepared.carry_out_to(&target).unwrap();
    assert!(restored.notes.is_empty(), "seed {seed}: {restored:?}");
    same(seed, "restored", &expected, tree(&target, &[]), true);

    let tar = Command::new("tar")
        .args(["xzpf".as_ref(), made.archive.as_os_str(), "-C".as_ref(), dir.path().as_os_str()])
        .output()
        .unwrap();
    assert!(tar.status.success(), "seed {seed}: {tar:?}");
    let unpacked = tree(&dir.path().join(&loaded.config.agent.name), &["manifest.json", "checksums.sha256"]);
    same(seed, "unpacked by tar", &expected, unpacked, false);
}

#[track_caller]
fn same(seed: u64, how: &str, expected: &Tree, mut found: Tree, nanoseconds: bool) {
    for (path, thing) in expected {
        let found = found.remove(path);
        let found = found.unwrap_or_else(|| panic!("seed {seed}, {how}: {path:?} is missing"));
        let same = match (thing, &found) {
            (
                Thing::File { mode, mtime, content },
                Thing::File { mode: its_mode, mtime: its_mtime, content: its_content },
            ) => {
                let times = mtime.0 == its_mtime.0 && (!nanoseconds || mtime.1 == its_mtime.1);
                mode == its_mode && times && same_content(content, its_content)
            }
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
