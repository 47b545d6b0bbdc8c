//! What the documents tell people to type must exist: every `ops …` in README, CONTRIBUTING and
//! the runbooks names a verb and options that the program knows.

use crate::sandbox::Sandbox;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PROGRAMS: [&str; 7] = ["ops", "health-check", "alert", "backup", "restore", "rotate-logs", "dashboard"];

/// The commands in a document: lines of shell blocks, and code spans.
pub fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut shell = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            shell = !shell && matches!(language.trim(), "sh" | "bash" | "console");
            continue;
        }
        let pieces: Vec<&str> = match shell {
            true => vec![line.trim_start().trim_start_matches("$ ")],
            false => line.split('`').skip(1).step_by(2).collect(),
        };
        for piece in pieces {
            let bare = piece.split(" #").next().unwrap_or_default();
            for command in bare.split("&&").flat_map(|part| part.split(';')) {
                let command = command.trim();
                let program = command.split(' ').next().unwrap_or_default();
                if PROGRAMS.contains(&program) && command.contains(' ') {
                    found.push(command.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn every_command_in_the_documents_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    documents.extend(fs::read_dir(root.join("runbooks")).unwrap().map(|entry| entry.unwrap().path()));
    let sandbox = Sandbox::new();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for document in documents {
        for command in commands(&fs::read_to_string(&document).unwrap()) {
            if !seen.insert(command.clone()) {
                continue;
            }
            let words: Vec<&str> =
                command.split_whitespace().take_while(|word| !["|", ">"].contains(word)).collect();
            let plain = |word: &&&str| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            };
            // The longest run of words that is a verb: `ops backup list`, but `ops restore` of
            // `ops restore latest`.
            let verbs: Vec<&str> = words[1..].iter().take_while(plain).copied().collect();
            let help = (0..=verbs.len()).rev().find_map(|length| {
                let said = sandbox.run(words[0], &[&verbs[..length], &["--help"]].concat());
                (said.code == 0 && (length > 0 || verbs.is_empty() || words[0] != "ops"))
                    .then_some(said.stdout)
            });
            let Some(help) = help else {
                wrong.push(format!("{}: `{command}` is no command", document.display()));
                continue;
            };
            for option in words.iter().filter(|word| word.starts_with('-')) {
                let option = option.split('=').next().unwrap_or_default();
                if !help.split(|c: char| c.is_whitespace() || ",[]".contains(c)).any(|word| word == option) {
                    wrong.push(format!("{}: `{command}` has no {option}", document.display()));
                }
            }
        }
    }
    assert!(seen.len() > 20, "only {} commands were found", seen.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let commands: Vec<&str> = block.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands, ["cargo run --release -- up", "cargo test"]);
}

/// The names of all keys in a table, and in the tables in it.
fn keys(table: &serde_json::Value, found: &mut BTreeSet<String>) {
    let Some(object) = table.as_object() else { return };
    for (key, value) in object {
        found.insert(key.clone());
        keys(value, found);
    }
}

#[test]
fn every_key_of_the_config_is_explained() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        "[check.port]\nkind = \"tcp\"\naddress = \"localhost:1\"\nevery = \"1h\"\n\
         [check.h]\nkind = \"http\"\nurl = \"http://localhost\"\njson = [{ value = \"/a\" }]\n\
         [check.j]\nkind = \"json\"\nfile = \"a\"\n[check.s]\nkind = \"sql\"\ndatabase = \"a\"\nquery = \"b\"\n\
         [check.m]\nkind = \"metric\"\nmetric = \"a\"\nfile = \"b\"\n[check.g]\nkind = \"command\"\ncommand = [\"a\"]\n\
         [check.u]\nkind = \"systemd_units\"\nunits = [\"a\"]\n\
         [check.a]\nkind = \"resources\"\nservice = \"daemon\"\nrss.warn = \"1GB\"\n\
         [check.b]\nkind = \"restarts\"\nservice = \"daemon\"\n\
         [check.c]\nkind = \"jsonl\"\npaths = []\n[check.d]\nkind = \"file_age\"\npaths = []\nmin_size = \"1KB\"\n\
         [check.e]\nkind = \"permissions\"\npaths = []\n[check.f]\nkind = \"pin\"\nfiles = {}\n\
         [alerts]\nquiet_hours = \"22:00-07:00\"\nrunbooks = \"http://localhost\"\n\
         [alerts.types.port]\nchannels = []\ncooldown = \"1h\"\n\
         [alerts.deadman]\nalert = \"a\"\nbackup = \"b\"\nrotate_logs = \"c\"\ndrill = \"d\"\n\
         [alerts.webhook]\nurl = \"http://localhost\"\ntemplate = \"{}\"\nsecret = \"s\"\n\
         [alerts.telegram]\ntoken = \"t\"\nchat = \"1\"\ntopic = 1\n\
         [alerts.ntfy]\nurl = \"http://localhost/t\"\nuser = \"u\"\npassword = \"p\"\n\
         [alerts.gotify]\nurl = \"http://localhost\"\ntoken = \"t\"\n\
         [alerts.command]\nrun = [\"true\"]\n[alerts.alertmanager]\nurl = \"http://localhost\"\n\
         [alerts.email]\nhost = \"localhost\"\nfrom = \"a@b.c\"\nto = []\n\
         [logs.rule.api]\npaths = [\"a\"]\nafter = { signal = \"HUP\", service = \"daemon\" }\n\
         [backup.s3]\nendpoint = \"http://localhost\"\nbucket = \"b\"\naccess_key = \"a\"\nsecret_key = \"b\"\n",
    );
    let config = sandbox.json(0, "ops", &["config", "show"])["config"].clone();
    let mut known = BTreeSet::new();
    for (table, value) in config.as_object().unwrap() {
        match table.as_str() {
            // Their own names are the user's.
            "service" | "check" => {
                value.as_object().unwrap().values().for_each(|inner| keys(inner, &mut known))
            }
            _ => keys(value, &mut known),
        }
    }
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md")).unwrap();
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = known.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(known.len() > 50, "only {} keys were looked at", known.len());
    assert!(missing.is_empty(), "docs/config.md does not explain {missing:?}");
}
