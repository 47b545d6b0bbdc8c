//! `ops troubleshoot`: each way of failing is found, with its remedy; nothing is changed; the bundle tells
//! no secret.

mod jobs;
mod services;

use crate::sandbox::{Said, Sandbox, said};
use crate::service::kill;
use chrono::{Local, TimeDelta, Utc};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A home whose agent is a script of this name, and where nothing is wrong but that it was not started.
fn home(more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let script = sandbox.write("run.sh", "#!/bin/sh\necho begun\nwhile :; do sleep 1; done\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    // In no other command line on this machine.
    let word = sandbox.home.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    sandbox.write("ops.toml", config(&word, more));
    surroundings(&sandbox);
    sandbox
}

fn config(word: &str, more: &str) -> String {
    format!(
        "[agent]\nname = \"bot\"\n[alerts.desktop]\nenabled = false\n[alerts.command]\nrun = [\"true\"]\n\
         [service.bot]\ncommand = [\"./run.sh\", \"./{word}.conf\"]\nready = \"alive\"\npid_file = \"bot.pid\"\n{more}\n"
    )
}

/// A crontab of its own, and no word of systemd about the clock.
pub fn surroundings(sandbox: &Sandbox) {
    let file = sandbox.outside("spool").join("crontab");
    let file = file.display();
    sandbox.fake(
        "crontab",
        &format!("case $1 in\n-l) cat '{file}' 2>/dev/null || {{ echo no crontab for me >&2; exit 1; }} ;;\n-) cat > '{file}' ;;\nesac\n"),
    );
    sandbox.fake("timedatectl", "exit 1\n");
    sandbox.fake("date", "echo +0000\n");
}

/// Well in every respect: started, in cron, backed up.
fn well(more: &str) -> Sandbox {
    let sandbox = home(more);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["backup"]);
    sandbox.expect(0, "ops", &["cron-install"]);
    sandbox
}

/// Looks, and expects this cause in this state. Gives it.
#[track_caller]
fn expect(sandbox: &Sandbox, id: &str, state: &str) -> Value {
    let said = sandbox.run("ops", &["troubleshoot", "--json"]);
    cause(&said, id, state)
}

#[track_caller]
fn cause(said: &Said, id: &str, state: &str) -> Value {
    let document: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let code = match document["state"].as_str().unwrap() {
        "ok" => 0,
        "warning" => 1,
        "critical" => 2,
        _ => 3,
    };
    assert_eq!((said.code, &document["schema"]), (code, &1.into()), "{said:?}");
    let causes = document["causes"].as_array().unwrap();
    let found = causes.iter().find(|cause| cause["id"] == id && cause["state"] == state);
    let found = found.unwrap_or_else(|| panic!("no {id} ({state}) in {document:#}"));
    let remedies = found["remedy"].as_array().unwrap().len();
    assert!(remedies > 0 || found["advice"].is_string() || state == "unknown", "no remedy: {found}");
    found.clone()
}

#[track_caller]
fn at(sandbox: &Sandbox, later: TimeDelta, id: &str, state: &str) -> Value {
    let now = (Utc::now() + later).to_rfc3339();
    let said =
        said(sandbox.program("ops").env("OPS_NOW", now).args(["troubleshoot", "--json"]).output().unwrap());
    cause(&said, id, state)
}

/// Ids of all that is found.
fn ids(sandbox: &Sandbox) -> Vec<String> {
    let said = sandbox.run("ops", &["troubleshoot", "--json"]);
    let document: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    document["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["id"].as_str().unwrap().to_owned())
        .collect()
}

fn pid_of(sandbox: &Sandbox) -> u32 {
    sandbox.read("bot.pid").trim().parse().unwrap()
}

/// Every file of a folder: its kind, mode, owner, times and content.
fn everything(folder: &Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::MetadataExt;
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let content = match meta.is_file() {
            true => format!("{:?}", fs::read(entry.path()).unwrap()),
            false => format!("{:?}", fs::read_link(entry.path()).ok()),
        };
        let (mode, uid, inode) = (meta.mode(), meta.uid(), meta.ino());
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        all.insert(entry.path().display().to_string(), format!("{mode:o} {uid} {inode} {times:?} {content}"));
    }
    all
}

