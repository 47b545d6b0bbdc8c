//! Each preset against a stand-in of its agent (`agents/`) that behaves, and misbehaves, as the real one:
//! recognised, started, healthy, each way of failing found, stopped.

mod dharmic;
mod gomikrobot;
mod macha;
mod machina;
mod mama;

use crate::sandbox::{Said, Sandbox, built, said, wait_until};
use crate::service::finding;
use chrono::{TimeDelta, Utc};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program of all stand-ins. `cargo test` has built it already, `cargo test --test it` has not.
fn agents() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let ops = built("ops");
        let folder = ops.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "agents", "--target-dir"]);
        cargo.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let said = said(cargo.output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
        folder.join("examples/agents")
    })
}

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that always says the same, until the test ends.
fn says(status: &'static str, body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    port
}

/// One agent in its home, and the environment of its operator.
struct Agent {
    sandbox: Sandbox,
    environment: Vec<(&'static str, String)>,
}

impl Agent {
    /// In a home of this name, under the user's home folder.
    fn new(home: &str) -> Agent {
        let mut sandbox = Sandbox::new();
        sandbox.home = sandbox.outside(home);
        Agent { sandbox, environment: Vec::new() }
    }

    fn set(&mut self, name: &'static str, value: impl ToString) {
        self.environment.push((name, value.to_string()));
    }

    /// Makes a program of this path under the user's home folder a stand-in.
    fn program(&self, path: &str) -> PathBuf {
        let link = self.sandbox.outside("").join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(agents(), &link).unwrap();
        link
    }

    fn run(&self, program: &str, args: &[&str]) -> Said {
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        said(self.sandbox.program(program).envs(environment).args(args).output().unwrap())
    }

    #[track_caller]
    fn ops(&self, code: i32, args: &[&str]) -> Said {
        let said = self.run("ops", args);
        assert_eq!(said.code, code, "ops {args:?}: {said:?}");
        said
    }

    /// Adds to `ops.toml`.
    fn config(&self, lines: &str) {
        let text = self.sandbox.read("ops.toml");
        self.sandbox.write("ops.toml", format!("{text}\n{lines}\n"));
    }

    /// A finding, as if it were so many seconds later.
    fn look(&self, check: &str, later: i64) -> Value {
        let now = (Utc::now() + TimeDelta::seconds(later)).to_rfc3339();
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let mut program = self.sandbox.program("health-check");
        program.envs(environment).env("OPS_NOW", now).args(["--json", "--only", check]);
        let said = said(program.output().unwrap());
        let report = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        finding(&report, check).clone()
    }

    #[track_caller]
    fn expect_at(&self, later: i64, check: &str, state: &str, part: &str) {
        let found = self.look(check, later);
        let summary = found["summary"].as_str().unwrap();
        assert!(found["state"] == state && summary.contains(part), "{state} {part}: {found}");
    }

    #[track_caller]
    fn expect(&self, check: &str, state: &str, part: &str) {
        self.expect_at(0, check, state, part);
    }

    /// Waits until a check says that.
    #[track_caller]
    fn until(&self, check: &str, state: &str, part: &str) {
        wait_until(&format!("{check} is {state}: {part}"), || {
            let found = self.look(check, 0);
            found["state"] == state && found["summary"].as_str().unwrap().contains(part)
        });
    }

