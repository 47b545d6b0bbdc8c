//! `ops run`: a service in the foreground.

use super::Context;
use crate::base::State;
use crate::service::Services;
use anyhow::Result;
use clap::Args as Arguments;

/// Which service.
#[derive(Arguments, Clone, Debug)]
pub(super) struct Args {
    /// The service
    service: String,
    /// Become it, for a manager that restarts it when it crashes (`ops install` has them do this)
    #[arg(long, required = true)]
    exec: bool,
}

/// Becomes the service.
pub(super) fn run(context: &Context, args: Args) -> Result<State> {
    debug_assert!(args.exec);
    let loaded = context.load()?;
    let services = Services { home: &loaded.home, config: &loaded.config, run: &context.run };
    let running = services.exec(&args.service)?;
    context.note(&format!(
        "{} runs already, as pid {}; nothing was started",
        args.service, running.identity.pid
    ));
    Ok(State::Ok)
}