#[test]
fn where_nothing_is_wrong_nothing_is_found() {
    let sandbox = well("");
    // What this machine is short of is not ours.
    let of_machine =
        |id: &String| ["memory", "disk_full", "disk_inodes", "cron_not_running"].contains(&id.as_str());
    let mut found = ids(&sandbox);
    let all = found.is_empty();
    found.retain(|id| !of_machine(id));
    assert!(found.is_empty(), "{found:?}");
    if all {
        let said = sandbox.expect(0, "ops", &["troubleshoot"]);
        assert!(said.stdout.contains("Nothing was found: 16 things looked at"), "{said:?}");
    }
    sandbox.expect(0, "ops", &["stop", "--force"]);
    let said = sandbox.run("ops", &["troubleshoot"]);
    assert!(said.code < 2 && said.stdout.contains("bot was stopped by its operator"), "{said:?}");
}

#[test]
fn nothing_of_the_home_is_changed_whatever_is_wrong_with_it() {
    let sandbox = well(
        "env = { A = \"$B\" }\n[check.memory]\nkind = \"sqlite\"\npaths = [\"*.db\"]\n[check.rows]\nkind = \"sql\"\ndatabase = \"wal.db\"\nquery = \"SELECT 1\"\n",
    );
    // A database with the WAL of a dead process, one that is damaged, one with nothing in it.
    let wal = sandbox.path("wal.db");
    let writer = rusqlite::Connection::open(&wal).unwrap();
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    writer.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    for end in ["", "-wal"] {
        fs::copy(format!("{}{end}", wal.display()), format!("{}{end}", sandbox.path("left.db").display()))
            .unwrap();
    }
    drop(writer);
    fs::rename(sandbox.path("left.db"), &wal).unwrap();
    fs::rename(sandbox.path("left.db-wal"), sandbox.path("wal.db-wal")).unwrap();
    sandbox.write("broken.db", [b"SQLite format 3\0".as_slice(), &[7; 5000]].concat());
    sandbox.write("empty.db", "");
    kill(pid_of(&sandbox));
    let before = everything(&sandbox.home);
    let found = ids(&sandbox);
    for id in ["stale_pid_file", "database_corrupt", "database_left_open", "environment_unfilled"] {
        assert!(found.contains(&id.to_owned()), "{found:?}");
    }
    assert_eq!(everything(&sandbox.home), before);
    // Nor by the bundle, nor with a config that is none, nor with a journal that is none.
    let bundle = sandbox.outside("out").join("b.tar.gz");
    sandbox.expect(2, "ops", &["troubleshoot", "--bundle", bundle.to_str().unwrap()]);
    assert_eq!(everything(&sandbox.home), before);
    fs::remove_file(sandbox.path(".ops/ops.db-wal")).ok();
    sandbox.write(".ops/ops.db", "this is no database, and long enough to be read as one: it is all words");
    let before = everything(&sandbox.home);
    expect(&sandbox, "journal_damaged", "warning");
    assert_eq!(everything(&sandbox.home), before);
    sandbox.write("ops.toml", "[alerts]\ncoldown = 1\n");
    let before = everything(&sandbox.home);
    expect(&sandbox, "journal_damaged", "warning");
    assert_eq!(everything(&sandbox.home), before);
    // The machine has no folder of ours either.
    assert!(!sandbox.outside("").join(".agent-ops").exists());
}

#[test]
fn a_config_with_an_error_is_the_first_cause_and_the_rest_is_looked_at() {
    let sandbox = home("");
    sandbox.write("ops.toml", "[alerts]\ncoldown = 1\n");
    sandbox.write(".ops/restore.json", "{}");
    let document: Value =
        serde_json::from_str(&sandbox.expect(2, "ops", &["troubleshoot", "--json"]).stdout).unwrap();
    let first = &document["causes"][0];
    assert_eq!((&first["id"], &first["advice"]), (&"config".into(), &"did you mean 'cooldown'?".into()));
    assert!(first["cause"].as_str().unwrap().contains("ops.toml:2:1"), "{first}");
    expect(&sandbox, "restore_broken_off", "critical");
    sandbox.write("ops.toml", "[check.x]\nkind = \"tcp\"\naddress = \"${NOT_SET_HERE}\"\n");
    let found = expect(&sandbox, "config", "critical");
    assert!(found["cause"].as_str().unwrap().contains("NOT_SET_HERE is not set"), "{found}");
    // No config at all, and no home.
    let mut program = sandbox.program("ops");
    program.env_remove("OPS_HOME").args(["troubleshoot", "--json"]);
    let found = cause(&said(program.output().unwrap()), "config", "critical");
    assert_eq!(found["remedy"][0], "ops init");
    fs::remove_dir_all(&sandbox.home).unwrap();
    expect(&sandbox, "config", "critical");
    expect(&sandbox, "home_missing", "critical");
}

