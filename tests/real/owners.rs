//! Root at work in the home of somebody else: everything happens as that user, or nothing does.

use crate::peers::{Running, as_root};
use crate::sandbox::{Said, Sandbox, said};
use agent_ops::base::process::Process;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

fn alive(pid: u32) -> bool {
    Process::find(pid).unwrap().is_some_and(|process| process.alive())
}

/// A home that is nobody's, in a folder that everybody may enter.
fn of_nobody(config: &str) -> Sandbox {
    as_root();
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", config);
    sandbox.write("memory/state.json", "{}\n");
    sandbox.write("logs/big.log", "a line\n".repeat(1000));
    fs::set_permissions(sandbox.home.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    for entry in walk(&sandbox.home) {
        chown(entry, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(&sandbox.home, Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox
}

/// As root, with something in the environment that is root's alone.
fn root(sandbox: &Sandbox, program: &str, words: &[&str]) -> Said {
    said(sandbox.program(program).env("ROOT_SECRET", "hunter2").args(words).output().unwrap())
}

/// Whatever the config has us run, every program runs it as the owner of the home.
#[test]
fn everything_that_a_config_runs_runs_as_the_owner_of_the_home() {
    let tell = |what: &str| {
        format!("echo {what} $(id -u) $(id -ru) $(id -G) $HOME ${{ROOT_SECRET:-clean}} >>\\\"$OWN/who\\\"")
            .replace("${ROOT", "$${ROOT")
    };
    let sh = |what: &str| format!("[\"sh\", \"-c\", \"{}\"]", tell(what));
    let config = format!(
        "[service.bot]\ncommand = [\"sleep\", \"6023\"]\npid_file = \"bot.pid\"\nready = \"alive\"\n\
         runtime = {{ command = {}, min = \"1\" }}\n\
         [check.who]\nkind = \"command\"\ncommand = {}\n\
         [backup]\ninclude = [\"memory/**\"]\n\
         [logs.rule.big]\npaths = [\"logs/big.log\"]\nmax_size = \"1KB\"\nafter = {}\n\
         [alerts.webhook]\nurl = \"command:{}\"\n\
         [alerts.command]\nrun = {}\n\
         [upgrade]\nsettle = \"0s\"\n",
        sh("runtime"),
        sh("check"),
        sh("after"),
        tell("secret"),
        sh("alert")
    );
    let sandbox = of_nobody(&config);
    let own = sandbox.home.display().to_string();
    let config = sandbox.read("ops.toml").replace("$OWN", &own);
    fs::write(sandbox.path("ops.toml"), config).unwrap();
    let runs: [(&str, &[&str]); 15] = [
        ("ops", &["up"]),
        ("ops", &["status"]),
        ("health-check", &[]),
        ("ops", &["health"]),
        ("ops", &["alert", "test"]),
        ("alert", &[]),
        ("rotate-logs", &[]),
        ("ops", &["troubleshoot"]),
        ("dashboard", &["web"]),
        ("backup", &[]),
        ("restore", &["latest", "--drill"]),
        ("ops", &["restart"]),
        (
            "ops",
            &[
                "upgrade",
                "--yes",
                "--",
                "sh",
                "-c",
                "echo upgrade $(id -u) $(id -ru) $(id -G) $HOME ${ROOT_SECRET:-clean} >>who",
            ],
        ),
        ("ops", &["report"]),
        ("ops", &["stop"]),
    ];
    let mut all = String::new();
    for (program, words) in runs {
        let said = root(&sandbox, program, words);
        assert!(said.code < 3, "{program} {words:?}: {said:?}");
        all.push_str(&format!("{program} {words:?}: {said:?}\n"));
    }
    let who = sandbox.read("who");
    for what in ["runtime", "check", "after", "secret", "alert", "upgrade"] {
        let line =
            who.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {who}{all}"));
        assert_eq!(line, format!("{what} 65534 65534 65534 /nonexistent clean"));
    }
    assert_eq!(
        who.lines().filter(|line| !line.ends_with(" 65534 65534 65534 /nonexistent clean")).count(),
        0,
        "{who}"
    );
    // The owner can go on with all of it.
    for entry in walk(&sandbox.home) {
        assert_eq!(fs::symlink_metadata(&entry).unwrap().uid(), NOBODY, "{}", entry.display());
    }
}

/// What leads out of the home leads to nothing that its owner may not have.
#[test]
fn root_reads_and_writes_nothing_for_the_owner_of_a_home() {
    let sandbox = of_nobody(
        "[agent]\nenv_file = \"env\"\n[backup]\ninclude = [\"memory/**\"]\n[check.a]\nkind = \"json\"\nfile = \"shadow.json\"\nage = \"at\"\nwarn = \"1h\"\n",
    );
    let secret = sandbox.outside("of-root").join("secret");
    fs::write(&secret, "TOKEN=of-root-alone\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let env = sandbox.path("env");
    symlink(&secret, &env).unwrap();
    lchown(&env, Some(NOBODY), Some(NOBODY)).unwrap();
    for (program, words) in
        [("ops", &["status"][..]), ("ops", &["config", "show"]), ("ops", &["init", "-n"]), ("backup", &[])]
    {
        let said = root(&sandbox, program, words);
        assert!(!format!("{said:?}").contains("of-root-alone"), "{said:?}");
    }
    fs::remove_file(&env).unwrap();
    fs::write(&env, "").unwrap();
    chown(&env, Some(NOBODY), Some(NOBODY)).unwrap();
    // A log that leads out is not written through.
    let log = sandbox.path("logs/backup.log");
    symlink(&secret, &log).unwrap();
    lchown(&log, Some(NOBODY), Some(NOBODY)).unwrap();
    root(&sandbox, "backup", &[]);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "TOKEN=of-root-alone\n");
}

#[test]
fn where_the_owner_cannot_be_had_nothing_is_done() {
    let sandbox = of_nobody("");
    let refused = |words: &[&str], why: &str, hint: &str| {
        let said = root(&sandbox, "ops", words);
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.stderr.contains(why) && said.stderr.contains(hint), "{said:?}");
        assert!(!sandbox.path(".ops").exists());
    };
    // The home of one, the config of another.
    chown(sandbox.path("ops.toml"), Some(1), Some(1)).unwrap();
    refused(&["status"], "belongs to user 65534, and the config", "chown 65534");
    chown(sandbox.path("ops.toml"), Some(NOBODY), Some(NOBODY)).unwrap();
    // Nobody of this number.
    chown(&sandbox.home, Some(4242), Some(4242)).unwrap();
    chown(sandbox.path("ops.toml"), Some(4242), Some(4242)).unwrap();
    refused(&["status"], "user 4242, who is not known here", "setpriv --reuid 4242");
    chown(&sandbox.home, Some(NOBODY), Some(NOBODY)).unwrap();
    chown(sandbox.path("ops.toml"), Some(NOBODY), Some(NOBODY)).unwrap();
    // Root without the right to become another, as in a container.
    let mut bound = Command::new("setpriv");
    bound.args(["--bounding-set", "-setuid,-setgid", "--inh-caps", "-setuid,-setgid"]);
    let command = sandbox.program("ops");
    bound.arg(command.get_program()).arg("status").env("OPS_HOME", &sandbox.home);
    let said = said(bound.output().unwrap());
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.stderr.contains("root may not become nobody here") && said.stderr.contains("sudo -u 'nobody'"),
        "{said:?}"
    );
    // A home of root's that another could swap.
    let inner = sandbox.outside("open").join("inner");
    fs::set_permissions(sandbox.outside("open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(&inner).unwrap();
    let said = said_of(sandbox.program("ops").env("OPS_HOME", &inner).arg("up"));
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stderr.contains("others could change it"), "{said:?}");
    fs::set_permissions(sandbox.home.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn said_of(command: &mut Command) -> Said {
    said(command.output().unwrap())
}

/// Root's own config may name the home of another: that one is become before its home is looked at.
#[test]
fn a_config_of_root_s_names_the_home_of_another() {
    let sandbox = of_nobody("");
    let folder = sandbox.outside("etc");
    let config = folder.join("bot.toml");
    let text = format!(
        "[agent]\nhome = '{}'\n[check.who]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"id -u >>who\"]\n",
        sandbox.home.display()
    );
    fs::write(&config, text).unwrap();
    let run = |program: &str| {
        let mut command = sandbox.program(program);
        said_of(command.env_remove("OPS_HOME").arg("--config").arg(&config))
    };
    assert!(run("health-check").code < 3);
    assert_eq!(sandbox.read("who"), "65534\n");
    // One that its owner may not read is root's secret.
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let said = run("health-check");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.stdout.contains("Permission denied") || said.stderr.contains("Permission denied"),
        "{said:?}"
    );
}

/// A service runs as the owner, and a record that its owner wrote has root end nothing of another.
#[test]
fn root_starts_and_ends_a_service_as_its_owner() {
    let sandbox = of_nobody(
        "[service.bot]\ncommand = [\"sleep\", \"6021\"]\npid_file = \"bot.pid\"\nready = \"alive\"\n",
    );
    assert_eq!(root(&sandbox, "ops", &["start"]).code, 0);
    let pid = || sandbox.read("bot.pid").trim().parse::<u32>().unwrap();
    let first = pid();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
    let bystander = Running::start(Command::new("sleep").arg("6022"));
    let record = sandbox.read(".ops/service/bot.json");
    let mut forged: Value = serde_json::from_str(&record).unwrap();
    let identity = Process::find(bystander.0.id()).unwrap().unwrap().identity;
    forged["identity"] = serde_json::to_value(identity).unwrap();
    sandbox.write(".ops/service/bot.json", forged.to_string());
    fs::remove_file(sandbox.path("bot.pid")).unwrap();
    root(&sandbox, "ops", &["stop", "--force"]);
    assert!(alive(bystander.0.id()));
    sandbox.write(".ops/service/bot.json", record);
    assert_eq!(root(&sandbox, "ops", &["stop"]).code, 0);
    assert!(!alive(first));
}

/// Root writes the definitions of the system, and all else as the owner.
#[test]
fn a_definition_of_the_system_is_root_s_and_its_record_the_owner_s() {
    let sandbox = of_nobody(
        "[agent]\nname = \"owners-test\"\n[service.bot]\ncommand = [\"sleep\", \"6024\"]\nready = \"alive\"\nready_timeout = \"300ms\"\n",
    );
    let called = sandbox.outside("called");
    fs::set_permissions(&called, fs::Permissions::from_mode(0o777)).unwrap();
    sandbox.fake(
        "systemctl",
        &format!(
            "echo \"$(id -u)$(id -G) $*\" >>'{}/log'\ncase \"$*\" in *show*) echo Version=252; echo MainPID=0;; esac\n",
            called.display()
        ),
    );
    let unit = Path::new("/etc/systemd/system/agent-ops-owners-test-bot.service");
    let _clean = Removed(unit);
    root(&sandbox, "ops", &["install", "--manager", "systemd"]);
    let text = fs::read_to_string(unit).unwrap();
    assert!(text.contains("User=nobody"), "{text}");
    assert_eq!(fs::metadata(unit).unwrap().uid(), 0);
    let log = fs::read_to_string(called.join("log")).unwrap();
    assert!(log.lines().any(|line| line.starts_with("00 ") && line.contains("enable")), "{log}");
    for entry in walk(&sandbox.home) {
        assert_eq!(fs::symlink_metadata(&entry).unwrap().uid(), NOBODY, "{}", entry.display());
    }
    // The unit of another user's agent is not this one's to order about, whatever the home says.
    let other = Path::new("/etc/systemd/system/agent-ops-owners-other.service");
    let _clean_too = Removed(other);
    fs::write(other, "[Service]\nUser=daemon\n").unwrap();
    let note = sandbox
        .read(".ops/service/bot.installed")
        .replace("agent-ops-owners-test-bot", "agent-ops-owners-other");
    sandbox.write(".ops/service/bot.installed", &note);
    fs::write(called.join("log"), "").unwrap();
    root(&sandbox, "ops", &["stop"]);
    root(&sandbox, "ops", &["uninstall"]);
    assert!(other.exists());
    let log = fs::read_to_string(called.join("log")).unwrap();
    assert!(!log.contains("owners-other"), "{log}");
}

struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
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

/// What root is to copy means the agent that root named, though another user found it.
#[test]
fn what_root_typed_is_in_the_hints() {
    let sandbox = of_nobody("[service.bot]\ncommand = [\"sleep\", \"6031\"]\nready = \"alive\"\n");
    let home = sandbox.home.display().to_string();
    let elsewhere = |program: &str, words: &[&str]| {
        let mut command = sandbox.program(program);
        said_of(command.env_remove("OPS_HOME").args(words))
    };
    for (program, words) in [
        ("ops", &["troubleshoot", "--home", &home][..]),
        ("ops", &["--home", &home, "alert", "why", "nothing"]),
        ("alert", &["ack", "nothing", "--home", &home]),
        // Also where root keeps the right to give orders to a manager.
        ("ops", &["stop", "nothing", "--home", &home]),
    ] {
        let said = elsewhere(program, words);
        let hints: Vec<&str> = said
            .stdout
            .lines()
            .chain(said.stderr.lines())
            .filter(|line| line.contains("  do  ") || line.starts_with("hint: "))
            .filter(|line| line.contains("do    ops") || line.contains('`'))
            .collect();
        assert!(hints.iter().all(|line| line.contains(&format!("--home {home}"))), "{words:?}: {said:?}");
        assert!(words[0] != "troubleshoot" || !hints.is_empty(), "{said:?}");
        assert!(!said.stdout.contains("--config"), "{said:?}");
    }
    // What the shell's variable says needs no option, then as ever.
    let said = root(&sandbox, "ops", &["troubleshoot"]);
    assert!(!said.stdout.contains("--home"), "{said:?}");
}

/// Root, who became another, hears as whom it was refused something.
#[test]
fn a_refusal_says_as_whom_it_was() {
    let acting = "acting as nobody (65534), the owner of the home";
    let sandbox = of_nobody("[backup]\ninclude = [\"memory/**\"]\n");
    let of_root = sandbox.outside("of-root");
    fs::set_permissions(&of_root, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(root(&sandbox, "backup", &[]).code, 0);
    for (program, words) in [
        ("ops", &["backup", "key", "export", of_root.join("key").to_str().unwrap()][..]),
        ("restore", &["--to", of_root.join("files").to_str().unwrap()]),
        ("restore", &["--to", of_root.to_str().unwrap()]),
        ("ops", &["troubleshoot", "--bundle", of_root.join("b.tar.gz").to_str().unwrap()]),
    ] {
        let said = root(&sandbox, program, words);
        assert!(said.code >= 2 && said.stderr.contains(acting), "{words:?}: {said:?}");
    }
    // The home of root with the config of another: nothing of it can be read.
    fs::create_dir_all(sandbox.path(".ops")).unwrap();
    for path in [sandbox.path(".ops"), sandbox.home.clone()] {
        chown(&path, Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(sandbox.path(".ops"), fs::Permissions::from_mode(0o700)).unwrap();
    for words in [&["health"][..], &["status"], &["stop"], &["backup"]] {
        let said = root(&sandbox, "ops", words);
        assert!(said.code == 3 && said.stderr.contains(acting), "{words:?}: {said:?}");
    }
}

/// A home that changed hands while root's process runs.
#[test]
fn a_refused_signal_is_no_pending_stop() {
    as_root();
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[service.bot]\ncommand = [\"sleep\", \"6032\"]\nready = \"alive\"\n");
    fs::set_permissions(sandbox.home.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(root(&sandbox, "ops", &["start"]).code, 0);
    let record: Value = serde_json::from_str(&sandbox.read(".ops/service/bot.json")).unwrap();
    let pid = u32::try_from(record["identity"]["pid"].as_u64().unwrap()).unwrap();
    for entry in walk(&sandbox.home) {
        lchown(entry, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(&sandbox.home, Some(NOBODY), Some(NOBODY)).unwrap();
    let said = root(&sandbox, "ops", &["stop", "--force"]);
    assert!(said.code == 2 && said.stderr.contains("acting as nobody (65534)"), "{said:?}");
    assert!(said.stderr.contains(&format!("kill {pid}")) && !said.stderr.contains("sudo"), "{said:?}");
    let health = root(&sandbox, "ops", &["health"]);
    assert!(!health.stdout.contains("has not ended yet"), "{health:?}");
    assert!(alive(pid));
    chown(&sandbox.home, Some(0), Some(0)).unwrap();
    for entry in walk(&sandbox.home) {
        lchown(entry, Some(0), Some(0)).unwrap();
    }
    assert_eq!(root(&sandbox, "ops", &["stop", "--force"]).code, 0);
}

/// Who may write in a home that is root's put a journal of a restore there: nothing is moved by what it says.
#[test]
fn a_folder_of_state_that_another_user_made_is_not_followed() {
    as_root();
    let sandbox = Sandbox::new();
    let outside = sandbox.outside("outside");
    fs::write(outside.join("secret"), "secret\n").unwrap();
    let include = outside.join("**").display().to_string();
    sandbox.write("ops.toml", format!("[agent]\npreset = \"none\"\n[backup]\ninclude = [\"{include}\"]\n"));
    let journal = serde_json::json!({
        "archive": "a", "run": "r", "at": "2026-01-01T00:00:00Z", "phase": "undoing", "services": [],
        "staged": ".ops/restore/x", "set_aside": ".pre-restore.20260101_000000", "folders": [],
        "moves": [{ "path": outside.join("secret"), "had": true, "place": true, "belongs_to": null }],
    });
    sandbox.write(".ops/restore.json", journal.to_string());
    let planted = format!(".pre-restore.20260101_000000/.outside{}", outside.join("secret").display());
    sandbox.write(&planted, "planted\n");
    let give = |path: &str, to: u32| chown(sandbox.path(path), Some(to), Some(to)).unwrap();
    give(".ops", NOBODY);
    let said = sandbox.run("backup", &[]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stderr.contains("belongs to user 65534") && said.stderr.contains("mv "), "{said:?}");
    // State of ours that names old files of somebody else.
    give(".ops", 0);
    give(".pre-restore.20260101_000000", NOBODY);
    let said = sandbox.run("backup", &[]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(sandbox.run("restore", &["--aside"]).stdout.find("20260101").is_none());
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret\n");
}
