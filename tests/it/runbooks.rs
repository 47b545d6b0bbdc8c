//! Every command of ours in the runbooks is run, on a home as the page has it before it: an agent that runs, an archive here and
//! in a bucket, a problem that is open, a manager and a crontab (stand-ins), somebody who takes the mail.

use crate::docs::commands;
use crate::managers::{crontab_stand_in, stand_in};
use crate::receiver::{email, mail_server};
use crate::sandbox::{Said, Sandbox, said};
use crate::service::with_agent;
use crate::storage::{KEY, Storage};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What each page is about, beyond what all homes have.
struct Stage {
    sandbox: Sandbox,
    _storage: Storage,
    archive: String,
}

impl Stage {
    fn new() -> Stage {
        let storage = Storage::start();
        let (port, _) = mail_server("250 ok");
        let sandbox = with_agent(&[]);
        stand_in(&sandbox);
        crontab_stand_in(&sandbox);
        let config =
            sandbox.read("ops.toml").replace("[service.daemon]\n", "[service.daemon]\nrecover = true\n");
        let bucket = format!(
            "[backup.s3]\nendpoint = \"{}\"\nbucket = \"b\"\naccess_key = \"{KEY}\"\nsecret_key = \"s\"\n",
            storage.endpoint
        );
        let rest = "[upgrade]\nsettle = \"1s\"\ncommand = [\"true\"]\nrollback = [\"true\"]\n[check.scratch]\nkind = \"file_age\"\npaths = [\"scratch\"]\n";
        sandbox.write("ops.toml", format!("{config}{bucket}{rest}{}", email(port)));
        sandbox.write("memory/notes.md", "notes\n");
        sandbox.write("memory/identity_core.json", "{}\n");
        sandbox.write("logs/email_20261121.log", "[2026-11-21 09:00:00] error: no route\n");
        sandbox.expect(0, "ops", &["start"]);
        let made = sandbox.json(0, "backup", &[]);
        let archive =
            Path::new(made["archive"].as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned();
        // A problem that is open, and one restore to go back from.
        sandbox.run("alert", &[]);
        sandbox.expect(0, "restore", &["latest", "--only", "memory/notes.md", "--yes"]);
        Stage { sandbox, _storage: storage, archive }
    }

    /// The words of a command, with what a page leaves open filled in.
    fn words(&self, command: &str) -> Vec<String> {
        let home = self.sandbox.home.display().to_string();
        let look = self
            .sandbox
            .outside("looks")
            .join(format!("look{}", fs::read_dir(self.sandbox.outside("looks")).unwrap().count()));
        let stem = self.archive.trim_end_matches(".tar.gz");
        let mut words = split(command);
        let init = words.get(1).is_some_and(|verb| verb == "init");
        let health = words.get(1).is_some_and(|verb| verb == "health");
        for word in &mut words {
            *word = match word.as_str() {
                "NAME" if health => "scratch".to_owned(),
                "ARCHIVE" | "THAT_ARCHIVE" | "NAME" => self.archive.clone(),
                "CHECK" | "TYPE" => "scratch".to_owned(),
                "PATH" => "memory/notes.md".to_owned(),
                "/srv/bot" | "~/DHARMIC_GODEL_CLAW" if init => look.display().to_string(),
                "/srv/bot" | "~/DHARMIC_GODEL_CLAW" => home.clone(),
                "/tmp/look" => look.display().to_string(),
                "/media/safe/bot-signing.key" => self.key(),
                "remote:20261120_093001" => format!("remote:{stem}"),
                // The open problem stays open.
                "60s" | "2m" => "1s".to_owned(),
                "yesterday" | "2026-11-19 02:00" => "today".to_owned(),
                _ => continue,
            };
        }
        words
    }

    /// Where the signing key was kept.
    fn key(&self) -> String {
        let file = self.sandbox.outside("safe").join("bot-signing.key").display().to_string();
        self.sandbox.expect(0, "ops", &["backup", "key", "export", &file]);
        file
    }

    fn run(&self, words: &[String]) -> Said {
        let mut command = self.sandbox.program(&words[0]);
        command.args(&words[1..]);
        // It would ask on a terminal.
        let has = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
        let asks =
            has(&["restore", "prune"]) && !has(&["--list", "--drill", "--aside", "-n", "--dry-run", "--yes"]);
        if let Some(at) = words.iter().position(|word| word == "upgrade") {
            // Before the command that it runs.
            command = self.sandbox.program(&words[0]);
            command.args(&words[1..=at]).arg("--yes").args(&words[at + 1..]);
        } else if asks {
            command.arg("--yes");
        }
        if stays(words) { run_for_a_while(command) } else { said(command.output().unwrap()) }
    }
}

/// Whether it goes on until it is ended.
fn stays(words: &[String]) -> bool {
    words.iter().any(|word| word == "-f" || word == "watch") || (words.len() == 2 && words[1] == "run")
}

fn run_for_a_while(mut command: Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let mut said = said(child.wait_with_output().unwrap());
    // Ended by a signal.
    said.code = said.code.max(0);
    said
}

/// A line as a shell takes it apart: blanks, and both kinds of quotes.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_with(String::new);
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    words
}

