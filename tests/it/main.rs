//! Black-box tests: every one drives the built programs in a temporary home.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod alert;
mod backup;
mod bombs;
mod bundle;
// macOS has no such names.
#[cfg(target_os = "linux")]
mod bytes;
mod changing;
mod channels;
mod checks;
mod crash;
mod cron;
mod crypt;
mod cut_short;
mod dashboard;
mod deadman;
mod delivery;
mod detect;
mod docs;
mod doors;
#[cfg(target_os = "linux")]
mod forged;
#[cfg(target_os = "linux")]
mod formats;
mod health;
mod homes;
mod hostile;
mod hostile_archives;
mod hostile_bucket;
mod house;
mod kills;
mod local_checks;
mod log_torture;
mod logs;
// Their stand-ins need /proc and setsid.
#[cfg(target_os = "linux")]
mod lost;
mod managers;
mod mutants;
mod origin;
mod outside;
mod plugins;
mod presets;
mod probes;
mod receiver;
mod recovery;
mod remote;
mod report;
mod restore;
mod rotate;
mod rotate_bounds;
mod rotate_hostile;
mod rotate_kin;
mod rotate_rules;
mod rotate_tails;
mod routing;
mod run;
#[cfg(target_os = "linux")]
mod runbooks;
mod sandbox;
mod service;
mod shelf;
mod soundness;
mod starttls;
mod storage;
mod torture;
mod troubleshoot;
mod trusted;
mod upgrade;
mod values;
mod watchdog;
