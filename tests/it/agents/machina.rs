//! Machina: a server without a handler for TERM that keeps the stack of a thread for every request, an
//! engine that guards its pid file against nobody, and a bot.

use crate::http::{self, Answer};
use crate::{misbehaves, on_term, option, pause, set, variable};
use chrono::Utc;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(variable("MACHINA_ROOT").unwrap_or_else(|| ".".to_owned()))
}

pub fn serve(args: &[&str]) -> i32 {
    let port: u16 = option(args, "--port").map_or(8080, |port| port.parse().unwrap());
    let workers: u32 = option(args, "--workers").map_or(0, |workers| workers.parse().unwrap());
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("bind failed: {error}");
            return 1;
        }
    };
    println!("serving on 127.0.0.1:{port} workers={workers}");
    if workers > 0 {
        let wal = root().join("work/queue/wal");
        fs::create_dir_all(&wal).unwrap();
        std::thread::spawn(move || {
            while !(misbehaves("stuck") && wal.join("checkpoint.json").exists()) {
                let document = format!(r#"{{"created_ms":{}}}"#, Utc::now().timestamp_millis());
                fs::write(wal.join("checkpoint.json"), document).unwrap();
                pause(100);
            }
        });
    }
    let answer = |request: &http::Request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => Answer(200, "", format!(r#"{{"ok":{}}}"#, !misbehaves("ill"))),
        ("POST", "/enqueue") => Answer(403, "", r#"{"ok":false}"#.to_owned()),
        _ => Answer(404, "", String::new()),
    };
    // Never joined: each keeps its stack, and the guard page before it.
    let mut threads = Vec::new();
    for stream in listener.incoming().flatten() {
        threads.push(std::thread::spawn(move || http::exchange(stream, &answer)));
    }
    0
}

pub fn autonomic() -> i32 {
    let stop = on_term();
    let pid_file = root().join("autonomic.pid");
    fs::write(&pid_file, std::process::id().to_string()).unwrap();
    let state = root().join("work/memory/autonomic_state.json");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    let save = || {
        let document = format!(
            r#"{{"level_done":{{}},"stasis":false,"prev_hashes":[],"saved_ts":{}}}"#,
            Utc::now().timestamp()
        );
        fs::write(&state, document).unwrap();
    };
    while !set(&stop) {
        if !misbehaves("hang") {
            save();
        }
        pause(100);
    }
    save();
    fs::remove_file(pid_file).unwrap();
    0
}

pub fn bot() -> i32 {
    if variable("TELEGRAM_BOT_TOKEN").is_none() {
        eprintln!("TELEGRAM_BOT_TOKEN is not set");
        return 1;
    }
    let stop = on_term();
    println!("{} [INFO] bot started", Utc::now().format("%F %T,040"));
    while !set(&stop) {
        pause(20);
    }
    0
}
