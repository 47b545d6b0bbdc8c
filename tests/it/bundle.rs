//! `ops troubleshoot --bundle`: what is in it, and what never is.

use crate::sandbox::{Sandbox, said};
use crate::service::Bystander;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Name and text of all that is in a bundle.
fn contents(file: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(file).unwrap()));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.insert(name.split_once('/').unwrap().1.to_owned(), text);
    }
    found
}

fn crontab(sandbox: &Sandbox) {
    let file = sandbox.outside("spool").join("crontab");
    fs::write(&file, "MY_TOKEN=of-another-line\n5 4 * * * /opt/private-job\n").unwrap();
    let file = file.display();
    sandbox.fake("crontab", &format!("case $1 in\n-l) cat '{file}' ;;\n-) cat > '{file}' ;;\nesac\n"));
}

#[test]
fn what_is_in_a_bundle_and_what_is_not() {
    let sandbox = Sandbox::new();
    crontab(&sandbox);
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\npreset = \"builtin\"\n[alerts.desktop]\nenabled = false\n\
         [alerts.email]\nhost = \"127.0.0.1\"\nport = 1\ntls = \"none\"\nfrom = \"bot@example.org\"\nto = [\"me@example.org\"]\n\
         [logs]\ninclude = [\"logs/**/*.log\", \"memory/*\", \"data.log\"]\n",
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["cron-install"]);
    sandbox.run("alert", &[]);
    sandbox.expect(0, "ops", &["stop"]);
    sandbox.write("memory/thoughts.log", "a private thought\n");
    sandbox.write("memory/thoughts.jsonl", "{\"a\": \"private thought\"}\n");
    let database = rusqlite::Connection::open(sandbox.path("data.log")).unwrap();
    database.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES('private thought');").unwrap();
    drop(database);
    let many: String = (0..1999).map(|n| format!("[2026-11-20 09:30:01] INFO {n}\n")).collect();
    let many = many + "the last\n";
    sandbox.write("logs/many.log", many);

    let folder = sandbox.outside("out");
    let run = |args: &[&str]| {
        said(sandbox.program("ops").current_dir(&folder).arg("troubleshoot").args(args).output().unwrap())
    };
    let made = run(&["--bundle", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let file = Path::new(document["bundle"]["file"].as_str().unwrap()).to_owned();
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("agent-ops-bundle-2") && name.ends_with(".tar.gz") && file.parent() == Some(&folder)
    );
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let found = contents(&file);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    for expected in [
        "MANIFEST.txt",
        "report.txt",
        "report.json",
        "system.txt",
        "config.toml",
        "detect.json",
        "status.json",
        "crontab.txt",
        "journal.json",
        "logs/many.log.digest",
        "logs/restart.log.digest",
    ] {
        assert!(names.contains(&expected), "no {expected} in {names:?}");
    }
    assert_eq!(document["bundle"]["files"].as_array().unwrap().len(), names.len());
    for name in names.iter().filter(|name| **name != "MANIFEST.txt") {
        assert!(found["MANIFEST.txt"].contains(name), "{name} is not in the manifest");
        if name.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&found[*name])
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    toml::from_str::<toml::Table>(&found["config.toml"]).unwrap();
    let digest = &found["logs/many.log.digest"];
    assert!(
        digest.lines().count() == 501
            && digest.contains("T09:30:01.000+00:00 info 31\n")
            && digest.ends_with(" 8\n"),
        "{digest}"
    );
    assert!(found["system.txt"].contains(env!("CARGO_PKG_VERSION")));
    assert!(found["crontab.txt"].contains(">>> agent-ops bot") && found["journal.json"].contains("\"jobs\""));
    let user = sandbox.outside("").display().to_string();
    for (name, text) in &found {
        for private in [
            "private thought",
            "private-job",
            "of-another-line",
            "me@example",
            "bot@example",
            user.trim_end_matches('/'),
        ] {
            assert!(!text.contains(private), "{private} is in {name}: {text}");
        }
    }

    // Into a folder, with the logs.
    assert!(run(&["--with-logs"]).stderr.contains("--bundle"));
    let more = sandbox.outside("more");
    let made = run(&["--with-logs", "--json", "--bundle", more.to_str().unwrap()]);
    let document: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let inside = Path::new(document["bundle"]["file"].as_str().unwrap()).to_owned();
    assert_eq!(inside.parent(), Some(&*more));
    let log = &contents(&inside)["logs/many.log"];
    assert!(log.lines().count() == 500 && log.ends_with("INFO 1998\nthe last\n"), "{log}");

    // Nothing is written over, and nothing is left of what could not be made.
    let again = run(&["--bundle", file.to_str().unwrap()]);
    assert!(again.code == 3 && again.stderr.contains("nothing is overwritten"), "{again:?}");
    assert_eq!(contents(&file), found);
    let nowhere = run(&["--bundle", "/nowhere/at/all.tar.gz"]);
    assert!(nowhere.code == 3 && nowhere.stderr.contains("--bundle FILE"), "{nowhere:?}");
}

