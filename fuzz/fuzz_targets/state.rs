//! Any bytes as each of the files of state in `.ops`.
//!
//! `cargo +nightly fuzz run state -- -max_len=4096`

#![no_main]

use agent_ops::backup::remote::Keys;
use agent_ops::base::maintenance::Maintenance;
use agent_ops::base::{Home, format, upgrade};
use agent_ops::{logs, restore, service};
use libfuzzer_sys::fuzz_target;
use std::fs;

#[path = "folder.rs"]
mod folder;

fuzz_target!(|bytes: &[u8]| {
    let folder = folder::folder("state");
    let home = Home::new(folder.clone());
    let files = [
        home.format(),
        home.restore_journal(),
        home.rotation(),
        home.upgrade_note(),
        home.service_record("daemon"),
        home.ops().join("maintenance/1-1.json"),
        home.ops().join("signing.key"),
    ];
    for file in &files {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).unwrap();
        }
        fs::write(file, bytes).unwrap();
    }
    let _ = format::check(&home);
    let _ = restore::was_cut_short(&home);
    let _ = logs::read_ledger(&home);
    if let Ok(Some(note)) = upgrade::Note::read(&home) {
        let _ = note.describe(&home);
    }
    service::read_record(&home, "daemon");
    let _ = Maintenance::now(&home, chrono::Utc::now());
    let _ = Keys::read(&home);
});
