//! Archives encrypted and opened by the real `age`.

use crate::peers::peer;
use crate::sandbox::{Said, Sandbox};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, package: &str, args: &[&str]) -> String {
    let output = Command::new(peer(program, package)).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A new key: its file, and what encrypts to it.
fn key(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    run("age-keygen", "age", &["-o", path.to_str().unwrap()]);
    let public = run("age-keygen", "age", &["-y", path.to_str().unwrap()]);
    (path, public.trim().to_owned())
}

fn configure(sandbox: &Sandbox, backup: &str) {
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n{backup}"
        ),
    );
}

/// Runs a program, and makes sure that no key is seen.
#[track_caller]
fn expect(code: i32, sandbox: &Sandbox, program: &str, args: &[&str]) -> Said {
    let said = sandbox.expect(code, program, args);
    let seen = format!("{}{}{}", said.stdout, said.stderr, sandbox.read("logs/backup.log"));
    assert!(!seen.contains("AGE-SECRET-KEY"), "{seen}");
    said
}

fn archive(sandbox: &Sandbox) -> PathBuf {
    fs::canonicalize(sandbox.path("backups/latest")).unwrap()
}

#[test]
fn what_is_encrypted_plain_age_and_tar_read_and_each_recipient_can() {
    let sandbox = Sandbox::new();
    let keys = sandbox.outside("keys");
    let (mine, to_me) = key(&keys, "mine");
    let (yours, to_you) = key(&keys, "yours");
    let (other, _) = key(&keys, "other");
    let ssh = keys.join("ssh");
    run("ssh-keygen", "openssh-client", &["-q", "-t", "ed25519", "-N", "", "-f", ssh.to_str().unwrap()]);
    let to_ssh = fs::read_to_string(ssh.with_extension("pub")).unwrap();
    sandbox.write("recipients", format!("# two of them\n{to_you}\n{to_ssh}"));
    let noise: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    sandbox.write("memory/noise", &noise);
    sandbox.write("memory/notes.md", "mine alone\n");
    let to = format!("encrypt_to = [\"{to_me}\", \"file:recipients\"]\n");
    configure(&sandbox, &to);
    let said = expect(0, &sandbox, "backup", &[]);
    assert!(said.stdout.contains("encrypted to 2 recipients"), "{}", said.stdout);
    assert!(expect(0, &sandbox, "backup", &["verify"]).stdout.contains("it was not opened"));

    // By hand.
    let out = sandbox.outside("by-hand");
    let script =
        format!("age -d -i {} {} | tar xz -C {}", mine.display(), archive(&sandbox).display(), out.display());
    let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let folder = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read(folder.join("memory/noise")).unwrap() == noise);
    let sums = Command::new("sha256sum").args(["-c", "checksums.sha256"]).current_dir(&folder).output();
    assert!(sums.unwrap().status.success());

    for identity in [&mine, &yours, &ssh] {
        configure(&sandbox, &format!("{to}identity = \"{}\"\n", identity.display()));
        assert!(expect(0, &sandbox, "backup", &["verify"]).stdout.contains("is whole: 2 files"));
        sandbox.write("memory/notes.md", "changed");
        expect(0, &sandbox, "restore", &["--yes"]);
        assert_eq!(sandbox.read("memory/notes.md"), "mine alone\n");
        expect(0, &sandbox, "restore", &["--drill"]);
    }
    assert!(expect(0, &sandbox, "backup", &[]).stdout.contains("and opened again"));
    let made = sandbox.json(0, "backup", &[]);
    assert!(made["reused"].as_u64() > Some(1_000_000), "{made}");
    // Another key, and none.
    configure(&sandbox, &format!("{to}identity = \"{}\"\n", other.display()));
    let refused = expect(3, &sandbox, "restore", &["--yes"]);
    assert!(refused.stderr.contains("no identity matched"), "{}", refused.stderr);
    let warned = expect(1, &sandbox, "backup", &[]);
    assert!(warned.stderr.contains("does not open what encrypt_to encrypts"), "{}", warned.stderr);
    fs::write(&other, "AGE-SECRET-KEY-1NONSENSE\n").unwrap();
    expect(3, &sandbox, "restore", &["--yes"]);
    // A recipient that is none, by its checksum: nothing is begun.
    configure(&sandbox, &format!("encrypt_to = [\"{}x\"]\n", &to_me[..to_me.len() - 1]));
    let before = fs::read_dir(sandbox.path("backups")).unwrap().count();
    expect(3, &sandbox, "backup", &[]);
    assert_eq!(fs::read_dir(sandbox.path("backups")).unwrap().count(), before);
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused_and_nothing_changes() {
    let sandbox = Sandbox::new();
    let (mine, to_me) = key(&sandbox.outside("keys"), "mine");
    sandbox.write(
        "memory/noise",
        (0..40_000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect::<Vec<_>>(),
    );
    configure(&sandbox, &format!("encrypt_to = \"{to_me}\"\nidentity = \"{}\"\n", mine.display()));
    expect(0, &sandbox, "backup", &[]);
    let archive = archive(&sandbox);
    let whole = fs::read(&archive).unwrap();
    let note = PathBuf::from(format!("{}.json", archive.display()));
    let note_text = fs::read(&note).unwrap();
    let name = archive.file_name().unwrap().to_str().unwrap();
    // With its note it is damage (2). Without it, what cannot be opened may be another key's (3).
    for with_note in [true, false] {
        if !with_note {
            fs::remove_file(&note).unwrap();
        }
        for n in 0..12 {
            let at = whole.len() * n / 12 + 5;
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            for content in [&damaged[..], &whole[..at]] {
                fs::write(&archive, content).unwrap();
                for args in [&[name, "--yes"][..], &[name, "--list"], &[name, "--drill"]] {
                    let said = sandbox.run("restore", args);
                    let expected: &[i32] = if with_note { &[2] } else { &[2, 3] };
                    assert!(expected.contains(&said.code), "{at} {with_note}: {said:?}");
                }
            }
        }
    }
    fs::write(&archive, &whole).unwrap();
    fs::write(&note, note_text).unwrap();
    // What was found damaged is trusted again when it was verified again.
    expect(3, &sandbox, "restore", &["--yes"]);
    expect(0, &sandbox, "backup", &["verify", name]);
    expect(0, &sandbox, "restore", &["--yes"]);
}
