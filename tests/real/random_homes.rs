//! A thousand random homes, as root: owners and closed files too. `OPS_TEST_HOMES=10000` takes
//! more of them.

#[path = "../it/homes.rs"]
mod homes;

use crate::peers::peer;
use crate::room::Room;
use homes::{Keeps, Random, Thing, Tree};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

#[test]
fn many_random_homes_come_back_bit_for_bit() {
    homes::homes(std::env::var("OPS_TEST_HOMES").map_or(1_000, |count| count.parse().unwrap()));
}

/// Folders of the home: a plain one, two other file systems, and one that lies elsewhere.
const TOPS: [&str; 4] = ["plain", "memory", "disk", "bound"];

/// A home with mounts, and `/mnt` where no attribute and no access control list can be.
fn with_mounts() -> Room {
    let make = peer("mkfs.ext4", "e2fsprogs");
    let room = Room::new(&format!(
        "cd \"$HOME_FOLDER\"; mkdir plain memory disk bound; folder=$(dirname \"$READY\"); mkdir \"$folder/elsewhere\"\n\
         mount -t tmpfs -o size=64m,mode=0755 tmpfs memory\n\
         truncate -s 64M \"$folder/image\"; {0} -q \"$folder/image\"; mount -o loop \"$folder/image\" disk\n\
         mount --bind \"$folder/elsewhere\" bound\n\
         echo single > \"$folder/single\"; touch single; mount --bind \"$folder/single\" single\n\
         mount -t ramfs -o mode=0700 ramfs /mnt",
        make.display()
    ));
    let include: Vec<String> = TOPS.iter().map(|top| format!("\"{top}/**\"")).collect();
    room.sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mounts\"\npreset = \"none\"\n[backup]\ninclude = [{}, \"single\"]\nexclude = [\"disk/lost+found\"]\n",
            include.join(", ")
        ),
    );
    room
}

fn whole(home: &Path) -> Tree {
    homes::tree(home, &["ops.toml", ".ops", "backups", "logs", "manifest.json", "checksums.sha256"])
}

/// Whether a link in the home leads out of it, read as text.
fn leads_out(path: &Path, thing: &Thing) -> bool {
    let Thing::Link(target) = thing else { return false };
    let mut depth = path.components().count() as i32 - 1;
    target.is_absolute()
        || target.components().any(|part| {
            match part {
                Component::ParentDir => depth -= 1,
                Component::Normal(_) => depth += 1,
                _ => {}
            }
            depth < 0
        })
}

/// What `getfacl` and `getfattr` say of everything that is in `guide`, as seen in `folder`. No restore sets
/// the bits that `flags` are.
fn said_of(room: &Room, folder: &str, guide: &str) -> String {
    let (getfacl, getfattr) = (peer("getfacl", "acl"), peer("getfattr", "attr"));
    room.shell(&format!(
        "cd '{guide}'; find {} single ! -type l -print0 | sort -z > /tmp/guide-of-mounts; cd '{folder}'; \
         xargs -0 {} -n -p -- < /tmp/guide-of-mounts | grep -v '^# flags'; \
         xargs -0 {} -d -h -m - -e hex -- < /tmp/guide-of-mounts; rm /tmp/guide-of-mounts",
        TOPS.join(" "),
        getfacl.display(),
        getfattr.display()
    ))
}

/// Who may do what with a file, as bits of a mode: of a list the owning group has what its entry and the mask
/// both give.
fn access(thing: &Thing) -> u32 {
    let (Thing::File { mode, xattrs, .. } | Thing::Folder { mode, xattrs }) = thing else { return 0 };
    let Some(list) = xattrs.get("system.posix_acl_access") else { return mode & 0o777 };
    let perm = |tag: u16| {
        let mut entries = list[4..].chunks(8);
        let entry = entries.find(|entry| entry[..2] == tag.to_le_bytes());
        entry.map_or(7, |entry| u32::from(u16::from_le_bytes([entry[2], entry[3]])))
    };
    mode & 0o707 | (perm(4) & perm(0x10)) << 3
}

