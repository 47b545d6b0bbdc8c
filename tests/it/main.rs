//! Black-box tests: every one drives the built programs in a temporary home.

mod cron;
mod dashboard;
mod logs;
mod rotate;
mod sandbox;
