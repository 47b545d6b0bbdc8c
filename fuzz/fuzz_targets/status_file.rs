//! Any bytes as the status file of a daemon.
//!
//! `cargo +nightly fuzz run status_file -- -max_len=4096`

#![no_main]

use agent_ops::base::status_file::StatusFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(status) = StatusFile::parse(bytes) else { return };
    let _ = status.sign_of_life();
    let _ = status.number("details.tasks_done");
    assert!(status.interval.is_none_or(|interval| interval > 0.0 && interval.is_finite()));
});
