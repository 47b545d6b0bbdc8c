//! `restore`: brings a backup back, or leaves everything as it was.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_ops::cli::door(
        "restore",
        "Bring a backup back, or leave everything as it was",
        agent_ops::cli::restore::run,
    )
}
