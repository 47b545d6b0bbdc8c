//! Crashes at every step of backups and restores: old or new, never a mixture, and the next run
//! finishes or undoes it by itself.

use crate::backup::{archives, database, rubbish, tree, with_files};
use crate::outside;
use crate::restore::{State, digest, state};
use crate::sandbox::{Sandbox, said};
use crate::service::{agent_pid, alive, with_agent};
use std::fs;
use std::path::Path;

/// A home whose state differs from that of its archive in every way, and the state of the archive.
pub fn changed() -> (Sandbox, State) {
    let sandbox = with_files();
    for n in 0..20 {
        sandbox.write(&format!("memory/many/{n}.txt"), format!("saved {n}"));
    }
    sandbox.expect(0, "backup", &[]);
    let saved = sandbox.outside("saved");
    sandbox.expect(0, "restore", &["--to", saved.to_str().unwrap()]);
    let mut new = digest(tree(&saved.join("memory")), "memory");
    new.extend(digest(tree(&saved.join("config")), "config"));
    fs::remove_file(sandbox.path("memory/notes/today.md")).unwrap();
    fs::remove_dir(sandbox.path("memory/notes")).unwrap();
    sandbox.write("memory/journal.jsonl", "{\"n\":9}\n");
    sandbox.write("config/settings.json", "changed");
    for n in 0..14 {
        sandbox.write(&format!("memory/many/{n}.txt"), format!("changed {n}"));
    }
    fs::remove_file(sandbox.path("memory/many/19.txt")).unwrap();
    // A killed writer's leftovers.
    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    let db = database(&sandbox.path("memory/agent.db"));
    db.execute_batch("CREATE TABLE rows(n INTEGER PRIMARY KEY); INSERT INTO rows VALUES(77);").unwrap();
    let copy = sandbox.outside("copy");
    for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
        fs::copy(sandbox.path("memory").join(name), copy.join(name)).unwrap();
    }
    drop(db);
    for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
        fs::copy(copy.join(name), sandbox.path("memory").join(name)).unwrap();
    }
    (sandbox, new)
}

/// Runs a program again and again, and ends it at its first step, at its second … until it gets
/// through. `after` looks at what each of them left. Gives how many steps there were.
pub fn walk(sandbox: &Sandbox, program: &str, args: &[&str], mut after: impl FnMut(usize)) -> usize {
    for step in 1..1000 {
        let output =
            sandbox.program(program).args(args).env("OPS_ABORT_AT", step.to_string()).output().unwrap();
        if output.status.code() == Some(0) {
            return step - 1;
        }
        assert_eq!(output.status.code(), None, "step {step}: {output:?}");
        after(step);
    }
    panic!("{program} {args:?} never gets through");
}

/// Of all walks together at least so many steps are wanted.
const WANTED: usize = 300;

