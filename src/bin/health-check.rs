//! `health-check`: looks at the agent and answers like a Nagios plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    let about = "Check an agent's health and answer like a Nagios plugin";
    agent_ops::cli::door("health-check", about, agent_ops::cli::health::run_plugin)
}
