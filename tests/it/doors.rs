//! What every program does alike: help, usage errors, broken configs, homes that are not there.

use crate::sandbox::{Sandbox, said};

/// Each program, with words that make it do its usual work.
const PROGRAMS: [(&str, &[&str]); 8] = [
    ("ops", &["status"]),
    ("ops", &["health"]),
    ("health-check", &[]),
    ("alert", &[]),
    ("backup", &[]),
    ("restore", &["latest", "--yes"]),
    ("rotate-logs", &[]),
    ("dashboard", &[]),
];

#[test]
fn help_and_version_are_answers() {
    let sandbox = Sandbox::new();
    for (program, _) in PROGRAMS {
        let said = sandbox.expect(0, program, &["--help"]);
        assert!(said.stdout.contains("Usage:") && said.stdout.contains("--config"), "{}", said.stdout);
        assert!(said.stderr.is_empty());
        let said = sandbox.expect(0, program, &["--version"]);
        assert!(said.stdout.starts_with(&format!("{program} ")), "{}", said.stdout);
    }
}

#[test]
fn a_usage_error_is_unknown_not_critical() {
    let sandbox = Sandbox::new();
    for (program, _) in PROGRAMS {
        for words in [&["--no-such-option"] as &[&str], &["--config"], &["--color", "purple"]] {
            let said = sandbox.expect(3, program, words);
            assert!(said.stdout.is_empty() && !said.stderr.is_empty());
        }
    }
    let said = sandbox.expect(3, "ops", &["satrt"]);
    assert!(said.stderr.contains("start"), "{}", said.stderr);
}

#[test]
fn a_broken_config_is_told_with_line_and_column() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\nname = \"bot\"\n\n[alerts]\ncoldown = \"30m\"\n");
    for (program, words) in PROGRAMS {
        let said = sandbox.expect(3, program, words);
        assert!(said.stderr.contains("ops.toml:5:1: unknown key 'coldown'"), "{program}: {}", said.stderr);
        assert!(said.stderr.contains("did you mean 'cooldown'?"), "{program}: {}", said.stderr);
        let document = sandbox.json(3, program, words);
        assert_eq!(document["state"], "unknown");
        assert!(document["error"].as_str().unwrap().contains("coldown"));
    }
    let left: Vec<_> =
        std::fs::read_dir(&sandbox.home).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["ops.toml"], "nothing was changed");
}

#[test]
fn a_home_that_is_not_there() {
    let sandbox = Sandbox::new();
    std::fs::remove_dir(&sandbox.home).unwrap();
    for (program, words) in PROGRAMS {
        let said = sandbox.expect(3, program, words);
        assert!(
            said.stderr.contains("there is no config") && said.stderr.contains("hint: "),
            "{}",
            said.stderr
        );
        assert!(!sandbox.home.exists(), "{program} made it");
    }
    // A config elsewhere that names it.
    let config = sandbox.outside("etc").join("ops.toml");
    std::fs::write(&config, format!("[agent]\nhome = \"{}\"\n", sandbox.home.display())).unwrap();
    for (program, words) in PROGRAMS {
        let mut command = sandbox.program(program);
        command.env_remove("OPS_HOME").env("OPS_CONFIG", &config).args(words);
        let said = crate::sandbox::said(command.output().unwrap());
        assert_eq!(said.code, 3, "{program}: {}", said.stderr);
        assert!(said.stderr.contains("is not a folder"), "{program}: {}", said.stderr);
        assert!(!sandbox.home.exists(), "{program} made it");
    }
}

#[test]
fn odd_configs_are_refused_not_fatal() {
    let sandbox = Sandbox::new();
    for (content, expected) in [
        (&b"\xff\xfe"[..], "not UTF-8"),
        (b"[agent", "ops.toml:1:"),
        (b"agent = 3", "ops.toml:1:9"),
        (b"[check.x]\nkind = \"disk\"\nwarn = \"5 apples\"", "ops.toml:3:8"),
        (b"[service.\"a/b\"]\ncommand = [\"x\"]", "may only hold"),
        (b"[agent]\nenv_file = \"missing.env\"", "missing.env"),
        (b"[backup]\nkeep = { all = \"7d\", dayly = \"1d\" }", "unknown key 'dayly'"),
    ] {
        sandbox.write("ops.toml", content);
        let said = sandbox.expect(3, "ops", &["config", "check"]);
        assert!(said.stderr.contains(expected), "{expected}: {}", said.stderr);
    }
    std::fs::remove_file(sandbox.path("ops.toml")).unwrap();
    std::fs::create_dir(sandbox.path("ops.toml")).unwrap();
    let said = sandbox.expect(3, "ops", &["config", "check"]);
    assert!(said.stderr.contains("cannot read"), "{}", said.stderr);
}