/// A bundle of an agent whose logs tell what it was told, and what was in its config.
fn talkative(more: &[&str]) -> BTreeMap<String, String> {
    let sandbox = Sandbox::new();
    crontab(&sandbox);
    sandbox.write(".env", "SHORT=hunt2\nPIN=4711\nLOG_LEVEL=info\nPORT=8099\n");
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\nenv_file = \".env\"\n[alerts.desktop]\nenabled = false\n\
         [service.bot]\ncommand = [\"sh\", \"-c\", \"sleep 6077\", \"-phunter2\", \"-a\", \"hunter3\"]\nready = \"alive\"\nports = [8099]\n\
         [check.api]\nkind = \"http\"\nurl = \"http://127.0.0.1:1/\"\nheaders = { Authorization = \"Bearer hunter4hunter\" }\n\
         [check.plugin]\nkind = \"command\"\ncommand = [\"true\", \"--password\", \"hunter5\"]\n\
         [check.errors]\nkind = \"log_errors\"\npaths = [\"logs/bot_stdout.log\"]\n\
         [alerts.telegram]\ntoken = \"123:abc\"\nchat = \"-100987\"\napi = \"http://127.0.0.1:1\"\n",
    );
    sandbox.expect(0, "ops", &["start"]);
    let now = chrono::Utc::now().format("%Y/%m/%d %H:%M:%S");
    sandbox.write(
        "logs/bot_stdout.log",
        format!(
            "{now} INFO SHORT=hunt2 and 4711, listening at 8099\n{now} INFO hunter4hunter hunter5 hunter2 hunter3 -100987\n\
             {now} ERROR from +491705550123: my card is 4111 1111 1111 1111, see you at the blue house\n"
        ),
    );
    sandbox.run("alert", &[]);
    let file = sandbox.outside("out").join("b.tar.gz");
    let said = sandbox.run("ops", &[&["troubleshoot", "--bundle", file.to_str().unwrap()], more].concat());
    assert!(said.stdout.contains("the blue house"), "people see it here: {said:?}");
    sandbox.expect(0, "ops", &["stop", "--force"]);
    contents(&file)
}

#[test]
fn what_the_agent_wrote_leaves_only_if_asked_for_and_what_is_known_never() {
    for more in [&[][..], &["--with-logs"]] {
        let found = talkative(more);
        for (name, text) in &found {
            for secret in ["hunt2", "4711", "hunter", "-100987", "1705550123", "4111 1111"]
                .iter()
                .filter(|_| name != "MANIFEST.txt")
            {
                assert!(!text.contains(secret), "{secret} is in {name} ({more:?}): {text}");
            }
            assert!(more.len() == 1 || !text.contains("blue house"), "{name}: {text}");
        }
        let log = "logs/bot_stdout.log";
        match more {
            [] => assert!(found[&format!("{log}.digest")].contains(" error "), "{found:?}"),
            _ => assert!(
                found[log].contains("listening at 8099") && found[log].contains("blue house"),
                "{found:?}"
            ),
        }
        assert!(
            found["detect.json"].contains("-p[redacted]") && found["config.toml"].contains("-p[redacted]"),
            "{found:?}"
        );
    }
}

#[test]
fn the_last_words_of_an_agent_that_did_not_start_do_not_leave_with_our_own_logs() {
    let sandbox = Sandbox::new();
    crontab(&sandbox);
    let words = "message from Frau Meier: my diagnosis is flu";
    let script =
        format!("#!/bin/sh\nif [ -e broken ]; then echo '{words}' >&2; exit 1; fi\nexec sleep 6078\n");
    let script = sandbox.write("run.sh", script);
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\n[alerts.desktop]\nenabled = false\n[backup]\ninclude = [\"run.sh\"]\n\
         [service.bot]\ncommand = [\"./run.sh\"]\nready_timeout = \"5s\"\n",
    );
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "ops", &["backup"]);
    sandbox.write("broken", "");
    sandbox.expect(2, "ops", &["restore", "--yes"]);
    fs::remove_file(sandbox.path("broken")).unwrap();
    sandbox.run("ops", &["start"]);
    sandbox.expect(2, "ops", &["upgrade", "--yes", "--force", "--settle", "1s", "--", "touch", "broken"]);
    for log in ["restart", "backup"] {
        let text = sandbox.read(&format!("logs/{log}.log"));
        assert!(text.contains(words), "{log}: {text}");
    }
    let made = |name: &str, more: &[&str]| {
        let file = sandbox.outside("out").join(name);
        sandbox.run("ops", &[&["troubleshoot", "--bundle", file.to_str().unwrap()], more].concat());
        contents(&file)
    };
    for (name, text) in made("a.tar.gz", &[]) {
        assert!(!text.contains("Meier") && !text.contains("flu"), "{name}: {text}");
        assert!(!name.starts_with("logs/") || name.ends_with(".digest"), "{name}");
    }
    let all = made("b.tar.gz", &["--with-logs"]);
    for name in ["logs/restart.log", "logs/backup.log", "journal.json"] {
        assert!(all[name].contains("Frau Meier"), "{name}: {}", all[name]);
    }
}