#[test]
fn random_homes_with_mounts_come_back_bit_for_bit() {
    for seed in 0..6 {
        let room = with_mounts();
        let home = &room.sandbox.home;
        let mut random = Random(seed);
        for top in TOPS {
            // SQLite resolves the way into the room, so they are filled beside it.
            let filled = room.sandbox.outside(&format!("fill-{top}"));
            homes::fill(&filled, &mut random);
            room.shell(&format!("cp -a '{}/.' \"$HOME_FOLDER\"/{top}", filled.display()));
        }
        let unkept =
            room.shell("cd \"$HOME_FOLDER\"; find . -type p -printf x | wc -c; find . -type f -perm /6000 -printf x | wc -c");
        let unkept: usize = unkept.lines().map(|line| line.trim().parse::<usize>().unwrap()).sum();
        let mut expected = whole(home);
        let made = serde_json::from_str::<Value>(&room.expect(0, "backup", &["--json"]).stdout).unwrap();
        assert_eq!(made["problems"].as_array().unwrap().len(), 0, "seed {seed}: {made}");
        assert_eq!(made["unkept"].as_array().unwrap().len(), unkept, "seed {seed}: {made}");

        let name = Path::new(made["archive"].as_str().unwrap()).file_name().unwrap();
        let unpacked = tempfile::tempdir_in("/dev/shm").unwrap();
        let keeps = homes::unpack_by_tar(&home.join("backups").join(name), unpacked.path());
        homes::same(seed, "unpacked by tar", &expected, whole(&unpacked.path().join("mounts")), keeps);

        // Elsewhere, on a file system that keeps all.
        let to = room.home.with_file_name("restored");
        let links = expected.len();
        let out = |path: &PathBuf, thing: &mut Thing| leads_out(path, thing);
        let gone: Tree = expected.extract_if(.., out).collect();
        assert_eq!(expected.len() + gone.len(), links);
        let code = i32::from(!gone.is_empty());
        room.expect(code, "restore", &["--to", to.to_str().unwrap()]);
        let all = Keeps { nanoseconds: true, xattrs: true };
        homes::same(seed, "restored elsewhere", &expected, whole(&to), all);
        let (there, here) = (to.to_str().unwrap(), room.home.to_str().unwrap());
        assert_eq!(said_of(&room, there, there), said_of(&room, here, there), "seed {seed}");

        // Where no list can be: said, and nobody may do more than before.
        let lists = expected.values().filter(|thing| match thing {
            Thing::File { xattrs, .. } | Thing::Folder { xattrs, .. } => !xattrs.is_empty(),
            Thing::Link(_) => false,
        });
        let lossy = lists.count() > 0 || code == 1;
        let said = room.expect(i32::from(lossy), "restore", &["--to", "/mnt/restored"]);
        let bare = whole(&home.join("../../../mnt/restored"));
        assert!(bare.len() == expected.len(), "seed {seed}: {said:?}");
        for (path, was) in &expected {
            let now = &bare[path];
            assert_eq!(access(now) & !access(was), 0, "seed {seed}: {path:?} was {was:?} and is {now:?}");
            if let (Thing::File { content, .. }, Thing::File { content: its, .. }) = (was, now) {
                assert_eq!(content.len(), its.len(), "seed {seed}: {path:?}");
            }
        }

        // Into the home, across all mounts.
        room.shell(&format!(
            "cd \"$HOME_FOLDER\"; for top in {}; do find $top -mindepth 1 ! -type l ! -type p ! -name lost+found -delete || true; done; \
             echo changed > single",
            TOPS.join(" ")
        ));
        room.expect(0, "restore", &["--yes"]);
        let mut now = whole(home);
        now.retain(|path, thing| {
            !leads_out(path, thing) && !path.to_string_lossy().starts_with(".pre-restore")
        });
        homes::same(seed, "restored", &expected, now, all);
    }
}
