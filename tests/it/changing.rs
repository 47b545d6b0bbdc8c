//! What vanishes or becomes something else between the plan of a backup and its reading.

use crate::backup::{archives, rubbish, unpack_by_hand, with_files};
use crate::sandbox::{Sandbox, said};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

/// A backup that is stopped when its plan is made, and goes on when this is done. Gives what it said.
fn backup(sandbox: &Sandbox, code: i32, meanwhile: impl FnOnce()) -> Value {
    let mut program = sandbox.program("backup");
    program.arg("--json").env("OPS_STOP_AT", "planned").stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = program.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
    meanwhile();
    kill_process(pid, Signal::CONT).unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, code, "{said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Small ones, and those that an archive before may stand in for.
const SIZES: [usize; 2] = [10, 400_000];

fn fill(sandbox: &Sandbox) {
    for size in SIZES {
        for name in ["stays", "goes", "to-fifo", "to-folder", "to-link", "to-socket"] {
            sandbox.write(&format!("memory/{name}-{size}"), vec![b'a'; size]);
        }
        sandbox.write(&format!("memory/stream-{size}.jsonl"), "{\"n\":1}\n".repeat(size / 8 + 1));
        for folder in ["goes", "to-link", "to-file", "to-fifo", "moves"] {
            sandbox.write(&format!("memory/folder-{folder}/inner-{size}"), vec![b'b'; size]);
        }
    }
    symlink("stays-10", sandbox.path("memory/link-to-file")).unwrap();
    symlink("stays-10", sandbox.path("memory/link-goes")).unwrap();
    symlink("stays-10", sandbox.path("memory/link-turns")).unwrap();
}

/// Nothing of this is in the home: whatever of it is in the archive was read through a link.
fn outside(sandbox: &Sandbox) -> std::path::PathBuf {
    let outside = sandbox.outside("elsewhere");
    for size in SIZES {
        fs::write(outside.join(format!("inner-{size}")), vec![b'!'; size]).unwrap();
    }
    outside
}

fn change(sandbox: &Sandbox, outside: &Path) {
    let memory = |name: &str| sandbox.path("memory").join(name);
    let remove = |name: &str| fs::remove_file(memory(name)).unwrap();
    for size in SIZES {
        for name in ["goes", "to-fifo", "to-folder", "to-link", "to-socket"] {
            remove(&format!("{name}-{size}"));
        }
        remove(&format!("stream-{size}.jsonl"));
        fifo(&memory(&format!("to-fifo-{size}")));
        fifo(&memory(&format!("stream-{size}.jsonl")));
        sandbox.write(&format!("memory/to-folder-{size}/new"), "new");
        symlink(outside.join(format!("inner-{size}")), memory(&format!("to-link-{size}"))).unwrap();
        drop(std::os::unix::net::UnixListener::bind(memory(&format!("to-socket-{size}"))).unwrap());
    }
    for folder in ["goes", "to-link", "to-file", "to-fifo"] {
        fs::remove_dir_all(memory(&format!("folder-{folder}"))).unwrap();
    }
    symlink(outside, memory("folder-to-link")).unwrap();
    fs::write(memory("folder-to-file"), "a file").unwrap();
    fifo(&memory("folder-to-fifo"));
    fs::rename(memory("folder-moves"), memory("folder-moved")).unwrap();
    ["link-to-file", "link-goes", "link-turns"].into_iter().for_each(remove);
    fs::write(memory("link-to-file"), "a file").unwrap();
    symlink("../config", memory("link-turns")).unwrap();
}

fn paths(list: &Value) -> Vec<String> {
    let path = |one: &Value| one.as_str().or(one["path"].as_str()).unwrap().to_owned();
    let mut paths: Vec<_> = list.as_array().unwrap().iter().map(path).collect();
    paths.sort();
    paths
}

fn each(names: &[&str]) -> Vec<String> {
    let mut all: Vec<_> =
        names.iter().flat_map(|name| SIZES.map(|size| name.replace("SIZE", &size.to_string()))).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn what_vanishes_or_becomes_something_else_is_told_and_the_rest_is_there() {
    for before in [false, true] {
        let sandbox = with_files();
        fill(&sandbox);
        if before {
            sandbox.expect(0, "backup", &[]);
        }
        let outside = outside(&sandbox);
        let made = backup(&sandbox, 1, || change(&sandbox, &outside));
        let vanished = each(&[
            "memory/goes-SIZE",
            "memory/folder-goes",
            "memory/folder-goes/inner-SIZE",
            "memory/folder-moves",
            "memory/folder-moves/inner-SIZE",
            "memory/folder-to-file/inner-SIZE",
            "memory/folder-to-fifo/inner-SIZE",
            "memory/link-goes",
        ]);
        let changed = each(&[
            "memory/to-fifo-SIZE",
            "memory/to-folder-SIZE",
            "memory/to-link-SIZE",
            "memory/to-socket-SIZE",
            "memory/stream-SIZE.jsonl",
            "memory/folder-to-link",
            "memory/folder-to-link/inner-SIZE",
            "memory/folder-to-file",
            "memory/folder-to-fifo",
            "memory/link-to-file",
        ]);
        assert_eq!(paths(&made["vanished"]), vanished, "{before}: {made:#}");
        assert_eq!(paths(&made["unkept"]), changed, "{before}: {made:#}");
        assert!(made["unkept"].as_array().unwrap().iter().all(|one| one["what"] == "changed_kind"));
        // Each is a problem that a person reads, and nothing else is.
        assert_eq!(made["problems"].as_array().unwrap().len(), changed.len(), "{made:#}");

        let archive = archives(&sandbox).pop().unwrap();
        let unpacked = unpack_by_hand(&sandbox, &archive);
        for size in SIZES {
            let stays = fs::read(unpacked.join(format!("memory/stays-{size}"))).unwrap();
            assert_eq!(stays, vec![b'a'; size]);
        }
        assert_eq!(fs::read(unpacked.join("memory/notes/today.md")).unwrap(), b"a note\n");
        assert_eq!(fs::read_link(unpacked.join("memory/link-turns")).unwrap(), Path::new("../config"));
        assert!(unpacked.join("memory/agent.db").is_file());
        for name in vanished.iter().chain(&changed) {
            assert!(fs::symlink_metadata(unpacked.join(name)).is_err(), "{name} is in the archive");
        }
        assert_eq!(rubbish(&sandbox), [""; 0]);
        sandbox.expect(0, "backup", &["verify", "latest"]);
        // The next one finds the home at rest: what is no file, folder or link is noted, and nobody is bothered.
        let next = sandbox.json(0, "backup", &[]);
        assert!(next["vanished"].as_array().unwrap().is_empty(), "{next:#}");
    }
}