#[test]
fn killed_at_any_step_the_old_state_or_the_new_one_is_whole() {
    type Walk = fn() -> usize;
    let walks: [(&str, Walk); 10] = [
        ("backup", backups),
        ("restore", restores),
        ("restore pre-restore:latest", put_backs),
        ("restore --to", restores_elsewhere),
        ("restore --drill", drills),
        ("the undoing of a restore", recoveries),
        ("backup, also outside the home and of a dump", outside::backups),
        ("restore, also outside the home", outside::restores),
        ("restore pre-restore:latest, also outside the home", outside::put_backs),
        ("restore --dump --load", outside::loads),
    ];
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = walks.iter().map(|(_, walk)| scope.spawn(walk)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for ((name, _), count) in walks.iter().zip(&counts) {
        println!("{name}: killed at {count} steps");
        assert!(*count >= 3, "{name}: {count} steps");
    }
    let all: usize = counts.iter().sum();
    println!("{all} in all");
    assert!(all >= WANTED, "{counts:?}");
}

fn backups() -> usize {
    let sandbox = with_files();
    // Two blocks.
    let noise = (0..350_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    sandbox.write("memory/big.bin", noise.collect::<Vec<u8>>());
    sandbox.expect(0, "backup", &[]);
    let before = state(&sandbox);
    let steps = walk(&sandbox, "backup", &[], |step| {
        sandbox.expect(0, "backup", &["verify", "latest"]);
        assert!(fs::metadata(sandbox.path("backups/latest")).is_ok(), "step {step}: latest points nowhere");
        assert_eq!(state(&sandbox), before, "step {step}: the home is none of its business");
    });
    sandbox.expect(0, "backup", &[]);
    assert_eq!(rubbish(&sandbox), [""; 0]);
    for archive in archives(&sandbox) {
        sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
    }
    steps
}

fn restores() -> usize {
    let (sandbox, new) = changed();
    let old = state(&sandbox);
    assert_ne!(old, new);
    let mut olds = 0;
    let kept = [tree(&sandbox.path("memory")), tree(&sandbox.path("config"))];
    let put_back = || {
        for (folder, files) in ["memory", "config"].iter().zip(&kept) {
            fs::remove_dir_all(sandbox.path(folder)).unwrap();
            fs::create_dir(sandbox.path(folder)).unwrap();
            for (path, content) in files {
                let path = Path::new(folder).join(path);
                match &content[..] {
                    b"folder" => fs::create_dir_all(sandbox.path(path.to_str().unwrap())).unwrap(),
                    _ => drop(sandbox.write(path.to_str().unwrap(), content)),
                }
            }
        }
    };
    let steps = walk(&sandbox, "restore", &["--yes"], |step| {
        // Half of them are found by a backup, half by another restore that is not let do anything.
        let cut_short = sandbox.path(".ops/restore.json").exists();
        let recovery = if step % 2 == 0 {
            sandbox.expect(0, "backup", &["-v"])
        } else {
            sandbox.expect(3, "restore", &["no-such-archive", "--yes"])
        };
        assert_eq!(recovery.stderr.contains("was cut short"), cut_short, "step {step}: {recovery:?}");
        assert!(!sandbox.path(".ops/restore.json").exists());
        let now = state(&sandbox);
        if now == new {
            put_back();
        } else {
            assert_eq!(now, old, "step {step}: neither the old nor the new");
            olds += 1;
        }
        // The archive to restore stays the first one.
        for archive in archives(&sandbox).split_off(1) {
            fs::remove_file(archive).unwrap();
        }
    });
    assert_eq!(state(&sandbox), new);
    assert!(olds >= 10, "{steps} steps, {olds} undone");
    assert_eq!(rubbish(&sandbox), [""; 0]);
    steps
}

fn put_backs() -> usize {
    let (sandbox, _) = changed();
    let old = state(&sandbox);
    sandbox.expect(0, "restore", &["--yes"]);
    let new = state(&sandbox);
    let mut undone = 0;
    let steps = walk(&sandbox, "restore", &["pre-restore:latest", "--yes"], |step| {
        let cut_short = sandbox.path(".ops/restore.json").exists();
        let said = sandbox.expect(3, "restore", &["no-such-archive", "--yes"]);
        assert_eq!(said.stderr.contains("was cut short"), cut_short, "step {step}: {said:?}");
        let now = state(&sandbox);
        if now == old {
            // Forward once more, so that the next step meets the same scene.
            sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
        } else {
            assert_eq!(now, new, "step {step}: neither the one nor the other");
            undone += 1;
        }
    });
    assert_eq!(state(&sandbox), old);
    assert!(undone >= 8, "{steps} steps, {undone} undone");
    // Nothing was lost on the way: the other state is aside, once.
    let list = sandbox.json(0, "restore", &["--aside"]);
    assert_eq!(list["asides"].as_array().unwrap().len(), 1, "{list}");
    steps
}

fn restores_elsewhere() -> usize {
    let (sandbox, new) = changed();
    let old = state(&sandbox);
    let target = sandbox.outside("target");
    let steps = walk(&sandbox, "restore", &["--to", target.to_str().unwrap()], |step| {
        assert_eq!(state(&sandbox), old, "step {step}");
        let folders = ["memory", "config"].map(|below| (target.join(below), below));
        let came = folders.iter().filter(|(folder, _)| folder.is_dir());
        for (path, content) in came.flat_map(|(folder, below)| digest(tree(folder), below)) {
            assert_eq!(new.get(&path), Some(&content), "step {step}: {path:?} is not whole");
        }
        fs::remove_dir_all(&target).unwrap();
    });
    let found = digest(tree(&target.join("memory")), "memory");
    assert!(found.len() >= 10 && found.iter().all(|(path, content)| new.get(path) == Some(content)));
    steps
}

fn drills() -> usize {
    let (sandbox, _) = changed();
    let old = state(&sandbox);
    let steps = walk(&sandbox, "restore", &["--drill"], |step| {
        assert_eq!(state(&sandbox), old, "step {step}");
    });
    assert_eq!(fs::read_dir(sandbox.path(".ops/restore")).unwrap().count(), 0, "nothing lies about");
    steps
}

/// A restore is cut short while the new files are put in, and the run that undoes it is too.
fn recoveries() -> usize {
    let (sandbox, _) = changed();
    let old = state(&sandbox);
    let cut = || {
        let output = sandbox.program("restore").arg("--yes").env("OPS_ABORT_AT", "place").output().unwrap();
        assert_eq!(output.status.code(), None, "{output:?}");
    };
    cut();
    let recovery = ["no-such-archive", "--yes"];
    for step in 1.. {
        let mut program = sandbox.program("restore");
        let output = program.args(recovery).env("OPS_ABORT_AT", step.to_string()).output().unwrap();
        if output.status.code().is_none() {
            sandbox.expect(3, "restore", &recovery);
        }
        assert_eq!(state(&sandbox), old, "step {step}: {output:?}");
        assert!(!sandbox.path(".ops/restore.json").exists(), "step {step}");
        if output.status.code().is_some() {
            return step - 1;
        }
        cut();
    }
    0
}

#[test]
fn a_disk_full_at_any_step_leaves_the_old_state_or_the_new_one_whole() {
    let (sandbox, new) = changed();
    let old = state(&sandbox);
    for step in 1.. {
        assert!(step < 500);
        let output = said(
            sandbox.program("restore").arg("--yes").env("OPS_FAIL_AT", step.to_string()).output().unwrap(),
        );
        if output.code == 0 {
            break;
        }
        assert_eq!(output.code, 2, "step {step}: {output:?}");
        let now = state(&sandbox);
        if now == new {
            // Only the tidying up was left.
            assert!(!sandbox.path(".ops/restore.json").exists(), "step {step}");
            break;
        }
        assert_eq!(now, old, "step {step}: {output:?}");
        assert!(!sandbox.path(".ops/restore.json").exists(), "step {step}: {output:?}");
    }
    assert_eq!(state(&sandbox), new);
}

#[test]
fn a_disk_that_is_full_is_not_a_damaged_archive() {
    let (sandbox, _) = changed();
    for args in [&["--drill"][..], &["--yes"], &["--only", "config", "--yes"]] {
        let output = sandbox.program("restore").args(args).env("OPS_FAIL_AT", "stage").output().unwrap();
        let failed = said(output);
        assert_eq!(failed.code, 2, "{failed:?}");
        let full =
            failed.stderr.contains("no room in") && failed.stderr.contains("are needed and it is full");
        assert!(full && failed.stderr.contains("nothing was changed"), "{failed:?}");
        let list = sandbox.json(0, "backup", &["list"]);
        let archive = &list["archives"][0];
        assert!(archive["verified"] == true && archive["drilled"].is_null(), "{list}");
    }
    sandbox.expect(0, "restore", &["--drill"]);
}

#[test]
fn killed_while_the_agent_is_stopped_the_next_run_starts_it_again() {
    for step in ["stopped", "aside", "place", "started"] {
        let sandbox = with_agent(&[]);
        sandbox.expect(0, "ops", &["start"]);
        sandbox.expect(0, "backup", &[]);
        sandbox.write("memory/identity_core.json", "{\"name\":\"changed\"}");
        let output = sandbox.program("restore").arg("--yes").env("OPS_ABORT_AT", step).output().unwrap();
        assert_eq!(output.status.code(), None, "{output:?}");
        let said = sandbox.expect(0, "backup", &[]);
        let word = if step == "started" { "finished now" } else { "back as it was" };
        assert!(said.stderr.contains(word), "{step}: {said:?}");
        assert!(alive(agent_pid(&sandbox)), "{step}");
        let back = sandbox.read("memory/identity_core.json") == "{\"name\":\"changed\"}";
        assert_eq!(back, step != "started", "{step}");
    }
}
