//! The doors: arguments, output, exit codes; and the verbs, a file each.
//!
//! A verb is an `Args` struct and a `run` that does the work and gives the exit code. The small
//! programs and `ops` call the same `run`.

mod agent;
pub mod backup;
mod config;
mod context;
mod door;
pub mod health;
mod init;
pub mod ops;
pub mod restore;
mod service;

pub use context::{Common, Context};
pub use door::door;
