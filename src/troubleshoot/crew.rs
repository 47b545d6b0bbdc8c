//! Asks all probes side by side, each under its own deadline: one that hangs or breaks down says so, and
//! hides no other.

use super::cause::{Cause, Found};
use anyhow::Result;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What is looked at, how long that may take, and the look itself.
pub(super) struct Job {
    pub(super) about: &'static str,
    pub(super) limit: Duration,
    pub(super) look: Box<dyn FnOnce() -> Result<Found> + Send>,
}

/// Does something that may hang with a disk; none: it was not done in time.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, receive) = mpsc::channel();
    let hired = std::thread::Builder::new().spawn(move || {
        let _ = send.send(work());
    });
    hired.ok()?;
    receive.recv_timeout(limit).ok()
}

/// The answers, in the order of the jobs. A thread that hangs is not joined: it ends with the program.
pub(super) fn ask(jobs: Vec<Job>) -> Vec<Found> {
    let begun = Instant::now();
    let waiting: Vec<_> = jobs
        .into_iter()
        .map(|Job { about, limit, look }| {
            let (send, receive) = mpsc::channel();
            let work = move || {
                let found = std::panic::catch_unwind(AssertUnwindSafe(look));
                let _ = send.send(found);
            };
            let hired = std::thread::Builder::new().name(about.to_owned()).spawn(work).is_ok();
            (about, limit, hired.then_some(receive))
        })
        .collect();
    let answer = |(about, limit, receive): (&str, Duration, Option<mpsc::Receiver<_>>)| {
        let Some(receive) = receive else { return untold(about, "the system has no thread left") };
        match receive.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(Ok(Ok(found))) => found,
            Ok(Ok(Err(error))) => {
                let error: anyhow::Error = error;
                untold(about, &format!("{error:#}"))
            }
            Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                untold(about, "the look itself broke down")
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                untold(about, &format!("no answer within {}", crate::base::units::Span(limit)))
            }
        }
    };
    waiting.into_iter().map(answer).collect()
}

fn untold(about: &str, why: &str) -> Found {
    vec![Cause::untold(about, why)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_fails_or_breaks_down_hides_no_other() {
        let (release, hang) = mpsc::channel::<()>();
        let job = |limit, look: Box<dyn FnOnce() -> Result<Found> + Send>| Job {
            about: "x",
            limit: Duration::from_millis(limit),
            look,
        };
        let found = ask(vec![
            job(
                50,
                Box::new(move || {
                    let _ = hang.recv();
                    Ok(Found::default())
                }),
            ),
            job(60_000, Box::new(|| anyhow::bail!("no such thing"))),
            job(60_000, Box::new(|| panic!("on purpose"))),
            job(60_000, Box::new(|| Ok(Found { causes: Vec::new(), notes: vec!["fine".to_owned()] }))),
        ]);
        let said: Vec<_> =
            found.iter().map(|found| found.causes.first().map(|cause| cause.cause.as_str())).collect();
        assert_eq!(said[0], Some("could not tell about x: no answer within 50ms"));
        assert_eq!(said[1], Some("could not tell about x: no such thing"));
        assert_eq!(said[2], Some("could not tell about x: the look itself broke down"));
        assert_eq!((said[3], found[3].notes.len()), (None, 1));
        drop(release);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (release, hang) = mpsc::channel::<()>();
        assert!(within(Duration::from_millis(20), move || hang.recv()).is_none());
        drop(release);
    }
}
