//! The doors: arguments, output, exit codes; and the verbs, a file each.
//!
//! A verb is an `Args` struct and a `run` that does the work and gives the exit code. The small
//! programs and `ops` call the same `run`.

mod agent;
pub mod alert;
mod archives;
pub mod backup;
mod commands;
mod config;
mod context;
pub mod cron;
mod crontab;
pub mod dashboard;
mod detect;
mod door;
mod dump;
mod explain;
pub mod health;
mod init;
mod install;
mod key;
pub mod logs;
pub mod ops;
mod problems;
mod prune;
mod remote;
mod report;
pub mod restore;
pub mod rotate_logs;
pub mod run;
mod service;
mod table;
mod timers;
mod troubleshoot;
mod up;
mod upgrade;
mod verify;
mod watched;

pub use context::{Common, Context};
pub use door::door;
