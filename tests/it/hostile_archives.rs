//! Archives made to do harm, from a seed: nothing outside the target is touched, memory is bounded, and
//! there is no panic. `OPS_TEST_HOSTILE` takes more of them.

use crate::hostile::*;
use crate::sandbox::Sandbox;
use agent_ops::backup::manifest::Manifest;
use agent_ops::base::text::hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A name, or where a link leads: `witness` is a folder that nobody may touch.
fn place(dice: &mut Dice, witness: &Path) -> Vec<u8> {
    let witness = witness.to_str().unwrap();
    let harmless = ["a", "b/c", "memory/a.txt", "memory/x", "d1", "d1/e", "l1", "l1/f", "x.db", "x.db-wal"];
    let outside = [
        format!("{witness}/new"),
        format!("{witness}/kept"),
        "../witness/new".to_owned(),
        "../../witness/new".to_owned(),
        "memory/../../witness/kept".to_owned(),
        "l1/../../witness/new".to_owned(),
        "/".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
        String::new(),
        "a/".repeat(2_000),
        "n".repeat(300),
        ".ops/ops.db".to_owned(),
        ".ops/restore.json".to_owned(),
        "ops.toml".to_owned(),
    ];
    let odd: [&[u8]; 4] = [b"\xff\xfe", b"a\nb", b"\x1b[2J", "\u{202e}txt".as_bytes()];
    match dice.below(10) {
        0..6 => dice.one(&harmless).into(),
        6..9 => dice.one(&outside).into(),
        _ => dice.one(&odd).to_vec(),
    }
}

