//! Archives with bits flipped, ends cut off and members spliced: refused, or what they were. Never
//! a panic, never whole with another content.

use agent_ops::backup::{self, Contents, reader};
use agent_ops::base::Run;
use agent_ops::config;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a restore would bring back.
type Found = Vec<(PathBuf, u64, String, u32, reader::Shape, Option<i64>)>;

fn found(contents: &Contents) -> Found {
    let mut found: Found = contents
        .entries
        .iter()
        .map(|entry| {
            let time = entry.mtime.timestamp();
            (
                entry.path.clone(),
                entry.size,
                entry.sha256.clone(),
                entry.mode,
                entry.shape.clone(),
                Some(time),
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Three archives: two of ours, of a home before and after a change, and one by `tar`.
fn originals(dir: &Path) -> Vec<Vec<u8>> {
    let home = dir.join("home");
    fs::create_dir_all(home.join("memory/notes")).unwrap();
    let file = home.join("ops.toml");
    fs::write(&file, "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n").unwrap();
    let write = |name: &str, content: &[u8]| fs::write(home.join("memory").join(name), content).unwrap();
    write("a.txt", b"first");
    write("notes/b.jsonl", b"{\"n\":1}\n{\"n\":2}\n");
    let noise: Vec<u8> = (0..90_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    write("noise", &noise);
    std::os::unix::fs::symlink("a.txt", home.join("memory/link")).unwrap();
    let db = rusqlite::Connection::open(home.join("memory/agent.db")).unwrap();
    db.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1), (2)").unwrap();
    drop(db);
    let loaded = config::load(&file, Some(&home)).unwrap();
    let make = || fs::read(backup::make(&loaded, &Run::begin("test"), None).unwrap().archive).unwrap();
    let first = make();
    write("a.txt", b"other");
    let second = make();
    let plain = dir.join("plain.tar.gz");
    let tar = Command::new("tar").arg("czf").arg(&plain).arg("-C").arg(&home).arg("memory").status().unwrap();
    assert!(tar.success());
    vec![first, second, fs::read(plain).unwrap()]
}

/// Where the members of an archive begin, and its end.
fn seams(bytes: &[u8]) -> Vec<usize> {
    let begins = |at: &usize| bytes[*at..].starts_with(&[0x1f, 0x8b, 8]);
    (0..bytes.len() - 3).filter(begins).chain([bytes.len()]).collect()
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Overwrite(usize, Vec<u8>),
    Cut(usize),
    Drop(usize),
    Double(usize),
    Swap(usize, usize),
    Insert { from: usize, member: usize, at: usize },
    Append(Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<usize>;
    prop_oneof![
        4 => (place(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        2 => (place(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, b)| Mutation::Overwrite(at, b)),
        2 => place().prop_map(Mutation::Cut),
        1 => place().prop_map(Mutation::Drop),
        1 => place().prop_map(Mutation::Double),
        1 => (place(), place()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        2 => (0usize..3, place(), place()).prop_map(|(from, member, at)| Mutation::Insert { from, member, at }),
        1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Mutation::Append),
    ]
}

fn apply(mutation: &Mutation, bytes: &mut Vec<u8>, all: &[Vec<u8>]) {
    let (length, seams_here) = (bytes.len(), seams(bytes));
    let member = |all: &[u8], seams: &[usize], n: usize| {
        let n = n % (seams.len() - 1).max(1);
        all[seams[n]..seams[n + 1]].to_vec()
    };
    let seam = |n: usize| seams_here[n % (seams_here.len() - 1).max(1)];
    if seams_here.len() < 2 {
        return;
    }
    match mutation {
        Mutation::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
        Mutation::Overwrite(at, with) => {
            let at = at % length;
            let end = (at + with.len()).min(length);
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Mutation::Cut(at) => bytes.truncate(at % length),
        Mutation::Drop(n) => {
            let gone = member(bytes, &seams_here, *n).len();
            bytes.drain(seam(*n)..seam(*n) + gone);
        }
        Mutation::Double(n) => {
            let again = member(bytes, &seams_here, *n);
            bytes.splice(seam(*n)..seam(*n), again);
        }
        Mutation::Swap(a, b) => {
            let mut members: Vec<_> =
                (0..seams_here.len() - 1).map(|n| member(bytes, &seams_here, n)).collect();
            let count = members.len();
            members.swap(a % count, b % count);
            *bytes = members.concat();
        }
        Mutation::Insert { from, member: n, at } => {
            let foreign = &all[*from];
            let some = member(foreign, &seams(foreign), *n);
            bytes.splice(seam(*at)..seam(*at), some);
        }
        Mutation::Append(some) => bytes.extend(some),
    }
}

#[test]
fn mutated_archives_are_refused_or_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let all = originals(dir.path());
    let path = dir.path().join("mutant.tar.gz");
    let whole: Vec<Found> = all
        .iter()
        .map(|bytes| {
            fs::write(&path, bytes).unwrap();
            found(&backup::verify(&path, dir.path()).unwrap())
        })
        .collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: std::env::var("OPS_TEST_MUTANTS").map_or(400, |count| count.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let refused = std::cell::Cell::new(0);
    let strategy = (0usize..3, prop::collection::vec(mutation(), 1..4));
    runner
        .run(&strategy, |(which, mutations)| {
            let mut bytes = all[which].clone();
            for one in &mutations {
                if bytes.len() > 4 {
                    apply(one, &mut bytes, &all);
                }
            }
            fs::write(&path, &bytes).unwrap();
            let _ = backup::peek(&path);
            match backup::verify(&path, dir.path()) {
                Err(_) => refused.set(refused.get() + 1),
                // Bytes that say nothing about the content may differ; the content may not.
                Ok(contents) => prop_assert!(
                    whole.contains(&found(&contents)),
                    "whole, with another content: {:?}",
                    found(&contents)
                ),
            }
            Ok(())
        })
        .unwrap();
    assert!(refused.get() > 100, "only {} were refused", refused.get());
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 3, "nothing lies about");
}
