use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

/// A home and a folder outside it with one file; the home is held once with `openat2`, once without.
struct Place {
    _dir: tempfile::TempDir,
    home: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let (home, outside) = (dir.path().join("home"), dir.path().join("outside"));
        fs::create_dir_all(home.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(home.join("a/b/file"), "inside").unwrap();
        fs::write(outside.join("file"), "secret").unwrap();
        Place { _dir: dir, home, outside }
    }

    fn both(&self) -> [Dir; 2] {
        let dir = Dir::open(&self.home).unwrap();
        let stepwise = Dir { stepwise: true, ..Dir::open(&self.home).unwrap() };
        [dir, stepwise]
    }
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: io::Result<T>) -> Refused {
    let error = result.unwrap_err();
    Refused::of(&error).unwrap_or_else(|| panic!("{error}"))
}

#[test]
fn what_is_there_is_read_and_written() {
    for home in Place::new().both() {
        assert_eq!(home.read_small("a/b/file", 6).unwrap(), b"inside");
        assert_eq!(home.open_dir("a").unwrap().read_small("b/file", 6).unwrap(), b"inside");
        let log = || home.open_with("log", &Options::new().append().create(0o600)).unwrap();
        log().write_all(b"one ").unwrap();
        log().write_all(b"two").unwrap();
        assert_eq!(home.read_small("log", 100).unwrap(), b"one two");
        home.open_with("log", &Options::new().write().truncate()).unwrap().write_all(b"new").unwrap();
        assert_eq!(home.read_small("log", 100).unwrap(), b"new");
        let again = home.open_with("log", &Options::new().write().create_new(0o600)).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(home.open_file("missing/log").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(home.metadata("log").unwrap().is_file() && home.metadata("").unwrap().is_dir());
        home.remove_file("log").unwrap();
    }
}

#[test]
fn no_path_leads_out() {
    for home in Place::new().both() {
        for path in ["../outside/file", "/etc/passwd", "a/../../outside/file", "..", ".", "./a", ""] {
            assert_eq!(refusal(home.open_file(path)), Refused::Outside, "{path}");
            assert_eq!(refusal(home.remove_tree(path)), Refused::Outside, "{path}");
            assert_eq!(refusal(home.replace(path, b"", 0o600)), Refused::Outside, "{path}");
            assert_eq!(refusal(home.rename("a", &home, path)), Refused::Outside, "{path}");
        }
        assert_eq!(refusal(home.make_dir("../new", 0o700)), Refused::Outside);
    }
}

#[test]
fn no_link_is_followed_at_the_end_or_on_the_way() {
    let place = Place::new();
    symlink(place.outside.join("file"), place.home.join("link")).unwrap();
    symlink(&place.outside, place.home.join("a/folder")).unwrap();
    symlink("b", place.home.join("a/near")).unwrap();
    symlink("nowhere", place.home.join("dangling")).unwrap();
    for home in place.both() {
        let write = Options::new().write().create(0o600).truncate();
        for path in ["link", "a/folder/file", "a/near/file", "dangling"] {
            assert_eq!(refusal(home.open_file(path)), Refused::Link, "{path}");
            assert_eq!(refusal(home.open_with(path, &write)), Refused::Link, "{path}");
        }
        for path in ["a/folder/file", "a/near/file"] {
            assert_eq!(refusal(home.replace(path, b"x", 0o600)), Refused::Link, "{path}");
            assert_eq!(refusal(home.remove_file(path)), Refused::Link, "{path}");
            assert_eq!(refusal(home.metadata(path)), Refused::Link, "{path}");
        }
        assert_eq!(refusal(home.open_dir("a/folder")), Refused::Link);
        assert_eq!(refusal(home.entries("a/folder").map(drop)), Refused::Link);
        assert_eq!(refusal(home.make_dir("a/folder/new", 0o700)), Refused::Link);
        assert!(home.metadata("link").unwrap().is_symlink());
        assert_eq!(home.read_link("a/near").unwrap(), Path::new("b"));
        // The link itself is replaced, not what it leads to.
        home.replace("link", b"mine", 0o600).unwrap();
        assert_eq!(home.read_small("link", 9).unwrap(), b"mine");
        home.remove_file("link").unwrap();
        home.symlink(place.outside.join("file"), "link").unwrap();
    }
    assert_eq!(fs::read_to_string(place.outside.join("file")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&place.outside).unwrap().count(), 1);
    // The operator's own path may be one, once.
    symlink(&place.home, place.outside.join("home")).unwrap();
    assert!(Dir::open(place.outside.join("home")).unwrap().open_file("a/b/file").is_ok());
}

#[test]
fn special_files_are_refused_at_once() {
    let place = Place::new();
    let fifo = place.home.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(place.home.join("socket")).unwrap();
    for home in place.both() {
        for options in [Options::new().read(), Options::new().append(), Options::new().read().write()] {
            for path in ["fifo", "socket", "a"] {
                let error = home.open_with(path, &options).unwrap_err();
                let refused = matches!(Refused::of(&error), Some(Refused::NotRegular(_)));
                assert!(refused || error.kind() == io::ErrorKind::IsADirectory, "{path}: {error}");
            }
        }
    }
    assert_eq!(refusal(open_named(&fifo)), Refused::NotRegular("a FIFO"));
    assert_eq!(refusal(open_named("/dev/zero")), Refused::NotRegular("a device"));
    assert_eq!(refusal(Dir::open("/dev").unwrap().open_file("zero")), Refused::NotRegular("a device"));
}

#[test]
fn a_small_file_is_read_up_to_its_limit() {
    let place = Place::new();
    for home in place.both() {
        assert_eq!(refusal(home.read_small("a/b/file", 5)), Refused::TooLarge(5));
    }
    let link = place.home.join("link");
    symlink(place.home.join("a/b/file"), &link).unwrap();
    assert_eq!(read_small_file(&link, 6).unwrap(), b"inside");
    #[cfg(target_os = "linux")]
    {
        // They say that they are empty.
        assert_eq!(refusal(read_small_file("/proc/kallsyms", 1 << 10)), Refused::TooLarge(1 << 10));
        assert!(read_small_file("/proc/self/pagemap", 1 << 10).is_err());
    }
}

#[test]
fn a_failed_replacement_leaves_the_old_file_and_nothing_else() {
    for home in Place::new().both() {
        let failed = home.replace_with("a/b/file", 0o644, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(home.read_small("a/b/file", 9).unwrap(), b"inside");
        assert_eq!(home.entries("a/b").unwrap().count(), 1);
        home.replace("a/b/file", b"inside", 0o640).unwrap();
        assert_eq!(home.metadata("a/b/file").unwrap().permissions().mode() & 0o7777, 0o640);
    }
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    let home = &place.both()[1];
    let name = OsStr::from_bytes(b"\xff\n\x1b");
    home.create_dir(name, 0o700).unwrap();
    home.replace(Path::new(name).join("file"), b"", 0o600).unwrap();
    let found: Vec<OsString> = home.entries("").unwrap().map(|entry| entry.unwrap().name).collect();
    assert!(found.contains(&name.to_owned()), "{found:?}");
}

#[test]
fn a_tree_is_removed_and_what_its_links_lead_to_stays() {
    let place = Place::new();
    for home in place.both() {
        let mut deep = home.make_dir("tree/side", 0o700).unwrap();
        deep.symlink(&place.outside, "out").unwrap();
        // Deeper than a path may be long, and than we keep folders open.
        for _ in 0..400 {
            deep.create_dir("some_folder", 0o700).unwrap();
            deep = deep.open_dir("some_folder").unwrap();
        }
        deep.replace("file", b"x", 0o600).unwrap();
        assert!(home.open_file(deep.path().join("file").strip_prefix(&place.home).unwrap()).is_ok());
        home.remove_tree("tree").unwrap();
        assert_eq!(home.metadata("tree").unwrap_err().kind(), io::ErrorKind::NotFound);
        home.symlink(&place.outside, "tree").unwrap();
        home.remove_tree("tree").unwrap();
    }
    assert_eq!(fs::read_to_string(place.outside.join("file")).unwrap(), "secret");
}

/// A folder is exchanged for a link to the outside and back while files beneath it are opened, written and
/// removed: each call reaches what is inside or is refused.
#[test]
fn a_swapped_parent_leads_nowhere_else() {
    let place = Place::new();
    symlink(&place.outside, place.home.join("link")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let home = Dir::open(&place.home).unwrap();
            while !done.load(Ordering::Relaxed) {
                let swap = rustix::fs::RenameFlags::EXCHANGE;
                home.rename_with("a", &home, "link", swap).unwrap();
            }
        });
        let (mut reached, mut refused) = (0, 0);
        for home in place.both().iter().cycle().take(1_000) {
            // The folder's own `file` or none; outside there is one.
            match home.read_small("a/file", 100) {
                Ok(content) => assert_eq!(content, b"mine"),
                Err(error) => refused += u32::from(Refused::of(&error) == Some(Refused::Link)),
            }
            reached += u32::from(home.replace("a/file", b"mine", 0o600).is_ok());
            let _ = home.open_with("a/new", &Options::new().append().create(0o600));
            let _ = home.make_dir("a/made", 0o700);
            let _ = home.remove_file("a/file");
            let _ = home.remove_tree("a/made");
        }
        done.store(true, Ordering::Relaxed);
        assert!(reached > 0 && refused > 0, "{reached} reached, {refused} refused");
    });
    assert_eq!(fs::read_to_string(place.outside.join("file")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&place.outside).unwrap().count(), 1, "something was made outside");
}
