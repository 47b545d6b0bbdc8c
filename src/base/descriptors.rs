//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// More is never needed. macOS refuses more than about ten thousand.
const MOST: u64 = 8192;
/// Left for files other than those that are counted.
const RESERVE: u64 = 64;

/// A raised limit, for as long as this lives: what is started later has the usual one again. Programs that
/// still use `select` break when theirs is high.
#[derive(Debug)]
pub struct Raised(Rlimit);

impl Raised {
    /// Raises the soft limit as far as the hard one allows.
    pub fn raise() -> Raised {
        let before = getrlimit(Resource::Nofile);
        let wanted = before.maximum.unwrap_or(MOST).min(MOST);
        if before.current.is_some_and(|current| current < wanted) {
            // Where that is forbidden, fewer are used at a time.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: before.maximum });
        }
        Raised(before)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// How many more files can be opened, some being left for other purposes.
pub fn room() -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    let open = fs::read_dir("/dev/fd").map_or(RESERVE, |entries| entries.count() as u64);
    limit.saturating_sub(open).saturating_sub(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_for_a_while() {
        let before = getrlimit(Resource::Nofile);
        let raised = Raised::raise();
        assert!(getrlimit(Resource::Nofile).current >= before.current);
        drop(raised);
        assert_eq!(getrlimit(Resource::Nofile).current, before.current);
        assert!(room() > 0);
    }
}
