//! Any text as the answers of a storage.
//!
//! `cargo +nightly fuzz run s3_list -- -rss_limit_mb=1024 -max_len=65536`

#![no_main]

use agent_ops::backup::Sidecar;
use agent_ops::backup::remote::{Keys, parse_lists};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse_lists(text);
    }
    // What comes with a copy, and what a person brings for it.
    let _ = Sidecar::parse(bytes);
    if let Ok(keys) = Keys::parse(bytes) {
        assert_eq!(Keys::parse(keys.text().as_bytes()).unwrap().ids(), keys.ids());
    }
});
