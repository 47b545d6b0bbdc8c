//! Stand-ins of the five agents that have presets: the same files, formats, ports, answers to signals,
//! and the same misbehaviour, with intervals of minutes scaled down to fractions of a second.
//!
//! One program under many names: which agent it is, it tells by how it was called.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod dharmic;
mod gomikrobot;
mod http;
mod macha;
mod machina;
mod mama;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let program = Path::new(&words[0]).file_name().unwrap().to_string_lossy().into_owned();
    let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let code = match (program.as_str(), args.as_slice()) {
        ("node", [script, "daemon", ..]) if script.ends_with("dist/index.js") => mama::daemon(),
        ("python3" | "node", ["--version"]) => {
            let old = misbehaves("old-runtime");
            println!(
                "{}",
                if program == "node" {
                    ["v22.1.0", "v18.20.4"][old as usize]
                } else {
                    ["Python 3.11.2", "Python 3.7.3"][old as usize]
                }
            );
            0
        }
        ("gomikrobot", ["gateway"]) => gomikrobot::gateway(),
        ("machina_cli", ["serve", options @ ..]) => machina::serve(options),
        ("python3", ["-m", "machina_autonomic._engine"]) => machina::autonomic(),
        ("python3", ["telegram_bot.py"]) => machina::bot(),
        ("python3", ["src/core/daemon.py", options @ ..]) => dharmic::daemon(options),
        ("python3", ["src/core/email_daemon.py"]) => dharmic::email(),
        ("python3", [script, options @ ..]) if script.ends_with("/orchestrator.py") => {
            macha::orchestrator(options)
        }
        _ => {
            eprintln!("{words:?}: no agent is called like that");
            64
        }
    };
    std::process::exit(code);
}

/// Whether this misbehaviour was asked for, in the environment.
fn misbehaves(how: &str) -> bool {
    std::env::var("MISBEHAVE").is_ok_and(|all| all.split(',').any(|word| word == how))
}

/// The value behind an option.
fn option<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    args.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1])
}

/// A flag that SIGTERM sets, where it does nothing else from now on.
fn on_term() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&flag)).unwrap();
    flag
}

fn set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Appends a line as most of them do: opened, written, closed.
fn append(path: impl AsRef<Path>, line: &str) {
    use std::io::Write;
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}
