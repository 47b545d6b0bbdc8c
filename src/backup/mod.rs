//! Verified, restorable archives of the agent's live state, and which of them stay.
//!
//! [`make`] is one pass; [`verify`] reads one back; [`list`] is the shelf; [`prune`] is what leaves it;
//! [`remote`] has copies of it elsewhere.
//!
//! The way in: `make` → `build` → `writer`, which takes databases from `databases` and files from
//! `live` → `tape` (the tar stream) → `pack` (blocks of it) → `members` (in the file). The way out:
//! `stream` → `index` and `parts`, or all of it by `reader` → `verify`.

mod age;
mod bench;
mod blocks;
mod body;
mod build;
pub mod catalog;
mod check;
mod content;
mod contents;
mod crypt;
mod damage;
mod databases;
mod dump;
mod entry;
mod excluded;
mod expected;
mod extents;
mod find;
mod flaw;
mod folder;
mod foreign;
mod globs;
mod hashed;
mod hashes;
mod index;
mod items;
mod jsonl;
mod lacking;
mod limits;
mod links;
mod live;
mod lock;
mod make;
pub mod manifest;
mod members;
mod names;
mod open;
mod outside;
mod pack;
mod parts;
mod past;
pub mod places;
pub mod plan;
mod pool;
mod prune;
pub mod reader;
mod records;
pub mod remote;
pub mod retention;
mod scratch;
mod shelf;
mod sidecar;
mod snapshot;
mod space;
mod stream;
mod tape;
mod unpack;
mod verify;
mod writer;

pub use age::is_encrypted;
pub use content::Content;
pub use contents::{Contents, Entry, Origin, Take};
pub use damage::refuse;
pub use dump::{ready as ready_command, shown as shown_command};
pub use excluded::LeftOut;
pub use find::find;
pub use flaw::{Flaw, NotJudged, Standing};
pub use globs::Globs;
pub use hashes::{PathHash, PathHasher};
pub use index::peek;
pub use lock::{lock, need_home};
pub use make::{Encryption, Made, make, make_reading};
pub use open::{Look, Readable, look_beside, open, ready};
pub use outside::{Outside, is_plain};
pub use past::Reading;
pub use plan::Plan;
pub use prune::{Pruning, judge, prune};
pub use records::{Records, record_look};
pub use retention::{Settled, Verdict, settled};
pub use shelf::{Archive, list, pin};
pub use sidecar::Sidecar;
pub use space::{free_space, is_full};
pub use verify::{read_contents, unpack, unpack_part, verify};
