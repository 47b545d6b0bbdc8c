//! Archives that are short and claim to be endless: refused, soon, in little memory.

use crate::hostile::*;
use crate::sandbox::Sandbox;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The most memory, in MiB, that reading any of them may take, and as often its own length: the names
/// in an archive without index are held.
const MOST: u64 = 64;
const TIMES: u64 = 32;

/// A sandbox with a config and nothing to save.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n",
    );
    sandbox.write("memory/a.txt", "mine");
    sandbox
}

/// Whatever reads an archive refuses this one with 2, or 3, and touches nothing.
#[track_caller]
fn refused(sandbox: &Sandbox, name: &str, bytes: &[u8]) {
    refused_by(usize::MAX, sandbox, name, bytes);
}

/// As [`refused`], by so many programs: some take long in a debug build.
#[track_caller]
fn refused_by(most: usize, sandbox: &Sandbox, name: &str, bytes: &[u8]) {
    let archive = sandbox.outside("hostile").join("20261120_093001.tar.gz");
    fs::write(&archive, bytes).unwrap();
    let to = sandbox.outside("to");
    let archive = archive.to_str().unwrap();
    let into = to.join("new");
    for (program, args) in [
        ("backup", &["verify", archive][..]),
        ("restore", &[archive, "--list"]),
        ("restore", &[archive, "--to", into.to_str().unwrap()]),
        ("restore", &[archive, "--yes"]),
    ]
    .into_iter()
    .take(most)
    {
        let (said, peak) = peak(sandbox.program(program).args(args));
        // What an index says can be shown although it is not true.
        let shown = said.code == 0 && args.contains(&"--list");
        assert!(shown || [2, 3].contains(&said.code), "{name}: {args:?}: {}\n{}", said.code, said.stderr);
        let most = MOST + TIMES * (bytes.len() as u64 >> 20);
        assert!(peak <= most, "{name}: {args:?} took {peak} MiB of {most}");
        assert!(!said.stderr.contains("panicked"), "{name}: {}", said.stderr);
    }
    assert_eq!(sandbox.read("memory/a.txt"), "mine", "{name}");
    assert!(!Path::new(&into).exists() || fs::read_dir(&into).unwrap().count() == 0, "{name}");
}

#[test]
fn a_length_that_no_archive_holds_is_refused_before_it_is_read() {
    let sandbox = sandbox();
    let end = END.to_vec();
    let file = member(b"a", b'0', b"content");
    for (name, tar) in [
        ("a sparse file", [sparse(b"big", 1 << 60), end.clone()].concat()),
        ("a sparse database", [member(b"a", b'0', b""), sparse(b"x.db-wal", 1 << 45), end.clone()].concat()),
        ("many sparse files", (0..99).flat_map(|n| sparse(format!("f{n}").as_bytes(), 1 << 30)).collect()),
        ("a PAX size", [pax("size", "9223372036854775000"), file.clone(), end.clone()].concat()),
        ("a larger one", [pax("size", "18446744073709551615"), file.clone(), end.clone()].concat()),
        ("a sparse file by PAX", [pax("GNU.sparse.realsize", "1152921504606846976"), file, end].concat()),
    ] {
        refused_by(if name == "many sparse files" { 1 } else { 9 }, &sandbox, name, &gzip(&tar));
        // In the form of this program, with an index that agrees.
        let item = r#"{"path":"big","kind":"file","size":1152921504606846976,"sha256":"00","mode":"0644","uid":0,
            "gid":0,"mtime":"2026-11-20T09:30:01Z","at":512}"#;
        refused(&sandbox, name, &crate::hostile::archive(&tar, &manifest(item, ""), b""));
    }
}

