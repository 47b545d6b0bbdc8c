//! The logs: which there are, their last lines, following them, and keeping them bounded.

mod adopt;
mod archive;
mod compress;
mod cut;
mod follow;
mod ledger;
mod marks;
mod members;
mod pack;
mod place;
mod plan;
mod remove;
mod report;
mod rotate;
mod settle;
mod tail;
mod tell;
mod wanted;
mod work;
mod writers;

pub use crate::log_files::{Found, Log, by_name, find};
pub use follow::{Follower, News};
pub use marks::Level;
pub use plan::Action;
pub use report::{Done, Outcome, Rotation};
pub use rotate::{How, rotate};
pub use tail::{Line, Query, Tail, tail};
pub use wanted::Wanted;

/// Reads what a rotation noted for the next one: for the fuzz targets.
///
/// # Errors
/// When the note cannot be understood.
#[doc(hidden)]
pub fn read_ledger(home: &crate::base::Home) -> anyhow::Result<()> {
    ledger::Ledger::read(home, &crate::config::Logs::default()).map(drop)
}
