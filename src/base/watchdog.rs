//! A run that cannot finish ends itself: whatever blocks it (a disk that hangs, a pipe that nobody reads), the next
//! run of cron finds its locks free, and says what the last one was at.
//!
//! All state is replaced whole, so a run may end at any moment as by a power cut. What must not be cut (a service
//! between stop and start, the swap of a restore) is held ([`hold`]): the end waits for it.

use super::{Home, Run, process, text, units};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a last word may take: what blocks the run may block that as well.
const LAST_WORD: Duration = Duration::from_secs(2);

static PHASE: Mutex<String> = Mutex::new(String::new());
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Ends the process when its time is over, unless this is dropped before.
#[must_use]
#[derive(Debug)]
pub struct Watchdog {
    _over: Option<Sender<()>>,
}

/// While this lives, the process is not ended.
#[must_use]
#[derive(Debug)]
pub struct Hold(());

/// What is left of a run that ended itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrun {
    /// The program, as the user typed it.
    pub program: String,
    /// Its run.
    pub run: String,
    /// When it began.
    pub since: DateTime<Utc>,
    /// How long it was allowed to take, in seconds.
    pub limit: u64,
    /// What it was doing.
    pub phase: String,
}

impl Overrun {
    /// As a sentence.
    pub fn describe(&self) -> String {
        format!(
            "the run of {} that began {} was not done after {} and was ended; it was at: {}",
            text::one_line(&self.program, 50),
            units::local(self.since),
            units::Span(Duration::from_secs(self.limit)),
            text::one_line(&self.phase, 200)
        )
    }

    /// What the last run of a job left, if it ended itself.
    pub fn find(home: &Home, job: &str) -> Option<Overrun> {
        serde_json::from_slice(&home.read(&note(home, job)).ok()?).ok()
    }

    /// Takes that away: it was told.
    pub fn forget(home: &Home, job: &str) -> Result<()> {
        home.remove(&note(home, job))
    }
}

fn note(home: &Home, job: &str) -> PathBuf {
    home.ops().join("overrun").join(format!("{job}.json"))
}

/// Says what the run is doing now.
pub fn phase(name: impl Into<String>) {
    *PHASE.lock().unwrap_or_else(PoisonError::into_inner) = name.into();
}

/// Keeps the process from being ended.
pub fn hold() -> Hold {
    HELD.fetch_add(1, Ordering::SeqCst);
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watchdog {
    /// From now on, for so long; not at all with no time. `place`: the home and the job that are noted in it.
    pub fn begin(run: &Run, limit: Duration, place: Option<(&Home, &str)>) -> Watchdog {
        if limit.is_zero() {
            return Watchdog { _over: None };
        }
        let (over, is_over) = mpsc::channel();
        let run = run.clone();
        let place = place.map(|(home, job)| (home.clone(), note(home, job)));
        std::thread::spawn(move || {
            if is_over.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            while HELD.load(Ordering::SeqCst) > 0 {
                if is_over.recv_timeout(Duration::from_millis(100)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
            end(&run, limit, place);
        });
        Watchdog { _over: Some(over) }
    }
}

fn end(run: &Run, limit: Duration, place: Option<(Home, PathBuf)>) -> ! {
    // Without waiting for who is just changing it.
    let phase = PHASE.try_lock().map(|phase| phase.clone()).unwrap_or_default();
    let phase = if phase.is_empty() { "its beginning".to_owned() } else { phase };
    let overrun = Overrun {
        program: run.program.clone(),
        run: run.id.clone(),
        since: run.now,
        limit: limit.as_secs(),
        phase,
    };
    let (done, is_done) = mpsc::channel();
    let said = done.clone();
    let line = format!("{}: {}\n", run.program, overrun.describe());
    // Each by itself: a pipe that nobody reads keeps no note from being written.
    std::thread::spawn(move || {
        let _ = std::io::stderr().write_all(line.as_bytes());
        let _ = said.send(());
    });
    std::thread::spawn(move || {
        if let Some((home, path)) = place {
            let _ = write(&home, &path, &overrun);
        }
        let _ = done.send(());
    });
    for _ in 0..2 {
        let _ = is_done.recv_timeout(LAST_WORD);
    }
    process::end_all();
    std::process::exit(2)
}

fn write(home: &Home, path: &Path, overrun: &Overrun) -> Result<()> {
    home.replace(path, &serde_json::to_vec_pretty(overrun)?, 0o600)
}
