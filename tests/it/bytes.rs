//! A home whose path is not UTF-8: every command works in it, and `--json` names it without loss.

use crate::backup::with_files;
use crate::run::{Supervisor, identity};
use crate::sandbox::{Sandbox, wait_until};
use agent_ops::base::name::Name;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

fn with_bytes() -> Sandbox {
    let mut sandbox = with_files();
    let home = sandbox.home.with_file_name(OsStr::from_bytes(b"home\xff"));
    fs::rename(&sandbox.home, &home).unwrap();
    sandbox.home = home;
    let config = sandbox.read("ops.toml")
        + "[service.daemon]\ncommand = [\"sleep\", \"60\"]\n[alerts.desktop]\nenabled = false\n";
    sandbox.write("ops.toml", config);
    sandbox
}

fn path(value: &Value) -> PathBuf {
    let name: Name = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    name.0
}

#[test]
fn archives_of_a_home_of_any_bytes_are_made_listed_and_restored() {
    let sandbox = with_bytes();
    let archive = path(&sandbox.json(0, "backup", &[])["archive"]);
    assert!(archive.starts_with(&sandbox.home) && archive.is_file(), "{archive:?}");
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(path(&list["archives"][0]["path"]), archive);
    assert_eq!(path(&list["dir"]), sandbox.path("backups"));
    for args in [&["verify"][..], &["verify", "latest"], &["pin", "latest"], &["--dry-run"]] {
        sandbox.json(0, "backup", args);
    }
    for args in [&["--list"][..], &["-n"], &["--drill"]] {
        assert_eq!(path(&sandbox.json(0, "restore", args)["archive"]), archive, "{args:?}");
    }
    sandbox.write("memory/notes/today.md", "changed");
    let restored = sandbox.json(0, "restore", &["--yes"]);
    assert_eq!(path(&restored["archive"]), archive);
    assert_eq!(sandbox.read("memory/notes/today.md"), "a note\n");
    let old = path(&restored["aside"]);
    assert_eq!(fs::read(old.join("memory/notes/today.md")).unwrap(), b"changed");
    let asides = sandbox.json(0, "restore", &["--aside"]);
    assert_eq!(path(&asides["asides"][0]["path"]), old);
    sandbox.json(0, "restore", &["pre-restore:latest", "--yes"]);
    assert_eq!(sandbox.read("memory/notes/today.md"), "changed");
}

#[test]
fn a_home_of_any_bytes_is_operated_and_supervised() {
    let sandbox = with_bytes();
    let config = sandbox.json(0, "ops", &["config", "show"]);
    assert_eq!(path(&config["config"]["agent"]["home"]), sandbox.home);
    sandbox.expect(0, "ops", &["config", "show"]);
    sandbox.json(0, "ops", &["config", "check"]);
    let up = sandbox.json(0, "ops", &["up"]);
    assert_eq!(path(&up["home"]), sandbox.home);
    assert!(path(&up["page"]).is_file(), "{up}");
    assert!(path(&sandbox.json(0, "dashboard", &["web"])["page"]).is_file());
    // No schedule, no channel.
    let diagnosis = sandbox.json(1, "ops", &["troubleshoot", "--bundle"]);
    assert!(path(&diagnosis["bundle"]["file"]).is_file(), "{diagnosis}");
    sandbox.json(0, "ops", &["stop"]);
    let supervisor = Supervisor::begin(&sandbox, &["daemon"]);
    wait_until("it runs", || identity(&sandbox, "daemon").is_some_and(|one| one.find().unwrap().is_some()));
    supervisor.stop();
}
