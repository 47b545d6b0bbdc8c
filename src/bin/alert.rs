//! `alert`: tells people what changed, and restarts what died; cron runs it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let about = "Tell people what changed about an agent, once, and restart what died";
    agent_ops::cli::door("alert", about, agent_ops::cli::alert::run)
}