#[test]
fn an_index_is_not_longer_than_its_blocks_allow() {
    let sandbox = sandbox();
    // 60 MB of spaces in less than 100 KB; in the manifest, and after it.
    let spaces = vec![b' '; 60 << 20];
    let bomb = archive(b"", &[&spaces[..], &manifest("", "")].concat(), b"");
    assert!(bomb.len() < 100_000);
    refused(&sandbox, "spaces", &bomb);
    refused(&sandbox, "checksums", &archive(b"", &manifest("", ""), &spaces));
    drop((spaces, bomb));
    // What fits is read, and short elements take little memory.
    let problems = vec!["\"\""; 1_300_000].join(",");
    refused(&sandbox, "problems", &archive(b"", &manifest("", &problems), b""));
    let mut items = String::new();
    for n in 0..40_000 {
        let _ = write!(
            items,
            r#"{{"path":"{n}","kind":"folder","mode":"0","uid":0,"gid":0,"mtime":"2026-11-20T09:30:01Z"}},"#
        );
    }
    refused_by(2, &sandbox, "items", &archive(b"", &manifest(items.trim_end_matches(','), ""), b""));
    let deep = format!("{}1{}", "[".repeat(2_000_000), "]".repeat(2_000_000));
    refused(&sandbox, "lists in lists", &archive(b"", &manifest(&deep, ""), b""));
}

#[test]
fn names_and_members_without_number_are_refused() {
    let sandbox = sandbox();
    let tiny: Vec<u8> = (0..20_000u32).flat_map(|n| member(&n.to_string().into_bytes(), b'0', b"")).collect();
    refused_by(1, &sandbox, "members", &gzip(&tiny));
    drop(tiny);
    let deep: Vec<u8> =
        (0..300).flat_map(|n| long_name(format!("{n}/{}", "ab/".repeat(500)).as_bytes())).collect();
    refused_by(1, &sandbox, "deep paths", &gzip(&deep));
    refused(&sandbox, "one deep path", &gzip(&long_name("a/".repeat(1_900_000).as_bytes())));
    let target = "t".repeat(3_000_000);
    let links: Vec<u8> = (0..100)
        .flat_map(|n| [member(b"l", b'K', target.as_bytes()), member(format!("{n}").as_bytes(), b'2', b"")])
        .flatten()
        .collect();
    refused(&sandbox, "targets of links", &gzip(&links));
    let names = member(b"././@LongLink", b'L', &vec![b'n'; 8 << 20]);
    refused(&sandbox, "a name", &gzip(&names));
}

#[test]
fn checksums_without_end_are_not_held() {
    let sandbox = sandbox();
    let line = format!("{}  x\n", "ab".repeat(32)).into_bytes();
    let fits = line.repeat((4 << 20) / line.len());
    refused(&sandbox, "4 MB", &gzip(&[member(b"checksums.sha256", b'0', &fits), END.to_vec()].concat()));
    let more = line.repeat((40 << 20) / line.len());
    let bytes = gzip(&member(b"checksums.sha256", b'0', &more));
    // Cut, so that it is refused for that at least.
    refused(&sandbox, "40 MB", &bytes);
}

#[test]
fn empty_members_are_passed_in_no_time() {
    let sandbox = sandbox();
    let empty = gzip(b"");
    let mut bytes = gzip(&member(b"a", b'0', b"content"));
    bytes.extend(empty.repeat((6 << 20) / empty.len()));
    refused(&sandbox, "gzip members", &bytes);
    let ours = block(b"", false);
    let mut bytes = ours.repeat((12 << 20) / ours.len());
    bytes.extend(archive(b"", &manifest("", ""), b""));
    refused(&sandbox, "blocks", &bytes);
    let index = block(b"", true);
    refused(&sandbox, "blocks of the index", &index.repeat((4 << 20) / index.len()));
    // Zeros, as much as deflate can, after a member: they are read, and nothing is kept.
    let mut zeros = std::io::repeat(0).take(100 << 20);
    let bytes = [gzip(&header(b"a", b'0', 1 << 40).as_bytes()[..]), gzip_of(&mut zeros)].concat();
    refused(&sandbox, "zeros", &bytes);
}