#[test]
fn the_config_is_shown_without_its_secrets() {
    let sandbox = Sandbox::new();
    sandbox.write(".env", "HOOK=https://hooks.example/5ECR3T\nPASS=\"pa55w0rd\"\n");
    sandbox.write(
        "ops.toml",
        "[agent]\nenv_file = \".env\"\n[alerts.webhook]\nurl = \"${HOOK}\"\n[alerts.email]\nhost = \"localhost\"\n\
         password = \"${PASS}\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n",
    );
    for words in
        [&["config", "show"] as &[&str], &["config", "show", "--json"], &["config", "check", "--json"]]
    {
        let said = sandbox.expect(0, "ops", words);
        assert!(!said.stdout.contains("5ECR3T") && !said.stdout.contains("pa55w0rd"), "{}", said.stdout);
        assert!(said.stdout.contains("[redacted]"));
    }
    let shown = sandbox.expect(0, "ops", &["config", "show"]).stdout;
    for default in
        ["cooldown = \"30m\"", "max_per_hour = 5", "compress_after = \"1day\"", "keep_lines = 1000"]
    {
        assert!(shown.contains(default), "{default} is missing in\n{shown}");
    }
}

#[test]
fn init_writes_once() {
    let sandbox = Sandbox::new();
    sandbox.expect(0, "ops", &["init", "--name", "bot"]);
    let written = sandbox.read("ops.toml");
    sandbox.expect(0, "ops", &["config", "check"]);
    let said = sandbox.expect(3, "ops", &["init"]);
    assert!(said.stderr.contains("is there already"), "{}", said.stderr);
    assert_eq!(sandbox.read("ops.toml"), written);

    // A link to a disk that is not there now is one all the same.
    let link = sandbox.path("ops.toml");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nonexistent/ops.toml", &link).unwrap();
    let said = sandbox.expect(3, "ops", &["init"]);
    assert!(said.stderr.contains("is there already"), "{}", said.stderr);
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some("/nonexistent/ops.toml"));
}

#[test]
fn init_writes_the_file_it_is_asked_for() {
    let sandbox = Sandbox::new();
    let place = sandbox.outside("t3");
    let file = place.join("my.toml");
    let mut command = sandbox.program("ops");
    let said = said(command.env_remove("OPS_HOME").args(["init", "-c", "t3/my.toml"]).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains(&format!("next: ops up --config {}", file.display())), "{said:?}");
    assert!(!sandbox.home.parent().unwrap().join("ops.toml").exists());
    let shown = sandbox.expect(0, "ops", &["config", "show", "-c", file.to_str().unwrap()]).stdout;
    assert!(shown.contains("my.toml"), "{shown}");

    // Elsewhere than in its home, and by the environment.
    let odd = sandbox.outside("a \\ \"b\" ${x}");
    let said = sandbox.expect(0, "ops", &["init", "-c", odd.join("its.toml").to_str().unwrap()]);
    assert!(said.stdout.contains(&format!("ops up --config '{}/its.toml'\n", odd.display())), "{said:?}");
    let file = place.join("new/other.toml");
    let mut command = sandbox.program("ops");
    command.env("OPS_CONFIG", &file).env("OPS_HOME", &odd).arg("init");
    assert!(command.status().unwrap().success());
    let mut command = sandbox.program("ops");
    command.env_remove("OPS_HOME").args(["config", "show", "--json", "-c"]).arg(&file);
    let shown: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(shown["config"]["agent"]["home"].as_str(), odd.to_str(), "{shown}");

    // A preset beside the config, which is not in the home.
    std::fs::write(place.join("bot.toml"), "[service.bot]\ncommand = [\"sleep\", \"1\"]\n").unwrap();
    let words = ["init", "--preset", "t3/bot.toml", "-c", "t3/third.toml"];
    sandbox.expect(0, "ops", &words);
    sandbox.expect(0, "ops", &["config", "check", "-c", "t3/third.toml"]);
}

#[test]
fn init_on_trial_is_one_document_and_a_bad_name_is_told_before() {
    let sandbox = Sandbox::new();
    let document = sandbox.json(0, "ops", &["init", "-n", "--name", "bot"]);
    assert!(document["text"].as_str().unwrap().contains("name = \"bot\""), "{document}");
    assert_eq!((&document["dry_run"], &document["agent"]), (&true.into(), &"bot".into()));
    for name in ["a \"b", "", ".x", "a/b", "a\nb"] {
        for words in [&["init"][..], &["init", "-n"]] {
            let said = sandbox.expect(3, "ops", &[words, &["--name", name]].concat());
            assert!(said.stderr.contains("cannot be an agent's name"), "{said:?}");
            assert!(said.stderr.contains("hint: --name") && !said.stderr.contains("ops.toml:"), "{said:?}");
        }
    }
    assert!(!sandbox.path("ops.toml").exists());
}

