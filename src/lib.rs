//! agent-ops keeps a long-running AI agent alive, backed up, quiet and visible, with nothing
//! of its own resident in memory: cron runs these programs, launchd or systemd stands behind
//! the agent.
//!
//! One line a room, in the order of dependence. A module imports only from rows below its own,
//! never from a neighbour in the same row (`tests/it/house.rs` holds the rule).
//!
//! | row | rooms |
//! | --- | --- |
//! | doors | `cli`: arguments, output, exit codes; the verbs |
//! | views | `dashboard`: one snapshot, many views · `troubleshoot`: causes and remedies, the bundle · `upgrade`: a new program, or the old one back |
//! | people | `alert`: incidents and channels · `restore`: bring a backup back |
//! | checks | `health`: checks and reports |
//! | work | `backup`: archives and retention · `logs`: rotation, tails |
//! | agent | `service`: processes of the agent · `agent`: the built-in reference agent · `schedule`: cron · `log_files`: which logs there are |
//! | config | `config`: ops.toml to [`config::Config`] |
//! | base | `base`: states, units, home, durable files, journal, processes |

pub mod agent;
pub mod alert;
pub mod backup;
pub mod base;
pub mod cli;
pub mod config;
pub mod dashboard;
pub mod health;
pub mod log_files;
pub mod logs;
pub mod restore;
pub mod schedule;
pub mod service;
pub mod troubleshoot;
pub mod upgrade;
