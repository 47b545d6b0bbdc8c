//! Any bytes as the agent's environment file.
//!
//! `cargo +nightly fuzz run env_file -- -max_len=4096`

#![no_main]

use agent_ops::config::read_env_file;
use libfuzzer_sys::fuzz_target;

#[path = "folder.rs"]
mod folder;

fuzz_target!(|bytes: &[u8]| {
    let file = folder::folder("env").join(".env");
    std::fs::write(&file, bytes).unwrap();
    if let Ok(variables) = read_env_file(&file) {
        assert!(variables.keys().all(|name| !name.is_empty() && !name.contains(['=', '\0'])));
        assert!(variables.values().all(|value| !value.contains('\0')));
    }
});
