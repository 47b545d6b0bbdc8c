//! `ops`: the one front door to the agent and to everything that looks after it.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_ops::cli::ops::main()
}
