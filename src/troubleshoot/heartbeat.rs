//! Does a service that is there get on with its work? If not, what does it wait for?

use super::cause::{Cause, Found};
use super::checks;
use super::view::View;
use super::words;
use crate::base::State;
use crate::base::process::Process;
use crate::health::Finding;
use crate::service::Liveness;
use anyhow::Result;

struct Facts {
    service: String,
    pid: u32,
    stopped: bool,
    /// What the check of its heartbeat says; none: it has no status file.
    beat: Option<(State, String)>,
    waits: Option<String>,
    words: Vec<String>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let beats: Vec<Finding> = checks::heartbeats(view);
    let mut causes = Vec::new();
    for (loaded, name, _, status) in view.each() {
        let Ok(status) = status else { continue };
        let Liveness::Running(process) = &status.liveness else { continue };
        // It may have gone on, or ended, since.
        let process = Process::find(process.identity.pid)?.unwrap_or_else(|| process.clone());
        let beat = beats.iter().filter(|finding| finding.service.as_deref() == Some(name));
        let beat = beat.max_by_key(|finding| finding.seen.badness(false));
        let facts = Facts {
            service: name.to_owned(),
            pid: process.identity.pid,
            stopped: process.stopped,
            beat: beat.map(|finding| (finding.seen, finding.summary.clone())),
            waits: process.waits(),
            words: words::of_service(&loaded.home, name, 2),
        };
        causes.extend(judge(&facts));
    }
    Ok(causes.into())
}

fn judge(facts: &Facts) -> Option<Cause> {
    let Facts { service, pid, .. } = facts;
    if facts.stopped {
        let text = format!("{service} (pid {pid}) stands still: it was stopped by a signal");
        let cause = Cause::new("stopped_by_signal", State::Critical, 20, text)
            .of(service)
            .run(format!("kill -CONT {pid}"))
            .advise("somebody sent STOP, pressed Ctrl-Z, or a debugger holds it");
        return Some(cause);
    }
    let (state, summary) = facts.beat.as_ref()?;
    let seen = |cause: Cause| {
        cause
            .of(service)
            .seen(format!("heartbeat: {summary}"))
            .seen_all(facts.waits.iter().map(|waits| format!("process {pid}: {waits}")))
            .last_words(&facts.words)
    };
    match state {
        State::Ok => None,
        State::Critical => {
            let text = format!("{service} hangs: process {pid} is there, its heart does not beat");
            Some(
                seen(Cause::new("hung", State::Critical, 22, text))
                    .run(format!("ops restart {service} --force"))
                    .advise("a model or a mail server that never answers is the usual reason; recover_hung = true lets alert do that"),
            )
        }
        State::Warning => {
            let text = format!(
                "{service} is slow: its heartbeat is late, or it says itself that something is wrong"
            );
            Some(
                seen(Cause::new("slow", State::Warning, 80, text))
                    .run(format!("ops logs {service}_stderr -n 50")),
            )
        }
        State::Unknown => Some(seen(Cause::untold(&format!("the heartbeat of {service}"), summary))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_is_not_well() {
        let facts = |stopped, beat: Option<State>| Facts {
            service: "bot".to_owned(),
            pid: 42,
            stopped,
            beat: beat.map(|state| (state, "2h old".to_owned())),
            waits: Some("it waits for a lock".to_owned()),
            words: Vec::new(),
        };
        let id = |facts: &Facts| judge(facts).map(|cause| (cause.id, cause.state));
        assert_eq!(id(&facts(false, None)), None);
        assert_eq!(id(&facts(false, Some(State::Ok))), None);
        assert_eq!(id(&facts(true, Some(State::Ok))), Some(("stopped_by_signal", State::Critical)));
        assert_eq!(id(&facts(false, Some(State::Critical))), Some(("hung", State::Critical)));
        assert_eq!(id(&facts(false, Some(State::Warning))), Some(("slow", State::Warning)));
        assert_eq!(id(&facts(false, Some(State::Unknown))), Some(("could_not_tell", State::Unknown)));
        let cause = judge(&facts(false, Some(State::Critical))).unwrap();
        assert!(cause.evidence.iter().any(|line| line.contains("it waits for a lock")), "{cause:?}");
    }
}
