//! Folders and links come back as they were: for nobody more, and with their times.

use super::*;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A private folder with a folder and a link in it, all of another time. Gives their paths below `top`.
fn private(top: &Path) -> [PathBuf; 3] {
    let paths = ["priv", "priv/deep", "priv/link"].map(|path| top.join(path));
    let [private, deep, link] = &paths;
    fs::create_dir_all(deep).unwrap();
    fs::write(private.join("k"), "secret").unwrap();
    fs::write(deep.join("k"), "secret").unwrap();
    symlink("k", link).unwrap();
    let touched = Command::new("touch").args(["-h", "-d", "2020-02-02T02:02:02Z"]).arg(link).status();
    assert!(touched.unwrap().success());
    for (number, folder) in [(1, deep), (2, private)] {
        set_mode(folder, if number == 1 { 0o750 } else { 0o700 });
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000 + number);
        fs::File::open(folder).unwrap().set_modified(time).unwrap();
    }
    paths
}

fn looks(paths: &[PathBuf]) -> Vec<(u32, i64)> {
    let look = |path: &PathBuf| fs::symlink_metadata(path).unwrap();
    paths.iter().map(|path| (look(path).mode(), look(path).mtime())).collect()
}

#[test]
fn folders_above_what_is_restored_come_back_with_their_modes_and_times() {
    let sandbox = with_files();
    let store = sandbox.outside("store");
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\", \"{}/priv/**\"]\n",
            store.display()
        ),
    );
    let inside = private(&sandbox.path("memory"));
    let outside = private(&store);
    let (before, before_outside) = (looks(&inside), looks(&outside));
    sandbox.expect(0, "backup", &[]);

    for paths in [&inside, &outside] {
        for only in ["k", "deep/k"] {
            fs::remove_dir_all(&paths[0]).unwrap();
            let only = paths[0].join(only);
            sandbox.expect(0, "restore", &["--only", only.to_str().unwrap(), "--yes"]);
            assert_eq!(mode(&paths[0]), 0o700, "{only:?}");
            if paths[1].exists() {
                assert_eq!(mode(&paths[1]), 0o750, "{only:?}");
            }
        }
        fs::remove_dir_all(&paths[0]).unwrap();
    }
    sandbox.expect(0, "restore", &["--yes"]);
    assert_eq!((looks(&inside), looks(&outside)), (before.clone(), before_outside));

    let target = sandbox.outside("target");
    sandbox.expect(0, "restore", &["--to", target.to_str().unwrap()]);
    let restored = ["priv", "priv/deep", "priv/link"].map(|path| target.join("memory").join(path));
    assert_eq!(looks(&restored), before);
    let alone = sandbox.outside("alone");
    sandbox.expect(0, "restore", &["--only", "memory/priv/deep/k", "--to", alone.to_str().unwrap()]);
    assert_eq!((mode(&alone.join("memory/priv")), mode(&alone.join("memory/priv/deep"))), (0o700, 0o750));
}

#[test]
fn a_full_restore_names_folders_that_keep_another_mode() {
    let sandbox = with_files();
    let paths = private(&sandbox.path("memory"));
    sandbox.expect(0, "backup", &[]);
    set_mode(&paths[0], 0o755);
    let said = sandbox.expect(1, "restore", &["--yes"]);
    let words = "memory/priv (0755, in the archive 0700)";
    assert!(said.stdout.contains(words) || said.stderr.contains(words), "{said:?}");
    assert_eq!(mode(&paths[0]), 0o755);
}
