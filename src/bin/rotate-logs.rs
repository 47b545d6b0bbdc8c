//! `rotate-logs`: keeps the logs bounded without losing a line.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_ops::cli::door(
        "rotate-logs",
        "Compress old logs, delete older ones, cut or rename those that grew too large",
        agent_ops::cli::rotate_logs::run,
    )
}
