//! What the supervisor is told by signals, and how it waits for them.

use crate::base::process::Signal;
use anyhow::Result;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What we are told by signals.
pub(super) struct Ears {
    wake: UnixStream,
    end: Arc<AtomicBool>,
    passed: [(Signal, Arc<AtomicBool>); 3],
}

impl Ears {
    pub(super) fn open() -> Result<Ears> {
        let (wake, waker) = UnixStream::pair()?;
        let ears = Ears {
            wake,
            end: Arc::default(),
            passed: [Signal::HUP, Signal::USR1, Signal::USR2].map(|signal| (signal, Arc::default())),
        };
        let hear = |signal: Signal, flag: Option<&Arc<AtomicBool>>| -> Result<()> {
            let number = signal.as_raw();
            // The flag first: whoever is woken finds it.
            if let Some(flag) = flag {
                signal_hook::flag::register(number, Arc::clone(flag))?;
            }
            signal_hook::low_level::pipe::register(number, waker.try_clone()?)?;
            Ok(())
        };
        hear(Signal::CHILD, None)?;
        [Signal::TERM, Signal::INT, Signal::QUIT].iter().try_for_each(|end| hear(*end, Some(&ears.end)))?;
        ears.passed.iter().try_for_each(|(signal, flag)| hear(*signal, Some(flag)))?;
        Ok(ears)
    }

    pub(super) fn told_to_end(&self) -> bool {
        self.end.swap(false, Ordering::Relaxed)
    }

    pub(super) fn passed_on(&self) -> Vec<Signal> {
        let told = self.passed.iter().filter(|(_, flag)| flag.swap(false, Ordering::Relaxed));
        told.map(|(signal, _)| *signal).collect()
    }

    /// Sleeps until a signal comes, or for so long.
    pub(super) fn listen(&self, patience: Option<Duration>) {
        // Zero would mean for ever.
        let patience = patience.map(|patience| patience.max(Duration::from_millis(1)));
        let heard = self.wake.set_read_timeout(patience).and_then(|()| (&self.wake).read(&mut [0; 64]));
        let usual = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
        if heard.is_err_and(|error| !usual.contains(&error.kind())) {
            // Never in a rush, whatever is wrong.
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
