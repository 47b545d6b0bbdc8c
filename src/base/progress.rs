//! One line on a terminal while something takes longer than a second: how much is done, how
//! fast, how long still.

use super::units::{Size, Span};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Work that ends sooner shows nothing.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// The least time between two drawings.
const PAUSE: Duration = Duration::from_millis(100);

/// The progress of one piece of work. Threads may share it; the line goes when it is dropped.
#[derive(Debug)]
pub struct Progress {
    label: &'static str,
    total: u64,
    shown: bool,
    begun: Instant,
    done: AtomicU64,
    /// When the line was last drawn, if it is on the screen.
    drawn: Mutex<Option<Instant>>,
}

impl Progress {
    /// Begins. `total`: the bytes to do, 0 if nobody knows; `shown`: false where people do not
    /// want it. Nothing is drawn unless stderr is a terminal that can move its cursor.
    pub fn new(label: &'static str, total: u64, shown: bool) -> Progress {
        let shown = shown
            && io::stderr().is_terminal()
            && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        Progress {
            label,
            total,
            shown,
            begun: Instant::now(),
            done: AtomicU64::new(0),
            drawn: Mutex::new(None),
        }
    }

    /// So many more bytes are done.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if !self.shown {
            return;
        }
        let elapsed = self.begun.elapsed();
        // Whoever finds another thread drawing goes on with its work.
        let Ok(mut drawn) = self.drawn.try_lock() else { return };
        if elapsed < SHOWN_AFTER || drawn.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        *drawn = Some(Instant::now());
        let line = Line { label: self.label, done, total: self.total, elapsed };
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    /// Takes the line away, before something else is said.
    pub fn finish(&self) {
        let drawn = self.drawn.lock().map(|mut drawn| drawn.take());
        if matches!(drawn, Ok(Some(_))) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is on the screen, for 60 columns at most.
#[derive(Clone, Copy, Debug)]
struct Line {
    label: &'static str,
    done: u64,
    total: u64,
    elapsed: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.done as f64 / self.elapsed.as_secs_f64().max(0.001);
        write!(f, "{}  ", self.label)?;
        if self.total == 0 {
            return write!(f, "{}, {}/s", Size(self.done), Size(rate as u64));
        }
        // A file that grows meanwhile makes more of it than was planned.
        let share = (self.done as f64 / self.total as f64 * 100.0).min(100.0);
        write!(f, "{share:.0}% of {}, {}/s", Size(self.total), Size(rate as u64))?;
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1.0);
        if (1.0..1e9).contains(&left) {
            write!(f, ", {} left", Span::seconds(left as u64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(done: u64, total: u64, seconds: u64) -> String {
        Line { label: "backup", done, total, elapsed: Duration::from_secs(seconds) }.to_string()
    }

    #[test]
    fn rate_and_time_left_are_said() {
        assert_eq!(line(500_000_000, 1_000_000_000, 10), "backup  50% of 1.0 GB, 50.0 MB/s, 10s left");
        assert_eq!(line(1000, 1000, 2), "backup  100% of 1.0 KB, 500 B/s");
        assert_eq!(line(2000, 1000, 2), "backup  100% of 1.0 KB, 1.0 KB/s");
        assert_eq!(line(2000, 0, 2), "backup  2.0 KB, 1.0 KB/s");
    }

    #[test]
    fn many_threads_may_share_it() {
        let progress = Progress::new("test", 0, true);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| progress.add(3)));
            }
        });
        assert_eq!(progress.done.load(Ordering::Relaxed), 12_000);
        progress.finish();
    }

    proptest! {
        #[test]
        fn a_line_is_never_too_long(done in any::<u64>(), total in any::<u64>(), seconds in 0u64..1_000_000) {
            let line = line(done, total, seconds);
            prop_assert!(line.chars().count() <= 70, "{line}");
        }
    }
}