#[test]
fn a_home_and_files_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away; the judgement of what it sees is tested beside the probe.
        let sandbox = home("");
        fs::set_permissions(sandbox.path("logs").parent().unwrap(), fs::Permissions::from_mode(0o555))
            .unwrap();
        expect(&sandbox, "not_writable", "critical");
        fs::set_permissions(&sandbox.home, fs::Permissions::from_mode(0o755)).unwrap();
        return;
    }
    let sandbox = well("[check.memory]\nkind = \"sqlite\"\npaths = [\"*.db\"]\n");
    sandbox.expect(0, "ops", &["stop", "--force"]);
    drop(rusqlite::Connection::open(sandbox.path("a.db")).unwrap().execute_batch("CREATE TABLE t(a);"));
    // Root looks as the owner.
    std::os::unix::fs::chown(&sandbox.home, Some(65_534), None).unwrap();
    fs::set_permissions(sandbox.outside(""), fs::Permissions::from_mode(0o755)).unwrap();
    let found = expect(&sandbox, "agent_files_of_another", "critical");
    assert!(found["remedy"][0].as_str().unwrap().starts_with("sudo chown 65534 "), "{found}");
    expect(&sandbox, "state_of_another", "warning");
    fs::set_permissions(&sandbox.home, fs::Permissions::from_mode(0o555)).unwrap();
    expect(&sandbox, "not_writable", "critical");
    fs::set_permissions(sandbox.path(".ops"), fs::Permissions::from_mode(0o755)).unwrap();
    expect(&sandbox, "state_open", "warning");
}

#[test]
fn databases_in_trouble() {
    let sandbox = well("[check.memory]\nkind = \"sqlite\"\npaths = [\"must.db\", \"*.db\"]\n");
    expect(&sandbox, "database_missing", "critical");
    sandbox.write("must.db", "");
    let found = expect(&sandbox, "database_corrupt", "critical");
    assert!(found["cause"].as_str().unwrap().contains("is empty"), "{found}");
    sandbox.write("must.db", "no database, whatever its name says");
    let found = expect(&sandbox, "database_corrupt", "critical");
    assert!(found["remedy"].to_string().contains("ops backup list"), "{found}");
    fs::remove_file(sandbox.path("must.db")).unwrap();
    let writer = rusqlite::Connection::open(sandbox.path("must.db")).unwrap();
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    writer.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    fs::copy(sandbox.path("must.db-wal"), sandbox.path("kept")).unwrap();
    drop(writer);
    fs::rename(sandbox.path("kept"), sandbox.path("must.db-wal")).unwrap();
    let found = expect(&sandbox, "database_left_open", "warning");
    assert!(found["advice"].as_str().unwrap().contains("never delete it"), "{found}");
}

