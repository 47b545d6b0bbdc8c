//! Archives beyond this disk: a copy of each in a bucket of S3-compatible storage.
//!
//! [`copy`] brings there what is verified here, wanted by the rule and not there yet, whatever
//! run made it; a copy counts only when the storage itself says that it has the right size and
//! checksum. [`fetch`] brings one back. What the storage knows is written beside each archive
//! there, so another host with the same config finds all of it.

mod client;
mod copies;
mod copy;
mod fetch;
mod label;
mod rule;
mod store;
mod upload;

pub use copies::{Copy, known};
pub use copy::{Copied, copy};
pub use fetch::fetch;
pub use rule::{Remote, list, prune};
