//! What the built-in agent sees of its host.

use crate::base::Home;
use crate::base::process::Process;
use serde_json::{Map, Value};

/// Numbers about the host: free bytes where the home is, the agent's own memory and processor
/// time. What cannot be seen is left out.
pub(super) fn observe(home: &Home) -> Value {
    let mut seen = Map::new();
    if let Ok(disk) = rustix::fs::statvfs(home.root()) {
        seen.insert("disk_free_bytes".to_owned(), (disk.f_bavail * disk.f_frsize).into());
    }
    if let Ok(Some(me)) = Process::find(std::process::id()) {
        seen.insert("rss_bytes".to_owned(), me.rss.into());
        seen.insert("cpu_seconds".to_owned(), me.cpu.as_secs_f64().into());
    }
    #[cfg(target_os = "linux")]
    if let Some(load) = std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
    {
        seen.insert("load".to_owned(), load.into());
    }
    Value::Object(seen)
}
