//! The built-in reference agent, `ops agent`: a small daemon worth operating, and a test bed.
//!
//! It observes its host at each heartbeat, remembers what it saw as episodes in SQLite and in
//! an append-only journal, and from time to time draws facts from its episodes. It knows
//! nothing of the rest of this house but the paths: it is operated like anybody else's agent.

mod memory;
mod misbehave;
mod observe;

pub use misbehave::Misbehaviour;

use crate::base::units::{self, Span};
use crate::base::{Fault, Home, text};
use crate::config::BuiltinAgent;
use anyhow::{Context, Result};
use chrono::{DateTime, Local, Utc};
use memory::Memory;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Runs the agent in the foreground until it is told to stop. `settings` is asked at the start
/// and at each SIGHUP.
///
/// # Errors
/// A [`Fault`] of state Unknown when another instance runs in this home.
pub fn run(
    home: &Home,
    settings: &dyn Fn() -> Result<BuiltinAgent>,
    misbehaviour: Misbehaviour,
) -> Result<()> {
    let pid_file = PidFile::take(home)?;
    let (send, signals) = mpsc::channel();
    let mut waiting = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot wait for signals")?;
    std::thread::spawn(move || waiting.forever().try_for_each(|signal| send.send(signal)));

    let mut daemon = Daemon {
        home,
        settings: settings()?,
        memory: Memory::open(home)?,
        started: Instant::now(),
        last_heartbeat: None,
        checks: (0, 0),
    };
    daemon.log("INFO", &format!("started as pid {}", std::process::id()));
    daemon.write_status("starting")?;
    misbehaviour.begin()?;
    daemon.beat()?;

    let mut rows = 0;
    let mut next_beat = Instant::now() + daemon.settings.heartbeat.0;
    let mut next_consolidation = Instant::now() + daemon.settings.consolidate.0;
    loop {
        let hung = misbehaviour.hangs(daemon.started);
        let mut wake = next_beat.min(next_consolidation);
        wake = misbehaviour.wake(daemon.started).map_or(wake, |at| wake.min(at));
        match signals.recv_timeout(wake.saturating_duration_since(Instant::now())) {
            Ok(SIGHUP) => {
                match settings() {
                    Ok(read) => daemon.settings = read,
                    Err(error) => daemon.log("ERROR", &format!("kept the old settings: {error:#}")),
                }
                next_beat = Instant::now() + daemon.settings.heartbeat.0;
                daemon.log("INFO", &format!("reloaded: a heartbeat every {}", daemon.settings.heartbeat));
                daemon.write_status("running")?;
            }
            Ok(signal) if misbehaviour.ignore_term => {
                daemon.log("WARNING", &format!("ignored signal {signal}"))
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        misbehaviour.crash_if_due(daemon.started);
        misbehaviour.write(&daemon.memory, daemon.started, &mut rows)?;
        if hung {
            next_beat = Instant::now() + Duration::from_secs(3600);
            continue;
        }
        if Instant::now() >= next_beat {
            daemon.beat()?;
            if misbehaviour.log_errors {
                daemon.log("ERROR", "something went wrong, as it was told to");
            }
            // From now, not from when it was due: after a suspend one beat is enough.
            next_beat = Instant::now() + daemon.settings.heartbeat.0;
        }
        if Instant::now() >= next_consolidation {
            daemon.consolidate()?;
            next_consolidation = Instant::now() + daemon.settings.consolidate.0;
        }
    }
    daemon.write_status("stopping")?;
    daemon.memory.close()?;
    daemon.log("INFO", "stopped");
    write_status(home, "stopped", None, &daemon)?;
    pid_file.remove();
    Ok(())
}

struct Daemon<'a> {
    home: &'a Home,
    settings: BuiltinAgent,
    memory: Memory,
    started: Instant,
    last_heartbeat: Option<DateTime<Utc>>,
    checks: (usize, usize),
}

impl Daemon<'_> {
    /// One heartbeat: look at the host, remember it, say so.
    fn beat(&mut self) -> Result<()> {
        let now = Utc::now();
        let observations = observe::observe(self.home);
        let checks = [
            self.memory.remember(now, "observation", &observations.to_string()).map(|_| ()),
            self.memory.append_journal(now, &observations),
            self.memory.alive(),
        ];
        for failed in checks.iter().filter_map(|check| check.as_ref().err()) {
            self.log("ERROR", &format!("heartbeat: {failed:#}"));
        }
        self.checks = (checks.iter().filter(|check| check.is_ok()).count(), checks.len());
        self.last_heartbeat = Some(now);
        self.log("INFO", &format!("heartbeat: {}/{} checks passed", self.checks.0, self.checks.1));
        self.write_status("running")
    }

    fn consolidate(&mut self) -> Result<()> {
        match self.memory.consolidate(Utc::now()) {
            Ok((episodes, facts)) => {
                self.log(
                    "INFO",
                    &format!(
                        "consolidated {} into {}",
                        text::count(episodes, "episode"),
                        text::count(facts, "fact")
                    ),
                );
            }
            Err(error) => self.log("ERROR", &format!("consolidation: {error:#}")),
        }
        Ok(())
    }

    fn write_status(&self, status: &str) -> Result<()> {
        write_status(self.home, status, Some(std::process::id()), self)
    }

    /// Today's log; the name changes at midnight, local time.
    fn log(&self, level: &str, message: &str) {
        let now = Local::now();
        let path = self.home.log(&format!("daemon_{}", now.format("%Y%m%d")));
        let line =
            format!("[{}] [{level}] {}\n", now.format("%Y-%m-%d %H:%M:%S"), text::one_line(message, 500));
        let written = self.home.append(&path).and_then(|mut file| Ok(file.write_all(line.as_bytes())?));
        if written.is_err() {
            // The output is a log too, and may be on a disk that has room.
            eprint!("{line}");
        }
    }
}

