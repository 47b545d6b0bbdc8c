//! `ops-supervise`: what stays in memory behind `ops run`. `ops` does the same, and takes more of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_ops::cli::run::resident()
}
