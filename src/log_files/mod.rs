//! Which log files there are: where rotation finds them, and what their names say.

mod by_name;
mod find;
mod location;
mod log;
pub(crate) mod names;
mod short;
mod walk;

pub use by_name::{by_name, by_rule};
pub use find::{Found, find, matching, moved};
pub(crate) use find::{begins_with_day, is_archived, locate};
pub use location::Location;
pub(crate) use location::{Temp, sync_all};
pub use log::Log;