/// One member, and its line in a manifest if that has one.
fn piece(dice: &mut Dice, folder: &str, at: usize, witness: &Path) -> (Vec<u8>, Option<String>) {
    let path = place(dice, witness);
    let mut name = path.clone();
    if !folder.is_empty() && !name.starts_with(b"/") {
        name = [folder.as_bytes(), b"/", &path].concat();
    }
    let content = match dice.below(8) {
        0 => Vec::new(),
        1 => b"SQLite format 3\0".repeat(dice.below(300)),
        2 => vec![0; dice.below(300_000)],
        _ => b"content".repeat(dice.below(50)),
    };
    let kind = dice.one(b"000000025125SxgLK3467D");
    let target = place(dice, witness);
    let mut bytes = Vec::new();
    if name.len() > 100 {
        bytes.extend(member(b"././@LongLink", b'L', &name));
    }
    if dice.chance(10) {
        let (key, value) = dice.one(&[
            ("path", "../../witness/new"),
            ("path", "/etc/passwd"),
            ("linkpath", "../../witness"),
            ("size", "99999999999999"),
            ("size", "3"),
            ("GNU.sparse.name", "../x"),
            ("SCHILY.xattr.user.a", "b"),
            ("mtime", "-9e99"),
            ("uid", "4294967296"),
        ]);
        bytes.extend(pax(key, value));
    }
    let holds = matches!(kind, b'0' | b'L' | b'K' | b'x' | b'g' | b'7' | b'D');
    let mut head = match kind {
        b'S' => tar::Header::from_byte_slice(&sparse(&name, 1 << dice.below(62))).clone(),
        _ => header(&name, kind, if holds { content.len() as u64 } else { 0 }),
    };
    if matches!(kind, b'1' | b'2') {
        let length = target.len().min(100);
        head.as_old_mut().linkname[..length].copy_from_slice(&target[..length]);
    }
    if dice.chance(10) {
        head.set_mode(dice.one(&[0o4755, 0o7777, 0, 0o666]));
    }
    if dice.chance(5) {
        head.set_size(dice.one(&[1 << 33, 1 << 60, 5]));
    }
    head.set_cksum();
    bytes.extend_from_slice(head.as_bytes());
    let begins = at + bytes.len();
    if holds {
        bytes.extend_from_slice(&content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    let shown = String::from_utf8(path).ok().filter(|_| dice.chance(90));
    let line = shown.map(|shown| {
        let size = if dice.chance(5) { 1 << 50 } else { content.len() };
        let at = if dice.chance(5) { dice.below(1 << 20) } else { begins };
        let kind = match kind {
            b'5' => r#""kind":"folder""#.to_owned(),
            b'2' => {
                let target = String::from_utf8_lossy(&target);
                format!(r#""kind":"link","target":{}"#, serde_json::to_string(&target).unwrap())
            }
            _ => {
                let hash = hex(&Sha256::digest(&content));
                format!(r#""kind":"file","size":{size},"sha256":"{hash}","at":{at}"#)
            }
        };
        let path = serde_json::to_string(&shown).unwrap();
        format!(r#"{{"path":{path},{kind},"mode":"0644","uid":0,"gid":0,"mtime":"2026-11-20T09:30:01Z"}}"#)
    });
    (bytes, line)
}

/// An archive of a seed.
fn hostile(seed: u64, witness: &Path) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let ours = dice.chance(60);
    let folder = if ours { "20261120_093001" } else { "" };
    let (mut tar, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..=dice.below(6) {
        let (bytes, line) = piece(&mut dice, folder, tar.len(), witness);
        tar.extend(bytes);
        lines.extend(line);
    }
    let mut bytes = if ours {
        let lines = lines.join(",");
        let manifest = manifest(&lines, "");
        let read = serde_json::from_slice::<Manifest>(&manifest).ok();
        let checksums = read.map(|read| {
            let mut text = Vec::new();
            read.write_checksums(&hex(&Sha256::digest(&manifest)), &mut text).unwrap();
            text
        });
        archive(&tar, &manifest, &checksums.unwrap_or_default())
    } else {
        if dice.chance(80) {
            tar.extend_from_slice(&END);
        }
        let at = dice.below(tar.len() + 1);
        [gzip(&tar[..at]), gzip(&tar[at..])].concat()
    };
    if dice.chance(10) {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
    if dice.chance(5) {
        bytes.truncate(dice.below(bytes.len()));
    }
    bytes
}

/// What there is below a folder: kinds, content, modes, times.
fn everything(below: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(below) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        all.insert(entry.path().to_owned(), (meta.mode(), meta.mtime_nsec() + meta.mtime(), content));
    }
    all
}

#[test]
fn hostile_archives_harm_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n",
    );
    sandbox.write("memory/a.txt", "mine");
    let witness = sandbox.outside("witness");
    fs::write(witness.join("kept"), "kept").unwrap();
    let before = everything(&witness);
    let outside = fs::read_dir(witness.parent().unwrap()).unwrap().count() + 2;
    let path = sandbox.outside("hostile").join("20261120_093001.tar.gz");
    let seeds: u64 = std::env::var("OPS_TEST_HOSTILE").map_or(300, |count| count.parse().unwrap());
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..seeds {
        fs::write(&path, hostile(seed, &witness)).unwrap();
        // In this process all of them, by the program itself one in eight.
        let scratch = tempfile::tempdir().unwrap();
        let _ = agent_ops::backup::read_contents(&path);
        match agent_ops::backup::verify(&path, scratch.path()) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "seed {seed}");
        if seed % 8 == 0 {
            let to = sandbox.outside("to").join(seed.to_string());
            for args in [&["--to", to.to_str().unwrap()][..], &["--yes"]] {
                let mut restore = sandbox.program("restore");
                let (said, peak) = peak(restore.arg(&path).args(args));
                let shown = format!("seed {seed} {args:?}: {} {} MiB\n{}", said.code, peak, said.stderr);
                assert!((0..=3).contains(&said.code) && !said.stderr.contains("panicked"), "{shown}");
                assert!(peak <= 64, "{shown}");
                assert!(!said.stderr.contains('\x1b'), "{shown}");
            }
            assert!(sandbox.path("ops.toml").is_file(), "seed {seed}");
        }
        assert_eq!(everything(&witness), before, "seed {seed}");
    }
    assert_eq!(fs::read_dir(witness.parent().unwrap()).unwrap().count(), outside);
    assert!(refused > seeds / 3 && taken > seeds / 20, "{refused} were refused, {taken} taken");
}
