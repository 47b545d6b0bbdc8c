//! Runs killed at random moments, not only between two steps: the next run finds the old state or
//! the new one whole, and every archive under a final name is good. `OPS_TEST_PROGRAMS=DIR` takes
//! other programs than those of this build: `.ci/run` kills those of the release.

use crate::backup::{archives, database, number, rubbish, tree, with_files};
use crate::sandbox::Sandbox;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So many runs are killed, of each program. `OPS_TEST_KILLS` takes more.
fn kills() -> u32 {
    std::env::var("OPS_TEST_KILLS").map_or(15, |count| count.parse().unwrap())
}

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

/// The moments at which runs are killed: spread over the time that a run takes, as far as is known.
struct Moments {
    round: u64,
    whole: u64,
    killed: u32,
}

impl Moments {
    fn new(run: impl FnOnce()) -> Moments {
        let begun = Instant::now();
        run();
        Moments { round: 0, whole: begun.elapsed().as_micros().max(1000) as u64, killed: 0 }
    }

    /// Runs a program and kills it, if it is not done before. False: enough were killed.
    fn kill_one(&mut self, sandbox: &Sandbox, program: &str, args: &[&str]) -> bool {
        if self.killed == kills() {
            return false;
        }
        assert!(self.round < 10_000, "only {} of {} runs were killed", self.killed, self.round);
        self.round += 1;
        let wait = Duration::from_micros(random(self.round) % (self.whole + self.whole / 8));
        if killed_after(sandbox, program, args, wait) {
            self.killed += 1;
        } else {
            // A run takes less time than was thought: the first one had to wait for other tests.
            self.whole = self.whole * 9 / 10;
        }
        true
    }
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
    let mut moments = Moments::new(|| drop(sandbox.expect(0, "restore", &["--yes"])));
    let new = state(&sandbox);
    assert_ne!(old, new);
    sandbox.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(state(&sandbox), old);

    let mut recovered = 0;
    loop {
        // Half of them on the way there, half on the way back.
        let there = state(&sandbox) == old;
        let args: &[&str] = if there { &["--yes"] } else { &["pre-restore:latest", "--yes"] };
        if !moments.kill_one(&sandbox, "restore", args) {
            break;
        }
        let round = moments.round;
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
    println!("{} of {} restores were killed, {recovered} in the middle", moments.killed, moments.round);
    sandbox.expect(0, "restore", &["latest", "--drill"]);
    assert_eq!(fs::read_dir(sandbox.path(".ops/restore")).unwrap().count(), 0, "nothing lies about");
}

#[test]
fn backups_killed_at_random_leave_only_good_archives() {
    let sandbox = home();
    let mut moments = Moments::new(|| drop(sandbox.expect(0, "backup", &[])));
    let before = state(&sandbox);
    while moments.kill_one(&sandbox, "backup", &[]) {
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
        assert_eq!(state(&sandbox), before, "round {}: the home is none of its business", moments.round);
    }
    println!("{} of {} backups were killed", moments.killed, moments.round);
    sandbox.expect(0, "backup", &[]);
    assert_eq!(rubbish(&sandbox), [""; 0]);
    let list = sandbox.json(0, "backup", &["list"]);
    assert!(list["archives"].as_array().unwrap().iter().all(|one| one["verified"] == true), "{list}");
}
