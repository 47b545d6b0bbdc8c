//! Any bytes as an archive: `peek`, `walk` and `verify` refuse them or read them, without a panic
//! and in bounded memory.
//!
//! `cargo +nightly fuzz run reader -- -rss_limit_mb=1024 -max_len=65536`

#![no_main]

use agent_ops::backup::{peek, reader, verify};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::io::{Read, sink};
use std::path::{Component, Path, PathBuf};

/// Nothing that comes in under 64 KiB may inflate to more than deflate can: a thousand times that.
const MOST: u64 = 65_536 * 1_100;

fuzz_target!(|bytes: &[u8]| {
    let memory = Path::new("/dev/shm");
    let within = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let Ok(dir) = empty_folder(&within) else { return };
    let archive = dir.join("20260101_000000.tar.gz");
    fs::write(&archive, bytes).unwrap();
    let _ = peek(&archive);
    let mut inflated = 0;
    let _ = reader::walk(&archive, &mut |member, content: &mut dyn Read| {
        assert!(member.name.is_relative());
        inflated += std::io::copy(content, &mut sink())?;
        Ok(())
    });
    assert!(bytes.len() > 65_536 || inflated <= MOST);
    if let Ok(contents) = verify(&archive, &dir) {
        for entry in &contents.entries {
            assert!(entry.path.components().all(|part| matches!(part, Component::Normal(_))));
        }
    }
    let _ = fs::remove_dir_all(&dir);
});

/// A folder of this process alone, empty.
fn empty_folder(within: &Path) -> std::io::Result<PathBuf> {
    let dir = within.join(format!("agent-ops-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir)?;
    Ok(dir)
}
