//! `rotate-logs` among names that are no text, names that are too long, links, and state that somebody forged.

use crate::rotate::{NOW, inflated, log, rotate, sandbox, there};
use crate::sandbox::{Sandbox, said};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A log of two days ago, by a name in bytes.
fn old_log(sandbox: &Sandbox, name: &[u8], text: &str) -> PathBuf {
    let path = sandbox.path("logs").join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000 - 48 * 3600);
    fs::File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
    path
}

#[test]
fn names_are_bytes() {
    let sandbox = sandbox(
        "max_size = \"1KB\"\nkeep_lines = 10\n[logs.rule.s]\npaths = [\"memory/**/*.jsonl\"]\narchive = true\n\
         discipline = \"rename\"",
    );
    let odd: [&[u8]; 8] = [
        b"\xff_20261101.log",
        b"d\xfe\xff/x_20261101.log",
        b"new\nline_20261101.log",
        b"\r_20261101.log",
        b"-n_20261101.log",
        b"[a-z]*?_20261101.log",
        b"esc\x1b[2J_20261101.log",
        b"app_20261101.7.log\xff.log_20261101.log",
    ];
    for name in odd {
        old_log(&sandbox, name, "a line\n");
    }
    old_log(&sandbox, b"live\xff.log", &"a line of a live log\n".repeat(1000));
    let stream = sandbox.path("memory").join(OsStr::from_bytes(b"\xffm/s\xfe.jsonl"));
    fs::create_dir_all(stream.parent().unwrap()).unwrap();
    fs::write(&stream, "{\"n\":1}\n".repeat(1000)).unwrap();

    let planned = rotate(&sandbox, 0, &["-n"]);
    assert!(planned.stdout.contains("8 compressed, 1 cut, 1 renamed"), "{}", planned.stdout);
    let said = rotate(&sandbox, 0, &[]);
    assert!(said.stdout.contains("logs/\\xff_20261101.log  ("), "{}", said.stdout);
    assert!(said.stdout.contains("logs/new\\nline_20261101.log  ("), "{}", said.stdout);
    assert!(!said.stdout.contains('\x1b') && !said.stdout.contains('\u{fffd}'), "{}", said.stdout);
    for name in odd {
        let packed = sandbox.path("logs").join(OsStr::from_bytes(&[name, b".gz"].concat()));
        assert_eq!(inflated(&packed), "a line\n", "{}", name.escape_ascii());
    }
    assert!(
        fs::metadata(sandbox.path("logs").join(OsStr::from_bytes(b"live\xff.log"))).unwrap().len() < 20_000
    );
    let gone = OsStr::from_bytes(b"archive/20261120/memory/\xffm/s\xfe_20261120.1.jsonl");
    assert_eq!(fs::read_to_string(sandbox.home.join(gone)).unwrap().lines().count(), 1000);
    let again = rotate(&sandbox, 0, &[]);
    assert!(again.stdout.contains("nothing to do; 10 logs"), "{}", again.stdout);

    let shown = sandbox.expect(0, "ops", &["logs", "live\\xff", "-n", "1"]);
    assert!(shown.stdout.contains("a line of a live log"), "{shown:?}");
    let late = said_at(&sandbox, "2027-03-01T00:00:00Z", &["--yes"]);
    assert!(late.code == 0 && late.stdout.contains("8 deleted"), "{late:?}");
}

fn said_at(sandbox: &Sandbox, now: &str, args: &[&str]) -> crate::sandbox::Said {
    said(sandbox.program("rotate-logs").env("OPS_NOW", now).args(args).output().unwrap())
}

