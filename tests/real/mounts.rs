//! Homes with mounts and immutable files: restores put them right, or touch nothing.

use crate::peers::peer;
use crate::room::Room;
use crate::sandbox::Said;

const CONFIG: &str =
    "[agent]\nname = \"mounts\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\", \"config/**\"]\n";

/// A home whose `memory` is a file system of its own, and in whose `config` one file is mounted alone.
fn room(file_system: &str) -> Room {
    let room = Room::new(&format!(
        "cd \"$HOME_FOLDER\"; mkdir memory config outside\nimage=$(dirname \"$READY\")/image\n{file_system}\n\
         echo saved > outside/single; touch config/single.json; mount --bind outside/single config/single.json"
    ));
    room.sandbox.write("ops.toml", CONFIG);
    room.shell(
        "cd \"$HOME_FOLDER\"; for n in 1 2 3; do echo saved $n > memory/$n.txt; done; ln -s 1.txt memory/link; echo saved > config/plain.json",
    );
    room.sqlite("memory/agent.db", "CREATE TABLE rows(n); INSERT INTO rows VALUES(1);");
    room.expect(0, "backup", &[]);
    change(&room);
    room
}

const TMPFS: &str = "mount -t tmpfs -o size=8m,mode=0755 tmpfs memory";

fn ext4() -> String {
    let make = peer("mkfs.ext4", "e2fsprogs");
    format!("truncate -s 16M \"$image\"; {} -q \"$image\"; mount -o loop \"$image\" memory", make.display())
}

fn change(room: &Room) {
    room.shell(
        "cd \"$HOME_FOLDER\"; echo changed > memory/1.txt; rm memory/2.txt; echo changed > config/single.json; \
         echo changed longer > config/plain.json; rm memory/link; ln -s nowhere memory/link",
    );
    room.sqlite("memory/agent.db", "INSERT INTO rows VALUES(2);");
}

/// What is in the home, with the content of files.
fn state(room: &Room) -> String {
    let files = room.shell(
        "cd \"$HOME_FOLDER\"; find memory config -type f ! -name '*-shm' ! -name '*-wal' ! -path '*lost+found*' ! -name agent.db | \
         sort | xargs sha256sum; find memory config -type l -printf '%p %l\\n'; stat -c '%n %i' config/single.json",
    );
    format!("{files}{}", room.sqlite("memory/agent.db", "SELECT group_concat(n) FROM rows"))
}

#[track_caller]
fn refused(said: &Said, words: &[&str]) {
    assert_eq!(said.code, 3, "{said:?}");
    for word in words.iter().chain(&["nothing was changed", "hint"]) {
        assert!(said.stderr.contains(word), "{word}: {said:?}");
    }
}

#[test]
fn a_restore_goes_across_file_systems_and_writes_a_single_mounted_file_in_place() {
    let room = room(TMPFS);
    let old = state(&room);
    let said = room.expect(0, "restore", &["-n"]);
    assert!(said.stderr.contains("written in place: config/single.json"), "{said:?}");
    assert!(
        said.stderr.contains("another file system than the home, so moved by a copy: memory"),
        "{said:?}"
    );
    assert_eq!(state(&room), old);
    room.expect(0, "restore", &["--yes"]);
    let new = state(&room);
    assert!(new != old && new.ends_with('1'), "{new}");
    assert_eq!(room.shell("cat \"$HOME_FOLDER\"/outside/single"), "saved\n");
    room.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(state(&room), old);
    room.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(state(&room), new);
    room.expect(0, "backup", &[]);
}