/// Commands that are refused in this home, and why: the page says when they are not.
const REFUSED: &[(&str, &str, &str)] = &[
    // There is no manager in a container, and nothing runs before it.
    ("install", "ops run", "is with systemd"),
    ("restart_loop", "ops run", "runs already"),
    ("upgrade-and-rollback", "ops run", "runs already"),
    ("upgrade_unfinished", "ops run", "runs already"),
    ("troubleshooting", "ops run", "is with systemd"),
    // Nothing is dumped there: tests/it/outside.rs has those.
    ("backup-and-restore", "ops restore --dump NAME --load", "has no command `restore`"),
    ("disaster-recovery", "ops restore --dump NAME --load", "has no command `restore`"),
    // None was: tests/it/upgrade.rs has those.
    ("upgrade-and-rollback", "ops upgrade --back", "no upgrade of this home was cut short"),
    ("upgrade-and-rollback", "ops upgrade --keep", "no upgrade of this home was cut short"),
    ("upgrade_unfinished", "ops upgrade --back", "no upgrade of this home was cut short"),
    ("upgrade_unfinished", "ops upgrade --keep", "no upgrade of this home was cut short"),
];

fn page(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks").join(format!("{name}.md"));
    let commands = commands(&fs::read_to_string(path).unwrap());
    let stage = Stage::new();
    for command in &commands {
        stage.sandbox.run("ops", &["start"]);
        let words = stage.words(command);
        let begun = Instant::now();
        let said = stage.run(&words);
        if std::env::var_os("OPS_TEST_TIMES").is_some() {
            eprintln!("{name}: `{command}` took {:?}", begun.elapsed());
        }
        let shown = format!("{name}: `{command}` ended with {}\n{}\n{}", said.code, said.stdout, said.stderr);
        match REFUSED.iter().find(|(page, refused, _)| *page == name && command == refused) {
            Some((.., why)) => assert!(said.code == 3 && said.stderr.contains(why), "{shown}"),
            None => assert!((0..=2).contains(&said.code), "{shown}"),
        }
        assert!(!said.stderr.contains("panicked"), "{shown}");
    }
    stage.sandbox.run("ops", &["stop", "--force"]);
}

/// A test a page, and no page without one.
macro_rules! pages {
    ($($test:ident = $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            page($name);
        })*

        #[test]
        fn every_page_is_here() {
            let known = [$($name),*];
            for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks")).unwrap() {
                let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
                assert!(known.contains(&name.as_str()), "no test runs the commands of runbooks/{name}.md");
            }
        }
    };
}

pages! {
    alerts_held_back = "alerts_held_back",
    backup_and_restore = "backup-and-restore",
    care = "care",
    daemon_critical = "daemon_critical",
    daemon_degraded = "daemon_degraded",
    disaster_recovery = "disaster-recovery",
    disk_critical = "disk_critical",
    disk_low = "disk_low",
    email_errors = "email_errors",
    install = "install",
    memory_corrupt = "memory_corrupt",
    migrating = "migrating",
    restart_loop = "restart_loop",
    troubleshooting = "troubleshooting",
    upgrade_and_rollback = "upgrade-and-rollback",
    upgrade_unfinished = "upgrade_unfinished",
}
