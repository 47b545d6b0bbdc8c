//! A folder of this process alone, in memory where there is such a place.

use std::path::{Path, PathBuf};

pub(crate) fn folder(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let within = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = within.join(format!("agent-ops-fuzz-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
