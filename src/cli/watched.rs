//! Jobs that somebody waits to hear of: the dead-man's pings of `[alerts.deadman]`.

use super::Context;
use crate::alert::Deadman;
use crate::base::secret::Secret;
use crate::base::{Fault, State};
use anyhow::Result;

/// Does a job, and tells the address, if there is one, that it begins and how it ended. Whatever
/// becomes of that changes nothing about the job.
pub(super) fn watched(
    context: &Context,
    url: Option<&Secret>,
    job: impl FnOnce() -> Result<State>,
) -> Result<State> {
    let Some(url) = url else { return job() };
    let deadman = Deadman::start(url, &context.run);
    let done = job();
    let (state, words) = match &done {
        Ok(state) => {
            let said = context.said();
            // With --quiet there may be none.
            (*state, if said.is_empty() { state.word().to_owned() } else { said })
        }
        Err(error) => (Fault::of(error).0, format!("{error:#}")),
    };
    if let Some(why) = deadman.end(state, &words) {
        context.note(&format!("the dead-man's switch was not reached: {why}"));
    }
    done
}
