//! Mama: its pid file is written before its services start and its handlers are installed after; where
//! the API's port is taken it lives on without one. The database is in the WAL until it stops.

use crate::http::{self, Answer};
use crate::{append, on_term, pause, set, variable};
use chrono::{SecondsFormat, Utc};
use rusqlite::Connection;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS episodes(id TEXT PRIMARY KEY, timestamp DATETIME NOT NULL, channel TEXT NOT NULL,
        role TEXT NOT NULL, content TEXT NOT NULL, consolidated BOOLEAN DEFAULT FALSE);
    CREATE TABLE IF NOT EXISTS jobs(id TEXT PRIMARY KEY, name TEXT NOT NULL, enabled BOOLEAN DEFAULT TRUE,
        next_run DATETIME, last_result JSON);
    CREATE TABLE IF NOT EXISTS llm_usage(id TEXT PRIMARY KEY, timestamp DATETIME NOT NULL, input_tokens INTEGER,
        output_tokens INTEGER, cost_usd REAL);";

pub fn daemon() -> i32 {
    let user = PathBuf::from(variable("HOME").unwrap()).join(".mama");
    let home = match (variable("MAMA_HOME"), variable("XDG_DATA_HOME")) {
        (Some(home), _) => PathBuf::from(home),
        (None, Some(data)) if cfg!(target_os = "linux") => Path::new(&data).join("mama"),
        _ => user.clone(),
    };
    let pid_file = user.join("mama.pid");
    let names = fs::read_to_string(&pid_file).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
    if names.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        eprintln!("Mama is already running");
        return 1;
    }
    fs::create_dir_all(&user).unwrap();
    fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
    let say = |level: &str, message: &str| {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let line =
            format!(r#"{{"timestamp":"{now}","level":"{level}","module":"daemon","message":"{message}"}}"#);
        append(user.join("logs/mama.log"), &line);
    };
    if !Path::new("soul.md").exists() {
        say("warn", "Using default soul template");
    }
    let database = Connection::open(home.join("mama.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    database.execute_batch(SCHEMA).unwrap();

    let config = fs::read_to_string(home.join("config.yaml")).unwrap_or_default();
    let value = |key: &str| {
        let line = config.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let port: u16 = value("port").map_or(3377, |port| port.parse().unwrap());
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            // As the real one: nothing ends, and TERM is not handled.
            eprintln!("listen EADDRINUSE: address already in use 127.0.0.1:{port} ({error})");
            loop {
                pause(1000);
            }
        }
    };
    let token = value("token").unwrap_or_else(|| "random".to_owned());
    std::thread::spawn(move || api(&listener, &token));
    let stop = on_term();
    say("info", "Mama daemon is running");
    while !set(&stop) {
        pause(5);
    }
    database.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    drop(database);
    fs::remove_file(pid_file).unwrap();
    0
}

/// A token on every path, and 60 requests a minute, refused ones too.
fn api(listener: &TcpListener, token: &str) {
    let asked = Mutex::new(Vec::<Instant>::new());
    http::serve(listener, |request| {
        let mut asked = asked.lock().unwrap();
        asked.retain(|at| at.elapsed() < Duration::from_secs(60));
        if asked.len() >= 60 {
            return Answer(429, "Retry-After: 60\r\n", r#"{"error":"Too many requests"}"#.to_owned());
        }
        asked.push(Instant::now());
        if request.method == "HEAD" {
            return Answer(404, "", String::new());
        }
        if request.header("authorization") != Some(&format!("Bearer {token}")) {
            return Answer(401, "", r#"{"error":"Unauthorized"}"#.to_owned());
        }
        match request.path.as_str() {
            "/api/status" => Answer(200, "", r#"{"status":"running","jobs":0}"#.to_owned()),
            _ => Answer(404, "", r#"{"error":"Not found"}"#.to_owned()),
        }
    });
}
