//! Steps at which a run can be cut short on purpose, so that tests can walk all of them.
//!
//! Only builds with debug assertions look at the environment; in a release build a step costs
//! nothing and does nothing.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Marks that a step of the work is reached.
///
/// `OPS_ABORT_AT` ends the process here as a power cut would; `OPS_FAIL_AT` makes the step fail
/// as a full disk would; `OPS_STOP_AT` stops the process until it gets SIGCONT; `OPS_HANG_AT` makes the step hang. They
/// take the name of a step or its number, counted from 1 in each
/// process.
///
/// # Errors
/// `StorageFull`, when told so.
pub fn step(name: &str) -> io::Result<()> {
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let number = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    let told = |variable: &str| {
        std::env::var(variable).is_ok_and(|at| at == name || at.parse::<usize>() == Ok(number))
    };
    if told("OPS_ABORT_AT") {
        std::process::abort();
    }
    if told("OPS_STOP_AT") {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
        // It takes effect in another thread first.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    if told("OPS_HANG_AT") {
        // As a file system does whose server is gone: in a system call that does not return.
        let (mut nothing, _writer) = io::pipe()?;
        io::Read::read_exact(&mut nothing, &mut [0])?;
    }
    if told("OPS_FAIL_AT") {
        return Err(io::Error::new(io::ErrorKind::StorageFull, format!("no space left (at step {name})")));
    }
    Ok(())
}