#[test]
fn a_password_whose_quote_was_forgotten_is_in_no_log_of_a_bundle() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\n[alerts.email]\npassword = \"hunter2secretA\nport = 1\n",
    );
    sandbox.write("logs/bot.log", "ERROR it said hunter2secretA was wrong\n");
    let file = sandbox.outside("out").join("b.tar.gz");
    sandbox.expect(2, "ops", &["troubleshoot", "--with-logs", "--bundle", file.to_str().unwrap()]);
    let found = contents(&file);
    assert!(found["logs/bot.log"].contains("it said [redacted] was wrong"), "{found:?}");
    for (name, text) in found {
        assert!(!text.contains("hunter2"), "{name}: {text}");
    }
}

#[test]
fn a_bundle_of_an_agent_whose_config_is_broken() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[agent]\nenv_file = \".env\"\n[alerts.email]\npassword = \"hunter2hunter\"\n[oops\nurl = \"x ${ hunter2hunter\"\n",
    );
    sandbox.write(".env", "A_NAME=hunter3hunter\n");
    sandbox.write("logs/bot.log", "logged in with hunter2hunter and hunter3hunter\n");
    let file = sandbox.outside("out").join("b.tar.gz");
    sandbox.expect(2, "ops", &["troubleshoot", "--bundle", file.to_str().unwrap()]);
    let found = contents(&file);
    assert!(
        found.contains_key("config-error.txt") && found.contains_key("logs/bot.log.digest"),
        "{:?}",
        found.keys()
    );
    for (name, text) in found {
        assert!(!text.contains("hunter2") && !text.contains("hunter3"), "{name}: {text}");
    }
}

/// A secret of any form in each place where one may stand: it is nowhere in the bundle, nor on the screen.
#[test]
fn no_secret_ever_leaves() {
    let strategy = prop::collection::vec("[A-Za-z0-9!#%&()*+,./:;<=>?@^_|~-]{8,40}", 9);
    let mut runner = TestRunner::new(Config { cases: 6, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |secrets| {
            let sandbox = Sandbox::new();
            crontab(&sandbox);
            let secrets: Vec<String> = secrets.iter().enumerate().map(|(index, secret)| format!("Q{index}{secret}Z")).collect();
            let [mail, header, service, argument, environment, file, command, logged, stranger] = &secrets[..] else {
                unreachable!()
            };
            let word = sandbox.home.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            sandbox.write("secret", format!("{file}\n"));
            sandbox.write("told", format!("{command}\n"));
            sandbox.write(".env", format!("SOME_SETTING='{environment}'\n"));
            sandbox.write(
                "ops.toml",
                format!(
                    "[agent]\nenv_file = \".env\"\n[service.bot]\ncommand = [\"./{word}\", \"--password\", '{argument}']\n\
                     env = {{ SETTING = '{service}', OTHER = '${{SOME_SETTING}}' }}\n\
                     [check.api]\nkind = \"http\"\nurl = \"http://127.0.0.1:1/\"\nheaders = {{ X = '{header}' }}\n\
                     [alerts.email]\nhost = \"127.0.0.1\"\nport = 1\nfrom = \"a@example.org\"\nto = []\nuser = \"u\"\npassword = '{mail}'\n\
                     [alerts.telegram]\ntoken = \"file:secret\"\nchat = \"1\"\n\
                     [alerts.gotify]\nurl = \"http://127.0.0.1:1\"\ntoken = \"command:cat {}\"\n",
                    sandbox.path("told").display()
                ),
            );
            let quoted: Vec<String> = secrets.iter().take(7).map(|secret| format!("ERROR with {secret} it failed")).collect();
            sandbox.write("logs/bot_stderr.log", format!("{}\nERROR password={logged} refused\n", quoted.join("\n")));
            let other = Bystander::new("sh", &["-c", "read line", &format!("./{word}"), "--password", argument, "--token", stranger]);
            let out = sandbox.outside("out").join("b.tar.gz");
            let said = sandbox.run("ops", &["troubleshoot", "-v", "--with-logs", "--bundle", out.to_str().unwrap()]);
            drop(other);
            let mut texts = contents(&out);
            prop_assert!(texts["logs/bot_stderr.log"].contains("[redacted]"), "{:?}", texts.keys());
            // The command of a secret is only asked for the bundle.
            texts.insert("stderr".to_owned(), said.stderr);
            for (name, text) in &texts {
                for secret in &secrets {
                    // What ends a word in a log ends its value, if nothing else is known of it.
                    let known = if secret == logged { secret.split([',', ';', '&', ')']).next().unwrap() } else { secret };
                    prop_assert!(!text.contains(known), "{} is in {}: {}", known, name, text);
                }
            }
            let shown: Vec<&String> = secrets.iter().filter(|secret| *secret != command && *secret != logged && said.stdout.contains(*secret)).collect();
            prop_assert!(shown.is_empty(), "{:?} in {}", shown, said.stdout);
            Ok(())
        })
        .unwrap();
}
