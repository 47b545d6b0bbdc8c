//! Archives beyond this disk: a copy of each in a bucket of S3-compatible storage.
//!
//! [`copy`] brings there what is verified here, wanted by the rule and not there yet, whatever
//! run made it; a copy counts only when the storage itself says that it has the right size and
//! checksum. [`fetch`] brings one back, if its signature proves that it is of this host ([`Keys`]). What the storage knows is written beside each archive
//! there, so another host with the same config finds all of it.

mod client;
mod copies;
mod copy;
mod document;
mod fetch;
mod fingerprint;
mod label;
mod lists;
mod rule;
mod signing;
mod store;
mod upload;

pub use copies::{Copy, known};
pub use copy::{Copied, copy};
pub use fetch::{Doubt, Fetched, Objection, fetch};
#[doc(hidden)]
pub use lists::parse_lists;
pub use rule::{Remote, list, prune};
pub use signing::{Keys, Origin};
