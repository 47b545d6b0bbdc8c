//! Tests against real peers: full and read-only file systems, cron, tar, mail servers, a
//! notification daemon, a browser, the monitoring plugins. `.ci/run` installs them.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "../it/sandbox.rs"]
mod sandbox;

mod alertmanager;
mod archives;
mod cron;
mod crypt;
mod desktop;
mod full_disk;
#[cfg(target_os = "linux")]
mod hostile_homes;
mod mail;
mod managers;
mod many_databases;
mod mounts;
mod nagios;
mod owners;
mod page;
mod peers;
mod pid_one;
mod plugins;
mod probes;
mod prometheus;
mod random_homes;
mod read_only;
mod room;
mod s3;
mod scripts;
mod shared_extents;
mod torture;