#[test]
fn a_name_without_room_for_an_ending_gets_a_shorter_one() {
    let sandbox = sandbox(
        "max_size = \"1KB\"\n[logs.rule.r]\npaths = [\"logs/r*.log\"]\ndiscipline = \"rename\"\nkeep = 1\n\
         [logs.rule.s]\npaths = [\"memory/*.jsonl\"]\narchive = true\nkeep_lines = 10\nmax_size = \"20KB\"",
    );
    let long = |first: &str, ending: &str| {
        format!("{first}{}{ending}", "y".repeat(255 - first.len() - ending.len()))
    };
    for name in [long("a", "_20261101.log"), long("b", "_20261102.log"), long("c", ".log.1")] {
        old_log(&sandbox, name.as_bytes(), &format!("{}\n", &name[..1]));
    }
    sandbox.write(&format!("memory/{}", long("s", ".jsonl")), "{\"n\":1}\n".repeat(9000));
    for round in 0..3 {
        log(&sandbox, &long("r", ".log"), &format!("round {round}\n").repeat(1000), 1);
        let said = rotate(&sandbox, 0, &[]);
        assert!(!said.stdout.contains("failed"), "{}", said.stdout);
    }
    let mut found: Vec<(String, PathBuf)> = walkdir::WalkDir::new(&sandbox.home)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file() && entry.file_name().len() > 150)
        .map(|entry| (entry.file_name().to_string_lossy()[..1].to_owned(), entry.into_path()))
        .collect();
    found.sort();
    let count = |letter: &str| found.iter().filter(|(first, _)| first == letter).count();
    assert_eq!((count("a"), count("b"), count("c")), (1, 1, 1), "{found:?}");
    assert_eq!(count("r"), 1, "more than are kept have gone: {found:?}");
    assert!(count("s") == 2 || !said_at(&sandbox, NOW, &[]).stdout.contains("cut "), "{found:?}");
    assert!(there(&sandbox, "rotation.log"));
    let again = said_at(&sandbox, NOW, &[]);
    assert!(again.stdout.contains("nothing to do") || again.code == 1, "{again:?}");
}

/// A check goes on where it was, whatever a log is called and wherever rotation put its end.
#[test]
fn errors_in_logs_of_any_name_are_counted_once() {
    let sandbox = sandbox(
        "[check.errs]\nkind = \"log_errors\"\npaths = [\"logs/*.log\", \"memory/*.jsonl\"]\nper = \"1h\"\n\
         [logs.rule.s]\npaths = [\"memory/*.jsonl\"]\narchive = true\ndiscipline = \"rename\"\nmax_size = \"1KB\"",
    );
    let odd = old_log(&sandbox, b"odd\xff.log", "ERROR before the first look\n");
    let stream = sandbox.write("memory/s.jsonl", "{}\n".repeat(1000));
    let new = || {
        let report = sandbox.run("ops", &["health", "--only", "errs", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
        let metrics =
            report["findings"][0]["metrics"].as_array().unwrap_or_else(|| panic!("{report}")).clone();
        metrics.iter().find(|metric| metric["label"] == "new").unwrap()["value"].as_f64().unwrap()
    };
    let append = |path: &PathBuf, text: &str| {
        fs::File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    assert_eq!(new(), 0.0);
    append(&odd, "an ERROR\n");
    append(&stream, "{\"level\":\"ERROR\"}\n");
    assert_eq!(new(), 2.0);
    assert_eq!(new(), 0.0);
    // The end of the stream goes to the archive, and it begins anew.
    append(&stream, "{\"level\":\"ERROR\",\"n\":1}\n{\"level\":\"ERROR\",\"last words\":1}");
    rotate(&sandbox, 0, &[]);
    append(&stream, "{\"level\":\"ERROR\",\"n\":3}\n");
    assert_eq!(new(), 3.0);
    assert_eq!(new(), 0.0);
}

/// A tree beside the home, and whether anything of it was read into the home, changed or removed.
struct Witness {
    folder: PathBuf,
}

impl Witness {
    fn new(sandbox: &Sandbox) -> Witness {
        let folder = sandbox.outside("witness");
        for name in ["x_20261101.log", "s.jsonl", ".part-aaaa", "deep.log"] {
            fs::write(folder.join(name), "precious\n".repeat(1000)).unwrap();
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            fs::File::options().append(true).open(folder.join(name)).unwrap().set_modified(then).unwrap();
        }
        Witness { folder }
    }

    #[track_caller]
    fn is_untouched(&self) {
        let mut names: Vec<_> =
            fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".part-aaaa", "deep.log", "s.jsonl", "x_20261101.log"]);
        for name in names {
            assert_eq!(fs::read_to_string(self.folder.join(name)).unwrap(), "precious\n".repeat(1000));
        }
    }
}

const STREAM: &str = "max_size = \"1KB\"\n[logs.rule.s]\npaths = [\"memory/*.jsonl\"]\narchive = true\ndiscipline = \"rename\"";

#[test]
fn no_link_leads_out() {
    // The folder of the logs, one in it, the archive and a folder of it, the memory.
    for link in ["logs", "logs/sub", "archive", "archive/20261120", "archive/20261120/memory", "memory"] {
        let sandbox = sandbox(STREAM);
        let witness = Witness::new(&sandbox);
        for folder in ["logs", "memory"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        if !["memory", "logs"].contains(&link) {
            sandbox.write("memory/s.jsonl", "{}\n".repeat(1000));
        }
        let at = sandbox.path(link);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let _ = fs::remove_dir(&at);
        symlink(&witness.folder, &at).unwrap();
        let said = said_at(&sandbox, NOW, &[]);
        assert!(said.code <= 2, "{link}: {said:?}");
        witness.is_untouched();
        assert!(fs::symlink_metadata(&at).unwrap().is_symlink(), "{link}");
        if link != "logs/sub" {
            assert!(
                said.code > 0 && said.stdout.contains("symbolic link") || said.code == 2,
                "{link}: {said:?}"
            );
        }
    }
}

/// A folder that the operator names by its whole path may be a link: he put it there.
#[test]
fn a_folder_that_the_config_names_by_its_whole_path_is_followed() {
    let sandbox = Sandbox::new();
    let real = sandbox.outside("real");
    let link = real.with_file_name("link");
    symlink(&real, &link).unwrap();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\npreset = \"none\"\nname = \"x\"\n[logs]\ninclude = [\"{0}/*.log\"]\nmax_size = \"1KB\"\n\
             [logs.rule.s]\npaths = [\"{0}/*.jsonl\"]\narchive = true\ndiscipline = \"rename\"\n",
            link.display()
        ),
    );
    let written = fs::File::create(real.join("x_20261101.log")).unwrap();
    (&written).write_all(b"a line\n").unwrap();
    written.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)).unwrap();
    drop(written);
    fs::write(real.join("s.jsonl"), "{}\n".repeat(1000)).unwrap();
    let said = said_at(&sandbox, NOW, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(inflated(&real.join("x_20261101.log.gz")), "a line\n");
    let archived = format!("archive/20261120{}/s_20261120.1.jsonl", link.display());
    assert_eq!(sandbox.read(&archived).lines().count(), 1000);
}

