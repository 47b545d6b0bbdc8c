//! Runs checks side by side, on few threads as long as they are quick: one that takes long keeps its
//! thread, and another takes up the rest. So a hung file system costs one check, not the others.

use super::Answer;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many begin.
const THREADS: usize = 2;

/// When nothing was done for so long, one more thread is begun.
const PATIENCE: Duration = Duration::from_millis(10);

/// A check to be asked, and how long it may take.
pub(super) struct Job {
    /// Asks it.
    pub(super) ask: Box<dyn FnOnce() -> Answer + Send>,
    /// How long it may take, from when it is begun.
    pub(super) limit: Duration,
}

/// What a thread says of the job of a number.
enum News {
    Begun,
    Done(Answer),
}

type Queue = Arc<Mutex<VecDeque<(usize, Job)>>>;

/// Asks all of them. What has no answer in its time is not waited for; none is its answer.
pub(super) fn answers(jobs: Vec<Job>) -> Vec<Option<Answer>> {
    let limits: Vec<Duration> = jobs.iter().map(|job| job.limit).collect();
    let mut answers: Vec<Option<Answer>> = limits.iter().map(|_| None).collect();
    let mut deadlines: Vec<Option<Instant>> = limits.iter().map(|_| None).collect();
    let mut open = limits.len();
    let queue: Queue = Arc::new(Mutex::new(jobs.into_iter().enumerate().collect()));
    let (send, receive) = mpsc::channel();
    for _ in 0..THREADS.min(open) {
        hire(&queue, &send);
    }
    while open > 0 {
        let next = deadlines.iter().flatten().min().copied();
        let waiting = !lock(&queue).is_empty();
        let patience = next.map_or(PATIENCE, |next| next.saturating_duration_since(Instant::now()));
        match receive.recv_timeout(if waiting { patience.min(PATIENCE) } else { patience }) {
            Ok((index, News::Begun)) => deadlines[index] = Some(Instant::now() + limits[index]),
            // Its time may have been over before.
            Ok((index, News::Done(answer))) => {
                if deadlines[index].take().is_some() {
                    answers[index] = Some(answer);
                    open -= 1;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                let late = deadlines.iter_mut().filter(|deadline| deadline.is_some_and(|at| at <= now));
                open -= late.map(Option::take).count();
                if waiting && !hire(&queue, &send) && next.is_none() {
                    // No thread can be begun, and none is at work.
                    break;
                }
            }
        }
    }
    answers
}

/// Begins a thread that takes up jobs until there are none. It is not joined: one that hangs on a dead
/// file system must not take us along. False: the system has no thread left.
fn hire(queue: &Queue, send: &Sender<(usize, News)>) -> bool {
    let (queue, send) = (Arc::clone(queue), send.clone());
    let work = move || {
        loop {
            let Some((index, job)) = lock(&queue).pop_front() else { return };
            let _ = send.send((index, News::Begun));
            let answer = std::panic::catch_unwind(AssertUnwindSafe(job.ask))
                .unwrap_or_else(|_| Answer::unknown("the check itself broke down"));
            let _ = send.send((index, News::Done(answer)));
        }
    };
    std::thread::Builder::new().spawn(work).is_ok()
}

fn lock(queue: &Queue) -> std::sync::MutexGuard<'_, VecDeque<(usize, Job)>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::State;

    fn job(limit: u64, ask: impl FnOnce() -> Answer + Send + 'static) -> Job {
        Job { ask: Box::new(ask), limit: Duration::from_millis(limit) }
    }

    #[test]
    fn what_hangs_costs_only_itself() {
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let mut jobs: Vec<Job> = (0..5)
            .map(|_| {
                let hang = Arc::clone(&hang);
                job(100, move || {
                    let _ = hang.lock().map(|hang| hang.recv());
                    Answer::new(State::Ok, "too late")
                })
            })
            .collect();
        jobs.extend((0..50).map(|n| job(60_000, move || Answer::new(State::Ok, n.to_string()))));
        let begun = Instant::now();
        let answers = answers(jobs);
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(answers[..5].iter().all(Option::is_none));
        for (n, answer) in answers[5..].iter().enumerate() {
            assert_eq!(answer.as_ref().unwrap().summary, n.to_string());
        }
        drop(release);
    }

    #[test]
    fn one_that_breaks_down_is_an_answer() {
        let answers =
            answers(vec![job(60_000, || panic!("on purpose")), job(60_000, || Answer::unknown("x"))]);
        assert_eq!(answers[0].as_ref().unwrap().summary, "the check itself broke down");
        assert!(answers[1].is_some());
        assert!(super::answers(Vec::new()).is_empty());
    }
}
