//! `dashboard`: everything at a glance: terminal, live view, page, JSON, Prometheus text.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_ops::cli::door("dashboard", "Show how everything is", agent_ops::cli::dashboard::run)
}