#[test]
fn what_is_noted_of_a_cut_is_no_order_to_touch_other_files() {
    for (log, copy) in [
        ("../witness/s.jsonl", "archive/20261120/memory/.part-x"),
        ("WITNESS/s.jsonl", "archive/20261120/memory/.part-x"),
        ("memory/s.jsonl", "../witness/.part-aaaa"),
        ("memory/s.jsonl", "WITNESS/.part-aaaa"),
        ("memory/s.jsonl", "archive/20261120/../../../witness/.part-aaaa"),
        ("memory/s.jsonl", "memory/other.jsonl"),
        ("memory/s.jsonl", "archive/.part-x"),
        ("memory/../../witness/s.jsonl", "archive/20261120/memory/.part-x"),
        ("", "archive/20261120/memory/.part-x"),
    ] {
        let sandbox = sandbox(STREAM);
        let witness = Witness::new(&sandbox);
        let whole = |text: &str| text.replace("WITNESS", &witness.folder.to_string_lossy());
        sandbox.write("memory/s.jsonl", "{}\n".repeat(1000));
        sandbox.write("memory/other.jsonl", "{\"other\":1}\n");
        sandbox.write("archive/20261120/memory/.part-x", "{}\n");
        let note = serde_json::json!({"cut": {
            "log": whole(log), "file": [0, 0], "length": 0, "copied": 0, "taken": 0, "copy": whole(copy), "day": "2026-11-20",
        }});
        sandbox.write(".ops/rotation.json", note.to_string());
        let said = rotate(&sandbox, 1, &[]);
        witness.is_untouched();
        assert!(said.stdout.contains("names what no rotation does"), "{log} {copy}: {}", said.stdout);
        assert!(said.stdout.contains("it is .ops/rotation.json.refused now"), "{}", said.stdout);
        assert_eq!(sandbox.read("memory/other.jsonl"), "{\"other\":1}\n");
        assert_eq!(sandbox.read("archive/20261120/memory/s_20261120.1.jsonl").lines().count(), 1000);
        assert!(sandbox.path(".ops/rotation.json.refused").exists());
        rotate(&sandbox, 0, &[]);
    }
    // Sizes that no cut has, and files that are none.
    for (what, note) in [
        ("sizes", Some("{\"cut\":{\"log\":\"memory/s.jsonl\",\"file\":[0,0],\"length\":9,\"copied\":1,\"taken\":2,\"copy\":\"archive/20261120/.part-x\",\"day\":\"2026-11-20\"}}".to_owned())),
        ("large", Some(format!("{{\"tell\":[\"{}\"]}}", "x".repeat(17 << 20)))),
        ("fifo", None),
    ] {
        let sandbox = sandbox(STREAM);
        sandbox.write("memory/s.jsonl", "{}\n".repeat(1000));
        match note {
            Some(note) => drop(sandbox.write(".ops/rotation.json", note)),
            None => {
                fs::create_dir_all(sandbox.path(".ops")).unwrap();
                let fifo = sandbox.path(".ops/rotation.json");
                assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
            }
        }
        let said = rotate(&sandbox, 1, &[]);
        assert!(said.stdout.contains("rotation.json.refused now"), "{what}: {}", said.stdout);
        assert!(!sandbox.path("memory/s.jsonl").exists(), "{what}: the stream is archived all the same");
    }
}