    /// Every check is well but those of this machine and of backups: there is none yet.
    #[track_caller]
    fn expect_all_well(&self) {
        let said = self.run("health-check", &["--json"]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let findings = report["findings"].as_array().unwrap();
        let ours = |found: &&Value| {
            !["disk", "backup", "drill", "schedule"].contains(&found["check"].as_str().unwrap())
        };
        let bad: Vec<_> = findings.iter().filter(ours).filter(|found| found["state"] != "ok").collect();
        assert!(findings.len() > 6 && bad.is_empty(), "{bad:#?}");
    }

    /// A cause that `ops troubleshoot` finds, so many seconds later; what it is, says and would do.
    #[track_caller]
    fn troubled(&self, later: i64, id: &str, part: &str, remedy: &str) {
        let now = (Utc::now() + TimeDelta::seconds(later)).to_rfc3339();
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let mut program = self.sandbox.program("ops");
        program.envs(environment).env("OPS_NOW", now).args(["troubleshoot", "--json"]);
        let said = said(program.output().unwrap());
        let found: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let causes = found["causes"].as_array().unwrap();
        let fits = causes.iter().any(|cause| {
            let does =
                cause["remedy"].to_string().contains(remedy) || cause["advice"].to_string().contains(remedy);
            cause["id"] == id && cause.to_string().contains(part) && does
        });
        assert!(fits, "{id} {part} {remedy}: {found:#}");
    }

    fn pid(&self, service: &str) -> u32 {
        let record: Value =
            serde_json::from_str(&self.sandbox.read(&format!(".ops/service/{service}.json"))).unwrap();
        record["identity"]["pid"].as_u64().unwrap() as u32
    }

    /// Makes a backup and unpacks it: where its files are.
    #[track_caller]
    fn backed_up(&self) -> PathBuf {
        self.ops(0, &["backup"]);
        let into = self.sandbox.outside("unpacked");
        let latest = self.sandbox.path("backups/latest");
        let tar = Command::new("tar").arg("xzf").arg(latest).arg("-C").arg(&into).output().unwrap();
        assert!(tar.status.success(), "{tar:?}");
        fs::read_dir(into).unwrap().next().unwrap().unwrap().path()
    }

    /// The value of a variable of the environment.
    fn get(&self, name: &str) -> &str {
        &self.environment.iter().rfind(|(known, _)| *known == name).unwrap().1
    }

    fn database(&self, name: &str) -> rusqlite::Connection {
        rusqlite::Connection::open(self.sandbox.path(name)).unwrap()
    }
}

#[test]
fn ops_init_lists_recognises_and_says_so() {
    let sandbox = Sandbox::new();
    let list = sandbox.expect(0, "ops", &["init", "--list"]).stdout;
    for name in ["builtin", "dharmic", "mama", "machina", "gomikrobot", "macha"] {
        assert!(list.lines().any(|line| line.starts_with(name) && line.len() > 30), "{list}");
        let home = sandbox.outside(&format!("of-{name}"));
        let home = home.to_str().unwrap();
        let written = sandbox.json(0, "ops", &["init", "--preset", name, "--home", home]);
        assert_eq!(written["preset"], name);
        sandbox.expect(0, "ops", &["config", "check", "--home", home]);
    }
    // Nothing that is known: said so.
    let said = sandbox.expect(0, "ops", &["init"]);
    assert!(said.stdout.contains("no agent that is known lies there: the built-in one"), "{said:?}");
    let said = sandbox.expect(3, "ops", &["init"]);
    assert!(said.stderr.contains("it was not touched"), "{said:?}");
    // Two that could be meant.
    let both = sandbox.outside("both");
    fs::write(both.join("mama.db"), "").unwrap();
    fs::write(both.join("timeline.db"), "").unwrap();
    let said = sandbox.expect(3, "ops", &["init", "--home", both.to_str().unwrap()]);
    assert!(said.stderr.contains("mama by mama.db; gomikrobot by timeline.db"), "{said:?}");
    assert!(said.stderr.contains("--preset"), "{said:?}");
    sandbox.expect(3, "ops", &["init", "--preset", "nobody", "--home", both.to_str().unwrap()]);
    assert!(!both.join("ops.toml").exists());
}

/// Where each agent keeps its ports, and what of the config takes them from there.
#[test]
fn what_an_agent_s_own_config_says_is_not_asked() {
    for (home, preset, file, text, ports) in [
        (
            ".mama",
            "mama",
            "config.yaml",
            "channels:\n  api:\n    enabled: true\n    port: 43377\n",
            &[43377][..],
        ),
        (
            ".mama",
            "mama",
            "config.yaml",
            "channels:\n    api:\n        # x\n\n        port: '43378' # y\n",
            &[43378],
        ),
        (".mama", "mama", "config.yaml", "channels:\n  api: { enabled: true, port: 43379 }\n", &[43379]),
        (
            ".mama",
            "mama",
            "config.yaml",
            "channels:\n  api:\n    enabled: true\n  webhooks:\n    port: 1\n",
            &[3377],
        ),
        (".mama", "mama", "config.yaml", "channels:\n  api:\n    port: ${PORT}\n", &[3377]),
        // That of another channel is another's.
        (
            ".mama",
            "mama",
            "config.yaml",
            "channels:\n  whatsapp:\n    api:\n      port: 1\n  api:\n    port: 43380\n",
            &[43380],
        ),
        // No port: not said.
        (".mama", "mama", "config.yaml", "channels:\n  api:\n    port: 99999\n", &[3377]),
        (".mama", "mama", "config.yaml", "channels:\n  api:\n    port: 0\n", &[3377]),
        (
            ".gomikrobot",
            "gomikrobot",
            "config.json",
            "{\"gateway\": {\"port\": 65536, \"dashboardPort\": 28791}}",
            &[18790, 28791],
        ),
        ("machina", "machina", "ops/pids.started.json", "{\"serve_port\": 0}", &[8091]),
        (
            ".gomikrobot",
            "gomikrobot",
            "config.json",
            "{\"gateway\": {\n\"host\": \"x\", \"dashboardPort\": 28791, \"port\" : 28790 }}",
            &[28790, 28791],
        ),
        (".gomikrobot", "gomikrobot", "config.json", "{\"channels\": {\"port\": 1}}", &[18790, 18791]),
        ("machina", "machina", "ops/pids.started.json", "{\n  \"serve_port\": 28091\n}", &[28091]),
    ] {
        let agent = Agent::new(home);
        agent.sandbox.write(file, text);
        let name: &[&str] = if preset == "machina" { &["--preset", preset] } else { &[] };
        let written = agent.sandbox.json(0, "ops", &[&["init"], name].concat());
        assert_eq!(written["preset"], preset, "{text}");
        let shown = agent.sandbox.json(0, "ops", &["config", "show"]);
        let services = shown["config"]["service"].as_object().unwrap();
        let found: Vec<_> = services.values().flat_map(|one| one["ports"].as_array().unwrap()).collect();
        assert_eq!(found, ports.iter().collect::<Vec<_>>(), "{text}");
        let url = shown["config"]["check"]["api"]["url"].to_string();
        assert!(url.contains(&ports[0].to_string()), "{text}: {url}");
        // Whoever sets it is right.
        let variable = ["MAMA_API_PORT", "MIKROBOT_GATEWAY_PORT", "MACHINA_PORT"];
        let mut command = agent.sandbox.program("ops");
        command.envs(variable.map(|name| (name, "999"))).args(["config", "show"]);
        assert!(said(command.output().unwrap()).stdout.contains(":999/"), "{text}");
    }
}

/// Not even with a preset that takes whatever it finds.
#[test]
fn what_an_agent_wrote_of_itself_does_not_keep_it_from_being_watched() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "bot.toml",
        "[[preset.ask]]\nvariable = \"BOT_PORT\"\nfile = \"bot.json\"\nmatches = 'port=(.*)'\n\
         [service.bot]\ncommand = [\"sleep\", \"600\"]\nports = [\"${BOT_PORT:-8000}\"]\n",
    );
    sandbox.write("ops.toml", "[agent]\nname = \"bot\"\npreset = \"bot.toml\"\n");
    for (own, port) in [("port=8001", 8001), ("port=99999", 8000), ("port=${", 8000), ("port=x\"y", 8000)] {
        sandbox.write("bot.json", own);
        let shown = sandbox.json(0, "ops", &["config", "show"]);
        assert_eq!(shown["config"]["service"]["bot"]["ports"][0], port, "{own}");
    }
    // What its people wrote is told all the same.
    sandbox.write("ops.toml", "[agent]\nname = \"bot\"\npreset = \"bot.toml\"\n[logs]\nwrong = 1\n");
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("ops.toml:5:1:"), "{said:?}");
}

