//! Paths in sets and maps by hashes of them, where there may be hundreds of thousands.

use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The hash of a path: 128 bits of SipHash. Its keys are of this run alone, so that nobody can choose two paths
/// that have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathHash(u64, u64);

/// Hashes paths.
#[derive(Debug, Default)]
pub struct PathHasher(RandomState, RandomState);

impl PathHasher {
    /// The hash of a path. Two ways to write the same path have two.
    pub fn hash(&self, path: &Path) -> PathHash {
        let bytes = path.as_os_str().as_bytes();
        PathHash(self.0.hash_one(bytes), self.1.hash_one(bytes))
    }
}
