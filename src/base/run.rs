//! One invocation: what it is called, when it began, where it runs.

use chrono::{DateTime, Utc};
use std::sync::atomic::{AtomicU32, Ordering};

/// The facts of one invocation. Everything it logs, journals or sends carries its id.
#[derive(Clone, Debug)]
pub struct Run {
    /// Seven letters and digits, different for each invocation.
    pub id: String,
    /// The program, as the user typed it (`backup`, `ops up`).
    pub program: String,
    /// When it began: the `now` of every decision of this run.
    pub now: DateTime<Utc>,
    /// The name of this host.
    pub host: String,
    /// Whether somebody may be shown how far it is: not with `--quiet`.
    pub watched: bool,
}

impl Run {
    /// Begins a run. `OPS_NOW` (RFC 3339) replaces the clock, for tests of what depends on it.
    pub fn begin(program: &str) -> Run {
        let now = std::env::var("OPS_NOW")
            .ok()
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map_or_else(Utc::now, |at| at.with_timezone(&Utc));
        Run { id: new_id(), program: program.to_owned(), now, host: host_name(), watched: false }
    }
}

/// A short id: base 36 of time and pid, mixed so that neighbours look different.
fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = Utc::now().timestamp_nanos_opt().unwrap_or_default().unsigned_abs();
    let salt = u64::from(std::process::id()) << 20 | u64::from(COUNT.fetch_add(1, Ordering::Relaxed));
    // SplitMix64's finaliser: a bijection, so two different inputs never share 64 bits.
    let mut bits = nanos ^ salt.rotate_left(32);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (0..7)
        .map(|_| {
            let digit = (bits % 36) as u32;
            bits /= 36;
            char::from_digit(digit, 36).unwrap_or('0')
        })
        .collect()
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_short_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| super::new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 7));
    }
}
