//! Copies in a bucket that somebody else can write to: only what is proved to be of this host is restored.

use crate::backup::{archives, with_files};
use crate::remote::{NOW, at, backup, copies, share_key, with_bucket};
use crate::sandbox::Sandbox;
use crate::storage::{Object, Storage};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const KEY: &str = "quiet/20261120_093001.tar.gz";
const LATER: &str = "2026-11-22T09:30:01Z";

/// An archive here and in the bucket.
fn copied(storage: &Storage) -> Sandbox {
    let sandbox = with_bucket(with_files(), storage);
    backup(0, &sandbox);
    sandbox
}

fn change(storage: &Storage, key: &str, change: impl FnOnce(&mut Object)) {
    change(storage.store().objects.get_mut(key).unwrap());
}

/// Takes the signature away, as of an earlier version.
fn unsign(storage: &Storage) {
    change(storage, KEY, |object| {
        object.headers.remove("x-amz-meta-signature").unwrap();
    });
}

fn origins(sandbox: &Sandbox) -> Vec<String> {
    let list = sandbox.json(0, "backup", &["list", "--remote"]);
    let all = list["archives"].as_array().unwrap();
    all.iter().map(|copy| copy["origin"].as_str().unwrap().to_owned()).collect()
}

/// Plants a copy of the genuine one under a later name, with these changes.
fn plant(storage: &Storage, name: &str, change: impl FnOnce(&mut Object)) {
    let mut planted = storage.store().objects[KEY].clone();
    change(&mut planted);
    storage.store().objects.insert(format!("quiet/{name}"), planted);
}

fn label(object: &mut Object, name: &str, value: &str) {
    object.headers.insert(format!("x-amz-meta-{name}"), value.to_owned());
}

#[test]
fn what_is_planted_is_passed_over_and_refused_by_name() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    // The same archive as the newest; one without signature; one of another key.
    plant(&storage, "20261121_000000.tar.gz", |object| label(object, "time", "2026-11-21T00:00:00Z"));
    plant(&storage, "20261121_000001.tar.gz", |object| {
        label(object, "time", "2026-11-21T00:00:01Z");
        object.headers.remove("x-amz-meta-signature");
    });
    plant(&storage, "20261121_000002.tar.gz", |object| {
        label(object, "time", "2026-11-21T00:00:02Z");
        label(object, "signature", &format!("0011223344556677:{}", "ab".repeat(32)));
    });
    assert_eq!(origins(&sandbox), ["other_key", "unsigned", "forged", "signed"]);
    let run = |code: i32, args: &[&str]| {
        let output = sandbox.program("restore").args(args).env("OPS_NOW", LATER).output().unwrap();
        let said = crate::sandbox::said(output);
        assert_eq!(said.code, code, "{args:?}: {}", said.stderr);
        said.stderr
    };
    let said = run(0, &["remote:latest", "--yes"]);
    assert!(said.contains("20261120_093001.tar.gz is here"), "{said}");
    assert_eq!(said.matches("is newer and not taken").count(), 3, "{said}");
    assert!(run(2, &["remote:20261121_000000", "--yes"]).contains("forged"));
    assert!(run(3, &["remote:20261121_000001", "--yes"]).contains("not signed"));
    assert!(run(3, &["remote:20261121_000002", "--yes"]).contains("backup key import"));
    assert_eq!(archives(&sandbox).len(), 1, "nothing came");
    let said = run(0, &["remote:20261121_000001", "--trust", "--yes"]);
    assert!(said.contains("because of --trust: it is not signed"), "{said}");
}

#[test]
fn nothing_of_a_label_that_is_signed_can_be_changed() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    let genuine = storage.store().objects[KEY].clone();
    let digits = "00".repeat(32);
    for (name, value) in [("sequence", "99"), ("time", "2026-11-20T10:00:00Z"), ("sha256", digits.as_str())] {
        change(&storage, KEY, |object| label(object, name, value));
        assert_eq!(origins(&sandbox), ["forged"], "{name}");
        sandbox.expect(2, "restore", &["remote:latest", "--yes"]);
        storage.store().objects.insert(KEY.to_owned(), genuine.clone());
    }
    sandbox.expect(0, "restore", &["remote:latest", "--yes"]);
}