#[test]
fn killed_at_any_step_across_mounts_the_old_state_or_the_new_one_is_whole() {
    let room = room(TMPFS);
    let old = state(&room);
    room.expect(0, "restore", &["--yes"]);
    let new = state(&room);
    room.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    let (mut step, mut undone) = (0, 0);
    loop {
        step += 1;
        let output =
            room.program("restore").arg("--yes").env("OPS_ABORT_AT", step.to_string()).output().unwrap();
        if output.status.success() {
            break;
        }
        room.expect(3, "restore", &["no-such-archive", "--yes"]);
        let now = state(&room);
        if now == new {
            room.expect(0, "restore", &["pre-restore:latest", "--yes"]);
            assert_eq!(state(&room), old, "step {step}");
        } else {
            assert_eq!(now, old, "step {step}: neither the old nor the new");
            undone += 1;
        }
        let parts = room.shell("cd \"$HOME_FOLDER\"; find . -name '.part-move*'");
        assert_eq!(parts, "", "step {step}");
    }
    assert!(step > 25 && undone > 10, "{step} steps, {undone} undone");
    assert_eq!(state(&room), new);
    // A disk that is full at any step.
    room.expect(0, "restore", &["pre-restore:latest", "--yes"]);
    for step in (1..60).step_by(3) {
        let output =
            room.program("restore").arg("--yes").env("OPS_FAIL_AT", step.to_string()).output().unwrap();
        let now = state(&room);
        if output.status.success() || now == new {
            break;
        }
        assert_eq!(now, old, "step {step}: {output:?}");
    }
}

#[test]
fn what_is_immutable_or_read_only_is_found_before_anything_moves() {
    let room = room(&ext4());
    let old = state(&room);
    let chattr = peer("chattr", "e2fsprogs").display().to_string();
    for (begin, end, words) in [
        (
            format!("{chattr} +i memory/1.txt"),
            format!("{chattr} -i memory/1.txt"),
            ["memory/1.txt", "chattr +i"],
        ),
        (
            format!("{chattr} +a memory/1.txt"),
            format!("{chattr} -a memory/1.txt"),
            ["memory/1.txt", "chattr +a"],
        ),
        (format!("{chattr} +i memory"), format!("{chattr} -i memory"), ["memory/", "chattr +i"]),
        (
            "mount -o remount,ro memory".to_owned(),
            "mount -o remount,rw memory".to_owned(),
            ["memory/", "mounted read-only"],
        ),
    ] {
        room.shell(&format!("cd \"$HOME_FOLDER\"; {begin}"));
        for args in [&["-n"][..], &["--yes"]] {
            refused(&room.run("restore", args), &words);
        }
        room.shell(&format!("cd \"$HOME_FOLDER\"; {end}"));
        assert_eq!(state(&room), old, "{begin}");
        assert_eq!(room.shell("cd \"$HOME_FOLDER\"; ls -a .ops | grep restore.json || true"), "", "{begin}");
        room.expect(0, "backup", &[]);
        // That one has the changes: `latest` is the first one again.
        room.shell("cd \"$HOME_FOLDER\"/backups; rm latest; set -- *.tar.gz; shift; rm -f \"$@\"");
    }
    // With --to it is nobody's business.
    room.shell(&format!("cd \"$HOME_FOLDER\"; {chattr} +i memory/1.txt"));
    room.expect(0, "restore", &["--to", "/tmp/elsewhere-of-mounts"]);
    room.shell(&format!("rm -r /tmp/elsewhere-of-mounts; cd \"$HOME_FOLDER\"; {chattr} -i memory/1.txt"));
    room.expect(0, "restore", &["--yes"]);
    assert_ne!(state(&room), old);
}

#[test]
fn old_files_from_another_file_system_need_room_in_the_home() {
    let room = Room::new(
        "mount -t tmpfs -o size=6m,mode=0755 tmpfs \"$HOME_FOLDER\"; cd \"$HOME_FOLDER\"; mkdir memory; \
         mount -t tmpfs -o size=32m,mode=0755 tmpfs memory",
    );
    room.sandbox.write("ops.toml", CONFIG.replace(", \"config/**\"", ""));
    room.shell("echo saved > \"$HOME_FOLDER\"/memory/a.txt");
    room.expect(0, "backup", &[]);
    room.shell("head -c 12000000 /dev/urandom > \"$HOME_FOLDER\"/memory/a.txt");
    let said = room.expect(2, "restore", &["--yes"]);
    assert!(said.stderr.contains("no room in") && said.stderr.contains("nothing was changed"), "{said:?}");
    assert_eq!(room.shell("wc -c < \"$HOME_FOLDER\"/memory/a.txt").trim(), "12000000");
}
