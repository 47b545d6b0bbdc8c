//! A restore stays where it belongs, whatever its journal, the archive or the target says.

use super::tar;
use crate::backup::{archives, tree, with_files};
use crate::sandbox::{Sandbox, said};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A folder outside the home, whose content must stay as it is.
fn witness(sandbox: &Sandbox) -> std::path::PathBuf {
    let witness = sandbox.outside("witness");
    fs::create_dir(witness.join("memory")).unwrap();
    fs::write(witness.join("memory/journal.jsonl"), "not yours\n").unwrap();
    fs::write(witness.join("secret"), "not yours\n").unwrap();
    witness
}

#[test]
fn a_forged_or_torn_journal_is_refused_by_name_and_nothing_outside_changes() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let witness = witness(&sandbox);
    let (before, outside) = (tree(&sandbox.path("memory")), tree(&witness));
    let path = witness.to_str().unwrap();
    let journal = |staged: &str, aside: &str, file: &str| {
        json!({
            "archive": "a", "run": "r", "at": "2026-01-01T00:00:00Z", "phase": "placed", "services": [],
            "stage": staged, "aside": aside, "folders": [], "emptied": [file],
            "moves": [{ "path": file, "had": true, "place": true, "belongs_to": null }],
        })
        .to_string()
    };
    let (stage, aside) = (".ops/restore/x", ".pre-restore.20260101_000000");
    let home_stage = format!("{}/.ops/restore/../../../witness", sandbox.home.display());
    for (what, text) in [
        ("absolute stage", journal(path, aside, "memory/journal.jsonl")),
        ("climbing stage", journal("../witness", aside, "memory/journal.jsonl")),
        ("stage below ours", journal(".ops/restore/../../../witness", aside, "memory/journal.jsonl")),
        ("absolute and climbing", journal(&home_stage, aside, "memory/journal.jsonl")),
        ("aside", journal(stage, "../witness", "memory/journal.jsonl")),
        ("climbing file", journal(stage, aside, "../witness/secret")),
        ("absolute file", journal(stage, aside, &format!("{path}/secret"))),
        ("our own state", journal(stage, aside, ".ops/ops.db")),
        ("torn", journal(stage, aside, "memory/a")[..90].to_owned()),
        ("empty", String::new()),
        ("another document", "[1,2]".to_owned()),
    ] {
        sandbox.write(".ops/restore.json", &text);
        for (program, args) in
            [("restore", &["--yes"][..]), ("backup", &[]), ("restore", &["pre-restore:latest", "--yes"])]
        {
            let said = sandbox.run(program, args);
            assert_eq!(said.code, 3, "{what}: {program}: {said:?}");
            assert!(
                said.stderr.contains(".ops/restore.json") && said.stderr.contains("hint"),
                "{what}: {said:?}"
            );
        }
        assert_eq!(tree(&witness), outside, "{what}");
        assert_eq!(tree(&sandbox.path("memory")), before, "{what}");
        fs::remove_file(sandbox.path(".ops/restore.json")).unwrap();
    }
    // One that leads elsewhere, and one that would never be read to its end.
    symlink(witness.join("secret"), sandbox.path(".ops/restore.json")).unwrap();
    assert!(sandbox.expect(3, "backup", &[]).stderr.contains("cannot be read"));
    fs::remove_file(sandbox.path(".ops/restore.json")).unwrap();
    let fifo = sandbox.path(".ops/restore.json");
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    assert!(sandbox.expect(3, "backup", &[]).stderr.contains("cannot be read"));
    fs::remove_file(sandbox.path(".ops/restore.json")).unwrap();
    sandbox.expect(0, "restore", &["--yes"]);
    assert_eq!(tree(&witness), outside);
}

#[test]
fn a_forged_record_of_old_files_is_not_believed() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let witness = witness(&sandbox);
    let outside = tree(&witness);
    sandbox.expect(0, "restore", &["--yes"]);
    let list = sandbox.json(0, "restore", &["--aside"]);
    let folder = Path::new(list["asides"][0]["path"].as_str().unwrap()).to_owned();
    let record = fs::read_to_string(folder.join(".restore.json")).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&record).unwrap();
    forged["moves"] = json!([{ "path": format!("{}/secret", witness.display()), "had": false, "place": true, "belongs_to": null }]);
    fs::write(folder.join(".restore.json"), forged.to_string()).unwrap();
    // What it holds comes back all the same.
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(tree(&witness), outside);
}

