//! Which log files there are, and what their names say: what is rotated, shown, counted and bundled.

mod find;
pub(crate) mod names;

pub(crate) use find::is_archived;
pub use find::{Found, Log, by_name, by_rule, find};
