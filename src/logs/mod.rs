//! The logs: which there are, their last lines, following them, and keeping them bounded.

mod compress;
mod cut;
mod find;
mod follow;
mod marks;
mod plan;
mod rotate;
mod tail;
mod writers;

pub use find::{Found, Log, by_name, find};
pub use follow::Follower;
pub use marks::Level;
pub use plan::Action;
pub use rotate::{Done, Outcome, Rotation, rotate};
pub use tail::{Line, Query, Tail, tail};
