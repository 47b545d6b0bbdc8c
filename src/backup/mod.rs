//! Verified, restorable archives of the agent's live state, and which of them stay.
//!
//! [`make`] is one pass; [`verify`] reads one back; [`list`] is the shelf; [`prune`] is what leaves it;
//! [`remote`] has copies of it elsewhere.

mod age;
mod bench;
mod blocks;
mod body;
mod build;
mod check;
mod content;
mod contents;
mod crypt;
mod databases;
mod entry;
mod extents;
mod foreign;
mod hashed;
mod index;
mod lock;
mod make;
pub mod manifest;
mod open;
mod pack;
mod past;
pub mod plan;
mod pool;
mod prune;
pub mod reader;
pub mod remote;
pub mod retention;
mod shelf;
mod sidecar;
mod snapshot;
mod space;
mod unpack;
pub mod verify;
mod writer;

pub use age::is_encrypted;
pub use content::Content;
pub use contents::{Contents, Entry, Origin};
pub use index::peek;
pub use lock::{lock, need_home};
pub use make::{Encryption, Made, make, make_reading};
pub use open::{Look, Readable, look, open, ready};
pub use past::Reading;
pub use plan::Plan;
pub use prune::{Pruning, judge, prune};
pub use retention::{Settled, Verdict, settled};
pub use shelf::{Archive, find, list, pin, record_look};
pub use sidecar::Sidecar;
pub use snapshot::is_full;
pub use space::free_space;
pub use verify::{unpack, unpack_part, verify};
