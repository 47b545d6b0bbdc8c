//! `backup`: a verified, restorable archive of the agent's live state.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_ops::cli::door(
        "backup",
        "Make a verified backup of the agent's live state",
        agent_ops::cli::backup::run,
    )
}