/// Copied as it stands, a command that is told must mean the agent that was asked for.
#[test]
fn what_is_told_to_do_next_means_this_agent() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\npreset = \"builtin\"\n");
    let home = sandbox.home.display();
    let say = |words: &[&str]| {
        let mut command = sandbox.program("ops");
        let said = said(command.env_remove("OPS_HOME").args(words).output().unwrap());
        said.stdout + &said.stderr
    };
    let health = say(&["health", "--home", "home"]);
    assert!(health.contains(&format!("-> `ops start --home {home}`\n")), "{health}");
    let status = say(&["status", "--home", "home"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains(&format!("`ops start --home {home}`")), "{status}");
    let hint = say(&["restore", "latest", "--yes", "-c", "home/ops.toml"]);
    assert!(hint.contains(&format!(" --config {home}/ops.toml`")), "{hint}");
    // What a log says is quoted as it is.
    sandbox.write(
        "ops.toml",
        "[service.bot]\ncommand = [\"bot\"]\n\
         [check.log]\nkind = \"log_errors\"\npaths = [\"logs/bot.log\"]\nwarn = 0\n",
    );
    sandbox.write("logs/bot.log", "ERROR gave up after `ops stop` in a shell\n");
    for words in [&["health", "--home", "home"][..], &["health", "--json", "--home", "home"]] {
        let health = say(words);
        assert!(health.contains("gave up after `ops stop` in a shell"), "{health}");
        assert!(health.contains(&format!("`ops logs daemon -n 100 --home {home}`")), "{health}");
    }
    // Where the environment says it, so it does for what is copied.
    sandbox.write("ops.toml", "[agent]\npreset = \"builtin\"\n");
    let health = sandbox.run("ops", &["health"]).stdout;
    assert!(health.contains("-> `ops start`\n"), "{health}");
}

#[test]
fn output_that_is_piped_away_is_no_error() {
    use std::process::Stdio;
    let sandbox = Sandbox::new();
    let mut child =
        sandbox.program("ops").args(["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    // The reader leaves before anything is written.
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The options that every program has stand wherever one likes, before a verb of a verb too.
#[test]
fn common_options_stand_before_and_behind_every_verb() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[backup]\ninclude = [\"memory/**\"]\n");
    sandbox.write("memory/a.txt", "a");
    sandbox.expect(0, "backup", &[]);
    let home = sandbox.home.display().to_string();
    let all: [(&str, &[&str]); 14] = [
        ("ops", &["backup", "verify"]),
        ("ops", &["backup", "list"]),
        ("ops", &["backup", "prune", "-n"]),
        ("ops", &["backup", "key"]),
        ("ops", &["backup", "pin", "latest"]),
        ("backup", &["verify"]),
        ("backup", &["list"]),
        ("ops", &["alert", "list"]),
        ("alert", &["list"]),
        ("ops", &["config", "show"]),
        ("ops", &["config", "check"]),
        ("ops", &["dashboard", "json"]),
        ("dashboard", &["prom"]),
        ("ops", &["restore", "--list"]),
    ];
    for (program, words) in all {
        for option in [&["--home", &home][..], &["--quiet"], &["-v"], &["--color", "never"]] {
            for at in 0..=words.len() {
                let words = [&words[..at], option, &words[at..]].concat();
                let mut command = sandbox.program(program);
                if option[0] == "--home" {
                    command.env_remove("OPS_HOME");
                }
                let said = said(command.args(&words).output().unwrap());
                assert_eq!(said.code, 0, "{program} {words:?}: {said:?}");
            }
        }
    }
    // Those of making a backup are not silently those of what its verbs do.
    for words in [&["-n", "prune"][..], &["--paranoid", "list"]] {
        let said = sandbox.expect(3, "backup", words);
        assert!(said.stderr.contains("behind it"), "{said:?}");
    }
}

/// Who reads our output and goes away has seen enough; the exit code tells the state all the same.
#[test]
fn a_closed_pipe_hides_no_state() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[check.a]\nkind = \"command\"\ncommand = [\"false\"]\n[backup]\ninclude = [\"memory/**\"]\n",
    );
    sandbox.write("memory/a.txt", "a");
    for (program, words) in [
        ("ops", &["status"][..]),
        ("ops", &["health"]),
        ("health-check", &[]),
        ("ops", &["troubleshoot"]),
        ("ops", &["health", "--json"]),
        ("ops", &["no-such-verb"]),
        ("alert", &["ack", "nothing"]),
        ("backup", &["-n"]),
        ("restore", &["--list"]),
    ] {
        let open = sandbox.run(program, words);
        let mut command = sandbox.program(program);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = command.args(words).stdout(writer).stderr(std::process::Stdio::null()).status().unwrap();
        assert_eq!(closed.code(), Some(open.code), "{program} {words:?}: {open:?}");
    }
}
