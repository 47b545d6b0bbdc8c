//! Runs killed at random moments, not only between two steps: the next run finds the old state or
//! the new one whole, and every archive under a final name is good.

use crate::backup::{archives, database, number, rubbish, tree, with_files};
use crate::sandbox::Sandbox;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 20;

/// SplitMix64: the same moments in every run of the tests.
fn random(seed: u64) -> u64 {
    let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Starts a program and kills it after a while. False: it was done before.
fn killed_after(sandbox: &Sandbox, program: &str, args: &[&str], wait: Duration) -> bool {
    let mut child = sandbox
        .program(program)
        .args(args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(wait);
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

/// How long a run takes that nobody kills.
fn time_of(run: impl FnOnce()) -> u64 {
    let begun = Instant::now();
    run();
    begun.elapsed().as_micros().max(1000) as u64
}

/// A home with enough in it that a run takes a while.
fn home() -> Sandbox {
    let sandbox = with_files();
    for n in 0..60u64 {
        sandbox.write(&format!("memory/many/{n}.txt"), random(n).to_string().repeat(200));
    }
    sandbox
}

type State = BTreeMap<PathBuf, Vec<u8>>;

/// What a restore may change. A `-shm` is no state: readers make it anew.
fn state(sandbox: &Sandbox) -> State {
    let mut state = tree(&sandbox.path("memory"));
    // Nor is an empty WAL, which they leave too.
    let wal = |path: &Path| path.to_string_lossy().ends_with("-wal");
    state.retain(|path, content| {
        !(path.to_string_lossy().ends_with("-shm") || wal(path) && content.is_empty())
    });
    state.extend(
        tree(&sandbox.path("config"))
            .into_iter()
            .map(|(path, content)| (Path::new("config").join(path), content)),
    );
    state
}

#[test]
fn restores_killed_at_random_leave_the_old_state_or_the_new_one_whole() {
    let sandbox = home();
    sandbox.expect(0, "backup", &[]);
    // What is there now differs in every way from what was saved.
    fs::remove_file(sandbox.path("memory/many/7.txt")).unwrap();
    sandbox.write("memory/many/8.txt", "changed");
    sandbox.write("config/settings.json", "changed");
    database(&sandbox.path("memory/agent.db")).execute("INSERT INTO rows VALUES(77)", []).unwrap();
    let old = state(&sandbox);
    let whole = time_of(|| drop(sandbox.expect(0, "restore", &["--yes"])));
    let new = state(&sandbox);
    assert_ne!(old, new);
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(state(&sandbox), old);

    let (mut killed, mut recovered) = (0, 0);
    for round in 0..ROUNDS {
        let wait = Duration::from_micros(random(round) % (whole + whole / 4));
        // Half of them on the way there, half on the way back.
        let there = state(&sandbox) == old;
        let args: &[&str] = if there { &["--yes"] } else { &["pre-restore:latest", "--yes"] };
        killed += u32::from(killed_after(&sandbox, "restore", args, wait));
        let cut_short = sandbox.path(".ops/restore.json").exists();
        let said = sandbox.expect(3, "restore", &["no-such-archive", "--yes"]);
        let words = ["everything is back as it was before", "it is finished now"];
        let told = words.iter().any(|word| said.stderr.contains(word));
        assert_eq!(told, cut_short, "round {round}: {said:?}");
        recovered += u32::from(cut_short);
        let now = state(&sandbox);
        let differing = |other: &State| {
            let paths: BTreeSet<&PathBuf> = now.keys().chain(other.keys()).collect();
            paths.into_iter().filter(|path| now.get(*path) != other.get(*path)).cloned().collect::<Vec<_>>()
        };
        let (from_old, from_new) = (differing(&old), differing(&new));
        assert!(
            from_old.is_empty() || from_new.is_empty(),
            "round {round}: neither the old, but for {from_old:?}, nor the new, but for {from_new:?}"
        );
        let rows = number(&sandbox.path("memory/agent.db"), "SELECT count(*) FROM rows");
        assert_eq!(rows, if now == old { 4 } else { 3 }, "round {round}");
        assert!(!sandbox.path(".ops/restore.json").exists());
    }
    assert!(killed >= 5, "{killed} were killed, {recovered} of them in the middle");
    sandbox.expect(0, "restore", &["latest", "--drill"]);
    assert_eq!(fs::read_dir(sandbox.path(".ops/restore")).unwrap().count(), 0, "nothing lies about");
}

#[test]
fn backups_killed_at_random_leave_only_good_archives() {
    let sandbox = home();
    let whole = time_of(|| drop(sandbox.expect(0, "backup", &[])));
    let before = state(&sandbox);
    let mut killed = 0;
    for round in 0..ROUNDS {
        let wait = Duration::from_micros(random(round + 1000) % (whole + whole / 4));
        killed += u32::from(killed_after(&sandbox, "backup", &[], wait));
        // `latest` may be one behind, never wrong.
        let latest = fs::canonicalize(sandbox.path("backups/latest")).unwrap();
        sandbox.expect(0, "backup", &["verify", latest.to_str().unwrap()]);
        for archive in archives(&sandbox) {
            sandbox.expect(0, "backup", &["verify", archive.to_str().unwrap()]);
            // Few, so that a round stays short.
            if archive != latest {
                fs::remove_file(archive).unwrap();
            }
        }
        assert_eq!(state(&sandbox), before, "round {round}: the home is none of its business");
    }
    assert!(killed >= 5, "{killed} were killed");
    sandbox.expect(0, "backup", &[]);
    assert_eq!(rubbish(&sandbox), [""; 0]);
    let list = sandbox.json(0, "backup", &["list"]);
    assert!(list["archives"].as_array().unwrap().iter().all(|one| one["verified"] == true), "{list}");
}