/// What earlier versions noted had absolute paths.
#[test]
fn a_cut_that_an_earlier_version_noted_is_completed() {
    let sandbox = sandbox(STREAM);
    sandbox.write("memory/s.jsonl", "    \n{\"n\":9}\n");
    let copy = sandbox.write("archive/20261120/memory/.part-xyz", "");
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(&copy).unwrap(), flate2::Compression::fast());
    encoder.write_all(b"{\"n\":1}\n").unwrap();
    encoder.finish().unwrap();
    let note = serde_json::json!({"cut": {
        "log": sandbox.path("memory/s.jsonl"), "file": [1, 1], "length": 100, "copied": 8, "taken": 4, "copy": copy,
        "day": "2026-11-20",
    }});
    sandbox.write(".ops/rotation.json", note.to_string());
    rotate(&sandbox, 0, &[]);
    assert_eq!(inflated(&sandbox.path("archive/20261120/memory/s_20261120.1.jsonl.gz")), "{\"n\":1}\n");
    assert!(!sandbox.path(".ops/rotation.json").exists());
}

#[test]
fn what_is_no_log_is_left_alone_whatever_it_is() {
    let sandbox = sandbox("max_size = \"1KB\"\nkeep_lines = 10");
    let witness = Witness::new(&sandbox);
    fs::create_dir_all(sandbox.path("logs/dir_20261101.log")).unwrap();
    assert!(
        std::process::Command::new("mkfifo").arg(sandbox.path("logs/fifo.log")).status().unwrap().success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("logs/socket.log")).unwrap();
    fs::hard_link(witness.folder.join("deep.log"), sandbox.path("logs/hard.log")).unwrap();
    symlink("/dev/zero", sandbox.path("logs/zero.log")).unwrap();
    // As long as a file can be, and they take nothing of the disk.
    for name in ["sparse.log", "sparse_20261101.log"] {
        let sparse = fs::File::create(sandbox.path("logs").join(name)).unwrap();
        sparse.set_len(15 << 40).unwrap();
        sparse.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)).unwrap();
    }
    let said = rotate(&sandbox, 1, &[]);
    for name in ["fifo", "socket", "zero", "hard"] {
        assert!(said.stdout.contains(&format!("left alone  logs/{name}.log")), "{name}: {}", said.stdout);
    }
    assert!(said.stdout.contains("it is nearly all holes: 16.5 TB long"), "{}", said.stdout);
    assert!(said.stdout.contains("it has 2 names (hard links)"), "{}", said.stdout);
    witness.is_untouched();
    // As long as there is another name, taking one away takes nothing from it.
    assert_eq!(fs::read_to_string(sandbox.path("logs/hard.log")).unwrap().lines().count(), 1000);
}

/// A folder of logs is exchanged for a link and back all the while.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_exchanged_leads_nowhere() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    let sandbox = sandbox(STREAM);
    let witness = Witness::new(&sandbox);
    let (folder, link) = (sandbox.path("logs/sub"), sandbox.path("logs/link"));
    fs::create_dir_all(&folder).unwrap();
    symlink(&witness.folder, &link).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let mut codes = Vec::new();
        for number in 0..12 {
            for name in ["x", "deep"] {
                let path = folder.join(format!("{name}_202611{:02}.log", number % 9 + 1));
                let _ = fs::File::options().create_new(true).append(true).open(path);
            }
            codes.push(said_at(&sandbox, NOW, &["--yes"]).code);
        }
        done.store(true, Ordering::Relaxed);
        assert!(swaps.join().unwrap() > 10 && codes.iter().all(|code| (0..=2).contains(code)), "{codes:?}");
    });
    // What the test itself wrote through the link is its own.
    for entry in fs::read_dir(&witness.folder).unwrap().flatten() {
        if entry.metadata().unwrap().len() == 0 {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    witness.is_untouched();
}
