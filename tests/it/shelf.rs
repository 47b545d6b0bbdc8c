//! The archives there are, as people and programs see them: listed, judged, and why each stays.

use crate::backup::with_files;
use crate::sandbox::{Said, Sandbox, said};
use std::fs;

fn at(sandbox: &Sandbox, now: &str, program: &str, args: &[&str]) -> Said {
    let said = said(sandbox.program(program).args(args).env("OPS_NOW", now).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    said
}

#[test]
fn the_list_says_verified_drilled_and_why() {
    let sandbox = with_files();
    at(&sandbox, "2026-05-01T03:00:00Z", "backup", &[]);
    at(&sandbox, "2026-05-02T03:00:00Z", "backup", &[]);
    at(&sandbox, "2026-05-03T04:00:00Z", "restore", &["latest", "--drill"]);
    let list = at(&sandbox, "2026-05-05T04:00:00Z", "backup", &["list"]).stdout;
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["archive", "age", "size", "files", "verified", "drilled", "kept", "because"]);
    assert!(
        list.lines().nth(1).unwrap().contains("2d ago   2d ago  the newest good one, of the last 7d"),
        "{list}"
    );
    assert!(list.lines().nth(2).unwrap().contains("4d ago        -  of the last 7d"), "{list}");
    let json = sandbox.json(0, "backup", &["list"]);
    let archives = json["archives"].as_array().unwrap();
    assert!(archives[0]["drilled"].is_string() && archives[1]["drilled"].is_null(), "{json}");
    assert!(archives.iter().all(|archive| archive["verified_at"].is_string()), "{json}");
    assert_eq!(archives[0]["kept_because"][0], "the newest good one");
}

#[test]
fn a_dry_prune_says_why_and_where_it_settles() {
    let sandbox = with_files();
    // Three years of monthly and daily ones, as an empty rule would have left them.
    let config = sandbox.read("ops.toml");
    sandbox.write(
        "ops.toml",
        format!("{config}keep = {{ all = \"2000d\", weekly = \"2000d\", monthly = \"2000d\" }}\n"),
    );
    for day in ["2024-05-01", "2026-03-01", "2026-03-02", "2026-05-01", "2026-05-02", "2026-05-03"] {
        at(&sandbox, &format!("{day}T03:00:00Z"), "backup", &[]);
    }
    sandbox.write("ops.toml", config);
    fs::write(sandbox.path("backups/20200101_000000.tar.gz"), "somebody else's").unwrap();
    let said = at(&sandbox, "2026-05-03T05:00:00Z", "backup", &["prune", "--dry-run"]).stdout;
    for line in [
        "goes   20240501_030000.tar.gz  older than 365d",
        "goes   20260301_030000.tar.gz  20260302_030000.tar.gz stands for its month",
        "stays  20260302_030000.tar.gz  month 2026-03",
        "stays  20260503_030000.tar.gz  the newest good one, of the last 7d, week 2026-W18, month 2026-05",
        "1 archive not of this agent: never touched",
        "2 archives would go",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(said.contains("the rule settles at about "), "{said}");
    let json = sandbox.json(0, "backup", &["prune", "--dry-run"]);
    let settles = &json["settles_at"];
    assert!((20..=70).contains(&settles["archives"].as_u64().unwrap()), "{json}");
    let newest = fs::metadata(sandbox.path("backups/20260503_030000.tar.gz")).unwrap().len();
    assert_eq!(settles["bytes"].as_u64().unwrap(), settles["archives"].as_u64().unwrap() * newest);
    assert_eq!(fs::read_dir(sandbox.path("backups")).unwrap().count(), 8, "nothing was deleted");
}

#[test]
fn every_archive_is_verified_and_a_damaged_one_hides_no_other() {
    let sandbox = crate::service::with_agent(&[]);
    sandbox.write("memory/notes.md", "one\n");
    let first = sandbox.json(0, "backup", &[])["archive"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sandbox.write("memory/notes.md", "two\n");
    let second = sandbox.json(0, "backup", &[])["archive"].as_str().unwrap().to_owned();
    let said = sandbox.expect(0, "backup", &["verify", "--all"]);
    assert!(said.stdout.contains("2 archives, 0 damaged"), "{}", said.stdout);
    let path = sandbox.home.join(&second);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&path, bytes).unwrap();
    let said = sandbox.json(2, "backup", &["verify", "--all"]);
    assert_eq!(said["damaged"].as_array().unwrap().len(), 1, "{said}");
    assert!(
        said["damaged"][0]["archive"]
            .as_str()
            .unwrap()
            .ends_with(path.file_name().unwrap().to_str().unwrap())
    );
    let whole = said["whole"][0]["archive"].as_str().unwrap();
    assert!(first.ends_with(whole.rsplit('/').next().unwrap()), "{said}");
    sandbox.expect(3, "backup", &["verify", "--all", "latest"]);
}
