//! Root at work in the home of somebody else.

use crate::peers::{Running, as_root};
use crate::sandbox::Sandbox;
use agent_ops::base::process::Process;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

fn alive(pid: u32) -> bool {
    Process::find(pid).unwrap().is_some_and(|process| process.alive())
}

/// Root's agent in somebody's home would leave files that its owner cannot go on with.
#[test]
fn root_starts_nothing_in_somebody_else_s_home() {
    as_root();
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[service.bot]\ncommand = [\"sleep\", \"6021\"]\npid_file = \"bot.pid\"\nready = \"alive\"\n",
    );
    fs::set_permissions(sandbox.home.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["", "ops.toml"] {
        chown(sandbox.path(file), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for words in [&["start"][..], &["restart"]] {
        let said = sandbox.expect(3, "ops", words);
        assert!(said.stderr.contains("hint: sudo -u 'nobody' ops start bot --home"), "{said:?}");
        assert!(!sandbox.path("bot.pid").exists());
    }
    let as_owner = |words: &[&str]| {
        let mut command = sandbox.program("ops");
        command.uid(NOBODY).gid(NOBODY).args(words).status().unwrap().code()
    };
    chown(sandbox.path(".ops"), Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in walk(&sandbox.home) {
        chown(entry, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    assert_eq!(as_owner(&["start"]), Some(0));
    let pid = || sandbox.read("bot.pid").trim().parse::<u32>().unwrap();
    let first = pid();
    // What could not be started again is not stopped.
    for words in [&["restart"][..], &["upgrade", "--yes", "--", "true"]] {
        let said = sandbox.expect(3, "ops", words);
        assert!(said.stderr.contains("as root"), "{said:?}");
        assert!(alive(first), "{words:?}");
    }
    // A record that its owner wrote has root end nothing of another.
    let bystander = Running::start(Command::new("sleep").arg("6022"));
    let record = sandbox.read(".ops/service/bot.json");
    let mut forged: Value = serde_json::from_str(&record).unwrap();
    let identity = Process::find(bystander.0.id()).unwrap().unwrap().identity;
    forged["identity"] = serde_json::to_value(identity).unwrap();
    sandbox.write(".ops/service/bot.json", forged.to_string());
    fs::remove_file(sandbox.path("bot.pid")).unwrap();
    sandbox.run("ops", &["stop", "--force"]);
    assert!(alive(bystander.0.id()));
    sandbox.write(".ops/service/bot.json", record);
    sandbox.expect(0, "ops", &["stop"]);
    assert!(!alive(first));
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => [vec![entry.path()], walk(&entry.path())].concat(),
            false => vec![entry.path()],
        })
        .collect()
}