fn write_status(home: &Home, status: &str, pid: Option<u32>, daemon: &Daemon<'_>) -> Result<()> {
    let Span(interval) = daemon.settings.heartbeat;
    let details = match daemon.last_heartbeat {
        None => json!({}),
        Some(at) => json!({
            "last_heartbeat": units::rfc3339(at),
            "checks_passed": daemon.checks.0,
            "total_checks": daemon.checks.1,
            "episodes": daemon.memory.episodes(),
        }),
    };
    let document = json!({
        "status": status,
        "timestamp": units::rfc3339(Utc::now()),
        "pid": pid,
        "heartbeat_interval": interval.as_secs_f64(),
        "details": details,
    });
    let written =
        home.replace(&home.logs().join("daemon_status.json"), document.to_string().as_bytes(), 0o644);
    if let Err(error) = written {
        // A full disk must not end the agent: its memory is worth more than its status.
        daemon.log("ERROR", &format!("{error:#}"));
    }
    Ok(())
}

/// The pid file, and a lock on the memory for as long as this process lives: a second instance
/// cannot take it, whatever number is written in the file and whoever removes it.
struct PidFile {
    home: Home,
    path: std::path::PathBuf,
    guard: File,
}

impl PidFile {
    fn take(home: &Home) -> Result<PidFile> {
        let (memory, path) = (home.path("memory"), home.logs().join("daemon.pid"));
        let guard = home
            .make_folder(&memory)?
            .to_file()
            .with_context(|| format!("cannot open {}", memory.display()))?;
        if guard.try_lock().is_err() {
            let other = home.read(&path).unwrap_or_default();
            let message = format!(
                "an agent already runs in {} (pid {})",
                home.root().display(),
                text::one_line(&String::from_utf8_lossy(&other), 20)
            );
            return Err(Fault::unknown(message).into());
        }
        home.replace(&path, format!("{}\n", std::process::id()).as_bytes(), 0o644)?;
        Ok(PidFile { home: home.clone(), path, guard })
    }

    /// Removes it, unless it is somebody else's by now.
    fn remove(self) {
        let id = std::process::id().to_string();
        if self.home.read(&self.path).is_ok_and(|text| text.trim_ascii() == id.as_bytes()) {
            let _ = self.home.remove(&self.path);
        }
        drop(self.guard);
    }
}