/// Runs `ops` as another user, and a copy of it that this one may run.
#[cfg(target_os = "linux")]
fn as_another(sandbox: &Sandbox, args: &[&str]) -> Said {
    use std::os::unix::process::CommandExt;
    // What is around the home is closed, as everything of a test.
    fs::set_permissions(sandbox.outside(""), fs::Permissions::from_mode(0o755)).unwrap();
    let program = sandbox.outside("programs").join("ops");
    fs::copy(crate::sandbox::built("ops"), &program).unwrap();
    let mut command = std::process::Command::new(program);
    let path = format!("{}:/usr/bin:/bin", sandbox.outside("bin").display());
    command.env_clear().env("PATH", path).env("TMPDIR", "/tmp").env("TZ", "UTC").current_dir("/");
    said(command.args(args).uid(65_534).gid(65_534).output().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_home_of_another_is_the_first_cause_where_it_is_closed_and_commands_are_for_its_owner() {
    if !rustix::process::geteuid().is_root() {
        // Only root is somebody else at will; the judgement is tested beside the probe.
        let sandbox = home("");
        fs::set_permissions(sandbox.path("ops.toml"), fs::Permissions::from_mode(0o000)).unwrap();
        let found = expect(&sandbox, "config", "critical");
        assert!(found["cause"].as_str().unwrap().contains("Permission denied"), "{found}");
        return;
    }
    let sandbox = home("");
    let root = sandbox.home.display().to_string();
    fs::set_permissions(&sandbox.home, fs::Permissions::from_mode(0o700)).unwrap();
    let said = as_another(&sandbox, &["troubleshoot", "--json", "--home", &root]);
    let found = cause(&said, "home_not_ours", "critical");
    assert_eq!(found["remedy"][0], format!("sudo -u '#0' ops troubleshoot --home {root}"));
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["causes"][0]["id"], "home_not_ours", "{document:#}");
    assert!(!said.stdout.contains("there is no config"), "{document:#}");
    fs::set_permissions(&sandbox.home, fs::Permissions::from_mode(0o755)).unwrap();
    let said = as_another(&sandbox, &["troubleshoot", "--json", "--home", &root]);
    cause(&said, "home_not_ours", "warning");
    let found = cause(&said, "no_schedule", "warning");
    assert_eq!(found["remedy"][0], format!("sudo -u '#0' ops cron-install --home {root}"));
    // Root, in a home of another.
    std::os::unix::fs::chown(&sandbox.home, Some(65_534), None).unwrap();
    // Root looks as the owner.
    let found = expect(&sandbox, "no_schedule", "warning");
    assert_eq!(found["remedy"][0], "ops cron-install");
}

#[test]
fn a_relative_home_is_absolute_in_what_is_to_be_copied() {
    let sandbox = home("");
    let absolute = format!("ops cron-install --home {}", sandbox.home.display());
    let mut program = sandbox.program("ops");
    program.env_remove("OPS_HOME").args(["troubleshoot", "--json", "--home", "home"]);
    let found = cause(&said(program.output().unwrap()), "no_schedule", "warning");
    assert_eq!(found["remedy"][0], *absolute);
    let mut program = sandbox.program("ops");
    program.env("OPS_HOME", "home").args(["troubleshoot", "--json"]);
    let found = cause(&said(program.output().unwrap()), "no_schedule", "warning");
    assert_eq!(found["remedy"][0], *absolute);
}

/// Does what a remedy says, as it is printed; a restore is told that it is meant.
fn follow(sandbox: &Sandbox, cause: &Value) {
    let programs = crate::sandbox::built("ops").parent().unwrap().display().to_string();
    for command in cause["remedy"].as_array().unwrap() {
        let mut command = command.as_str().unwrap().to_owned();
        if command.starts_with("ops restore") && !command.contains("--dry-run") {
            command.push_str(" --yes");
        }
        let mut shell = std::process::Command::new("sh");
        shell.env_clear().env("PATH", format!("{programs}:/usr/bin:/bin")).env("OPS_HOME", &sandbox.home);
        let done = said(shell.args(["-c", &format!("umask 022; {command}")]).output().unwrap());
        assert_eq!(done.code, 0, "{command}: {done:?}");
    }
}

#[test]
fn a_damaged_memory_is_mended_as_it_is_printed_and_nobody_else_reads_what_is_kept_of_it() {
    let checks = "[backup]\ninclude = [\"memory/**\"]\n[check.memory]\nkind = \"sqlite\"\npaths = [\"memory/agent.db\"]\n";
    let sandbox = home(checks);
    fs::create_dir(sandbox.path("memory")).unwrap();
    fs::set_permissions(sandbox.path("memory"), fs::Permissions::from_mode(0o700)).unwrap();
    let write = || {
        let database = rusqlite::Connection::open(sandbox.path("memory/agent.db")).unwrap();
        database.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    };
    expect(&sandbox, "database_missing", "warning");
    write();
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["backup"]);
    sandbox.write("memory/agent.db", "no database");
    follow(&sandbox, &expect(&sandbox, "database_corrupt", "critical"));
    let kept: Vec<_> = fs::read_dir(sandbox.path(".ops")).unwrap().map(Result::unwrap).collect();
    let kept = kept.iter().find(|entry| entry.file_name().to_string_lossy().starts_with("damaged-")).unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(kept.path().join("agent.db")).unwrap(), "no database");
    assert!(!ids(&sandbox).iter().any(|id| id.contains("database") || id == "crashed"));
    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    follow(&sandbox, &expect(&sandbox, "database_missing", "critical"));
    assert!(sandbox.path("memory/agent.db").exists());
    assert_eq!(ids(&sandbox).iter().find(|id| id.contains("database") || *id == "crashed"), None);
    assert!(agent_ops::base::process::Process::find(pid_of(&sandbox)).unwrap().is_some());
    // What its operator stopped is not started by the remedy.
    sandbox.expect(0, "ops", &["stop", "--force"]);
    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    let found = expect(&sandbox, "database_missing", "critical");
    assert!(!found["remedy"].to_string().contains("ops start"), "{found}");
}