#[test]
fn a_preset_of_one_s_own_takes_ten_lines() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "bot.toml",
        "[preset]\nabout = \"my bot\"\nstarter = '''\n# [service.bot]\n# stop_grace = \"5s\"\n'''\n\
         [service.bot]\ncommand = [\"sleep\", \"${BOT_NAP:-600}\"]\n\
         [service.web]\nenabled = false\ncommand = [\"sleep\", \"601\"]\n\
         [check.process]\nkind = \"process\"\nservice = \"bot\"\n\
         [check.web]\nkind = \"process\"\nservice = \"web\"\n\
         [check.page]\nkind = \"tcp\"\nafter = [\"web\"]\naddress = \"localhost:1\"\n",
    );
    let preset = sandbox.path("bot.toml");
    let written = sandbox.json(0, "ops", &["init", "--preset", preset.to_str().unwrap()]);
    assert_eq!((&written["preset"], &written["agent"]), (&"bot.toml".into(), &"bot".into()));
    assert!(sandbox.read("ops.toml").contains("# stop_grace = \"5s\""));
    sandbox.expect(0, "ops", &["start"]);
    let report = sandbox.json(0, "health-check", &[]);
    assert_eq!(report["findings"].as_array().unwrap().len(), 1, "what is not enabled is not asked: {report}");
    let said = sandbox.expect(3, "ops", &["start", "web"]);
    assert!(said.stderr.contains("not enabled") && said.stderr.contains("[service.web]"), "{said:?}");
    sandbox.expect(0, "ops", &["stop"]);
    let origin = sandbox.expect(0, "health-check", &["--explain", "process"]).stdout;
    assert!(origin.contains("bot.toml"), "{origin}");

    // What is wrong in it is told with its own place.
    sandbox.write("bot.toml", "[agent]\nname = \"x\"\n");
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("bot.toml:1:2: [agent] is for ops.toml"), "{said:?}");
    sandbox
        .write("bot.toml", "[service.bot]\ncommand = [\"sleep\"]\n[check.disk]\nkind = \"disk\"\nwarm = 1\n");
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("bot.toml:5:1: unknown key 'warm'"), "{said:?}");
    sandbox.write(
        "bot.toml",
        "[service.bot]\ncommand = [\"sleep\"]\n[check.p]\nkind = \"process\"\nservice = \"bto\"\n",
    );
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("bot.toml:3:8: the check 'p' asks about a service 'bto'"), "{said:?}");
    assert!(said.stderr.contains("did you mean 'bot'?"), "{said:?}");
    for nothing in ["", "# a comment\n", "[preset]\nabout = \"x\"\n"] {
        sandbox.write("bot.toml", nothing);
        let said = sandbox.expect(3, "ops", &["config", "check"]);
        assert!(said.stderr.contains("bot.toml: there is nothing in it"), "{said:?}");
        let said = sandbox.expect(3, "ops", &["init", "--preset", preset.to_str().unwrap(), "--home", "new"]);
        assert!(said.stderr.contains("bot.toml: there is nothing in it"), "{said:?}");
    }
    fs::remove_file(&preset).unwrap();
    let said = sandbox.expect(3, "ops", &["init", "--preset", preset.to_str().unwrap(), "--home", "new"]);
    assert!(said.stderr.contains("cannot read the preset") && said.stderr.contains("hint: "), "{said:?}");
    assert!(!sandbox.home.parent().unwrap().join("new").exists(), "nothing is written that is wrong");
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("ops.toml:7:") && said.stderr.contains("bot.toml"), "{said:?}");
}

