//! GoMikroBot: no pid file, no lock, 0 when it cannot bind, 200 with nothing for what it does not know,
//! and settings from bare names of the environment.

use crate::http::{self, Answer, Request};
use crate::{misbehaves, on_term, pause, set, variable};
use rusqlite::Connection;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS timeline(id INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT UNIQUE, timestamp DATETIME,
        sender_id TEXT, content_text TEXT, authorized BOOLEAN DEFAULT 1);
    CREATE TABLE IF NOT EXISTS settings(key TEXT PRIMARY KEY, value TEXT, updated_at DATETIME);";

/// Five requests a second and ten at once, for both ports together.
struct Bucket(Mutex<(f64, Instant)>);

impl Bucket {
    fn take(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        state.0 = (state.0 + 5.0 * state.1.elapsed().as_secs_f64()).min(10.0);
        state.1 = Instant::now();
        let there = state.0 >= 1.0;
        if there {
            state.0 -= 1.0;
        }
        there
    }
}

pub fn gateway() -> i32 {
    let home = PathBuf::from(variable("HOME").unwrap()).join(".gomikrobot");
    let keys = ["OPENAI_API_KEY", "OPENROUTER_API_KEY", "MIKROBOT_OPENAI_API_KEY"];
    let config = std::fs::read_to_string(home.join("config.json")).unwrap_or_default();
    if !keys.iter().any(|key| variable(key).is_some()) && !config.contains("apiKey") {
        eprintln!("Error: no API key found");
        return 1;
    }
    let port = |name: &str, default: u16| variable(name).map_or(default, |port| port.parse().unwrap());
    // Its library takes the name without the prefix as well.
    let api = port("PORT", port("MIKROBOT_GATEWAY_PORT", 18790));
    let dashboard = port("MIKROBOT_GATEWAY_DASHBOARD_PORT", 18791);
    let stop = on_term();
    let database = Connection::open(home.join("timeline.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    database.execute_batch(SCHEMA).unwrap();
    println!("2026/11/20 09:46:01 INFO Agent loop started");
    let bucket = Arc::new(Bucket(Mutex::new((10.0, Instant::now()))));
    for (port, is_api) in [(api, true), (dashboard, false)] {
        println!("\u{1f680} listening on 127.0.0.1:{port}");
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else {
            println!("listen tcp 127.0.0.1:{port}: bind: address already in use");
            return 0;
        };
        let bucket = Arc::clone(&bucket);
        std::thread::spawn(move || http::serve(&listener, |request| answer(request, is_api, &bucket)));
    }
    while !set(&stop) {
        pause(5);
    }
    if misbehaves("hung-chat") {
        // A request in flight is waited for, ten seconds in the real one.
        pause(1000);
    }
    database.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    0
}

fn answer(request: &Request, is_api: bool, bucket: &Bucket) -> Answer {
    if !bucket.take() {
        return Answer(429, "", "rate limit exceeded\n".to_owned());
    }
    match (request.path.as_str(), is_api) {
        ("/health", _) if misbehaves("no-routes") => Answer(200, "", String::new()),
        ("/health", _) => Answer(200, "", "ok".to_owned()),
        ("/chat", true) => Answer(405, "", String::new()),
        ("/api/v1/settings", false) if misbehaves("no-routes") => Answer(200, "", String::new()),
        ("/api/v1/settings", false) => Answer(200, "", "{\"silent_mode\":true}\n".to_owned()),
        (_, true) => Answer(404, "", "404 page not found\n".to_owned()),
        (_, false) => Answer(200, "", String::new()),
    }
}