#[test]
fn disks_that_fill_up() {
    let sandbox = well("[check.disk]\nkind = \"disk\"\nwarn = \"900000TB\"\ncrit = \"800000TB\"\n");
    let found = expect(&sandbox, "disk_full", "critical");
    assert_eq!(found["remedy"][0], "ops rotate-logs");
    assert!(found["evidence"].to_string().contains("the backups"), "{found}");
}

#[test]
fn a_clock_that_is_wrong() {
    let sandbox = well("");
    // These programs were built later than that.
    let found = at(&sandbox, TimeDelta::days(-4000), "clock_behind", "critical");
    assert!(found["remedy"].as_array().unwrap().len() == 2, "{found}");
    let file = sandbox.write("logs/bot.log", "x\n");
    let later = Utc::now() + TimeDelta::days(1);
    fs::File::options().write(true).open(file).unwrap().set_modified(later.into()).unwrap();
    expect(&sandbox, "clock_jumped", "warning");
    sandbox.fake("timedatectl", "echo no\n");
    expect(&sandbox, "clock_not_synchronised", "warning");
    sandbox.fake("date", "echo +0530\n");
    let said = sandbox.run("ops", &["troubleshoot"]);
    assert!(said.stdout.contains("this shell counts time as +0000, the system as +0530"), "{said:?}");
}

#[test]
fn checks_and_logs_that_speak_of_trouble() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sandbox = well(&format!("[check.bridge]\nkind = \"tcp\"\naddress = \"127.0.0.1:{port}\"\n"));
    let found = expect(&sandbox, "check", "critical");
    assert!(found["cause"].as_str().unwrap().contains("the check bridge says"), "{found}");
    let now = Local::now().format("%F %T");
    sandbox.write(
        "logs/agent.log",
        format!("[{now}] ERROR cannot reach the model, \x1b[2Jtoken=hunter2hunter2\n"),
    );
    let found = expect(&sandbox, "recent_errors", "warning");
    let evidence = found["evidence"].to_string();
    assert!(evidence.contains("cannot reach the model") && !evidence.contains("hunter2"), "{found}");
    assert!(!sandbox.run("ops", &["troubleshoot"]).stdout.contains('\u{1b}'));
    // A plugin may do anything: it is not run.
    let touched = sandbox.path("touched");
    let plugin =
        format!("[check.plugin]\nkind = \"command\"\ncommand = [\"touch\", \"{}\"]\n", touched.display());
    sandbox.write("ops.toml", sandbox.read("ops.toml") + &plugin);
    let said = sandbox.run("ops", &["troubleshoot"]);
    assert!(said.stdout.contains("the check plugin was not asked") && !touched.exists(), "{said:?}");
}

#[test]
fn remedies_name_the_home_that_was_asked_about() {
    let sandbox = home("");
    let mut program = sandbox.program("ops");
    program.env_remove("OPS_HOME").arg("troubleshoot").arg("--home").arg(&sandbox.home);
    let said = said(program.output().unwrap());
    let expected = format!("do    ops start bot --home {}", sandbox.home.display());
    assert!(said.stdout.contains(&expected), "{said:?}");
}

/// A cause without a line in the runbook is one that nobody can look up.
#[test]
fn every_cause_is_in_the_runbook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runbook = fs::read_to_string(root.join("runbooks/troubleshooting.md")).unwrap();
    let pattern =
        regex_lite::Regex::new(r#"(?:Cause::new|cause|warning|wrong|=>)\s*\(\s*"([a-z_]+)","#).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for file in fs::read_dir(root.join("src/troubleshoot")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        seen.extend(pattern.captures_iter(code).map(|found| found[1].to_owned()));
    }
    let missing: Vec<_> = seen.iter().filter(|id| !runbook.contains(&format!("`{id}`"))).collect();
    assert!(seen.len() > 50 && missing.is_empty(), "{} causes; not in the runbook: {missing:?}", seen.len());
    let told: Vec<&str> = runbook.lines().filter(|line| line.starts_with("| `")).collect();
    let ids = told.iter().flat_map(|line| line.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    let unknown: Vec<_> = ids.filter(|id| !seen.contains(*id)).collect();
    assert!(unknown.is_empty(), "the runbook tells of {unknown:?}, which there is not");
}