#[test]
fn no_link_in_the_target_is_followed() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    let witness = witness(&sandbox);
    let outside = tree(&witness);
    for link in ["memory", "memory/notes", "config"] {
        let target = sandbox.outside("target");
        let path = target.join(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&witness, &path).unwrap();
        let said = sandbox.run("restore", &["--to", target.to_str().unwrap()]);
        assert!(said.code == 3 && said.stderr.contains("a link"), "{link}: {said:?}");
        assert_eq!(tree(&witness), outside, "{link}");
        fs::remove_dir_all(&target).unwrap();
    }
    // The folder that the operator names may be reached by a link.
    let real = sandbox.outside("real");
    let named = real.with_file_name("named");
    symlink(&real, &named).unwrap();
    sandbox.expect(0, "restore", &["--to", named.to_str().unwrap()]);
    assert!(real.join("memory/journal.jsonl").exists());

    // In the home neither.
    fs::rename(sandbox.path("memory"), sandbox.path("old-memory")).unwrap();
    symlink(&witness, sandbox.path("memory")).unwrap();
    for args in [&["--yes"][..], &["-n"]] {
        let said = sandbox.expect(3, "restore", args);
        assert!(said.stderr.contains("nothing was changed") && said.stderr.contains("hint"), "{said:?}");
    }
    assert_eq!(tree(&witness), outside);
}

#[test]
fn no_chain_of_links_in_an_archive_leads_out() {
    let sandbox = with_files();
    let witness = witness(&sandbox);
    let outside = tree(&witness);
    // `d1 -> .`, and through it one level up at a time.
    let chain = sandbox.outside("chain");
    symlink(".", chain.join("d1")).unwrap();
    symlink("d1/..", chain.join("l2")).unwrap();
    symlink("l2/witness", chain.join("l3")).unwrap();
    fs::write(chain.join("plain"), "x").unwrap();
    let links = sandbox.outside("links.d").join("links.tar.gz");
    tar(&chain, &links, &["d1", "l2", "l3", "plain"]);
    let below = sandbox.outside("below");
    for folder in ["l3", "l2/witness"] {
        fs::create_dir_all(below.join(folder)).unwrap();
        fs::write(below.join(folder).join("secret"), "forged").unwrap();
    }
    let files = sandbox.outside("links.d").join("files.tar.gz");
    tar(&below, &files, &["l3/secret", "l2/witness/secret"]);
    let (links, files) = (links.to_str().unwrap(), files.to_str().unwrap());
    let target = sandbox.outside("target");
    for place in [&["--to", target.to_str().unwrap()][..], &["--yes"]] {
        let first = sandbox.run("restore", &[&[links][..], place].concat());
        assert!(first.code <= 1, "{first:?}");
        let second = sandbox.run("restore", &[&[files][..], place].concat());
        assert!(second.code >= 2 || second.code == 0, "{second:?}");
        assert_eq!(tree(&witness), outside, "{place:?}: {second:?}");
    }
}

#[test]
fn somebody_who_swaps_folders_for_links_meanwhile_leads_nobody_out() {
    let sandbox = with_files();
    for n in 0..200 {
        sandbox.write(&format!("memory/notes/{n}.md"), format!("saved {n}"));
    }
    sandbox.expect(0, "backup", &[]);
    let witness = witness(&sandbox);
    let outside = tree(&witness);
    let (folder, away) = (sandbox.path("memory/notes"), sandbox.path("memory/away"));
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(&folder, &away);
                let _ = symlink(&witness, &folder);
                std::thread::yield_now();
                let _ = fs::remove_file(&folder);
                let _ = fs::rename(&away, &folder);
            }
        });
        for _ in 0..12 {
            // However it ends.
            let said = said(sandbox.program("restore").arg("--yes").output().unwrap());
            assert!((0..=3).contains(&said.code), "{said:?}");
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(tree(&witness), outside);
    assert_eq!(archives(&sandbox).len(), 1);
}