#[test]
fn another_host_needs_the_key() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    let other = Sandbox::new();
    other.write("ops.toml", sandbox.read("ops.toml"));
    let said = other.expect(3, "restore", &["remote:latest", "--yes"]);
    assert!(said.stderr.contains("hint: `backup key import FILE`"), "{}", said.stderr);
    assert!(archives(&other).is_empty());
    // It begins with a key of its own, and takes that of the old host as well.
    other.write("memory/notes/today.md", "new");
    at(0, &other, LATER, &[]);
    share_key(&sandbox, &other);
    assert_eq!(other.json(0, "backup", &["key"])["keys"].as_array().unwrap().len(), 2);
    assert_eq!(origins(&other), ["signed", "signed"]);
    other.expect(0, "restore", &["remote:20261120_093001", "--yes"]);
    assert_eq!(other.read("memory/notes/today.md"), sandbox.read("memory/notes/today.md"));
}

#[test]
fn the_key_is_of_its_owner_alone_and_in_no_archive() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    let text = sandbox.read(".ops/signing.key");
    let key = text.rsplit_once(':').unwrap().1.trim();
    assert_eq!(key.len(), 64);
    let file = sandbox.outside("keys").join("bot.key");
    let name = file.to_str().unwrap();
    sandbox.expect(0, "backup", &["key", "export", name]);
    sandbox.expect(0, "ops", &["backup", "key", "export", name]);
    for path in [sandbox.path(".ops/signing.key"), file.clone()] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&file, "mine").unwrap();
    sandbox.expect(3, "backup", &["key", "export", name]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let said = sandbox.expect(3, "backup", &["key", "import", name]);
    assert!(!said.stderr.contains("mine"), "{}", said.stderr);
    let list = Command::new("tar").arg("tzf").arg(&archives(&sandbox)[0]).output().unwrap();
    assert!(!String::from_utf8_lossy(&list.stdout).contains(".ops"));
    let mut seen = sandbox.read("logs/backup.log");
    for args in [&["key"][..], &["list", "--remote"], &["copy"]] {
        let said = at(0, &sandbox, NOW, args);
        seen.push_str(&format!("{}{}", said.stdout, said.stderr));
    }
    for object in storage.store().objects.values() {
        seen.push_str(&format!("{:?}", object.headers));
    }
    assert!(!seen.contains(key), "{seen}");
    // Said once, in the run that made it.
    assert_eq!(seen.matches("signed with a new key").count(), 1, "{seen}");
}

#[test]
fn copies_of_earlier_versions_are_signed_where_the_archive_is_still_here() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    let content = copies(&storage);
    for no_copy in [false, true] {
        unsign(&storage);
        storage.store().no_copy = no_copy;
        assert_eq!(origins(&sandbox), ["unsigned"]);
        let said = sandbox.expect(3, "restore", &["remote:latest", "--yes"]);
        assert!(said.stderr.contains("not signed"), "{}", said.stderr);
        let said = at(0, &sandbox, NOW, &["copy"]);
        assert_eq!(said.stdout.contains("1 signed"), !no_copy, "{}", said.stdout);
        assert_eq!(origins(&sandbox), ["signed"]);
        assert!(copies(&storage) == content);
    }
    // Not here any more: on the word of a person, and not where that would cost the copy.
    unsign(&storage);
    fs::remove_file(archives(&sandbox).remove(0)).unwrap();
    at(0, &sandbox, NOW, &["copy"]);
    assert_eq!(origins(&sandbox), ["unsigned"]);
    let said = at(1, &sandbox, NOW, &["copy", "--trust"]);
    assert!(said.stderr.contains("does not let"), "{}", said.stderr);
    assert!(copies(&storage) == content);
    storage.store().no_copy = false;
    at(0, &sandbox, NOW, &["copy", "--trust"]);
    assert_eq!(origins(&sandbox), ["signed"]);
    assert!(copies(&storage) == content);
    sandbox.expect(0, "restore", &["remote:latest", "--yes"]);
}

#[test]
fn a_plain_copy_is_refused_where_archives_are_encrypted() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", config.replace("[backup]\n", "[backup]\nencrypt_to = \"age1mine\"\n"));
    for which in ["remote:latest", "remote:20261120_093001"] {
        let said = sandbox.expect(3, "restore", &[which, "--yes"]);
        assert!(said.stderr.contains("not encrypted"), "{}", said.stderr);
    }
    sandbox.expect(0, "restore", &["remote:latest", "--trust", "--yes"]);
}

#[test]
fn an_older_copy_is_told_where_a_newer_one_was() {
    let storage = Storage::start();
    let sandbox = copied(&storage);
    at(0, &sandbox, "2026-11-21T09:30:01Z", &[]);
    storage.store().objects.remove("quiet/20261121_093001.tar.gz").unwrap();
    let said = sandbox.expect(0, "restore", &["remote:latest", "--yes"]);
    assert!(
        said.stderr.contains("20261121_093001.tar.gz") && said.stderr.contains("is gone"),
        "{}",
        said.stderr
    );
}
