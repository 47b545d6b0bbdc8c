//! File systems on which files can share extents: a second archive takes next to no space, and is
//! an ordinary one all the same. And sparse files, and files that cannot be read to their end.

use crate::peers::peer;
use crate::room::Room;
use std::fs;
use std::os::unix::fs::MetadataExt;

const SETTINGS: &str = "[agent]\nname = \"thrifty\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\nkeep = { all = \"30d\" }\n";

/// Bytes in use on the file system of the home.
fn used(room: &Room) -> u64 {
    room.shell("sync -f \"$HOME_FOLDER\"");
    let stat = rustix::fs::statvfs(room.path("")).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

/// The newest archive, and its length.
fn newest(room: &Room) -> (String, u64) {
    let name = fs::read_link(room.path("backups/latest")).unwrap().into_os_string().into_string().unwrap();
    let bytes = fs::metadata(room.path("backups").join(&name)).unwrap().len();
    (name, bytes)
}

/// Ordinary tools read it, and we find it whole.
fn is_whole(room: &Room, name: &str) {
    let (gzip, tar) = (peer("gzip", "gzip"), peer("tar", "tar"));
    room.shell(&format!("{} -t \"$HOME_FOLDER/backups/{name}\"", gzip.display()));
    room.shell(&format!(
        "mkdir /mnt/unpacked; cd /mnt/unpacked; {} xzf \"$HOME_FOLDER/backups/{name}\"; \
         cmp thrifty/memory/noise.bin \"$HOME_FOLDER/memory/noise.bin\"; \
         cmp thrifty/memory/journal.txt \"$HOME_FOLDER/memory/journal.txt\"; rm -r /mnt/unpacked",
        tar.display()
    ));
    room.expect(0, "backup", &["verify", name]);
}

fn a_second_archive_takes_next_to_no_space(make: (&str, &str)) {
    let room = Room::on(make, 600);
    room.shell("mount -t tmpfs tmpfs /mnt");
    room.sandbox.write("ops.toml", SETTINGS);
    room.shell(
        "cd \"$HOME_FOLDER\"; mkdir memory; head -c 24M /dev/urandom >memory/noise.bin; \
         seq 4000000 >memory/journal.txt",
    );
    let sqlite = "CREATE TABLE t(n INTEGER PRIMARY KEY, b); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL \
                  SELECT x+1 FROM c WHERE x<8000) INSERT INTO t SELECT x, randomblob(3000) FROM c";
    room.sqlite("memory/agent.db", sqlite);
    // Later, so that what was just written has settled.
    let backup = |minutes: u64| {
        let now = chrono::Utc::now() + chrono::TimeDelta::minutes(minutes.cast_signed());
        let made = room.program("backup").env("OPS_NOW", now.to_rfc3339()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    backup(5);
    let before = used(&room);
    backup(6);
    let (name, bytes) = newest(&room);
    let unchanged = used(&room).saturating_sub(before);
    println!("{}: unchanged, {unchanged} new bytes for an archive of {bytes}", make.0);
    assert!(unchanged * 100 < bytes * 3, "{unchanged} of {bytes}");
    is_whole(&room, &name);

    room.sqlite("memory/agent.db", "UPDATE t SET b = randomblob(3000) WHERE n BETWEEN 500 AND 540");
    room.shell("seq 20000 >>\"$HOME_FOLDER/memory/journal.txt\"");
    let before = used(&room);
    backup(7);
    let (name, bytes) = newest(&room);
    let changed = used(&room).saturating_sub(before);
    println!("{}: changed here and there, {changed} new bytes for an archive of {bytes}", make.0);
    assert!(changed * 100 < bytes * 3, "{changed} of {bytes}");
    is_whole(&room, &name);
    // What they share goes only with the last of them.
    let first = room.names("backups").into_iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    fs::remove_file(room.path("backups").join(first)).unwrap();
    is_whole(&room, &name);
}

#[test]
fn a_second_archive_on_xfs_takes_next_to_no_space() {
    a_second_archive_takes_next_to_no_space(("mkfs.xfs", "xfsprogs"));
}

#[test]
fn a_second_archive_on_btrfs_takes_next_to_no_space() {
    a_second_archive_takes_next_to_no_space(("mkfs.btrfs", "btrfs-progs"));
}

#[test]
fn a_huge_sparse_file_is_saved_and_costs_little() {
    let room = Room::on(("mkfs.xfs", "xfsprogs"), 400);
    room.sandbox.write("ops.toml", SETTINGS);
    room.shell(
        "cd \"$HOME_FOLDER\"; mkdir memory; truncate -s 1G memory/sparse.img; \
         echo end | dd of=memory/sparse.img bs=1 seek=700000000 conv=notrunc 2>/dev/null",
    );
    let sparse = fs::metadata(room.path("memory/sparse.img")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20);
    room.expect(0, "backup", &[]);
    let (name, bytes) = newest(&room);
    println!("1 GiB of holes: an archive of {bytes} bytes");
    assert!(bytes < 6 << 20, "{bytes}");
    room.expect(0, "backup", &["verify", &name]);
    let same = format!(
        "tar xzOf \"$HOME_FOLDER/backups/{name}\" thrifty/memory/sparse.img | cmp - \"$HOME_FOLDER/memory/sparse.img\""
    );
    room.shell(&same);
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_told_of_and_the_rest_is_saved() {
    // The disk of the file ends in the middle of it.
    let room = Room::new(
        "folder=$(dirname \"$READY\")\ntruncate -s 64M \"$folder/image\"\nmkfs.ext4 -q -b 4096 \"$folder/image\"\n\
         mkdir -p \"$HOME_FOLDER/memory/disk\"\nmount -o loop \"$folder/image\" \"$HOME_FOLDER/memory/disk\"\n\
         rmdir \"$HOME_FOLDER/memory/disk/lost+found\"\nhead -c 40M /dev/urandom >\"$HOME_FOLDER/memory/disk/bad.bin\"\n\
         sync -f \"$HOME_FOLDER/memory/disk\"\ntruncate -s 32M \"$folder/image\"\n\
         echo 3 >/proc/sys/vm/drop_caches",
    );
    room.sandbox.write("ops.toml", SETTINGS);
    room.sandbox.write("memory/good.txt", "all is well\n".repeat(10_000));
    let made = room.expect(1, "backup", &[]);
    let told = format!("{}{}", made.stdout, made.stderr);
    assert!(
        told.contains("cannot read memory/disk/bad.bin beyond its first")
            && told.contains("Input/output error"),
        "{told}"
    );
    let (name, _) = newest(&room);
    room.expect(0, "backup", &["verify", &name]);
    room.shell(&format!(
        "tar xzOf \"$HOME_FOLDER/backups/{name}\" thrifty/memory/good.txt | cmp - \"$HOME_FOLDER/memory/good.txt\"; \
         test $(tar xzOf \"$HOME_FOLDER/backups/{name}\" thrifty/memory/disk/bad.bin | wc -c) = 41943040"
    ));
}