/// Appends to a file.
fn append(path: &Path, text: &str) {
    use std::io::Write;
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn the_documents_about_presets_are_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/presets.md")).unwrap();
    let own = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(own.lines().filter(|line| !line.is_empty()).count() <= 10, "ten lines were promised");
    let sandbox = Sandbox::new();
    let preset = sandbox.write("bot.toml", own);
    sandbox.expect(0, "ops", &["init", "--preset", preset.to_str().unwrap()]);
    let about = text.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    sandbox.write("bot.toml", format!("{own}{about}"));
    sandbox.write("config.yaml", "channels:\n  api:\n    enabled: true\n  web:\n    enabled: false\n");
    let said = sandbox.expect(0, "ops", &["init", "--dry-run", "--preset", preset.to_str().unwrap()]);
    assert!(
        said.stdout.contains("# stop_grace") && said.stdout.contains("\n[service.web]\nenabled = false\n")
    );

    let mut seen = 0;
    for entry in fs::read_dir(root.join("presets")).unwrap() {
        let path = entry.unwrap().path();
        let preset = fs::read_to_string(&path).unwrap();
        let line = |stem: &str| format!("| `{stem}` |");
        let row =
            text.lines().rfind(|row| row.starts_with(&line(&path.file_stem().unwrap().to_string_lossy())));
        for variable in preset.split("${").skip(1).map(|rest| rest.split('}').next().unwrap()) {
            let (name, default) = variable.split_once(":-").expect("it may be left unset");
            let told =
                if default.is_empty() { format!("`{name}`") } else { format!("`{name}` (`{default}`)") };
            assert!(name == "HOME" || row.unwrap().contains(&told), "{variable} of {}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} variables were looked at");
}
