//! What is waited for, said to whoever waits with us, if it takes long.

use super::Run;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

/// A person at a terminal wonders soon; what is piped is read later.
const AT_A_TERMINAL: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(3);

/// Says its text on stderr unless it is dropped before. Nothing with `--quiet`.
#[derive(Debug)]
pub struct Notice {
    _over: Option<Sender<()>>,
}

impl Notice {
    /// For a wait that begins now.
    pub fn begin(run: &Run, text: String) -> Notice {
        if !run.watched {
            return Notice { _over: None };
        }
        let (over, is_over) = mpsc::channel();
        let patience = if io::stderr().is_terminal() { AT_A_TERMINAL } else { ELSEWHERE };
        std::thread::spawn(move || {
            if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{}", super::text::harmless(&text, false));
            }
        });
        Notice { _over: Some(over) }
    }
}
